"""Checks of gradients: of any function, of the op table, of an op of one's own.

`gradcheck` needs NumPy only. `check_op` and the drawing of test inputs need Hypothesis (extra:
test), which is imported when they are used.
"""

from microgpt.errors import GradcheckError
from microgpt.testing.cases import Case
from microgpt.testing.gradcheck import Failure, GradReport, gradcheck
from microgpt.testing.rows import check_op, check_row

__all__ = [
    "Case",
    "Failure",
    "GradReport",
    "GradcheckError",
    "check_op",
    "check_row",
    "gradcheck",
]
