"""Networks, each readable from top to bottom."""

from microgpt.models.mlp import MLP

__all__ = ["MLP"]
