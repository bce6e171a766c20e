"""bisect names the op at fault and its phase, not another one."""

import numpy as np
import pytest

import microgpt as mg
from microgpt.testing import bisect
from tests.second_backend import (
    BODIES,
    OTHER,
    PROGRAMS,
    Array,
    Other,
    curve,
    drawn,
    fused,
    in_place,
    off,
    off_part,
    off_saving,
    training,
    wrong_tail,
)

F, B = "forward", "backward"

# program, faults by kernel, ops without kernel, and what must be named: op, phase, the op in whose
# gradient rule it runs, the fused op in whose body it was found.
FAULTS = [
    ("curve", {"exp": off()}, (), ("exp", F, None, None)),
    ("curve", {"tanh": off(-1, at=99)}, (), ("tanh", F, None, None)),
    ("curve", {"exp": wrong_tail}, (), ("exp", F, None, None)),
    ("curve", {"exp": off(np.nan, at=7)}, (), ("exp", F, None, None)),
    ("curve", {"exp": off(np.inf, at=7)}, (), ("exp", F, None, None)),
    ("curve", {"exp": lambda k, x: k(x).astype("float64")}, (), ("exp", F, None, None)),
    ("curve", {"exp": lambda k, x: k(x)[:50]}, (), ("exp", F, None, None)),
    ("curve", {"exp": in_place}, (), ("exp", F, None, None)),
    ("curve", {"broadcast_to": off(at=3)}, (), ("broadcast_to", B, "sum", None)),
    ("transformer", {"take": off()}, (), ("take", F, None, None)),
    ("transformer", {"layer_norm_saving": off_saving}, (), ("layer_norm", F, None, None)),
    ("transformer", {"linear": off()}, (), ("linear", F, None, None)),
    ("transformer", {"gelu_saving": off_saving}, (), ("gelu", F, None, None)),
    ("transformer", {"matmul": off()}, BODIES, ("matmul", F, None, "linear")),
    ("transformer", {"linear_vjp": off_part(1)}, (), ("linear", B, None, None)),
    ("transformer", {"layer_norm_vjp": off_part(0)}, (), ("layer_norm", B, None, None)),
    ("transformer", {"cross_entropy_vjp": off_part(0)}, (), ("cross_entropy", B, None, None)),
    ("transformer", {"scatter_add": off()}, BODIES, ("scatter_add", B, "gather", "cross_entropy")),
    ("transformer", {"index_add": off()}, (), ("index_add", B, "take", None)),
    ("fused", {"softmax": off()}, (), ("softmax", F, None, None)),
    ("fused", {"softmax_vjp": off_part(0)}, (), ("softmax", B, None, None)),
    ("fused", {"logsumexp": off()}, BODIES, ("logsumexp", F, None, "log_softmax")),
    ("convolution", {"unfold": off(at=42)}, BODIES, ("unfold", F, None, "conv2d")),
    ("convolution", {"fold": off()}, BODIES, ("fold", B, "unfold", "conv2d")),
    ("convolution", {"conv2d_saving": off_saving}, (), ("conv2d", F, None, None)),
    ("convolution", {"conv2d_vjp": off_part(1)}, (), ("conv2d", B, None, None)),
    ("convolution", {"relu": wrong_tail}, (), ("relu", F, None, None)),
    ("SGD", {"add_scaled": off()}, (), ("add_scaled", F, None, None)),
    ("Adam", {"adam_step": off()}, (), ("adam_step", F, None, None)),
]  # fmt: skip


def place(found):
    return found.op, found.phase, found.within, found.inside


@pytest.mark.parametrize("wrong", [0, 1], ids=["first", "second"])
@pytest.mark.parametrize(
    ("program", "faults", "without", "expected"), FAULTS,
    ids=[f"{n}-{'-'.join(f)}-{p}" for n, (p, f, _, _) in enumerate(FAULTS)],
)  # fmt: skip
def test_a_planted_fault_is_named(program, faults, without, expected, wrong):
    names = ("numpy", OTHER) if wrong else (OTHER, "numpy")
    with mg.plugged(Other(faults, without)):
        found = bisect(PROGRAMS[program], *names)
        assert not found.agree
        assert place(found) == expected, str(found)
        if found.gap.exact is not None:
            assert found.gap.exact == pytest.approx(float(found.values[1 - wrong]), rel=1e-4)
        assert found.repeat in str(found)
        if found.repeat.startswith("mg.testing.bisect('"):  # the op by itself
            again = eval(found.repeat, {"mg": mg, "np": np})
            assert not again.agree and again.op == found.op, str(again)


