"""The backward pass: from one output to every leaf, newest node first.

Nodes are numbered as they are made, so "newest first" is an order in which a node comes after
everything that uses it. Collecting and sorting them needs no recursion: a graph may be as deep
as memory allows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from heapq import heappop, heappush, heapreplace
from operator import attrgetter
from time import perf_counter
from typing import Any

from microgpt.errors import (
    DTypeError,
    GradientError,
    GraphFreedError,
    MicrogptError,
    ModifiedError,
    ShapeError,
)
from microgpt.graph import FREED, Keep, Leaf, Node, TensorBase, debugging, enable_grad, no_grad
from microgpt.ops import operands
from microgpt.ops.table import TABLE, Op
from microgpt.plugins import registry, rule_running

by_number = attrgetter("number")
_MISSING = object()


def collect(roots: Sequence[Node]) -> list[Node]:
    """All nodes that `roots` depend on, newest first."""
    seen = set(roots)
    stack = list(roots)
    while stack:
        for parent in stack.pop().parents:
            if parent is not None and parent not in seen:
                seen.add(parent)
                stack.append(parent)
    return sorted(seen, key=by_number, reverse=True)


def propagate(
    roots: Sequence[Node],
    seeds: Sequence[Any],
    *,
    retain_graph: bool = False,
    create_graph: bool = False,
    wanted: dict[Node, Any] | None = None,
    stop: bool = False,
) -> None:
    """Carry the cotangents `seeds` of `roots` back through the graph.

    Without `wanted`, leaves accumulate into their `.grad`. With it, the gradients of the nodes
    that are its keys are put there instead, and leaves stay as they are; with `stop` the pass does
    not go past them. Raw arrays flow, unless
    `create_graph`: then tensors flow and the pass itself is recorded.
    """
    gradients: dict[Node, Any] = {}
    heap: list[tuple[int, Node]] = []
    for root, seed in zip(roots, seeds, strict=True):
        before = gradients.get(root)
        gradients[root] = seed if before is None else before + seed
        if before is None and root.op is not None:
            heappush(heap, (-root.number, root))
    pull = _pull_recorded if create_graph else _pull
    if not create_graph and registry.listening():
        pull = _traced(pull)
    plain = pull is _pull
    check = debugging()
    node = heappop(heap)[1] if heap else None
    while node is not None:
        g = gradients.pop(node)
        if wanted is not None and node in wanted:
            wanted[node] = g
            if stop:
                node = heappop(heap)[1] if heap else None
                continue
        if node.grad is not None:
            _keep(node, g)
        op = node.op
        y = node.y
        if y is FREED:
            raise _freed(node)
        try:
            kind = op.kind if plain else 0
            # `_pull` for elementwise ops, written out here: it halves the time per node.
            if kind == 1:
                first = node.first
                a = node.a
                if a is None:
                    a = first
                elif first.op is None and first.data is not a:
                    raise _modified(node, 0)
                pairs: Pairs = ((first, op.rules[0](g, y, a)),)
            elif kind == 2:
                first = node.first
                second = node.second
                a = node.a
                b = node.b
                if first is not None:
                    if a is None:
                        a = first
                    elif first.op is None and first.data is not a:
                        raise _modified(node, 0)
                if second is not None:
                    if b is None:
                        b = second
                    elif second.op is None and second.data is not b:
                        raise _modified(node, 1)
                    grad = op.rules[1](g, y, a, b)
                    if second.shape != node.shape:
                        grad = unbroadcast(grad, second.shape)
                    pairs = ((second, grad),)
                else:
                    pairs = ()
                if first is not None:
                    grad = op.rules[0](g, y, a, b)
                    if first.shape != node.shape:
                        grad = unbroadcast(grad, first.shape)
                    pairs = ((first, grad), *pairs) if pairs else ((first, grad),)
            else:
                pairs = pull(node, op, g)
        except MicrogptError as error:
            raise _located(error, node) from error
        if check:
            _check_gradients(node, g, pairs)
        if not retain_graph:
            node.a = node.b = None
            node.y = FREED
        # Along a chain the next node is known at once; the heap is for branches.
        node = None
        for parent, grad in pairs:
            before = gradients.get(parent)
            if before is not None:
                gradients[parent] = before + grad
                continue
            gradients[parent] = grad
            if parent.op is not None:
                if node is None:
                    node = parent
                else:
                    heappush(heap, (-parent.number, parent))
        if node is None:
            node = heappop(heap)[1] if heap else None
        elif heap and -heap[0][0] > node.number:
            node = heapreplace(heap, (-node.number, node))[1]
    for leaf, g in gradients.items():  # only leaves are left
        if wanted is None:
            _accumulate(leaf, g)  # pyright: ignore[reportArgumentType]
        elif leaf in wanted:
            wanted[leaf] = g


Pairs = Sequence[tuple[Node, Any]]


def _pull(node: Node, op: Op, g: Any) -> Pairs:
    """The inputs' nodes and gradients of one node, as raw arrays."""
    parents = node.parents
    *inputs, y = node.saved  # pyright: ignore[reportGeneralTypeIssues]
    for i, parent in enumerate(parents):
        if parent is not None:
            x = inputs[i]
            if x is None:
                inputs[i] = parent
            elif parent.op is None and parent.data is not x:  # pyright: ignore
                raise _modified(node, i)
    if op.kind:
        params = node.params or {}
        grads: Sequence[Any] = [
            rule(g, y, *inputs, **params) if parent is not None and rule is not None else None
            for parent, rule in zip(parents, op.rules, strict=True)  # pyright: ignore
        ]
    else:
        grads = _joint(node, op, g, y, inputs)
    return _fitted(op, parents, grads)


