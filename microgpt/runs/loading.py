"""Taking a trained model out of its folder: to write with, to judge, to use."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from microgpt import checkpoints, train
from microgpt.creation import generator
from microgpt.errors import CheckpointError, InputError
from microgpt.nn import Module
from microgpt.runs import building, folder
from microgpt.runs.kinds import KINDS
from microgpt.runs.material import Material
from microgpt.runs.settings import Settings
from microgpt.text import CharTokenizer, Tokenizer

_WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Trained:
    """A trained model with what belongs to it.

    Attributes:
        folder: where it comes from.
        settings: what it was trained with; with the backend that it was loaded on.
        model: in evaluation mode.
        tokenizer: for texts.
        step: how many steps its weights have seen.
        weights: best (lowest validation loss) or last.
    """

    folder: Path
    settings: Settings
    model: Any
    tokenizer: Tokenizer | None
    step: int
    weights: str

    def write(
        self,
        prompt: str = "",
        max_tokens: int = 200,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
    ) -> Iterator[str]:
        """The continuation of `prompt`, piece by piece as it comes.

        A model of short texts (one per line) stops at the end of one. One of a whole text needs
        something to begin with: without a prompt it is a new line or, if it knows none, its first
        token.

        Args:
            max_tokens: how many tokens at most.
            temperature, top_k, top_p, seed: see `mg.models.Sampler`; without a seed, here or in
                the configuration, every text is another.

        Raises:
            InputError: if the model does not write, or the prompt has what it does not know.
        """
        tokenizer = self.tokenizer
        if tokenizer is None or not KINDS[self.settings.kind].writes:
            raise InputError(
                f"a model of kind {self.settings.kind} writes no texts; "
                f"microgpt eval {self.folder} says how good it is"
            )
        if isinstance(tokenizer, CharTokenizer):
            _require_known(prompt, tokenizer)
        ids = tokenizer.encode(prompt, bos=tokenizer.bos is not None)
        if not ids:
            try:
                ids = tokenizer.encode("\n")
            except InputError:
                ids = [0]
        drawn = self.model.generate(
            ids,
            max_tokens,
            temperature,
            top_k,
            top_p,
            stream=True,
            stop=tokenizer.eos_id,
            generator=generator(seed),
        )
        return tokenizer.decode_stream(drawn)

    def evaluate(self) -> tuple[dict[str, float], str]:
        """Loss and metrics on what it has not learnt from, and which part of the data that is.

        Raises:
            DataError: if the data are not to be had, or have changed.
            InputError: if nothing was held out.
        """
        with building.place(self.settings):
            material = building.read(self.settings, self.tokenizer)
            scores, split = judge(self.model, material)
        if not scores:
            raise InputError(
                f"nothing was held out in {self.folder} (held_out = 0), so there is nothing to "
                "judge the model by"
            )
        return scores, split


def load(
    path: str | Path,
    *,
    weights: str | None = None,
    backend: str | None = None,
    device: str | None = None,
) -> Trained:
    """The model of a run, with the best weights if there are any, else with the newest.

    Args:
        path: the folder of the run.
        weights: best or last.
        backend, device: where to compute; by default where it was trained.

    Raises:
        InputError: if there is no run in the folder.
        CheckpointError: if it has no weights yet, or they are damaged.

    Example:
        >>> import tempfile
        >>> from microgpt import runs
        >>> settings = runs.configure("mlp", hidden=[16], epochs=1)
        >>> with tempfile.TemporaryDirectory() as place:
        ...     outcome = runs.start(settings, f"{place}/digits", progress=False)
        ...     trained = runs.load(f"{place}/digits")
        >>> trained.model.num_parameters()
        1210
    """
    place = folder.require_run(path)
    settings = folder.settings_of(place)
    if backend is not None or device is not None:
        compute = replace(
            settings.compute, backend=backend or settings.compute.backend, device=device or ""
        )
        settings = replace(settings, compute=compute)
    with building.place(settings):
        model = building.make_model(settings)
        step, which = take_weights(model, place, weights)
    model.eval()
    return Trained(place, settings, model, folder.tokenizer_of(place), step, which)


def take_weights(model: Module, place: Path, weights: str | None = None) -> tuple[int, str]:
    """Set the weights of `model` from a run folder; the step they are of, and best or last.

    Raises:
        CheckpointError: if there are none, or they are damaged.
    """
    if weights not in (None, "best", "last"):
        raise InputError(f"weights are best or last; got {weights!r}")
    for which in ("best", "last") if weights is None else (weights,):
        found = checkpoints.checkpoints(place / folder.BEST if which == "best" else place)
        if found:
            checkpoints.load_weights(model, found[-1] / _WEIGHTS)
            return int(found[-1].name.rpartition("-")[2]), which
    if folder.has_weights(place):
        other = "last" if weights == "best" else "best"
        raise CheckpointError(f"{place} has no {weights} weights; take the {other} ones")
    raise CheckpointError(
        f"there are no weights in {place}: its training has saved nothing yet, or failed before it "
        f"could; begin it again, with changes if they are needed: microgpt train --config "
        f"{place / folder.SETTINGS} --out {place}"
    )


def _require_known(prompt: str, tokenizer: CharTokenizer) -> None:
    """Refuse a prompt with characters that a model has never seen."""
    unknown = [c for c in dict.fromkeys(prompt) if c not in tokenizer.characters]
    if unknown:
        raise InputError(
            f"the prompt has {', '.join(map(repr, unknown))}, which this model has never seen; "
            f"this model knows: {tokenizer.characters!r}"
        )


def judge(model: Module, material: Material) -> tuple[dict[str, float], str]:
    """Loss and metrics on the test set or, if there is none, on what was held out."""
    for split, batches in (("test", material.test), ("held-out", material.held_out)):
        if batches is not None:
            return train.evaluate(model, material.loss, batches, material.metrics), split
    return {}, ""
