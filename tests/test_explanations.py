"""The commonest mistakes: what the message says, and that its explanation exists."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import microgpt as mg
from microgpt import errors
from microgpt.cli import main
from microgpt.cli.explain import topics

x = mg.tensor([1.0, 2.0], requires_grad=True)


def in_place() -> None:
    x[0] = 1.0  # type: ignore[index]


def changed_value() -> None:
    w = mg.tensor([1.0, 2.0], requires_grad=True)
    loss = (w * w).sum()
    w.data = mg.tensor([3.0, 4.0])
    loss.backward()


def backward_twice() -> None:
    loss = (x * x).sum()
    loss.backward()
    loss.backward()


def state_carried_over() -> None:
    lstm, state = mg.nn.LSTM(3, 4), None
    for _ in range(2):
        y, state = lstm(mg.ones((2, 1, 3)), state)
        y.sum().backward()


def unknown_setting() -> None:
    with mg.configure(bakend="numpy"):  # type: ignore[call-arg]
        pass


def first_nan() -> None:
    with mg.configure(debug=True), np.errstate(all="ignore"):
        mg.log(mg.tensor([-1.0]))


def added_to_an_array() -> None:
    a = np.ones(2)
    a += x


def used_up() -> None:
    parameters = (p for p in [x])
    list(parameters)
    mg.optim.SGD(parameters, lr=0.1)


def missing_extra() -> None:
    raise errors.missing_extra("tqdm", "train", "the progress bar")


def small_gpt() -> mg.models.GPT:
    return mg.models.GPT(
        mg.models.GPTConfig(vocab_size=5, block_size=4, n_embd=8, n_layer=1, n_head=2)
    )


MISTAKES: list[tuple[str, type[Exception], str, Callable[[], Any]]] = [
    ("in-place", TypeError, r"immutable.*instead of x\[i\] = v write mg.where", in_place),
    ("changed-value", RuntimeError, r"'multiply' .* given other values after", changed_value),
    ("backward-twice", RuntimeError, r"second backward pass.*retain_graph=True", backward_twice),
    ("backward-twice", RuntimeError, r"as in an RNN\), detach\(\) it there", state_carried_over),
    ("backward-of-many", ValueError, r"one element; got shape \(2,\); reduce it first",
     lambda: (x * x).backward()),
    ("nothing-to-differentiate", RuntimeError, r"depends on no tensor with requires_grad=True",
     lambda: mg.ones(2).sum().backward()),
    ("broadcasting", ValueError, r"dimension 2 is 2 in the first and 4 .* got \(2, 3\), \(4, 3\)",
     lambda: mg.ones((2, 3)) + mg.ones((4, 3))),
    ("matmul-shapes", ValueError, r"\(the second transposed, b.mT, would fit\)",
     lambda: mg.ones((2, 3)) @ mg.ones((2, 3))),
    ("layer-input", ValueError, r"Linear\(3, 2\) was given shape \(5, 4\); required: last dim",
     lambda: mg.nn.Linear(3, 2)(mg.ones((5, 4)))),
    ("integer-gradient", TypeError, r"got dtype int64; convert first: x.astype\('float32'\)",
     lambda: mg.tensor([1, 2], requires_grad=True)),
    ("two-float-types", TypeError, r"two float types, float32 and float64; required: one",
     lambda: mg.ones(2) + mg.ones(2, dtype="float64")),
    ("two-backends", RuntimeError, r"'numpy' and 'second'; move one of them: x.to\('numpy'\)",
     lambda: mg.ones(2) + mg.ones(2, backend="second")),
    ("unknown-backend", RuntimeError, r"no backend 'nunpy'.*did you mean 'numpy'\?",
     lambda: mg.ones(2, backend="nunpy")),
    ("unknown-setting", ValueError, r"no setting 'bakend'; did you mean 'backend'\?",
     unknown_setting),
    ("numpy-functions", TypeError, r"NumPy's sin was given a tensor.*use mg.sin\(…\), or x.numpy",
     lambda: np.sin(x)),  # type: ignore[call-overload]
    ("numpy-functions", TypeError, r"NumPy's add was given a tensor", added_to_an_array),
    ("numpy-functions", RuntimeError, r"would be lost without notice", lambda: np.asarray(x)),
    ("class-out-of-range", ValueError, r"targets must be from 0 to 2 .* got 1 to 3",
     lambda: mg.cross_entropy(mg.ones((2, 3)), mg.tensor([1, 3]))),
    ("truth-of-a-tensor", ValueError, r"ambiguous; use .any\(\) or .all\(\)", lambda: bool(x > 0)),
    ("item-of-many", ValueError, r"one element; got shape \(2,\): use .tolist\(\)", x.item),
    ("no-parameters", ValueError, r"a generator that was used up\?", used_up),
    ("state-does-not-fit", RuntimeError, r"weight: shape \(2, 4\) in the state, \(2, 3\) here",
     lambda: mg.nn.Linear(3, 2).load_state_dict({"weight": np.ones((2, 4)), "bias": np.ones(2)})),
    ("data-not-there", OSError, r"holds neither mnist/train-images",
     lambda: mg.data.mnist(folder="/nowhere")),
    ("data-not-there", OSError, r"/nowhere does not hold tinyshakespeare.txt; put the file there",
     lambda: mg.data.tiny_shakespeare(folder="/nowhere")),
    ("first-nan", ArithmeticError, r"log made the first NaN[\s\S]*test_explanations.py", first_nan),
    ("gradcheck-float64", TypeError, r"needs float64.*convert it with .astype\('float64'\)",
     lambda: mg.testing.gradcheck(mg.exp, x)),
    ("missing-extra", ImportError, r"pip install 'microgpt-autograd\[train\]'", missing_extra),
    ("id-out-of-range", ValueError, r"given ids from 7 to 7; required: 0 to 4 \(was the text",
     lambda: mg.nn.Embedding(5, 3)(mg.tensor([7]))),
    ("too-many-tokens", ValueError, r"at most block_size = 4 \(keep the last ones: ids\[:, -4:\]\)",
     lambda: small_gpt()(mg.zeros((1, 6), dtype="int64"))),
]  # fmt: skip


@pytest.mark.parametrize(
    ("topic", "kind", "text", "mistake"),
    MISTAKES,
    ids=[f"{m[0]}-{i}" for i, m in enumerate(MISTAKES)],
)
def test_the_message(topic: str, kind: type[Exception], text: str, mistake: Any) -> None:
    if topic == "two-backends":
        pytest.importorskip("pyopencl", reason="a second backend is needed")
        text, mistake = text.replace("second", "opencl"), lambda: x + mg.ones(2, backend="opencl")
    with pytest.raises(kind, match=text) as caught:
        mistake()
    error = caught.value
    assert isinstance(error, errors.MicrogptError)
    assert str(error).endswith(f"\n  (microgpt explain {topic})")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_each_explanation_is_named_by_a_message() -> None:
    assert set(topics()) == {topic for topic, *_ in MISTAKES}
    assert len(topics()) >= 20


@pytest.mark.parametrize("topic", topics())
def test_explanations_are_printed(topic: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", topic]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{topic}\n\n") and len(out) > 100


def test_the_list_of_explanations(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain"]) == 0
    out = capsys.readouterr().out
    assert all(topic in out for topic in topics())
    assert main(["explain", "in-plac"]) == 2
    assert "did you mean 'in-place'?" in capsys.readouterr().err


def test_arrays_of_numpy_and_tensors_work_together() -> None:
    a, t = np.array([3.0, 4.0], np.float32), mg.tensor([1.0, 2.0], requires_grad=True)
    for found, want in (
        (a + t, [4, 6]), (a - t, [2, 2]), (a * t, [3, 8]), (a / t, [3, 2]), (a**t, [3, 16]),
        (a @ t, 11), (np.float64(2) * t, [2, 4]), (a > t, [True, True]), (a == t, [False, False]),
    ):  # fmt: skip
        assert type(found) is mg.Tensor and found.tolist() == pytest.approx(want)
    (a * t).sum().backward()
    assert t.grad.tolist() == [3, 4]


def test_a_line_in_debug_mode_keeps_the_explanation_last() -> None:
    with mg.configure(debug=True), np.errstate(all="ignore"):
        zero = mg.tensor([0.0], requires_grad=True)
        root = mg.sqrt(zero).sum()
        with pytest.raises(errors.AnomalyError) as caught:
            root.backward()
    text = str(caught.value)
    assert text.count("microgpt explain") == 1
    assert text.endswith("\n  (microgpt explain first-nan)") and "test_explanations.py" in text


def test_a_layer_in_front_of_a_message_does_not_double_the_explanation() -> None:
    with pytest.raises(errors.ShapeError) as caught:
        mg.nn.CrossEntropyLoss()(mg.ones((2, 3)), mg.tensor([1, 3]))
    text = str(caught.value)
    assert text.startswith("CrossEntropyLoss: cross_entropy: targets must be")
    assert text.count("microgpt explain") == 1 and text.endswith("class-out-of-range)")
