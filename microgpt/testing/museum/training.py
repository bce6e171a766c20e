"""Mistakes of optimizers and of what is saved, which show only while training."""

from __future__ import annotations

import math
import tempfile
from typing import Any

import microgpt as mg
from microgpt import checkpoints
from microgpt.ops import sqrt
from microgpt.optim import AdamW, Optimizer
from microgpt.optim.adam import Adam
from microgpt.testing.museum import demos
from microgpt.testing.museum.base import Bug, Check, Demo
from microgpt.testing.museum.planting import functions

right_state_dict = Optimizer.state_dict


def _late_count(self: Any, value: Any, grad: Any, group: Any, state: dict[str, Any]) -> Any:
    lr, decay, (first, second) = group["lr"], group["weight_decay"], group["betas"]
    if decay and self._decoupled:
        value = value * (1 - lr * decay)
    elif decay:
        grad = grad + value * decay
    mean = state.get("mean", grad * 0) * first + grad * (1 - first)
    square = state.get("square", grad * 0) * second + grad * grad * (1 - second)
    step = max(state.get("step", 0), 1)  # t - 1, and no division by zero in the first step
    state.update(mean=mean, square=square, step=state.get("step", 0) + 1)
    scale = sqrt(square) * (1 / math.sqrt(1 - second**step)) + group["eps"]
    return value - mean / scale * (lr / (1 - first**step))


def _no_state(self: Any) -> dict[str, Any]:
    state = right_state_dict(self)
    return {**state, "state": [{} for _ in state["state"]]}


def _resumed(what: str, dropout: float, before: int = 20, lr: float = 0.03) -> Demo:
    """The 20 steps before a run is saved, and the 20 after it was loaded into new objects."""

    def train() -> list[float]:
        points, classes = demos.crescents()
        x, t = mg.tensor(points), mg.tensor(classes)
        losses: list[float] = []
        with tempfile.TemporaryDirectory() as folder:
            for part in range(2):
                source = mg.generator(part)
                model = mg.nn.Sequential(
                    mg.nn.Linear(2, 16, generator=source), mg.nn.Tanh(),
                    mg.nn.Dropout(dropout, generator=source),
                    mg.nn.Linear(16, 2, generator=source),
                )  # fmt: skip
                optimizer = mg.optim.Adam(model.parameters(), lr=lr)
                state = checkpoints.load(folder, model)
                if state is not None:
                    optimizer.load_state_dict(state["optimizer"])

                def loss(model: Any = model) -> Any:
                    return mg.cross_entropy(model(x), t)

                losses += demos.training(loss, optimizer, 20 if part else before)
                checkpoints.save(folder, before, model, {"optimizer": optimizer.state_dict()})
        return losses[before - 20 :]

    return Demo(what, train)


def _four_steps() -> Any:
    w = mg.tensor([0.0], requires_grad=True)
    optimizer = Adam([w], lr=0.1)
    after = []
    for _ in range(4):
        w.grad = mg.ones(1)
        optimizer.step()
        after.append(w.item())
    return mg.tensor(after)


def _shrinking() -> Any:
    """Two weights without use, one with steep and one with gentle noise in its gradient."""
    w = mg.tensor([1.0, 1.0], requires_grad=True)
    optimizer = AdamW([w], lr=0.01, weight_decay=1.0)
    rng = mg.generator(0)
    for _ in range(100):
        w.grad = mg.tensor((rng.normal(size=2) * [10.0, 0.1]).astype("float32"))
        optimizer.step()
    return w.detach()


