"""PyTorch's sample inputs as an oracle in float64, for our values and all our gradients.

`python -m tests.peers` prints how many samples of which op are used, and why others are not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import microgpt as mg
from microgpt.ops import TABLE
from tests.peers.adapters import ADAPTERS
from tests.peers.comparison import Outcome, examine, load, quiet
from tests.peers.conventions import CONVENTIONS, DIFFERENT, Convention
from tests.planting import kernels

# Rows of the op table that no op of PyTorch's list stands beside.
WITHOUT_SAMPLES = {
    "adam_step": "PyTorch's optimizers are no ops; test_optim.py compares whole runs of them",
    "cached_attention": "decoding; held to self_attention, which test_peer_attention.py compares",
    "lstm_layer": "torch.nn.LSTM is in the list of modules; test_peer_recurrent.py compares it",
    "rnn_layer": "torch.nn.RNN is in the list of modules; test_peer_recurrent.py compares it",
    "running_mean": "a part of optimizers; test_optim.py compares whole runs of them",
    "self_attention": "of packed projections; test_peer_attention.py compares the layer",
    "transfer": "between backends and devices, of which there is one here",
}

ALL_LEFT_OUT = {"round:decimals_3"}
"""Ops of which every sample asks for what microgpt does not have."""

_outcomes: dict[str, Outcome] = {}


@pytest.fixture(scope="module")
def torch() -> Any:
    with quiet():
        return pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")


@pytest.fixture(scope="module")
def infos(torch: Any) -> dict[str, list[Any]]:
    try:
        return load()
    except ImportError as error:
        pytest.skip(f"PyTorch's sample inputs cannot be imported: {error} (pip install expecttest)")


def outcome(key: str, infos: dict[str, list[Any]]) -> Outcome:
    """Examined once per process."""
    if key not in _outcomes:
        _outcomes[key] = examine(key, ADAPTERS[key], infos)
    return _outcomes[key]


@pytest.mark.parametrize("key", ADAPTERS)
def test_values_and_gradients_are_those_of_pytorch(key: str, infos: dict[str, list[Any]]) -> None:
    found = outcome(key, infos)
    assert not found.wrong, "\n".join(found.wrong)
    assert (found.used == 0) == (key in ALL_LEFT_OUT), f"{found.used} of {found.samples} used"


def test_enough_samples_are_used_and_all_of_the_op_table(infos: dict[str, list[Any]]) -> None:
    found = {key: outcome(key, infos) for key in ADAPTERS}
    assert len({key.partition(":")[0] for key, f in found.items() if f.used}) >= 150
    assert sum(f.used for f in found.values()) >= 1500
    assert sum(f.strided for f in found.values()) >= 1

    reached = set().union(*(f.ops for f in found.values()))
    own = {name for name, op in TABLE.items() if op.function.__module__.startswith("microgpt.")}
    assert own - reached == set(WITHOUT_SAMPLES)


# ---- conventions -----------------------------------------------------------------------------


def measured(function: Any, leaf: Any) -> tuple[Any, Any]:
    """Value of `function`, and the gradient of the sum of it."""
    y = function(leaf)
    y.sum().backward()
    return y.detach().numpy(), leaf.grad.numpy()


def agrees(found: Any, wanted: Any) -> None:
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-15, strict=False)


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
@pytest.mark.parametrize("name", CONVENTIONS)
def test_a_convention_is_ours_as_documented_and_theirs_as_stated(name: str, torch: Any) -> None:
    case = CONVENTIONS[name]
    assert bool(case.why) == (name in DIFFERENT), "a difference needs a reason, and only that"
    check_ours(case)
    with quiet():
        at = torch.tensor(case.at, dtype=torch.float64, requires_grad=True)
        value, gradient = measured(lambda x: case.theirs(torch, x), at)
    for found, by_us, by_them in [
        (value, case.value, case.their_value),
        (gradient, case.gradient, case.their_gradient),
    ]:
        if by_them is not None or by_us is not None:
            agrees(found, by_us if by_them is None else by_them)


def check_ours(case: Convention) -> None:
    x = mg.tensor(case.at, dtype="float64", requires_grad=True)
    if case.error is not None:
        with pytest.raises(case.error):
            case.ours(x)
    else:
        value, gradient = measured(case.ours, x)
        if case.value is not None:
            agrees(value, case.value)
        if case.gradient is not None:
            agrees(gradient, case.gradient)
    if case.documented is not None:
        where, words = case.documented
        text = " ".join((getattr(where, "doc", "") + " " + (where.__doc__ or "")).split())
        assert words in text


@pytest.mark.parametrize("name", DIFFERENT)
def test_a_difference_is_one(name: str) -> None:
    case = DIFFERENT[name]
    pairs = [(case.value, case.their_value), (case.gradient, case.their_gradient)]
    stated = [(ours, theirs) for ours, theirs in pairs if theirs is not None]
    assert stated
    for ours, theirs in stated:
        assert case.error is not None or not np.array_equal(ours, theirs, equal_nan=True)


# ---- the comparison itself -------------------------------------------------------------------


class Rules:
    """Overrides the gradient rules of one op."""

    def __init__(self, name: str, *rules: Any) -> None:
        self.name, self.rules = name, rules

    @mg.hookimpl
    def microgpt_rules(self, op: str) -> Any:
        return self.rules if op == self.name else None


PLANTED: dict[str, tuple[Any, str, str]] = {
    "a sign in a rule": (
        lambda: mg.plugged(Rules("subtract", lambda g, y, a, b: g, lambda g, y, a, b: g)),
        "sub",
        "gradient 1: off by",
    ),
    "a normaliser dropped from a rule": (
        lambda: mg.plugged(Rules("exp", lambda g, y, x: g * 0)),
        "exp",
        "gradient 0: off by",
    ),
    "half a millionth in a kernel": (
        kernels(tanh=lambda x: np.tanh(x) * (1 + 5e-10)),
        "tanh",
        "result 0: off by",
    ),
    "a kernel that ignores strides": (
        kernels(sin=lambda x: np.sin(x.ravel("K")).reshape(x.shape)),
        "sin",
        "in layout F: result 0: off by",
    ),
    "a warning over finite numbers": (
        kernels(cos=lambda x: np.where(True, np.cos(x), np.log(np.zeros(())))),
        "cos",
        "warning",
    ),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_mistake_is_found(fault: str, infos: dict[str, list[Any]]) -> None:
    plant, key, message = PLANTED[fault]
    with plant():
        wrong = examine(key, ADAPTERS[key], infos).wrong
    assert any(message in text for text in wrong), wrong
