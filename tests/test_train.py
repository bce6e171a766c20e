"""The training loop: how long, accumulation, evaluation, early stopping, what weighs what."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import microgpt as mg
from microgpt import nn, optim, train
from microgpt.errors import AnomalyError, InputError, InputTypeError, ShapeError
from tests.training import Stop, X, Y, evidence, parts, rich


def weights(made: dict[str, Any]) -> list[bytes]:
    return [p.numpy().tobytes() for p in made["model"].parameters()]


def test_history_validation_and_metrics() -> None:
    made = parts()
    test = mg.data.batches(X, Y, batch_size=7, shuffle=False)
    history = train.fit(**made, val=test, metrics={"accuracy": train.accuracy})
    row = history.epochs[-1]
    assert set(row) == {"epoch", "loss", "seconds", "val_loss", "val_accuracy"}
    assert made["model"].training, "evaluation gives the mode back"
    found = train.evaluate(made["model"], mg.cross_entropy, test, {"accuracy": train.accuracy})
    made["model"].eval()
    with mg.no_grad():
        logits = made["model"](mg.tensor(X))
    assert found["loss"] == pytest.approx(mg.cross_entropy(logits, mg.tensor(Y)).item(), rel=1e-5)
    assert found["accuracy"] == row["val_accuracy"] == float((logits.numpy().argmax(1) == Y).mean())
    assert history.evaluations[-1] == {
        "step": 15, "epoch": 3, "val_loss": found["loss"], "val_accuracy": found["accuracy"],
    }  # fmt: skip


# ---- how long --------------------------------------------------------------------------------


def test_steps_cross_epochs_and_equal_epochs() -> None:
    by_epochs, by_steps = parts(), parts(epochs=None, steps=15)
    one, two = train.fit(**by_epochs), train.fit(**by_steps)
    assert one.losses == two.losses and weights(by_epochs) == weights(by_steps)
    assert [row["loss"] for row in one.epochs] == [row["loss"] for row in two.epochs]
    three = train.fit(**parts(epochs=None, steps=7))
    assert three.losses == one.losses[:7]
    assert [row["epoch"] for row in three.epochs] == [1], "the second is not over"


def test_steps_go_through_batches_that_never_end() -> None:
    def forever() -> Any:
        while True:
            yield X[:5], Y[:5]

    val = [(X, Y)]
    history = train.fit(**parts(batches=forever(), epochs=None, steps=9, val=val))
    assert len(history.losses) == 9 and not history.epochs
    assert [row["step"] for row in history.evaluations] == [9], "at the end at least"


def test_an_epoch_that_is_known_to_be_over_is_closed() -> None:
    class Unsized:
        def __iter__(self) -> Any:
            return iter([(X[:5], Y[:5]), (X[5:10], Y[5:10]), (X[10:], Y[10:])])

    made = {"batches": Unsized(), "epochs": None, "steps": 2}
    assert len(train.fit(**parts(**made, accumulate=2)).epochs) == 1
    assert not train.fit(**parts(**made)).epochs, "there may be more"


def test_evaluations_are_made_when_asked_for() -> None:
    history = train.fit(**rich(epochs=None, steps=7, eval_every=2))
    assert [row["step"] for row in history.evaluations] == [2, 4, 6, 7]
    assert [row["epoch"] for row in history.evaluations] == [1, 2, 2, 3]
    assert "val_loss" not in history.epochs[0] and "val_loss" in history.epochs[1]
    assert history.best == min(history.evaluations, key=lambda row: row["val_loss"])


def test_misuse() -> None:
    for change, kind, words in (
        ({"epochs": 0}, InputError, "epochs"),
        ({"epochs": None}, InputError, "either epochs .* or steps"),
        ({"steps": 3}, InputError, "either epochs .* or steps"),
        ({"epochs": None, "steps": 2.5}, InputError, "steps >= 1, a whole number; got 2.5"),
        ({"resume": True}, InputError, "out="),
        ({"save_every": 3}, InputError, "out="),
        ({"patience": 3}, InputError, "val="),
        ({"eval_every": 3}, InputError, "val="),
        ({"accumulate": 0}, InputError, "accumulate"),
        ({"log_every": 0}, InputError, "log_every"),
        ({"keep": 0}, InputError, "keep"),
        ({"clip_norm": 0.0}, InputError, "clip_norm"),
        ({"batches": []}, InputError, "no batches"),
        ({"batches": []} | {"epochs": None, "steps": 3}, InputError, "no batches"),
        ({"batches": iter([(X, Y)])}, InputError, "no batches"),
        ({"batches": [X]}, InputTypeError, "tuple"),
        ({"val": []}, InputError, "no batches"),
    ):
        with pytest.raises(kind, match=words):
            train.fit(**{**parts(), **change})


# ---- accumulation ----------------------------------------------------------------------------


@pytest.mark.parametrize("ignored", [0.0, 0.4])
def test_accumulated_steps_are_those_of_one_big_batch(ignored: float) -> None:
    """12 rows in batches of 2, three per step, are batches of 6, and the rest of 4 a last one."""
    x, y = (
        X[:16].astype(float),
        np.where(np.random.default_rng(1).random(16) < ignored, -100, Y[:16]),
    )

    def trained(size: int, accumulate: int) -> tuple[list[float], list[np.ndarray]]:
        model = nn.Linear(4, 2, generator=mg.generator(0), dtype="float64")
        history = train.fit(
            model, nn.CrossEntropyLoss(), optim.AdamW(model.parameters(), lr=0.1),
            mg.data.batches(x, y, batch_size=size, shuffle=False, tensors=False),
            epochs=3, accumulate=accumulate, progress=False,
        )  # fmt: skip
        return history.losses, [p.numpy() for p in model.parameters()]

    (small, found), (big, want) = trained(2, 3), trained(6, 1)
    assert len(small) == 9
    np.testing.assert_allclose(small, big, rtol=1e-12)
    for a, b in zip(found, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10)


def test_a_step_whose_targets_are_all_ignored_is_one_of_loss_0() -> None:
    batches = [(X[:4], np.full(4, -100)), (X[4:8], np.full(4, -100)), (X[8:12], Y[8:12])]
    history = train.fit(**parts(batches=batches, accumulate=2, epochs=1))
    assert history.losses[0] == 0.0 and history.losses[1] > 0
    assert history.epochs[0]["loss"] == history.losses[1]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_where_no_target_counts_nothing_is_changed(accumulate: int) -> None:
    """With Adam a gradient of 0 is a step in the direction of the ones before."""
    made = parts(batches=[(X[:4], Y[:4])] * accumulate, accumulate=accumulate, epochs=1)
    model = made["model"]
    made["optimizer"] = optimizer = optim.AdamW(model.parameters(), lr=0.1)
    train.fit(**made)
    before = weights(made), repr(optimizer.state)
    nothing = [(X[:4], np.full(4, -100))] * accumulate
    history = train.fit(**{**made, "batches": nothing, "log_every": 1})
    assert history.losses == [0.0] and history.epochs[0]["loss"] == 0.0
    assert (weights(made), repr(optimizer.state)) == before


def test_weights_that_end_infinite_are_told_without_a_folder_too() -> None:
    made = parts(batches=[(X[:4], Y[:4])], epochs=1)
    made["optimizer"] = optim.SGD(made["model"].parameters(), lr=1e45)
    with np.errstate(all="ignore"), pytest.raises(AnomalyError, match="after step 1 .*not finite"):
        train.fit(**made)


def test_a_group_that_is_added_meanwhile_counts_for_the_norm() -> None:
    model = nn.Sequential(nn.Linear(4, 5, dtype="float64"), nn.Linear(5, 3, dtype="float64"))
    optimizer = optim.SGD(model[1].parameters(), lr=0.0)

    class Thaw(train.Callback):
        def on_step(self, run: train.Run) -> None:
            if run.step == 1:
                optimizer.add_param_group({"params": model[0].parameters()})

    rng = np.random.default_rng(0)
    batches = [(rng.standard_normal((6, 4)), rng.integers(0, 3, 6))] * 2
    history = train.fit(
        model, mg.cross_entropy, optimizer, batches, epochs=1, clip_norm=9.0, callbacks=[Thaw()],
        progress=False,
    )  # fmt: skip
    whole = np.sqrt(sum((p.grad.numpy() ** 2).sum() for p in model.parameters()))
    assert history.grad_norms[1] < history.grad_norms[2] == pytest.approx(whole)


def test_a_batch_without_targets_that_count_adds_nothing_even_if_its_loss_is_nan() -> None:
    def mean(y: Any, t: Any) -> Any:
        return mg.cross_entropy(y, t, "sum") / (float((t.numpy() != -100).sum()) or float("nan"))

    batches = [(X[:4], np.full(4, -100)), (X[4:8], Y[4:8])]
    history = train.fit(**parts(loss=mean, batches=batches, accumulate=2, epochs=1))
    assert np.isfinite(history.losses[0]) and history.losses[0] > 0


# ---- what weighs what ------------------------------------------------------------------------


def test_the_loss_of_an_epoch_is_the_mean_over_targets_that_count() -> None:
    target = Y.copy()
    target[:9] = -100
    sizes = [10, 10, 3]
    cuts = [slice(0, 10), slice(10, 20), slice(20, 23)]
    frozen = parts(batches=[(X[c], target[c]) for c in cuts], epochs=1, schedule=None)
    frozen["optimizer"].param_groups[0]["lr"] = 0.0
    frozen["model"][2].p = 0.0
    history = train.fit(**frozen)
    whole = mg.cross_entropy(frozen["model"](mg.tensor(X)), mg.tensor(target)).item()
    assert history.epochs[0]["loss"] == pytest.approx(whole, rel=1e-5)
    by_size = np.average(history.losses, weights=sizes)
    assert abs(np.mean(history.losses) - whole) > 1e-3 and abs(by_size - whole) > 1e-3


@pytest.mark.parametrize(
    ("loss", "ignored"),
    [
        (mg.cross_entropy, -100),
        (nn.CrossEntropyLoss(ignore_index=1), 1),
        (partial(mg.cross_entropy, ignore_index=7), 7),
    ],
)
def test_evaluation_leaves_ignored_targets_out(loss: Any, ignored: int) -> None:
    model = nn.Linear(4, 8, generator=mg.generator(0))
    target = np.arange(23) % 8
    target[:8] = ignored
    target[8:] = np.where(target[8:] == ignored, 0, target[8:])
    metrics = {"accuracy": partial(train.accuracy, ignore_index=ignored)}
    cuts = [slice(0, 8), slice(8, 9), slice(9, 23), slice(4, 12)]  # the first has none that counts
    rows = np.concatenate([np.arange(23)[c] for c in cuts])
    found = train.evaluate(model, loss, [(X[c], target[c]) for c in cuts], metrics)
    logits = model(mg.tensor(X[rows]))
    counts = target[rows] != ignored
    right = logits.numpy().argmax(1) == target[rows]
    assert found["loss"] == pytest.approx(loss(logits, mg.tensor(target[rows])).item(), rel=1e-5)
    assert found["accuracy"] == pytest.approx(right[counts].mean())
    with pytest.raises(InputError, match=f"all of them are {ignored}"):
        train.evaluate(model, loss, [(X[:8], target[:8])])


def test_accuracy_of_sequences_and_of_shapes_that_do_not_fit() -> None:
    scores = np.zeros((2, 3, 5))
    scores[0, 2, 0] = scores[0, 1, 1] = 1.0  # classes in the middle, as cross_entropy takes them
    target = np.array([[2, 1, 0, 0, -100], [0, 0, 0, 1, -100]])
    assert train.accuracy(mg.tensor(scores), mg.tensor(target)) == 7 / 8
    assert train.accuracy(np.moveaxis(scores, 1, -1), target) == 7 / 8
    assert np.isnan(train.accuracy(np.eye(2), np.array([-100, -100])))
    with pytest.raises(ShapeError, match="one-hot rows"):
        train.accuracy(mg.eye(3), mg.eye(3))


def test_accuracy_asks_where_the_classes_are_if_both_places_fit() -> None:
    scores, target = np.zeros((2, 3, 3)), np.zeros((2, 3), dtype=int)
    scores[0, 0, :] = scores[1, :, 1] = 1.0
    with pytest.raises(ShapeError, match=r"\(2, 3, 3\).*axis=-1.*axis=1"):
        train.accuracy(scores, target)
    assert train.accuracy(scores, target, axis=1) == 1.0
    assert train.accuracy(scores, target, axis=-1) == 0.5
    assert train.accuracy(scores, target, axis=2) == 0.5
    assert train.accuracy(np.eye(2), np.array([0, 0]), axis=1) == 0.5
    for shape, axis in (((2, 3, 5), 1), ((2, 5, 3), -1), ((2, 3, 3), 0), ((3,), 1)):
        with pytest.raises(ShapeError, match=f"axis={axis}"):
            train.accuracy(np.zeros(shape), target if len(shape) > 1 else np.array(0), axis=axis)


def test_evaluation_gives_every_part_its_mode_back() -> None:
    model = parts()["model"]
    model.train()
    model[2].eval()  # frozen by hand
    train.evaluate(model, mg.cross_entropy, [(X, Y)])
    assert model.training and model[0].training and not model[2].training


# ---- clipping --------------------------------------------------------------------------------


def test_norms_are_there_for_every_step_that_is_clipped_and_for_logged_ones() -> None:
    assert list(train.fit(**parts()).grad_norms) == list(range(1, 16))
    made = parts(clip_norm=None, log_every=4)
    assert list(train.fit(**made).grad_norms) == [4, 8, 12]


def test_parameters_that_are_not_trained_do_not_count_for_the_norm() -> None:
    """Nobody forgets their gradients, which grow from step to step."""

    def norms(frozen: bool) -> dict[int, float]:
        made = parts(clip_norm=0.01, schedule=None)
        head = made["model"][3].parameters()
        made["optimizer"] = optim.SGD(head, lr=0.1)
        for p in made["model"][0].parameters():
            p.requires_grad = not frozen
        return train.fit(**made).grad_norms

    assert norms(frozen=True) == norms(frozen=False)


# ---- early stopping and the best -------------------------------------------------------------


class Wanted(nn.Module):
    """A model whose validation loss follows a list."""

    def __init__(self, losses: list[float]) -> None:
        super().__init__()
        self.weight = nn.Parameter([0.0])
        self.losses = losses

    def forward(self, x: Any) -> Any:
        if self.training:
            return self.weight * 1.0
        return mg.tensor([self.losses.pop(0)])


def stopping(losses: list[float], out: Path, **changes: Any) -> tuple[Wanted, train.History]:
    model = Wanted(losses)
    one = [(np.zeros((1, 1), np.float32), np.zeros(1, np.float32))]
    history = train.fit(
        model, lambda y, t: (y - t).sum(), optim.SGD([model.weight], lr=1.0), one,
        **{"epochs": 20, "val": one, "patience": 3, "progress": False, "out": out, **changes},
    )  # fmt: skip
    return model, history


def test_early_stopping_and_the_best_checkpoint(tmp_path: Path) -> None:
    nan = float("nan")
    model, history = stopping([nan, 5.0, 3.0, 4.0, 3.0, 2.0, 9.0, nan, 2.0, 0.0], tmp_path)
    assert history.stopped_early and len(history.epochs) == 9
    assert history.best is not None and history.best["step"] == 6
    assert history.best["val_loss"] == 2.0
    assert [p.name for p in (tmp_path / "best").iterdir()] == ["checkpoint-00000006"]
    best = Wanted([])
    state = mg.checkpoints.load(tmp_path / "best", best)
    assert state is not None and state["step"] == 6
    assert best.weight.item() == -6.0 and model.weight.item() == -9.0
    assert [p.name[-2:] for p in mg.checkpoints.checkpoints(tmp_path)] == ["08", "09"]


def test_the_best_can_be_left_alone(tmp_path: Path) -> None:
    _, history = stopping([3.0, 2.0, 1.0], tmp_path, patience=None, epochs=3, keep_best=False)
    assert not history.stopped_early and history.best is not None
    assert not (tmp_path / "best").exists()


# ---- callbacks -------------------------------------------------------------------------------


def test_callbacks_are_called_in_order() -> None:
    said: list[str] = []

    class Told(train.Callback):
        def on_step(self, run: train.Run) -> None:
            said.append(f"step {run.step}")

        def on_evaluation(self, run: train.Run) -> None:
            said.append(f"evaluation {run.history.evaluations[-1]['step']}")

        def on_epoch(self, run: train.Run) -> None:
            said.append(f"epoch {run.epoch}")

    train.fit(**rich(epochs=2, callbacks=[Told()]))
    assert said == [
        "step 1", "step 2", "step 3", "evaluation 3", "epoch 1",
        "step 4", "step 5", "step 6", "evaluation 6", "epoch 2",
    ]  # fmt: skip
    history = train.fit(**rich(callbacks=[Stop(2)]))
    assert len(history.losses) == 2 and not history.interrupted and not history.evaluations


def test_the_same_seed_trains_the_same() -> None:
    one, two = rich(), rich()
    assert evidence(one, train.fit(**one)) == evidence(two, train.fit(**two))
