"""Pictures and texts of graphs and of what networks learn.

Graphs are drawn in pure Python. All other pictures are figures of matplotlib (extra: tutorials)
that are returned, not shown; `save` writes them to files.
"""

from microgpt.viz.answers import confusion_matrix, error_gallery
from microgpt.viz.attention import attention_patterns
from microgpt.viz.curves import cost_curve, training_curves
from microgpt.viz.embeddings import embedding_map, principal_components
from microgpt.viz.graph import Graph, text_tree, to_dot, to_svg
from microgpt.viz.layers import conv_filters, feature_maps, first_layer
from microgpt.viz.network import mlp_flow
from microgpt.viz.scalars import as_scalars
from microgpt.viz.style import save, styled
from microgpt.viz.text import shaded_text, token_probabilities

__all__ = [
    "Graph", "text_tree", "to_dot", "to_svg", "as_scalars",
    "first_layer", "conv_filters", "feature_maps", "mlp_flow",
    "attention_patterns", "embedding_map", "principal_components",
    "cost_curve", "training_curves", "error_gallery", "confusion_matrix",
    "token_probabilities", "shaded_text",
    "save", "styled",
]  # fmt: skip
