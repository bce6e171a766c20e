"""A second backend for tests of `bisect`, faults to plant in it, and programs to run on both."""

import numpy as np

import microgpt as mg
from microgpt.backend import Backend
from microgpt.plugins import registry
from microgpt.testing.conformance import transformer

OTHER = "other"


class Array(np.ndarray):
    """An array class of its own, so that NumPy's kernels can be those of a second backend."""

    wrong = ""  # the operator that is off by 1 %

    def __array_ufunc__(self, ufunc, method, *inputs, **settings):
        y = np.asarray(getattr(ufunc, method)(*map(bare, inputs), **settings))
        if ufunc.__name__ == type(self).wrong:
            y.reshape(-1)[-1] *= 1.01
        return y.view(Array)


def bare(x):
    """Array → ndarray, in tuples too."""
    if isinstance(x, tuple):
        return tuple(bare(part) for part in x)
    return x.view(np.ndarray) if isinstance(x, Array) else x


def wrapped(y):
    if isinstance(y, (tuple, list)):
        return type(y)(wrapped(part) for part in y)
    if isinstance(y, np.ndarray | np.generic):
        return np.asarray(y).view(Array)
    return y


class Other(Backend):
    """The NumPy backend under another name. `faults` replaces kernels by functions of the right
    kernel and its arguments, from call number `start` on; `without` leaves some out."""

    name = OTHER
    array_types = (Array,)

    def __init__(self, faults=(), without=(), start=1):
        self.faults, self.without, self.start = dict(faults), without, start
        self.calls = dict.fromkeys(self.faults, 0)

    def asarray(self, data, dtype, device):
        return np.array(data, dtype=dtype).view(Array)

    def to_numpy(self, array):
        return bare(array)

    @mg.hookimpl
    def microgpt_backend_names(self):
        return [OTHER]

    @mg.hookimpl
    def microgpt_backend(self, name):
        return self if name == OTHER else None

    @mg.hookimpl
    def microgpt_kernel(self, backend, op):
        if backend != OTHER or op in self.without:
            return None
        registry.backend("numpy")
        kernel = registry.kernel("numpy", op)
        if kernel is None:
            return None

        def run(*inputs, **params):
            inputs = map(bare, inputs)
            if op in self.faults:
                self.calls[op] += 1
            if op in self.faults and self.calls[op] >= self.start:
                return wrapped(self.faults[op](kernel, *inputs, **params))
            return wrapped(kernel(*inputs, **params))

        return run


# ---- what is run -----------------------------------------------------------------------------


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def training(optimizer="SGD", count=3, **settings):
    """`count` steps of an optimizer."""

    def train():
        x, y = mg.tensor(drawn(12, 20)), mg.tensor(np.arange(12) % 5)
        model = mg.models.MLP((20, 16, 5), "tanh", generator=mg.generator(0))
        steps = getattr(mg.optim, optimizer)(model.parameters(), lr=0.01, **settings)
        for _ in range(count):
            steps.zero_grad()
            mg.cross_entropy(model(x), y).backward()
            steps.step()

    return train


def convolution():
    x = mg.tensor(drawn(2, 3, 8, 8), requires_grad=True)
    w = mg.tensor(drawn(4, 3, 3, 3, seed=1), requires_grad=True)
    h = mg.max_pool2d(mg.relu(mg.conv2d(x, w, padding=1)), 2)
    mg.sum(h * h).backward()


def step_of_a_transformer():
    ids = np.random.default_rng(3).integers(0, transformer.VOCABULARY, (2, 8))
    weights = transformer._weights(None, "float32")
    logits = transformer._logits(weights, mg.tensor(ids[:, :-1]))
    rows = logits.reshape(-1, transformer.VOCABULARY)
    mg.cross_entropy(rows, mg.tensor(ids[:, 1:].reshape(-1))).backward()


def fused():
    x = mg.tensor(drawn(3, 8), requires_grad=True)
    y = mg.softmax(x) + mg.log_softmax(x) * mg.layer_norm(x, None, None)
    q = mg.tensor(drawn(2, 5, 4), requires_grad=True)
    seen = mg.tensor(np.tri(5, dtype=bool))
    z = mg.scaled_dot_product_attention(q, q, q, mask=seen)
    (mg.sum(y * y) + mg.sum(z * z)).backward()


def curve():
    x = mg.tensor(np.linspace(-2, 2, 100, dtype="float32"), requires_grad=True)
    mg.sum(mg.exp(x) * mg.tanh(x)).backward()


PROGRAMS = {
    "SGD": training(), "momentum": training("SGD", momentum=0.9), "Adam": training("Adam"),
    "AdamW": training("AdamW"), "convolution": convolution, "fused": fused, "curve": curve,
    "transformer": step_of_a_transformer,
}  # fmt: skip

FUSED = ("softmax", "log_softmax", "linear", "cross_entropy", "layer_norm", "conv2d", "gelu",
         "scaled_dot_product_attention")  # fmt: skip
BODIES = [name + end for name in FUSED for end in ("", "_saving", "_vjp")]


# ---- faults: functions of the right kernel and its arguments ---------------------------------


def off(factor=1.01, at=0):
    """One element is wrong."""

    def fault(right, /, *inputs, **params):
        y = np.array(right(*inputs, **params), order="C")
        y.reshape(-1)[at] *= factor
        return y

    return fault


def off_part(which):
    """One element of one of several results is wrong."""

    def fault(right, /, *inputs, **params):
        parts = right(*inputs, **params)
        parts = [None if y is None else np.array(y, order="C") for y in parts]
        parts[which].reshape(-1)[-1] *= 1.01
        return tuple(parts)

    return fault


def off_saving(kernel, *inputs, **params):
    y, saved = kernel(*inputs, **params)
    y = np.array(y, order="C")
    y.reshape(-1)[0] *= 1.01
    return y, saved


def wrong_tail(kernel, *inputs, **params):
    y = np.array(kernel(*inputs, **params), order="C")
    y.reshape(-1)[64:] = 0
    return y


def in_place(kernel, x):
    y = kernel(x)
    x *= 2
    return y
