"""Pictures and texts of graphs and of what networks learn."""

from microgpt.viz.graph import text_tree, to_dot, to_svg

__all__ = ["text_tree", "to_dot", "to_svg"]