def _fitted(op: Op, parents: Sequence[Node | None], grads: Sequence[Any]) -> Pairs:
    """Each input's node with its gradient, of the input's shape."""
    pairs = []
    for parent, grad in zip(parents, grads, strict=True):
        if parent is not None and grad is not None:
            if getattr(grad, "shape", None) != parent.shape:
                grad = _fit(op, grad, parent)
            pairs.append((parent, grad))
    return pairs


def _joint(node: Node, op: Op, g: Any, y: Any, inputs: list[Any]) -> Sequence[Any]:
    """Gradients of all inputs at once: by the backend's kernel, the op's rule, or its body."""
    params = node.params or {}
    if op.fast_rules is not None:
        kernel = op.fast_rules[type(g)]
        if kernel is not None:
            needs = tuple([p is not None for p in node.parents])
            return kernel(g, y, *inputs, needs=needs, **params)
    if op.rules is not None:
        grads = op.rules(g, y, *inputs, **params)  # pyright: ignore[reportCallIssue]
        return _one_per_input(op, grads, len(inputs))
    raise GradientError(f"{op.name} was recorded but has no gradient rule on this backend")


def _one_per_input(op: Op, grads: Any, count: int) -> list[Any]:
    """What a joint rule returned, with None for the inputs at the end that it leaves out."""
    if not isinstance(grads, (tuple, list)) or len(grads) > count:
        number = f" of {len(grads)}" if isinstance(grads, (tuple, list)) else ""
        raise GradientError(
            f"the gradient rule of {op.name} returned a {type(grads).__name__}{number}; required: "
            f"a tuple with one gradient, or None, for each of its {count} inputs: (g * …,)"
        )
    return [*grads, *[None] * (count - len(grads))]


def _pull_recorded(node: Node, op: Op, g: Any) -> Pairs:
    """Like `_pull`, with tensors, so that the gradients can be differentiated again."""
    face = type(g)
    parents = node.parents
    *raws, out = node.saved  # pyright: ignore[reportGeneralTypeIssues]
    inputs: list[Any] = []
    for i, (parent, raw) in enumerate(zip(parents, raws, strict=True)):
        if parent is None:
            inputs.append(attach(face, raw) if hasattr(raw, "shape") else raw)
            continue
        if raw is not None and parent.op is None and parent.data is not raw:  # pyright: ignore
            raise _modified(node, i)
        inputs.append(parent if raw is None else attach(face, raw, parent))
    # Without a rule of its own the op's body is differentiated; `out` may then be no array at all.
    y = None if out is None or op.rules is None else attach(face, out, node)
    params = node.params or {}
    with enable_grad():
        if op.rules is None:
            grads: Sequence[Any] = _through_body(op, g, inputs, parents, params)
        elif isinstance(op.rules, tuple):
            grads = [
                None if p is None or rule is None else rule(g, y, *inputs, **params)
                for p, rule in zip(parents, op.rules, strict=True)
            ]
        else:
            grads = op.rules(g, y, *inputs, **params)
            grads = _one_per_input(op, grads, len(parents))
        return _fitted(op, parents, grads)


