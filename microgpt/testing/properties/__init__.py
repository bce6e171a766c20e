"""The properties that the library is held to: of every op, of the engine, of layers and training."""

from microgpt.testing.properties.base import PROPERTIES, Property, examine

__all__ = ["PROPERTIES", "Property", "examine"]
