"""The conformance kit: does a backend compute every op, and every gradient, rightly?

From the command line ``microgpt check --backend NAME``, with pytest
``pytest --pyargs microgpt.testing.conformance --microgpt-backend NAME``, from Python
`check_backend`.
Tiers, each skipped if the one before it failed:

T0 contract: devices, dtypes, round trips, errors instead of crashes.
T1 movement, bit by bit. T2 elementwise ops. T3 reductions, products and fused ops. T4 indexing.
T5 gradients of every op. T6 lifetime of memory. T7 the same result every time. T8 a training step
of a small transformer, and decoding it token by token.

A backend is judged in float32 (and in float64 where it has it) against results in float64, by
error bounds that follow from the arithmetic, never by finite differences. Gradient rules are the
same for all backends, so a wrong rule is not found here: for that there is `mg.testing.gradcheck`.
"""

from microgpt.testing.conformance.kit import Kit, check_backend
from microgpt.testing.conformance.verdict import TIERS, Result, Verdict

__all__ = ["TIERS", "Kit", "Result", "Verdict", "check_backend"]
