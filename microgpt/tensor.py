"""Tensor: one backend array in a graph."""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter
from typing import Any

import numpy as np

from microgpt import autograd, config, ops
from microgpt.errors import DTypeError, GradientError, InputError, InputTypeError, ShapeError
from microgpt.graph import Keep, Leaf, TensorBase, recording
from microgpt.plugins import registry


class Tensor(TensorBase):
    """An array of one backend that can be differentiated.

    Make one with `mg.tensor`, `mg.zeros`, …; operators and methods are the ops of the package.
    Tensors are immutable: there is no ``x[i] = …``. Optimizers and users replace the values of a
    leaf as a whole, by setting `.data`.
    """

    __slots__ = ()
    __array_priority__ = 1000

    def __init__(self, data: Any, requires_grad: bool = False) -> None:
        made = tensor(data, requires_grad=requires_grad)
        self._data = made._data
        self._edge = made._edge

    # ---- what it is --------------------------------------------------------------------------

    shape: tuple[int, ...] = property(  # pyright: ignore[reportAssignmentType]
        attrgetter("_data.shape"), doc="Lengths of the dimensions."
    )

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self._data.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        n = 1
        for length in self._data.shape:
            n *= length
        return n

    @property
    def dtype(self) -> np.dtype:
        """Type of the elements, as NumPy names it."""
        return registry.backend_of(self._data).dtype(self._data)

    @property
    def backend(self) -> str:
        """Name of the backend whose array this is."""
        return registry.backend_of(self._data).name

    @property
    def device(self) -> str:
        """Name of the device the array lives on."""
        return registry.backend_of(self._data).device(self._data)

    @property
    def T(self) -> Tensor:  # noqa: N802 (the array API's name)
        """The transpose of a matrix.

        Raises:
            ShapeError: if there are not two dimensions (`mT` transposes stacks of matrices).
        """
        if self.ndim != 2:
            raise ShapeError(
                f".T transposes a matrix; got shape {self.shape} (use .mT for stacks of matrices, "
                "permute_dims for any order)"
            )
        return ops.matrix_transpose(self)

    @property
    def mT(self) -> Tensor:  # noqa: N802
        """The last two dimensions exchanged."""
        return ops.matrix_transpose(self)

    # ---- values ------------------------------------------------------------------------------

    @property
    def data(self) -> Tensor:
        """The values, without the graph. Set it to replace the values of a leaf."""
        return self.detach()

    @data.setter
    def data(self, value: Any) -> None:
        if self._edge is not None and not isinstance(self._edge, Leaf):
            raise GradientError(
                f"the values of the result of '{self._edge.op.name}' cannot be replaced, other "
                "results may have been computed from them; required: a leaf (detach() makes one)"
            )
        new = _like(self, value)
        if new.shape != self._data.shape:
            raise ShapeError(
                f"data of shape {tuple(new.shape)} for a tensor of shape {self.shape}; required: "
                "the same shape"
            )
        self._data = new
        if self._edge is not None:
            self._edge.data = new

    def numpy(self) -> np.ndarray:
        """The values as a NumPy array: a copy, yours to change."""
        return np.array(registry.backend_of(self._data).to_numpy(self._data))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if self.requires_grad and recording():
            raise GradientError(
                "a NumPy function was given a tensor that requires a gradient, which would be lost "
                "without notice; use the op of microgpt, or x.detach() / x.numpy() if that is meant"
            ).about("numpy-functions")
        return self.numpy() if dtype is None else self.numpy().astype(dtype)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **settings: Any) -> Any:
        """NumPy asks here: for array * tensor, which is ours to answer, and for np.sin(tensor)."""
        operator = _OPERATORS.get(ufunc.__name__) if method == "__call__" else None
        if operator is not None and not settings and not isinstance(inputs[0], Tensor):
            return operator(*inputs)
        name = {"power": "pow", "absolute": "abs"}.get(ufunc.__name__, ufunc.__name__)
        mend = f"mg.{name}(…)" if name in ops.TABLE else "ops of microgpt"
        raise InputTypeError(
            f"NumPy's {ufunc.__name__} was given a tensor, and knows nothing of gradients; use "
            f"{mend}, or x.numpy() if no gradient is meant to flow"
        ).about("numpy-functions")

    def item(self) -> Any:
        """The one element as a Python number.

        Raises:
            ShapeError: if there are more.
        """
        if self.size != 1:
            raise ShapeError(
                f"item() needs one element; got shape {self.shape}: use .tolist()"
            ).about("item-of-many")
        return registry.backend_of(self._data).to_numpy(self._data).item()

    def tolist(self) -> Any:
        """The values as nested lists of Python numbers."""
        return registry.backend_of(self._data).to_numpy(self._data).tolist()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        value = self.item()
        if isinstance(value, float):
            raise DTypeError(f"an index must be an integer; got a tensor of dtype {self.dtype}")
        return int(value)

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ShapeError(
                f"the truth of a tensor of shape {self.shape} is ambiguous; use .any() or .all()"
            ).about("truth-of-a-tensor")
        return bool(self.item())

    def __len__(self) -> int:
        if not self.ndim:
            raise ShapeError("a tensor without dimensions has no len(); use .item()")
        return self._data.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __setitem__(self, key: Any, value: Any) -> None:
        raise InputTypeError(
            "tensors are immutable, so that gradients stay right; instead of x[i] = v write "
            "mg.where(mask, v, x), mg.scatter_add(…) or mg.concat([…]); to replace all values of a "
            "leaf, set .data"
        ).about("in-place")

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        values = registry.backend_of(self._data).to_numpy(self._data)
        text = np.array2string(np.asarray(values), separator=", ", prefix="tensor(", threshold=1000)
        parts = [text]
        if str(self.dtype) not in ("float32", "bool"):
            parts.append(f"dtype={self.dtype}")
        if self.backend != "numpy":
            parts.append(f"device='{self.backend}:{self.device}'")
        if self._edge is not None:
            leaf = isinstance(self._edge, Leaf)
            parts.append("requires_grad=True" if leaf else f"op={self._edge.op.name}")
        return f"tensor({', '.join(parts)})"

    def __reduce__(self) -> Any:
        from microgpt.pickling import pack, unpack

        return unpack, (pack(self),)

    # ---- gradients ---------------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow to, or through, this tensor. Can be set on leaves."""
        return self._edge is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if value == (self._edge is not None):
            return
        if self._edge is not None and not isinstance(self._edge, Leaf):
            raise GradientError(
                f"requires_grad of the result of '{self._edge.op.name}' follows from its inputs; "
                "use detach() for a tensor without gradient"
            )
        self._edge = _leaf(self._data, type(self)) if value else None

    @property
    def is_leaf(self) -> bool:
        """Whether this tensor was made by the user, not by a recorded op."""
        return self._edge is None or isinstance(self._edge, Leaf)

    @property
    def grad(self) -> Tensor | None:
        """The gradient that backward passes have added up here, or None.

        Only leaves with `requires_grad` have one, and results after `retain_grad()`.
        """
        found = None if self._edge is None else self._edge.grad
        return None if isinstance(found, Keep) else found

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if self._edge is None:
            if value is None:
                return
            raise GradientError("a tensor that requires no gradient cannot be given one")
        if value is not None and tuple(value.shape) != self.shape:
            raise ShapeError(f"a gradient of shape {value.shape} for a tensor of {self.shape}")
        self._edge.grad = value

    def backward(
        self,
        gradient: Tensor | None = None,
        *,
        retain_graph: bool = False,
        create_graph: bool = False,
    ) -> None:
        """Add the gradient of this tensor to the `.grad` of every leaf it was computed from.

        Args:
            gradient: of the quantity of interest with respect to this tensor; may be left out
                if this is a single number.
            retain_graph: keep saved values, so that a second pass is possible.
            create_graph: record the pass, so that gradients can be differentiated again.

        Raises:
            GradientError: if nothing here requires a gradient.
            GraphFreedError: if the graph was used up by an earlier pass.
            ModifiedError: if a value the gradient needs was replaced since.

        Example:
            >>> import microgpt as mg
            >>> x = mg.tensor([1.0, 2.0], requires_grad=True)
            >>> (x * x).sum().backward()
            >>> x.grad
            tensor([2., 4.])
        """
        autograd.backward(self, gradient, retain_graph=retain_graph, create_graph=create_graph)

    def detach(self) -> Tensor:
        """The same values as a constant: no gradient flows through it."""
        return autograd.attach(Tensor, self._data)

    def retain_grad(self) -> Tensor:
        """Keep the gradient of this result in `.grad` when a backward pass comes by."""
        if self._edge is None:
            raise GradientError("retain_grad() on a tensor that requires no gradient")
        if self._edge.grad is None and not isinstance(self._edge, Leaf):
            self._edge.grad = Keep(Tensor)
        return self

    # ---- conversion --------------------------------------------------------------------------

    def to(
        self,
        place: str | None = None,
        *,
        backend: str | None = None,
        device: str | None = None,
        dtype: Any = None,
    ) -> Tensor:
        """This tensor on another backend or device, or with another dtype; gradients flow back.

        Args:
            place: a backend (``"numpy"``), a backend and device (``"opencl:1"``) or a dtype
                (``"float64"``).

        Example:
            >>> import microgpt as mg
            >>> mg.ones(2).to("float64").dtype
            dtype('float64')
        """
        if place is not None:
            name, _, number = str(place).partition(":")
            if name in registry.backend_names():
                backend, device = name, number or device
            else:
                dtype = _dtype(place)
        x = self if dtype is None else self.astype(dtype)
        if backend is None and device is None:
            return x
        target = (backend or x.backend, device)
        source = (x.backend, x.device)
        if target[0] == source[0] and (
            device is None or registry.backend(target[0]).device_name(device) == source[1]
        ):
            return x
        return ops.transfer(x, target=target, source=source)

    def astype(self, dtype: Any) -> Tensor:
        """This tensor with elements of type `dtype`."""
        wanted = _dtype(dtype)
        return self if wanted == self.dtype else ops.astype(self, wanted)

    def float(self) -> Tensor:
        """This tensor as float32."""
        return self.astype("float32")

    def double(self) -> Tensor:
        """This tensor as float64."""
        return self.astype("float64")

    # ---- operators ---------------------------------------------------------------------------

    __add__ = ops.add
    __sub__ = ops.subtract
    __mul__ = ops.multiply
    __truediv__ = ops.divide
    __pow__ = ops.pow
    __matmul__ = ops.matmul
    __neg__ = ops.negative
    __abs__ = ops.abs
    __lt__ = ops.less
    __le__ = ops.less_equal
    __gt__ = ops.greater
    __ge__ = ops.greater_equal
    __eq__ = ops.equal  # pyright: ignore[reportAssignmentType]
    __ne__ = ops.not_equal  # pyright: ignore[reportAssignmentType]
    __and__ = ops.logical_and
    __or__ = ops.logical_or
    __invert__ = ops.logical_not
    __getitem__ = ops.getitem

    def __pos__(self) -> Tensor:
        return self

    def __radd__(self, other: Any) -> Tensor:
        return ops.add(other, self)

    def __rsub__(self, other: Any) -> Tensor:
        return ops.subtract(other, self)

    def __rmul__(self, other: Any) -> Tensor:
        return ops.multiply(other, self)

    def __rtruediv__(self, other: Any) -> Tensor:
        return ops.divide(other, self)

    def __rpow__(self, other: Any) -> Tensor:
        return ops.pow(other, self)

    def __rmatmul__(self, other: Any) -> Tensor:
        return ops.matmul(_wrapped(other, self), self)

    # ---- ops as methods ----------------------------------------------------------------------

    abs = ops.abs
    all = ops.all
    any = ops.any
    argmax = ops.argmax
    argmin = ops.argmin
    argsort = ops.argsort
    broadcast_to = ops.broadcast_to
    clip = ops.clip
    cos = ops.cos
    cumulative_sum = ops.cumulative_sum
    exp = ops.exp
    expand_dims = ops.expand_dims
    flatten = ops.flatten
    flip = ops.flip
    log = ops.log
    logsumexp = ops.logsumexp
    log_softmax = ops.log_softmax
    max = ops.max
    mean = ops.mean
    min = ops.min
    prod = ops.prod
    relu = ops.relu
    sigmoid = ops.sigmoid
    sin = ops.sin
    softmax = ops.softmax
    sort = ops.sort
    split = ops.split
    sqrt = ops.sqrt
    square = ops.square
    squeeze = ops.squeeze
    sum = ops.sum
    swapaxes = ops.swapaxes
    take = ops.take
    tanh = ops.tanh
    topk = ops.topk
    tril = ops.tril
    triu = ops.triu
    var = ops.var

    def reshape(self, *shape: Any) -> Tensor:
        """`ops.reshape`; the lengths may also be given one by one."""
        return ops.reshape(self, shape[0] if len(shape) == 1 else shape)

    def permute_dims(self, *axes: Any) -> Tensor:
        """`ops.permute_dims`; the axes may also be given one by one."""
        return ops.permute_dims(self, axes[0] if len(axes) == 1 and axes[0] != 0 else axes)

    def matrix_transpose(self) -> Tensor:
        """The last two dimensions exchanged."""
        return ops.matrix_transpose(self)


