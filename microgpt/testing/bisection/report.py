"""What `bisect` found, in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from microgpt.testing.bisection.agreement import Gap
from microgpt.testing.bisection.repeating import short


@dataclass
class Bisection:
    """Where two backends part, or that they agree; as text it is a message to read.

    Attributes:
        name: the function's.
        first, second: the backends.
        count: how many op calls were compared, the one that parts included.
        agree: whether all of them agree.
        op: the name of the op that parts; "" if none does.
        phase: "forward", or "backward" for what runs in a backward pass.
        within: the op in whose gradient rule it runs, if it does.
        inside: the fused op in whose body it was found, because one backend has a kernel for that
            and the other has not.
        operator: the sign, if it is not a kernel but an operator of the arrays: gradient rules and
            optimizers use those.
        inputs: what it was given: NumPy arrays, numbers, None. The gradient of a fused op gets the
            gradient of the output, the output (None if it is not used), and the op's inputs.
        params: its other arguments.
        difference, allowed: of the element that is furthest beyond its bound.
        values: that element on each backend (shapes or dtypes, if these differ).
        alone: whether the op parts again when it runs by itself with the same inputs.
        repeat: a line of code that shows the difference again.
    """

    name: str
    first: str
    second: str
    count: int
    agree: bool = True
    op: str = ""
    phase: str = ""
    within: str | None = None
    inside: str | None = None
    operator: str = ""
    inputs: tuple[Any, ...] = ()
    params: dict[str, Any] = field(default_factory=dict)
    difference: float = 0.0
    allowed: float = 0.0
    values: tuple[Any, ...] = ()
    alone: bool = True
    repeat: str = ""
    gap: Gap | None = field(default=None, repr=False)

    def __str__(self) -> str:
        start = f"{self.name}: {self.first} and {self.second}"
        gap = self.gap
        if gap is None:
            return f"{start} agree in {_all(self.count)}"
        inside = f", in the body of {self.inside}" if self.inside else ""
        lines = [f"{start} part at op {self.count}: {gap.call.title()}{inside}"]
        lines += self._difference(gap)
        lines.append("  inputs: " + ", ".join(map(short, self.inputs)))
        if self.params:
            lines[-1] += "; " + ", ".join(f"{k}={short(v)}" for k, v in self.params.items())
        if gap.call.body:
            lines.append(
                f"  {gap.call.body} has no kernel for it: it runs its body, whose ops all agree"
            )
        if self.count > 1:
            lines.append(f"  before it they agree in {_all(self.count - 1)}")
        if not self.alone:
            lines.append("  alone, with the same inputs, the op agrees: what ran before it matters")
        lines.append(f"  repeat: {self.repeat}")
        return "\n".join(lines)

    def _difference(self, gap: Gap) -> list[str]:
        if gap.output is None:
            return [f"  {gap.what}"]
        which = f"gradient by input {gap.output + 1}" if gap.call.needs else "result"
        if gap.what != "differs":
            found = f": {gap.values[0]} and {gap.values[1]}" if gap.values else ""
            return [f"  the {which} {gap.what}{found}"]
        at = f" at {list(gap.worst)}" if gap.worst else ""
        total = int(np.prod(gap.shape))
        many = f" ({gap.wrong:,} of {total:,} elements differ by more)" if total > 1 else ""
        lines = [f"  the {which}{at} differs by {gap.difference:.3g}; allowed: {gap.allowed:.3g}"]
        lines[0] += many
        width = max(len(self.first), len(self.second))
        for name, value in zip((self.first, self.second), gap.values, strict=True):
            lines.append(f"    {name:<{width}}  {value!s}")
        if gap.exact is not None:
            lines.append(f"    in float64, by the op's definition: {gap.exact:.12g}")
        return lines


def _all(count: int) -> str:
    return "1 op call" if count == 1 else f"all {count:,} op calls"
