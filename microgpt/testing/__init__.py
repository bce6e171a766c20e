"""Checks of gradients: of any function, of the op table, of an op of one's own.

`gradcheck` needs NumPy only. `check_op` and the drawing of test inputs need Hypothesis (extra:
test), which is imported when they are used. `conformance`, `museum` and `properties` are loaded
when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from microgpt.errors import GradcheckError
from microgpt.testing.bisection import Bisection, bisect
from microgpt.testing.cases import Case
from microgpt.testing.evidence import write_report
from microgpt.testing.gradcheck import CODES, gradcheck
from microgpt.testing.report import Failure, GradReport
from microgpt.testing.rows import check_op, check_row

if TYPE_CHECKING:
    from microgpt.testing import conformance as conformance
    from microgpt.testing import museum as museum
    from microgpt.testing import properties as properties


def __getattr__(name: str) -> Any:
    if name in ("conformance", "museum", "properties"):
        return importlib.import_module(f"microgpt.testing.{name}")
    raise AttributeError(f"module 'microgpt.testing' has no attribute '{name}'")


__all__ = [
    "CODES",
    "Bisection",
    "Case",
    "Failure",
    "GradReport",
    "GradcheckError",
    "bisect",
    "check_op",
    "check_row",
    "gradcheck",
    "write_report",
]