def _leaf(raw: Any, face: type[TensorBase]) -> Leaf:
    dtype = registry.backend_of(raw).dtype(raw)
    if dtype.kind != "f":
        raise DTypeError(
            f"requires_grad needs a float tensor: only changes of real numbers have a gradient; "
            f"got dtype {dtype}; convert first: x.astype('float32')"
        ).about("integer-gradient")
    return Leaf(raw, face)


def _dtype(name: Any) -> np.dtype:
    """The dtype called `name`.

    Raises:
        DTypeError: if there is none.
    """
    try:
        return np.dtype(name)
    except TypeError:
        raise DTypeError(
            f"there is no dtype or backend {name!r}; dtypes are float32, float64, int32, int64, "
            f"bool, …; backends {', '.join(registry.backend_names())}"
        ) from None


def _like(like: Tensor, value: Any) -> Any:
    """The raw array of `value` with the backend, device and dtype of `like`."""
    backend = registry.backend_of(like._data)
    if isinstance(value, TensorBase):
        raw = value._data
        if registry.backend_of(raw) is backend and backend.dtype(raw) == backend.dtype(like._data):
            return raw
        value = registry.backend_of(raw).to_numpy(raw)
    host = np.asarray(value)
    return backend.asarray(host, backend.dtype(like._data), backend.device(like._data))


