"""Pictures and texts of graphs and of what networks learn."""

from microgpt.viz.graph import text_tree, to_dot, to_svg
from microgpt.viz.pictures import cost_curve, error_gallery, first_layer, save

__all__ = ["cost_curve", "error_gallery", "first_layer", "save", "text_tree", "to_dot", "to_svg"]
