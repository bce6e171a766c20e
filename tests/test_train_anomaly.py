"""A loss or a gradient that is not finite stops the training and names the op."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import microgpt as mg
from microgpt import checkpoints, nn, train
from microgpt.errors import AnomalyError
from microgpt.train.anomaly import listed
from tests.training import X, parts

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy says so first


class Overflowing(nn.Module):
    """Ends in a logarithm, whose argument is 0 from some call on."""

    def __init__(self, calls: int, kept: Any = None) -> None:
        super().__init__()
        self.calls, self.kept = calls, kept

    def forward(self, x: Any) -> Any:
        factor = 0.0 if self.kept["optimizer"].state[0].get("step", 0) >= self.calls else 1.0
        return x + mg.log(mg.exp(x) * factor) * 1e-3


def broken(after: int, accumulate: int = 1) -> dict[str, Any]:
    made = parts(accumulate=accumulate)
    made["model"].append(Overflowing(after, made))
    return made


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_op_its_line_and_the_step_are_named(accumulate: int, tmp_path: Path) -> None:
    made = broken(2, accumulate)
    with pytest.raises(AnomalyError) as caught:
        train.fit(**made, out=tmp_path, save_every=1)
    lines, first = inspect.getsourcelines(Overflowing.forward)
    number = first + next(i for i, line in enumerate(lines) if "mg.log" in line)
    said = str(caught.value)
    assert " in step 3: " in said
    assert "log made the first infinity (-inf) from finite inputs" in said
    assert "a smaller learning rate than 0.04" in said and "clip_norm" not in said
    assert f"{Path(__file__).name}:{number}" in said
    assert [p.name for p in checkpoints.checkpoints(tmp_path)][-1] == "checkpoint-00000002"


def test_the_weights_stay_and_the_repetition_has_the_same_masks() -> None:
    made = parts()
    seen: list[bytes] = []
    before: list[Any] = []

    def loss(y: Any, t: Any) -> Any:
        seen.append(y.numpy().tobytes())  # depends on the mask
        found = mg.cross_entropy(y, t)
        return found if len(seen) < 4 else mg.log(found * 0.0)

    class Note(train.Callback):
        def on_step(self, run: train.Run) -> None:
            before[:] = [p.numpy().tobytes() for p in run.model.parameters()]

    with pytest.raises(AnomalyError, match="step 4: log made the first"):
        train.fit(**{**made, "loss": loss}, callbacks=[Note()])
    assert len(seen) == 5 and seen[3] == seen[4]
    assert before == [p.numpy().tobytes() for p in made["model"].parameters()]
    assert all(p.grad is None for p in made["model"].parameters())


def root_of_zero(y: Any, t: Any) -> Any:
    """Finite, with an infinite gradient."""
    return mg.cross_entropy(y, t) + mg.sqrt((y * 0.0).sum())


def test_a_gradient_that_is_not_finite_is_found_where_it_is_computed() -> None:
    with pytest.raises(AnomalyError, match=r"norm of the gradient is (nan|inf) in step 1: sqrt"):
        train.fit(**parts(loss=root_of_zero))
    with pytest.raises(AnomalyError, match=r"norm of the gradient is (nan|inf) in step 1: sqrt"):
        train.fit(**parts(loss=root_of_zero, clip_norm=None, log_every=1))


def test_weights_that_are_not_finite_are_told_and_never_saved(tmp_path: Path) -> None:
    made = parts(loss=root_of_zero, clip_norm=None)
    with pytest.raises(AnomalyError, match=r"step 2: 0\.weight.* were not finite before.*log_ev"):
        train.fit(**made)
    with pytest.raises(AnomalyError, match=r"after step 1 0\.weight.* not finite, and was not"):
        train.fit(**parts(loss=root_of_zero, clip_norm=None), out=tmp_path, save_every=1)
    assert not checkpoints.checkpoints(tmp_path)


@pytest.mark.parametrize("checks", [{"clip_norm": 1.0}, {"clip_norm": None, "log_every": 1}])
def test_no_advice_to_do_what_is_done(checks: dict[str, Any]) -> None:
    settings = {**parts(), **checks, "schedule": None}
    for group in settings["optimizer"].param_groups:
        group["lr"] = 1e39  # too large for float32
    with pytest.raises(AnomalyError, match="smaller learning rate") as caught:
        train.fit(**settings)
    said = str(caught.value)
    assert "log_every" not in said and "a clip_norm" not in said


def test_of_many_parameters_three_are_named() -> None:
    names = [f"layer{i}.weight" for i in range(52)]
    assert listed(names) == "layer0.weight, layer1.weight, layer2.weight … and 49 more"
    assert listed(names[:3]) == "layer0.weight, layer1.weight, layer2.weight"


def test_a_batch_that_is_not_finite_is_told() -> None:
    x = X.copy()
    x[3, 1] = np.nan
    with pytest.raises(AnomalyError, match="step 1: input 0 of the batch holds NaN or infinity"):
        train.fit(**parts(batches=[(x, (X[:, 0] > 0).astype(int))]))


def test_an_infinity_that_no_op_has_made(tmp_path: Path) -> None:
    made = parts()
    steps = made["optimizer"]
    made["loss"] = lambda p, t: (
        mg.cross_entropy(p, t) * (np.inf if steps.state[0].get("step") == 2 else 1.0)
    )
    with pytest.raises(AnomalyError, match=r"step 3.*mg\.debug"):
        train.fit(**made, out=tmp_path, save_every=1)
    assert [p.name for p in checkpoints.checkpoints(tmp_path)][-1] == "checkpoint-00000002"
