"""Mistakes in training, each under the law that must catch it."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from microgpt_numpy import KERNELS

import microgpt as mg
from microgpt import autograd, checkpoints, data, nn, optim, recompute
from microgpt.optim.joined import Joined
from microgpt.train import evaluation
from microgpt.train.loop import Loop
from microgpt.train.step import Stepper
from tests.planted_networks import count_all, mean_of_all
from tests.planting import Plant, changed, instead, kernels


def other_masks(g: Any, y: Any, *values: Any, **params: Any) -> Any:
    return [
        None if x is None else x * 1.001
        for x in recompute._gradients_again(g, y, *values, **params)
    ]


def overwrite(leaf: Any, g: Any) -> None:
    leaf.grad = g if isinstance(g, mg.Tensor) else autograd.attach(leaf.face, g)


COUNT = itertools.count()


def from_nowhere(seed: Any = None) -> np.random.Generator:
    return np.random.default_rng(next(COUNT))


def do_nothing(self: Any, *_: Any) -> None:
    pass


def saving_nearly(x: Any, weight: Any, bias: Any, *, eps: float) -> Any:
    y, saved = KERNELS["layer_norm_saving"](x, weight, bias, eps=eps)
    return y * (1 + 1e-15), saved


LAYER_NORM = {name: KERNELS[name] for name in ("layer_norm", "layer_norm_vjp")}

PLANTED: dict[str, dict[str, Plant]] = {
    "optimizers_follow_their_formula": {
        "Adam with t - 1": changed(
            optim.Adam, "_update", 'lr / (1 - first**step)', 'lr / (1 - first**max(step - 1, 1))'
        ),
        "no correction of the square": changed(
            optim.Adam, "_update", "1 / math.sqrt(1 - second**step)", "1.0"
        ),
        "ε left out": changed(
            optim.Adam, "_update", 'eps=group["eps"]', "eps=0.0"
        ),
        "AdamW coupled": changed(
            optim.Adam, "_update", "if decay and self._decoupled", "if False"
        ),
        "Adam decoupled": changed(
            optim.Adam, "_update", "if decay and self._decoupled", "if decay"
        ),
        "dampening in the first step": changed(
            optim.SGD, "_update", "velocity = grad\n",
            'velocity = grad * (1 - group["dampening"])\n',
        ),
        "Nesterov without momentum": changed(
            optim.SGD, "_update", "grad + velocity * momentum", "grad + velocity"
        ),
        "weight decay of SGD upwards": changed(
            optim.SGD, "_update", "grad + value", "grad - value"
        ),
        "state of those stepped alone forgotten": changed(
            optim.Optimizer, "step", "self._state[place]", "{}"
        ),
        "state forgotten": changed(
            optim.Optimizer, "_step_small", "group, entry)", "group, {})"
        ),
        "state of joined parameters forgotten": changed(
            optim.Optimizer, "_step_small", "group, joined.state)", "group, {})"
        ),
        "joined parameters exchanged": changed(
            Joined, "hand_out", "zip(params, parts", "zip(params, parts[::-1]"
        ),
        "state lost when somebody has no gradient": changed(
            optim.Optimizer, "_step_small", "self._part()\n", "pass\n"
        ),
    },
    "clipping_keeps_the_direction": {
        "small gradients scaled up": changed(
            optim, "clip_grad_norm_", "if norm > max_norm", "if norm"
        ),
        "each by its own norm": changed(
            optim, "clip_grad_norm_", "max_norm / norm)",
            "max_norm / max(float(np.linalg.norm(p.grad.numpy())), max_norm))",
        ),
        "sum of norms": changed(
            optim, "clip_grad_norm_", "float(flat @ flat)", "float(np.abs(flat).sum()) ** 2"
        ),
    },
    "clipping_by_value_limits_each": {
        "only from above": changed(
            optim, "clip_grad_value_", "-clip_value, clip_value", "None, clip_value"
        ),
    },
    "schedules_set_the_rate_of_every_step": {
        "begins at step 1": changed(
            optim.Schedule, "__init__", "self.last_step = 0", "self.last_step = 1"
        ),
        "not applied before the first step": changed(
            optim.Schedule, "__init__", "    self._apply()", "    pass"
        ),
        "takes over one too late": changed(
            optim.SequentialLR, "_apply", ">= m", "> m"
        ),
        "not resumed": instead(optim.Schedule, "load_state_dict", do_nothing),
        "warm-up one step short": changed(
            optim.LinearLR, "factor", "min(step, ", "min(step + 1, "
        ),
    },
    "checkpoint_changes_nothing": {
        "outside weights lost": changed(
            mg, "checkpoint", "_frontier(output._edge, start, own)", "()"
        ),
        "another function backward": instead(recompute._OP, "rules", other_masks),
        "a generator that goes on": instead(
            mg, "generator", lambda seed, made={}: made.setdefault(seed, from_nowhere())
        ),
    },
    "uneven_shards_equal_the_batch": {
        "mean over the ignored too": kernels(
            cross_entropy=mean_of_all, cross_entropy_vjp=count_all
        ),
        "gradient by the number of all": kernels(cross_entropy_vjp=count_all),
    },
    "evaluation_weighs_uneven_batches": {
        "mean of means": changed(
            evaluation, "measure", "size, _ = counted(target, ignored)", "size = 1"
        ),
        "ignored targets count": changed(
            evaluation, "counted", "np.count_nonzero(host != ignored)", "host.size"
        ),
    },
    "accumulation_equals_one_batch": {
        "the last one stays": instead(autograd, "_accumulate", overwrite),
    },
    "saved_and_loaded_goes_on": {
        "state of the optimizer lost": changed(
            optim.Optimizer, "state_dict", '"state": state', '"state": [{} for _ in state]'
        ),
        "state rounded": changed(
            optim.Optimizer, "state_dict", "_host(v)", "_host(v).astype(np.float32).astype(float)"
        ),
        "settings not loaded": changed(
            optim.Optimizer, "load_state_dict", "own.update(", "dict("
        ),
        "generators not saved": instead(checkpoints, "_generators", lambda module: {}),
        "schedule starts again": instead(optim.Schedule, "load_state_dict", do_nothing),
    },
    "the_same_seed_gives_the_same_bits": {
        "order from nowhere": changed(
            data.Batches, "_order", "np.random.default_rng([self.seed, self.epoch])",
            "np.random.default_rng()",
        ),
        "order without the seed": changed(
            data.Batches, "_order", "[self.seed, self.epoch]", "[self.epoch]"
        ),
        "an example twice": changed(
            data.Batches, "_order", ".permutation(self.examples)",
            ".integers(0, self.examples, self.examples)",
        ),
        "generators from nowhere": instead(mg, "generator", from_nowhere),
        "always the same": instead(mg, "generator", lambda seed: np.random.default_rng(0)),
        "masks from nowhere": changed(
            nn.Dropout, "forward", "self.generator", "np.random.default_rng()"
        ),
    },
    "no_grad_computes_the_same": {
        "another kernel when recording": kernels(layer_norm_saving=saving_nearly, **LAYER_NORM),
        "always recorded": changed(mg, "no_grad", "else OFF", "else RECORD"),
    },
    "zero_grad_forgets": {
        "the model's does nothing": instead(nn.Module, "zero_grad", do_nothing),
        "the optimizer's does nothing": instead(optim.Optimizer, "zero_grad", do_nothing),
        "the last one stays": instead(autograd, "_accumulate", overwrite),
    },
    "fit_takes_the_steps_written_out": {
        "gradients not zeroed": changed(
            Stepper, "_backward", "run.optimizer.zero_grad()", "pass"
        ),
        "clipped after the step": changed(
            Stepper, "take", "if want_norm or clip_norm is not None:", "if run.step:"
        ),
        "half of the gradient": changed(
            Stepper, "_backward", "result.backward()", "(result / 2.0).backward()"
        ),
        "batches of a step by their number": changed(
            Stepper, "_shares", "return [count / self.count for count, _ in sizes]",
            "return [1 / len(sizes) for _ in sizes]",
        ),
        "schedule one behind": changed(
            Loop, "_epoch", "if schedule is not None:", "if schedule is not None and run.step > 1:"
        ),
    },
}  # fmt: skip
