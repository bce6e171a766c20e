"""Checks of gradients: of any function, of the op table, of an op of one's own.

`gradcheck` needs NumPy only. `check_op` and the drawing of test inputs need Hypothesis (extra:
test), which is imported when they are used.
"""

from microgpt.errors import GradcheckError
from microgpt.testing.cases import Case
from microgpt.testing.evidence import write_report
from microgpt.testing.gradcheck import CODES, gradcheck
from microgpt.testing.report import Failure, GradReport
from microgpt.testing.rows import check_op, check_row

__all__ = [
    "CODES",
    "Case",
    "Failure",
    "GradReport",
    "GradcheckError",
    "check_op",
    "check_row",
    "gradcheck",
    "write_report",
]
