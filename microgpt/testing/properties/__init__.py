"""The properties that the library is held to: of every op, of layers, of training."""

from microgpt.testing.properties import attention as attention
from microgpt.testing.properties import behaviour as behaviour
from microgpt.testing.properties import gradients as gradients
from microgpt.testing.properties import inputs as inputs
from microgpt.testing.properties import layers as layers
from microgpt.testing.properties import networks as networks
from microgpt.testing.properties import optimizers as optimizers
from microgpt.testing.properties import positions as positions
from microgpt.testing.properties import recurrent as recurrent
from microgpt.testing.properties import runs as runs
from microgpt.testing.properties import training as training
from microgpt.testing.properties.base import PROPERTIES, Property, examine

__all__ = ["PROPERTIES", "Property", "examine"]
