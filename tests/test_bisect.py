"""bisect: where two backends are right it finds nothing; what it says, takes and refuses."""

import random

import numpy as np
import pytest

import microgpt as mg
from microgpt.errors import BackendError, InputError
from microgpt.plugins import registry
from microgpt.testing import Bisection, bisect
from tests.second_backend import (
    BODIES,
    OTHER,
    PROGRAMS,
    Other,
    curve,
    drawn,
    in_place,
    off,
    step_of_a_transformer,
    wrong_tail,
)

# ---- agreement -------------------------------------------------------------------------------


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("without", [(), BODIES], ids=["kernels", "bodies"])
def test_right_backends_agree(program, without):
    with mg.plugged(Other(without=without)):
        found = bisect(PROGRAMS[program], "numpy", OTHER)
        back = bisect(PROGRAMS[program], OTHER, "numpy")
    assert found.agree and back.agree, f"{found}\n{back}"
    assert found.count == back.count > 4


def library(name):
    namespace = pytest.importorskip(name)
    return mg.array_api.ArrayAPIBackend(namespace).plugin()


@pytest.mark.parametrize("name", ["array_api_strict", "array_api_compat.torch"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_libraries_that_round_otherwise_agree(program, name):
    if "torch" in name:
        pytest.importorskip("torch")
    with mg.plugged(library(name)) as plugin:
        found = bisect(PROGRAMS[program], "numpy", plugin.backend.name)
    assert found.agree, str(found)


def test_a_confident_classifier_agrees():
    """Where probabilities are near 1, kernel and body round quite differently."""
    x = drawn(50, 10) * 3
    x[np.arange(50), np.arange(50) % 10] += 12

    def loss(x):
        logits = mg.tensor(x, requires_grad=True)
        mg.cross_entropy(logits, mg.tensor(np.arange(50) % 10)).backward()

    with mg.plugged(Other(without=BODIES)):
        for seed in range(5):
            found = bisect(loss, "numpy", OTHER, x + drawn(50, 10, seed=seed))
            assert found.agree, str(found)


def test_agreement_as_text():
    with mg.plugged(Other()):
        found = bisect(curve, "numpy", OTHER)
    assert str(found) == f"curve: numpy and other agree in all {found.count} op calls"


# ---- the report ------------------------------------------------------------------------------


def test_the_report_is_complete():
    x = np.array([[0.0, 1.0], [2.0, 3.0]], "float32")
    with mg.plugged(Other({"exp": off(1.5, at=3)})):
        found = bisect(lambda x: mg.exp(x * 2), "numpy", OTHER, x)
        again = eval(found.repeat, {"mg": mg, "np": np})
    right, wrong = np.exp(np.float32(6)), np.exp(np.float32(6)) * np.float32(1.5)
    assert isinstance(found, Bisection)
    assert found.difference == pytest.approx(right / 2)
    assert found.values == (right, pytest.approx(wrong))
    assert 0 < found.allowed < 1e-3
    np.testing.assert_array_equal(found.inputs[0], x * 2)
    assert found.repeat == (
        "mg.testing.bisect('exp', 'numpy', 'other', "
        "np.array([[0.0, 2.0], [4.0, 6.0]], dtype='float32'))"
    )
    assert str(found).splitlines() == [
        "<lambda>: numpy and other part at op 2: exp, forward",
        f"  the result at [1, 1] differs by 202; allowed: {found.allowed:.3g} "
        "(1 of 4 elements differ by more)",
        f"    numpy  {right!s}",
        f"    other  {found.values[1]!s}",
        f"    in float64, by the op's definition: {np.exp(6.0):.12g}",
        "  inputs: (2, 2) float32",
        "  before it they agree in 1 op call",
        f"  repeat: {found.repeat}",
    ]
    assert (again.difference, again.values) == (found.difference, found.values)


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (lambda k, x: k(x)[:2], "the result has two shapes: (4,) and (2,)"),
        (lambda k, x: k(x).astype("float64"), "the result has two dtypes: float32 and float64"),
        (in_place, "input 1 was changed by it on 'other'"),
    ],
)
def test_other_differences_in_words(fault, text):
    with mg.plugged(Other({"exp": fault})):
        assert text in str(bisect("exp", "numpy", OTHER, drawn(4)))


def test_large_inputs_are_drawn_again():
    with mg.plugged(Other({"softmax": wrong_tail})):
        found = bisect(lambda x: mg.softmax(x, axis=0), "numpy", OTHER, drawn(10, 30))
        assert "np.random.default_rng(0).normal(size=(10, 30)).astype('float32')" in found.repeat
        assert "params={'axis': 0}" in found.repeat
        assert not eval(found.repeat, {"mg": mg, "np": np}).agree


def test_a_mask_is_part_of_the_line():
    q, seen = drawn(1, 3, 2), np.tri(3, dtype=bool)
    name = "scaled_dot_product_attention"

    class Mine:
        @mg.hookimpl
        def microgpt_kernel(self, backend, op):
            if (backend, op) == (OTHER, name):
                return lambda q, k, v, mask, causal, scale: v * 1
            return None

    with mg.plugged(Other()), mg.plugged(Mine()):
        found = bisect(
            lambda q: mg.scaled_dot_product_attention(q, q, q, mask=mg.tensor(seen)),
            "numpy", OTHER, q,
        )  # fmt: skip
        assert found.op == name
        assert "'mask': np.array([[True, False, False]" in found.repeat
        assert eval(found.repeat, {"mg": mg, "np": np}).op == name