def _through_body(op: Op, g: Any, inputs: list, parents: tuple, params: dict) -> list[Any]:
    """Gradients of a fused op's inputs by differentiating its definition."""
    places = [i for i, p in enumerate(parents) if p is not None]
    fresh = list(inputs)
    for i in places:
        fresh[i] = TABLE["identity"].function(inputs[i])
    y = op.body(*fresh, **params)  # pyright: ignore[reportOptionalCall]
    found = gradients_of([y], [fresh[i] for i in places], [g], create_graph=True)
    grads: list[Any] = [None] * len(inputs)
    for i, grad in zip(places, found, strict=True):
        grads[i] = grad
    return grads


def attach(face: type[TensorBase], raw: Any, edge: Node | None = None) -> Any:
    """A tensor around `raw` whose gradients go to `edge`."""
    tensor = face.__new__(face)
    tensor._data = raw
    tensor._edge = edge
    return tensor


def _fit(op: Op, grad: Any, parent: Node) -> Any:
    """Sum a gradient over the dimensions along which its input was broadcast."""
    shape = parent.shape
    if not hasattr(grad, "shape"):
        raise GradientError(
            f"the gradient rule of {op.name} returned a {type(grad).__name__} for an input of "
            f"shape {tuple(shape)}; required: an array of this shape (g * 0 + number makes one)"
        )
    if not op.broadcasts:
        raise ShapeError(
            f"the gradient rule of {op.name} returned shape {tuple(grad.shape)} for an input of "
            f"shape {tuple(shape)}; required: the input's shape (declare the op with "
            "broadcasts=True if its inputs broadcast)"
        )
    return unbroadcast(grad, shape)


def unbroadcast(grad: Any, shape: tuple[int, ...]) -> Any:
    """The adjoint of broadcasting: sum `grad` to `shape`."""
    have = tuple(grad.shape)
    if have == shape:
        return grad
    if len(have) < len(shape) or any(
        n not in (1, m) for m, n in zip(have[len(have) - len(shape) :], shape, strict=True)
    ):
        return TABLE["broadcast_to"].function(grad, shape=tuple(shape))
    extra = len(have) - len(shape)
    axes = tuple(range(extra)) + tuple(
        [i + extra for i, n in enumerate(shape) if n == 1 and have[i + extra] != 1]
    )
    total = TABLE["sum"].function(grad, axis=axes, keepdims=True)
    if extra:
        total = TABLE["reshape"].function(total, shape=tuple(shape))
    return total


def _accumulate(leaf: Leaf, g: Any) -> None:
    if not isinstance(g, TensorBase):
        g = attach(leaf.face, g)
    if leaf.grad is None:
        leaf.grad = g
    elif g._edge is None and leaf.grad._edge is None:
        leaf.grad = attach(leaf.face, leaf.grad._data + g._data)
    else:
        leaf.grad = leaf.grad + g  # pyright: ignore[reportOperatorIssue]


def _keep(node: Node, g: Any) -> None:
    """Leave the gradient of an inner node in its `grad`, adding to what is there."""
    old = node.grad
    face = old.face if isinstance(old, Keep) else type(old)
    g = g if isinstance(g, TensorBase) else attach(face, g)
    node.grad = g if isinstance(old, Keep) else old + g


def _traced(pull: Callable[..., Pairs]) -> Callable[..., Pairs]:
    """`pull`, reporting the time each node takes to the plugins that listen."""

    def run(node: Node, op: Op, g: Any) -> Pairs:
        saved = node.saved or ()
        token = rule_running.set(op.name)
        start = perf_counter()
        try:
            pairs = pull(node, op, g)
        finally:
            rule_running.reset(token)
        seconds = perf_counter() - start
        grads = tuple([grad for _, grad in pairs])
        backend = registry.backend_of(g).name
        registry.notify(op.name, "backward", backend, seconds, (g, *saved), grads, None)
        return pairs

    return run


# ---- failures --------------------------------------------------------------------------------


def _line(node: Node) -> str:
    if node.where:
        return f"\n  the {node.op.name} was called at {node.where}"
    return f"\n  (with mg.debug(): … the error names the line of that {node.op.name})"


def _freed(node: Node) -> GraphFreedError:
    return GraphFreedError(
        f"a second backward pass reached the op '{node.op.name}', whose saved values were freed by "
        "the first; required: one backward per graph. Compute the output again, add the losses "
        "up before one backward(), or call the first with backward(retain_graph=True). If a state "
        "is carried over from the step before (as in an RNN), detach() it there." + _line(node)
    ).about("backward-twice")


