"""Settings of the documentation site; `docs/build.py` prepares its sources and runs Sphinx."""

from __future__ import annotations

import re
from importlib.metadata import version as installed
from typing import Any

project = "microgpt"
author = "microgpt contributors"
version = release = installed("microgpt-autograd")

extensions = [
    "myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax",
    "sphinx_copybutton",
]  # fmt: skip

html_theme = "furo"
html_title = "microgpt"
html_theme_options = {"navigation_with_keys": True}
html_show_sourcelink = False
templates_path: list[str] = []
# A class may be known by the module that defines it and by the one that hands it on.
suppress_warnings = ["ref.python"]

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # build.py has run them, several at once
nb_execution_show_tb = True

# Docstrings are written for `help()`: what stands in single backticks is code.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_custom_sections = [("Shape", "returns_style")]
python_use_unqualified_type_names = True
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

linkcheck_timeout = 20
linkcheck_anchors = False


def _plain(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """|x|, y* and val_ are mathematics and names in docstrings, not markup."""
    example = False
    for i, line in enumerate(lines):
        if line.lstrip().startswith(">>>"):
            example = True
        elif not line.strip():
            example = False
        if not example and not line.lstrip().startswith(".. "):
            parts = line.split("`")  # every other one is code
            parts[::2] = [
                re.sub(r"(?<![\\*:])([|*]|_(?!\w))", r"\\\1", part) for part in parts[::2]
            ]
            lines[i] = "`".join(parts)


def setup(app: Any) -> None:
    """Register what this file defines."""
    app.connect("autodoc-process-docstring", _plain, priority=900)