def _wrapped(value: Any, like: Tensor) -> Any:
    """NumPy `value` as a tensor where `like` lives; anything else as it is."""
    if isinstance(value, (np.ndarray, list)):
        backend = registry.backend_of(like._data)
        host = np.asarray(value)
        return autograd.attach(Tensor, backend.asarray(host, None, backend.device(like._data)))
    return value


_OPERATORS = {
    "add": ops.add, "subtract": ops.subtract, "multiply": ops.multiply, "divide": ops.divide,
    "power": ops.pow, "matmul": lambda a, b: ops.matmul(_wrapped(a, b), b),
    "less": ops.less, "less_equal": ops.less_equal, "greater": ops.greater,
    "greater_equal": ops.greater_equal, "equal": ops.equal, "not_equal": ops.not_equal,
}  # fmt: skip
"""What NumPy's functions of these names mean between an array and a tensor."""


def _host_values(data: Any, dtype: np.dtype | None) -> np.ndarray:
    """NumPy array of `data`, with the default type for Python's numbers."""
    if isinstance(data, (np.ndarray, np.generic)):
        host = np.asarray(data)
    else:
        try:
            host = np.asarray(data)
        except (ValueError, TypeError) as error:
            raise InputError(
                f"a tensor is made of numbers in nested lists of equal lengths; got {data!r:.80} "
                f"({error})"
            ) from None
        if host.dtype.kind == "f" or host.size == 0:
            host = host.astype(dtype or config.get("dtype"))
    if host.dtype.kind not in "fiub":
        raise InputTypeError(
            f"a tensor is made of numbers; got {type(data).__name__} with elements of type "
            f"{host.dtype}"
        )
    return host


def tensor(
    data: Any,
    dtype: Any = None,
    requires_grad: bool = False,
    backend: str | None = None,
    device: str | None = None,
) -> Tensor:
    """A new tensor with the values of `data`, which are copied.

    Args:
        data: a number, nested lists, a NumPy array, or a tensor.
        dtype: by default that of a NumPy array or tensor; Python floats get the configured float
            type (float32), ints int64.
        requires_grad: whether gradients shall be collected in `.grad`.
        backend: by default the configured one; `device` likewise.

    Raises:
        DTypeError: if a gradient is asked for and the values are no floats.
        InputError: if the lists are ragged.

    Example:
        >>> import microgpt as mg
        >>> mg.tensor([[1, 2], [3, 4]], dtype="float32")
        tensor([[1., 2.],
                [3., 4.]])
    """
    wanted = None if dtype is None else _dtype(dtype)
    if isinstance(data, TensorBase):
        owner = registry.backend_of(data._data)
        data, backend = owner.to_numpy(data._data), backend or owner.name
    host = _host_values(data, wanted)
    name, device = config.place(backend, device)
    raw = registry.backend(name).asarray(host, wanted, device)
    return autograd.attach(Tensor, raw, _leaf(raw, Tensor) if requires_grad else None)