# ---- arguments and settings ------------------------------------------------------------------


def test_arguments_are_moved_and_left_alone():
    model = mg.models.MLP((4, 3), generator=mg.generator(0))
    before = [p.numpy().copy() for p in model.parameters()]

    def step(model, x, scale):
        steps = mg.optim.SGD(model.parameters(), lr=0.1)
        mg.sum(model(x) * scale).backward()
        steps.step()
        assert x.backend == "numpy+other"

    with mg.plugged(Other()):
        assert bisect(step, "numpy", OTHER, model, mg.tensor(drawn(2, 4)), 2.0).agree
    for p, old in zip(model.parameters(), before, strict=True):
        assert p.backend == "numpy" and p.grad is None
        np.testing.assert_array_equal(p.numpy(), old)


def test_rtol_is_a_share_of_the_largest_element():
    x = np.array([1.0, 100.0], "float32")
    with mg.plugged(Other({"sqrt": off(1.1)})):  # 0.1 of 10
        assert bisect("sqrt", "numpy", OTHER, x, rtol=0.011).agree
        found = bisect("sqrt", "numpy", OTHER, x, rtol=0.009)
    assert not found.agree and found.allowed == pytest.approx(0.09)
    assert found.repeat.endswith(", rtol=0.009)")


def test_the_seed_is_a_setting_and_nothing_else_changes():
    seen = []

    def function():
        seen.append(mg.config.get("seed"))
        mg.exp(mg.zeros(2))

    random.seed(5)
    state = random.getstate()
    with mg.plugged(Other()):
        bisect(function, "numpy", OTHER, seed=7)
        bisect(function, "numpy", OTHER)
    assert seen == [7, mg.config.get("seed")]
    assert random.getstate() == state
    assert registry.backend_names().count("numpy+other") == 0


def test_random_numbers_are_the_same_on_both():
    """The function runs once: even numbers without a seed make no difference."""
    rng = np.random.default_rng()
    with mg.plugged(Other()):
        found = bisect(lambda: mg.exp(mg.tensor(rng.normal(size=5))), "numpy", OTHER)
        drop = bisect(
            lambda x: mg.dropout(x, 0.5, generator=mg.generator()), "numpy", OTHER, drawn(9)
        )
    assert found.agree and drop.agree


def test_the_same_report_every_time():
    with mg.plugged(Other({"matmul": off()})):
        texts = {str(bisect(step_of_a_transformer, "numpy", OTHER)) for _ in range(2)}
    assert len(texts) == 1


# ---- errors ----------------------------------------------------------------------------------


def test_an_unknown_backend():
    with pytest.raises(BackendError, match="nonsense"):
        bisect(curve, "numpy", "nonsense")


@pytest.mark.parametrize(
    "function", [lambda: None, lambda: mg.exp(mg.zeros(2, backend="numpy"))], ids=["no", "outside"]
)
def test_a_function_that_runs_no_op_there(function):
    with mg.plugged(Other()), pytest.raises(InputError, match="runs none there; make its tensors"):
        bisect(function, "numpy", OTHER)


def test_an_op_that_fails_on_one_backend():
    def fail(kernel, x):
        raise RuntimeError("out of registers")

    with (
        mg.plugged(Other({"tanh": fail})),
        pytest.raises(
            BackendError, match="backend 'other' fails at op 2, tanh, forward, of"
        ) as error,
    ):
        bisect(curve, "numpy", OTHER)
    text = "where 'numpy' computes a result; it says: RuntimeError: out of registers"
    assert text in str(error.value)


def test_a_mistake_of_the_function_is_its_own():
    with (
        mg.plugged(Other()),
        pytest.raises(mg.errors.ShapeError, match="shapes do not broadcast") as caught,
    ):
        bisect(lambda x: mg.exp(x) + mg.zeros(4), "numpy", OTHER, drawn(3))
    assert caught.value.__notes__ == ["while numpy and other ran together, after 2 ops"]


def test_what_a_function_takes_from_outside_is_on_its_own_backend():
    x = mg.ones(3)
    with (
        mg.plugged(Other()),
        pytest.raises(BackendError, match="tensors of the backends") as caught,
    ):
        bisect(lambda y: mg.exp(y) + x, "numpy", OTHER, drawn(3))
    hint = "to bisect, hand over tensors and modules from outside as arguments"
    assert caught.value.__notes__[0] == hint


def test_a_device_may_be_named():
    with mg.plugged(Other()):
        assert bisect(curve, "numpy:cpu", OTHER).agree
        with pytest.raises(BackendError, match="device='attic'"):
            bisect(curve, "numpy:attic", OTHER)


def test_params_belong_to_a_name():
    with pytest.raises(InputError, match="params= belongs to an op given by its name"):
        bisect(curve, "numpy", "numpy", params={"axis": 0})