def _modified(node: Node, i: int) -> ModifiedError:
    shape = tuple(node.parents[i].shape)  # pyright: ignore[reportOptionalMemberAccess]
    return ModifiedError(
        f"input {i + 1} of the op '{node.op.name}' (shape {shape}) was given other values after "
        "the op recorded it, and the gradient needs the old ones; change "
        "values (optimizer.step(), .data = …) only after backward(), or compute the output again"
        + _line(node)
    ).about("changed-value")


def _located(error: MicrogptError, node: Node) -> MicrogptError:
    if node.where and node.where not in str(error):
        made = type(error)(f"{error.message}{_line(node)}")
        made.topic = error.topic
        return made
    return error


def _check_gradients(node: Node, g: Any, pairs: Pairs) -> None:
    raw = g._data if isinstance(g, TensorBase) else g
    for _, grad in pairs:
        grad = grad._data if isinstance(grad, TensorBase) else grad
        try:
            operands.check_finite(node.op, (raw,), grad, " (its gradient)")
        except MicrogptError as error:
            raise _located(error, node) from None


# ---- the public passes -----------------------------------------------------------------------


def backward(
    tensor: TensorBase,
    gradient: TensorBase | None = None,
    *,
    retain_graph: bool = False,
    create_graph: bool = False,
) -> None:
    """Add the gradient of `tensor` to the `.grad` of every leaf it depends on.

    `Tensor.backward` is the usual spelling; see there.
    """
    edge = _edge_of(tensor, "backward()")
    seed = _seed(tensor, gradient)
    if create_graph:
        propagate([edge], [seed], retain_graph=True, create_graph=True)
        return
    with no_grad():
        propagate([edge], [seed._data], retain_graph=retain_graph)


def gradients_of(
    outputs: Sequence[TensorBase],
    inputs: Sequence[TensorBase],
    cotangents: Sequence[TensorBase | None],
    *,
    create_graph: bool = False,
    retain_graph: bool | None = None,
) -> list[Any]:
    """Gradients of `outputs` with respect to `inputs`, without touching any `.grad`.

    Inputs that the outputs do not depend on get zeros.
    """
    wanted: dict[Node, Any] = {
        _edge_of(x, "the gradient with respect to it"): _MISSING for x in inputs
    }
    pairs = [(y, c) for y, c in zip(outputs, cotangents, strict=True) if y._edge is not None]
    roots = [y._edge for y, _ in pairs]
    seeds = [_seed(y, c) for y, c in pairs]
    if create_graph:
        propagate(roots, seeds, retain_graph=True, create_graph=True, wanted=wanted)  # pyright: ignore
    else:
        with no_grad():
            raws = [s._data for s in seeds]
            propagate(roots, raws, retain_graph=bool(retain_graph), wanted=wanted)  # pyright: ignore
    results = []
    for x in inputs:
        g = wanted[x._edge]  # pyright: ignore[reportArgumentType]
        if g is _MISSING:
            g = TABLE["zeros_like"].function(x._data)
        results.append(g if isinstance(g, TensorBase) else attach(type(x), g))
    return results


def _edge_of(tensor: TensorBase, purpose: str) -> Node:
    if tensor._edge is None:
        raise GradientError(
            f"{purpose} needs a tensor that requires a gradient; got one of shape "
            f"{tuple(tensor._data.shape)} that depends on no tensor with requires_grad=True "
            "(was it computed under no_grad(), detached, or made from an integer?)"
        ).about("nothing-to-differentiate")
    return tensor._edge


def _seed(tensor: TensorBase, gradient: TensorBase | None) -> TensorBase:
    shape = tuple(tensor._data.shape)
    if gradient is None:
        if math.prod(shape) != 1:
            raise ShapeError(
                f"backward() without an argument needs an output of one element; got shape "
                f"{shape}; reduce it first (loss.sum(), loss.mean()) or pass the gradient of "
                "your loss with respect to this tensor, of the same shape"
            ).about("backward-of-many")
        return attach(type(tensor), TABLE["ones_like"].function(tensor._data))
    if tuple(gradient.shape) != shape:  # pyright: ignore[reportAttributeAccessIssue]
        raise ShapeError(
            f"the gradient passed to backward() must have the output's shape {shape}; "
            f"got {tuple(gradient.shape)}"  # pyright: ignore[reportAttributeAccessIssue]
        )
    backend = registry.backend_of(tensor._data)
    have, want = backend.dtype(gradient._data), backend.dtype(tensor._data)
    if have != want:
        raise DTypeError(
            f"the gradient passed to backward() must have the output's dtype {want}; got {have}; "
            f"convert it: gradient.astype('{want}')"
        )
    return gradient
