"""Mistakes in recurrent layers, each under the law that must catch it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from microgpt_numpy import recurrent

from microgpt import nn
from microgpt.nn import cells
from microgpt.nn.recurrent import _Layers
from tests.planting import Plant, changed, instead, kernels

BEHIND = "arange(steps)[:, None] >= lengths"


def in_kernel(name: str, old: str, new: str) -> Plant:
    """A kernel with one piece of its text replaced."""

    def plant() -> AbstractContextManager[Any]:
        with changed(recurrent, name, old, new)():
            wrong = getattr(recurrent, name)
        return kernels(**{name: wrong})()

    return plant


PLANTED: dict[str, dict[str, Plant]] = {
    "sequences_end_at_their_lengths": {
        "lengths ignored by the kernels": changed(recurrent, "_ended", BEHIND, BEHIND + " + steps"),
        "one step too far": changed(recurrent, "_ended", ">= lengths", "> lengths"),
        "one step too short": changed(recurrent, "_ended", ">= lengths", "> lengths - 2"),
        "outputs not set to 0": changed(
            _Layers, "forward", "if running is not None:", "if False:"
        ),
        "state after the last padded step": changed(
            recurrent, "_lstm",
            "new_h[rows], new_c[rows] = h[rows], c[rows]", "new_h[rows] = h[rows]",
        ),
        "gradient of the padding left in": in_kernel(
            "lstm_layer_vjp", "sums[step - low][rows] = 0", "pass"
        ),
        "gradient of the state lost behind the end": in_kernel(
            "lstm_layer_vjp", "to_h[rows], to_c[rows] = kept", "to_c[rows] = kept[1]"
        ),
        "first layer of the state for all": changed(
            _Layers, "forward", "part[len(lasts)]", "part[0]"
        ),
        "both directions forwards": changed(
            _Layers, "forward", 'ending == "_reverse"', "False"
        ),
    },
    "pieces_with_the_state_equal_the_whole": {
        "the state is not used": changed(
            _Layers, "forward", "own, reverse = [part[len(lasts)]", "own, reverse = [0.0 * part[0]"
        ),
        "the memory is not carried on": changed(
            cells.Recurrent, "_steps", "[y[last], y[steps]]", "[y[last], 0.0 * y[steps]]"
        ),
        "the state before the last step": changed(
            cells.Recurrent, "_steps", "steps - 1\n", "max(steps - 2, 0)\n"
        ),
        "gradient of the first state lost": in_kernel(
            "rnn_layer_vjp", "return to_gates, to_weight, to_h",
            "return to_gates, to_weight, 0 * to_h",
        ),
        "detached state keeps its graph": instead(nn, "detach_state", lambda state: state),
    },
}  # fmt: skip