BUGS = (
    Bug(
        49,
        "Adam counts its steps from 0",
        wrong="1 - beta ** max(t - 1, 1)",
        right="1 - beta ** t",
        story=(
            "Adam's running means start at 0 and are too small at first; dividing by 1 - βᵗ mends "
            "that, with t = 1 in the first step. Who counts from 0 divides by zero, sees it, and "
            "puts in a guard. The first step is right then. From the second one on the correction "
            "is the one of the step before: the second step is a third too large, the third a "
            "sixth, and it fades. The curve looks like a slightly large learning rate at the start."
        ),
        blind=(
            "A test of one step passes, and every training works. "
            "`optimizers_follow_their_formula` takes three steps and compares with the paper's "
            "formula, written out."
        ),
        plant=functions((Adam, "_update", _late_count)),
        killers=(Check("optimizers_follow_their_formula"),),
        missed_by=(Check("saved_and_loaded_goes_on"),),
        show=demos.value("a weight after each of four steps with rate 0.1, its gradient being 1",
                         _four_steps),
    ),
    Bug(
        50,
        "AdamW that decays like Adam",
        wrong="grad = grad + decay * value",
        right="value = value * (1 - lr * decay)",
        story=(
            "AdamW exists for this one difference: weights shrink by a fixed share per step, "
            "apart from the gradient. If the decay is added to the gradient instead, Adam divides "
            "it by the size of that gradient. Weights with large gradients then hardly shrink and "
            "weights with small ones shrink fast. For plain gradient descent the two are the same, "
            "which is why it is easy to believe that they are."
        ),
        blind=(
            "Without decay there is no difference, and the default of Adam is none. The formula "
            "of three steps is compared with decay on and off."
        ),
        plant=functions((AdamW, "_decoupled", False)),
        killers=(Check("optimizers_follow_their_formula"),),
        missed_by=(Check("accumulation_equals_one_batch"),),
        show=demos.value("two weights after 100 steps of decay, their gradients being noise of "
                         "size 10 and 0.1", _shrinking),
    ),
    Bug(
        51,
        "uneven shards are averaged as if they were even",
        wrong="mean of the shards' gradients",
        right="mean weighted by their numbers of examples",
        story=(
            "Several workers share a batch, and their gradients are averaged. That is right as "
            "long as all have the same number of examples. If 10 examples are shared by three, "
            "one of them has fewer, and its examples count for more; so does the last batch of an "
            "epoch, which is smaller everywhere. With targets that do not count (padding) shards "
            "are uneven even if their shapes are equal, and long sentences count for less."
        ),
        blind=("Even shards are right. The law is that uneven shards equal the full batch."),
        plant=None,
        killers=(),
        show=None,
        waits_for="training on several workers (mg.parallel)",
        arrived=lambda: hasattr(mg, "parallel") or hasattr(mg.nn, "DataParallel"),
    ),
    Bug(
        52,
        "a checkpoint without the state of the random numbers",
        wrong='"generators": {}',
        right='"generators": {name: state of each generator}',
        story=(
            "Weights, optimizer and position are saved, and the run goes on where it was. But "
            "dropout starts again from its seed, with masks that it has used before, and the "
            "resumed run is another one than the run without interruption. Nothing breaks; only "
            "nobody will ever be able to say whether a difference of two runs comes from what one "
            "has changed or from the power cut. Worse, parts of the data may be seen with the same "
            "few masks again and again, if the run is interrupted often."
        ),
        blind=(
            "Models without dropout have no generators. `saved_and_loaded_goes_on` has dropout in "
            "its model and compares every bit of the steps after loading."
        ),
        plant=functions((checkpoints, "_generators", lambda module: {})),
        killers=(Check("saved_and_loaded_goes_on"),),
        missed_by=(Check("the_same_seed_gives_the_same_bits"),),
        show=_resumed("training with dropout, saved and resumed in the middle", 0.5),
    ),
    Bug(
        53,
        "the optimizer's memory is not saved",
        wrong='"state": []',
        right='"state": means and squares of every parameter',
        story=(
            "The file holds the weights, and the weights are the model, so what else should there "
            "be? Adam has two more numbers per weight, which it took a hundred steps to learn. "
            "After loading they are 0, its first steps have full size in every direction, however "
            "small the gradient, and the loss jumps. Saving, loading and resuming is a lasting "
            "topic in the issues of training projects."
        ),
        blind=(
            "Plain gradient descent has no memory, and a comparison of weights after loading is "
            "right. The step after loading is what has to be the same."
        ),
        plant=functions((Optimizer, "state_dict", _no_state)),
        killers=(Check("saved_and_loaded_goes_on"),),
        missed_by=(Check("optimizers_follow_their_formula"),),
        show=_resumed("training with Adam, saved and resumed in the middle", 0.0, 100, 0.1),
        seen_in="relatives: karpathy/nanoGPT#358, karpathy/nanoGPT#380",
    ),
    Bug(
        56,
        "gradients are never set back",
        wrong="(no zero_grad)",
        right="optimizer.zero_grad() before each backward()",
        story=(
            "Gradients add up until somebody says otherwise. That is wanted inside one step, and "
            "forgotten between two. Each step then follows the sum of all gradients so far, like a "
            "ball that rolls and rolls: fast at first, which looks like progress, then through "
            "the valley and up the other side. The rules of which call sets what to zero are "
            "asked about in many projects."
        ),
        blind=(
            "The first step is right, so tests of one step pass. `zero_grad_forgets` goes back, "
            "forgets and goes back again, and `fit_takes_the_steps_written_out` follows a "
            "training."
        ),
        plant=functions((Optimizer, "zero_grad", lambda self: None)),
        killers=(Check("zero_grad_forgets"), Check("fit_takes_the_steps_written_out")),
        missed_by=(Check("optimizers_follow_their_formula"),),
        show=demos.minimising("gradient descent with rate 0.1 on (w - 3)², from 0",
                              lambda w: ((w - 3.0) ** 2).sum(), [0.0]),
        seen_in="relatives: karpathy/micrograd#25, #53, #102",
    ),
)  # fmt: skip
