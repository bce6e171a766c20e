"""Seeing where two backends part: the first op, forward or backward, whose results differ.

`lockstep` is a backend made of two, on which a function runs once; `agreement` says how far results
may differ, with the help of `definition`; `finding` starts it all, `report` puts what is found into
words, and `repeating` into a line of code.
"""

from microgpt.testing.bisection.finding import bisect, find
from microgpt.testing.bisection.report import Bisection

__all__ = ["Bisection", "bisect", "find"]
