"""OpenCL C for an elementwise expression.

For a processor the kernel is a loop over vectors, because that is what its compiler makes fast code
of; for other devices each work-item computes single elements. The code of the ops is in `optext`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from microgpt_opencl.optext import C_TYPES, CAREFUL, helper, text


class Step(NamedTuple):
    """An op, the type of its results, and its arguments: ("v", i) is the result of step i, ("x", i)
    an element of input i, ("s", i) number i."""

    op: str
    dtype: str
    args: tuple[tuple[str, int], ...]


class Leaf(NamedTuple):
    """The type of an input, and how it goes along the innermost axis: see `fusion.Walk`."""

    dtype: str
    kind: str


def number_type(node: Any) -> str:
    """The type, as NumPy abbreviates it, of a number among the arguments of an expression."""
    if node.dtype.kind == "b":  # a comparison computes in the type of what it compares
        for a in node.args:
            if type(a) is not bool and hasattr(a, "dtype"):
                return a.dtype.char
    return node.dtype.char


class Spec(NamedTuple):
    """All that the source depends on, and so the key of the kernel."""

    steps: tuple[Step, ...]
    leaves: tuple[Leaf, ...]
    kept: tuple[int, ...]
    """The steps whose results are written."""
    numbers: tuple[str, ...]
    """Types of the numbers."""
    ndim: int
    """Axes of the common way through memory."""
    whole: bool
    """Whether rows are a whole number of vectors."""


def source(spec: Spec, width: int, loop: bool) -> str:
    """The source of a kernel ``fused``.

    Args:
        width: lanes of a vector; 1 for single elements.
        loop: whether a work-item goes through many vectors or computes one element.
    """
    code = _Writer(spec, width)
    head = f"kernel {'WIDE ' if loop else ''}void fused({', '.join(code.parameters(loop))})"
    # Each step is rounded by itself, so that results do not depend on what is computed together.
    lines = ["#pragma OPENCL FP_CONTRACT OFF", *(code.typedefs() if loop else []), head, "{"]
    lines += code.loop(spec.whole) if loop else code.single()
    return "\n".join([*lines, "}", ""])


class _Writer:
    def __init__(self, spec: Spec, width: int) -> None:
        self.steps, self.leaves, self.kept, self.numbers, ndim, _ = spec
        self.outer = ndim - 1
        self.width = width
        self.types = {
            **{f"v{i}": step.dtype for i, step in enumerate(self.steps)},
            **{f"x{i}": leaf.dtype for i, leaf in enumerate(self.leaves)},
            **{f"s{i}": char for i, char in enumerate(self.numbers)},
        }

    def vector(self, char: str) -> str:
        return C_TYPES[char] + (str(self.width) if self.width > 1 else "")

    def typedefs(self) -> list[str]:
        """Vectors at any address. (PoCL calls a function for vload and vstore.)"""
        chars = {leaf.dtype for leaf in self.leaves} | {self.steps[i].dtype for i in self.kept}
        types = sorted({C_TYPES[char] for char in chars})
        needed = sorted({(s.op, s.dtype) for s in self.steps} & CAREFUL)
        helpers = [helper(op, char, self.width) for op, char in needed] if self.width > 1 else []
        return helpers + [
            f"typedef {t}{self.width} loose_{t} __attribute__((aligned(sizeof({t}))));"
            for t in types
        ]

    def store(self, i: int, to: str) -> str:
        """Write the result of step `i`."""
        return f"*(global loose_{C_TYPES[self.steps[i].dtype]} *)({to}) = v{i};"

    def parameters(self, loop: bool) -> list[str]:
        found = []
        for i in self.kept:
            found += [f"global {C_TYPES[self.steps[i].dtype]} *y{i}", f"ulong y{i}_start"]
        for i, leaf in enumerate(self.leaves):
            found += [f"global const {C_TYPES[leaf.dtype]} *p{i}", f"ulong p{i}_start"]
            found += [f"long x{i}_step{k}" for k in range(self.outer)]
            found += [f"long x{i}_along"] * (leaf.kind == "s")
        found += [f"{C_TYPES[char]} n{i}" for i, char in enumerate(self.numbers)]
        found += [f"int length{k}" for k in range(self.outer)]
        return [*found, "int inner", *(["int units", "int share"] if loop else ["int total"])]

    def constants(self) -> list[str]:
        """Numbers, and inputs of which there is one element only."""
        lines = [
            f"    const {self.vector(char)} s{i} = ({self.vector(char)})(n{i});"
            for i, char in enumerate(self.numbers)
        ]
        for i, leaf in enumerate(self.leaves):
            if leaf.kind == "z" and not self.outer:
                kind = self.vector(leaf.dtype)
                lines.append(f"    const {kind} x{i} = ({kind})(x{i}_in[0]);")
        return lines

    def pointers(self) -> list[str]:
        """Where inputs and outputs begin; names end in _in and _out."""
        lines = [
            f"    global {C_TYPES[self.steps[i].dtype]} *y{i}_out = y{i} + y{i}_start;"
            for i in self.kept
        ]
        return lines + [
            f"    global const {C_TYPES[leaf.dtype]} *x{i}_in = p{i} + p{i}_start;"
            for i, leaf in enumerate(self.leaves)
        ]

    def places(self) -> list[str]:
        """The row of each input, from the number of the row of the outputs."""
        lines = []
        if self.outer > 1:
            lines.append("int rest = row;")
            for k in reversed(range(1, self.outer)):
                lines += [f"const long at{k} = rest % length{k};", f"rest /= length{k};"]
            lines.append("const long at0 = rest;")
        elif self.outer:
            lines.append("const long at0 = row;")
        for i, leaf in enumerate(self.leaves):
            steps = " + ".join(f"at{k} * x{i}_step{k}" for k in range(self.outer))
            lines.append(
                f"global const {C_TYPES[leaf.dtype]} *x{i}_row = x{i}_in"
                + (f" + {steps};" if steps else ";")
            )
            if leaf.kind == "z":
                kind = self.vector(leaf.dtype)
                lines.append(f"const {kind} x{i} = ({kind})(x{i}_row[0]);")
        return lines

    def compute(self) -> list[str]:
        """All steps, each in a variable of its own."""
        lines = []
        for i, step in enumerate(self.steps):
            names = [kind + str(k) for kind, k in step.args]
            value = text(step.op, step.dtype, names, [self.types[n] for n in names], self.width)
            lines.append(f"const {self.vector(step.dtype)} v{i} = {value};")
        return lines

    # ---- for a processor ---------------------------------------------------------------------

    def load(self, i: int, leaf: Leaf, row: str) -> list[str]:
        kind, w = self.vector(leaf.dtype), self.width
        if leaf.kind == "z":
            return []
        if leaf.kind == "u":
            return [
                f"const {kind} x{i} = *(global const loose_{C_TYPES[leaf.dtype]} *)({row} + i);"
            ]
        at = "min((long)i + {k}, (long)inner - 1)"
        lanes = ", ".join(f"{row}[{at.format(k=k)} * x{i}_along]" for k in range(w))
        return [f"const {kind} x{i} = ({kind})({lanes});"]

    def loop(self, whole: bool) -> list[str]:
        w = self.width
        lines = ["    TOUCH_CONSTANTS", *self.pointers(), *self.constants()]
        lines += [
            "    const int first = get_group_id(0) * share;",
            "    const int last = min(first + share, units);",
        ]
        if not self.outer:  # a unit is a vector; blocks have room for a whole last one
            body = [line for i, leaf in enumerate(self.leaves)
                    for line in self.load(i, leaf, f"x{i}_in")]  # fmt: skip
            body = [f"const long i = (long)unit * {w};", *body, *self.compute()]
            body += [self.store(i, f"y{i}_out + i") for i in self.kept]
            return [
                *lines, "    for (int unit = first; unit < last; unit++) {",
                *["        " + line for line in body], "    }",
            ]  # fmt: skip
        body = [line for i, leaf in enumerate(self.leaves)
                for line in self.load(i, leaf, f"x{i}_row")]  # fmt: skip
        body += self.compute()
        stores = [self.store(i, f"y{i}_row + i") for i in self.kept]
        if whole:
            body += stores
        else:
            body += [f"if (i + {w} <= inner) {{", *["    " + s for s in stores], "} else {"]
            for i in self.kept:
                kind = C_TYPES[self.steps[i].dtype]
                body += [
                    f"    {kind} lanes{i}[{w}];",
                    f"    vstore{w}(v{i}, 0, lanes{i});",
                    f"    for (int k = 0; k < inner - i; k++) y{i}_row[i + k] = lanes{i}[k];",
                ]
            body.append("}")
        rows = [
            f"global {C_TYPES[self.steps[i].dtype]} *y{i}_row = y{i}_out + (long)row * inner;"
            for i in self.kept
        ]
        return [
            *lines, "    for (int row = first; row < last; row++) {",
            *["        " + line for line in [*self.places(), *rows]],
            f"        for (int i = 0; i < inner; i += {w}) {{",
            *["            " + line for line in body], "        }", "    }",
        ]  # fmt: skip

    # ---- for other devices -------------------------------------------------------------------

    def single(self) -> list[str]:
        lines = [*self.pointers(), *self.constants()]
        body = ["const int row = at / inner;", "const int i = at - row * inner;", *self.places()]
        if not self.outer:
            body = ["const int i = at;"]
        for i, leaf in enumerate(self.leaves):
            where = f"x{i}_row" if self.outer else f"x{i}_in"
            if leaf.kind != "z":
                step = f" * x{i}_along" if leaf.kind == "s" else ""
                body.append(f"const {C_TYPES[leaf.dtype]} x{i} = {where}[i{step}];")
        body += [*self.compute(), *[f"y{i}_out[at] = v{i};" for i in self.kept]]
        return [
            *lines, "    for (int at = get_global_id(0); at < total; at += get_global_size(0)) {",
            *["        " + line for line in body], "    }",
        ]  # fmt: skip