def test_the_first_of_several_faults_is_named():
    with mg.plugged(Other({"tanh": off(), "sum": off(), "multiply": off()})):
        assert bisect(curve, "numpy", OTHER).op == "tanh"


class WrongLinear:
    @mg.hookimpl
    def microgpt_kernel(self, backend, op):
        if (backend, op) == ("numpy", "linear"):
            return lambda x, weight, bias: x @ weight.T * np.float32(1.01)
        return None


def test_a_wrong_kernel_beside_a_right_body():
    """The body's ops agree, so it is the kernel; the value in float64 says so, too."""
    x = np.ones((1, 2), "float32")
    with mg.plugged(Other(without=BODIES)), mg.plugged(WrongLinear()):
        found = bisect("linear", "numpy", OTHER, x, x, None)
    assert place(found) == ("linear", F, None, None)
    assert "other has no kernel for it: it runs its body, whose ops all agree" in str(found)
    assert "in float64, by the op's definition: 2\n" in str(found)


def grabbing(kernel, g, *inputs, **params):
    parts = kernel(g, *inputs, **params)
    g *= 2
    return parts


def test_a_gradient_kernel_that_writes_into_what_it_was_given():
    with mg.plugged(Other({"softmax_vjp": grabbing})):
        found = bisect(fused, "numpy", OTHER)
    assert place(found) == ("softmax", B, None, None)
    assert "  the output's gradient was changed by it on 'other'\n" in str(found)


def test_a_buffer_that_is_used_again_too_early():
    """The op at which it is noticed is named: it was given something else than was computed."""
    last = []

    def reuses(kernel, x):
        if last:
            last[0][...] = 0
        last[:] = [kernel(x)]
        return last[0]

    with mg.plugged(Other({"exp": reuses})):
        x = drawn(5)
        found = bisect(lambda x: (mg.exp(x), mg.exp(-x))[0] * 2, "numpy", OTHER, x)
    assert found.op == "multiply"
    assert "  input 1 was changed since it was computed on 'other'\n" in str(found)


def test_a_fault_in_the_second_step_is_found_in_the_second_step():
    with mg.plugged(Other({"tanh": off()})):
        first = bisect(training(), "numpy", OTHER)
    with mg.plugged(Other({"tanh": off()}, start=2)):
        second = bisect(training(), "numpy", OTHER)
    with mg.plugged(Other()):
        one_step = bisect(training(count=1), "numpy", OTHER)
    assert one_step.agree
    assert second.count == one_step.count + first.count


def test_a_fault_that_needs_what_ran_before():
    """By itself, the op is right: the line repeats everything."""
    with mg.plugged(Other({"tanh": lambda k, x: k(x) * (1.01 if calls.pop() else 1)})):
        calls = [False] * 9 + [True, False]
        found = bisect(training(), "numpy", OTHER, seed=3)
    assert (found.op, found.alone) == ("tanh", False)
    assert found.repeat == "mg.testing.bisect(train, 'numpy', 'other', seed=3)"
    assert "alone, with the same inputs, the op agrees: what ran before" in str(found)


@pytest.mark.parametrize(
    ("ufunc", "op", "sign", "within"),
    [("multiply", "multiply", "*", "multiply"), ("subtract", "subtract", "-", "tanh")],
)
def test_an_operator_of_the_arrays_is_named(ufunc, op, sign, within, monkeypatch):
    monkeypatch.setattr(Array, "wrong", ufunc)
    with mg.plugged(Other()):
        found = bisect(curve, "numpy", OTHER)
        assert place(found) == (op, B, within, None)
        assert found.operator == sign
        assert f"{op} (the arrays' operator {sign}), backward, in the gradient " in str(found)
        again = eval(found.repeat, {"mg": mg, "np": np})
    assert (again.op, again.operator) == (op, sign)


def test_an_input_without_dimensions():
    x, settings = np.array(0.5, "float32"), {"axis": 0, "size": 1}
    with mg.plugged(Other({"index_add": off()})):
        found = bisect("index_add", "numpy", OTHER, x, np.array(0), params=settings)
        again = eval(found.repeat, {"mg": mg, "np": np})
    assert place(found) == place(again) == ("index_add", F, None, None)
