"""A lesson is a script that shows something and checks it while you watch."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

import microgpt as mg
from microgpt.errors import DataError, InputError, MicrogptError, MissingExtraError, missing_extra
from microgpt.viz.files import write

T = TypeVar("T")

OPTIONS = "LESSON_OPTIONS"
"""The environment variable with the options of a lesson that runs as a notebook."""


class LessonError(MicrogptError):
    """What a lesson claims did not happen."""


@dataclass
class Lesson:
    """The options of one run, and the checks made so far.

    Attributes:
        fast: whether to be done in seconds, with less data and lower bounds.
        seed: of weights, batches and samples.
        out: folder for pictures and other files.
        data: folder that holds the data sets already, or None.
        passed, failed: names of the checks made so far.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> lesson = Lesson(fast=True, seed=1, out=Path(tempfile.gettempdir()))
        >>> lesson.check("weights", 12_960, equals=12_960)
        CHECK  weights                                          12,960  = 12,960          PASS
        True
        >>> lesson.check("sum of the outputs", 0.9999, near=1.0, within=1e-3)
        CHECK  sum of the outputs                               0.9999  = 1 ± 0.001       PASS
        True
    """

    fast: bool
    seed: int
    out: Path
    data: str | None = None
    passed: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def pick(self, full: T, fast: T) -> T:
        """`full`, or `fast` when the lesson is shrunk."""
        return fast if self.fast else full

    def generator(self, stream: int = 0) -> np.random.Generator:
        """A generator of random numbers of its own for each `stream`; the seed decides all."""
        return mg.generator(self.seed + 1_000_003 * stream)

    def uses(self, data: str) -> None:
        """Say which data this run works on."""
        print(f"data: {data}")

    def check(
        self,
        name: str,
        value: Any,
        *,
        equals: Any = None,
        at_least: float | None = None,
        at_most: float | None = None,
        above: float | None = None,
        below: float | None = None,
        near: float | None = None,
        within: float = 0.0,
    ) -> bool:
        """Hold `value` against bounds; print ``CHECK name value bound PASS`` or ``… FAIL``.

        Args:
            name: what is checked, in a few words.
            value: what came out: a number (also of a tensor), a string or a truth value.
            equals: what it must be exactly.
            at_least, at_most: closed bounds.
            above, below: open bounds.
            near, within: it must differ from `near` by at most `within`.

        Returns:
            Whether all bounds hold. NaN fulfils none.

        Raises:
            InputError: if there is no bound.
        """
        if hasattr(value, "item"):
            value = value.item()
        bounds, good = [], []
        if equals is not None:
            bounds.append(f"= {_shown(equals)}")
            good.append(value == equals)
        if near is not None:
            bounds.append(f"= {_shown(near)} ± {_shown(within)}")
            good.append(abs(value - near) <= within)
        for sign, bound, holds in (
            (">=", at_least, lambda b: value >= b),
            ("<=", at_most, lambda b: value <= b),
            (">", above, lambda b: value > b),
            ("<", below, lambda b: value < b),
        ):
            if bound is not None:
                bounds.append(f"{sign} {_shown(bound)}")
                good.append(holds(bound))
        if not bounds:
            raise InputError(
                f"the check '{name}' needs a bound: equals, near, at_least, at_most, above or "
                "below; got none"
            )
        held = bool(all(good))
        text = ", ".join(bounds)
        print(f"CHECK  {name:<42} {_shown(value):>12}  {text:<17} {'PASS' if held else 'FAIL'}")
        (self.passed if held else self.failed).append(name)
        return held

    def picture(self, figure: Any, name: str) -> None:
        """Write a figure into the output folder; a notebook shows it as well.

        Args:
            figure: one of matplotlib's, or the text of an SVG picture.
        """
        if isinstance(figure, str):
            write(self.out / name, lambda file: file.write(figure.encode()))
        else:
            mg.viz.save(figure, self.out / name)
        print(f"picture {self.out / name}")
        if "ipykernel" in sys.modules:
            from IPython.display import SVG, display  # pyright: ignore

            display(SVG(figure) if isinstance(figure, str) else figure)

    def progress(self, items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
        """`items` one after the other, with a progress bar if they take a while.

        Raises:
            MissingExtraError: if tqdm is not installed.
        """
        try:
            from tqdm.auto import tqdm
        except ImportError:
            raise missing_extra("tqdm", "tutorials", "the progress bar of a lesson") from None
        yield from tqdm(items, label, total, leave=False, delay=2, mininterval=0.5)

    def finish(self) -> None:
        """End the lesson.

        A script ends with exit status 1 if a check failed.

        Raises:
            LessonError: instead, in a notebook.
        """
        if not self.failed:
            print(f"all {len(self.passed)} checks passed")
            return
        text = f"{len(self.failed)} check(s) failed: {', '.join(self.failed)}"
        if "ipykernel" in sys.modules:
            raise LessonError(text)
        sys.exit(text)


def _shown(value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    if isinstance(value, float | np.floating):
        return f"{value:,.0f}" if abs(value) >= 1e4 and value == int(value) else f"{value:.4g}"
    return str(value)


_in_force = ExitStack()  # settings that hold until the process ends


def start(title: str, arguments: Sequence[str] | None = None) -> Lesson:
    """Read the options and put the settings in force for this process.

    Args:
        title: of the lesson, printed with the backend and the seed.
        arguments: the options; by default those of the command line, or in a notebook those in the
            environment variable `LESSON_OPTIONS`.
    """
    if arguments is None:  # Jupyter starts its kernels with options of its own
        notebook = "ipykernel" in sys.modules
        arguments = shlex.split(os.environ.get(OPTIONS, "")) if notebook else sys.argv[1:]
    options = _parser(title).parse_args(arguments)
    if options.backend:
        _in_force.enter_context(mg.use_backend(options.backend))
    where = mg.zeros(1)
    print(f"{title}\nbackend {where.backend}, device {where.device}, seed {options.seed}\n")
    return Lesson(options.fast, options.seed, options.out, options.data)


def _parser(title: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--backend", help="numpy (default), or any backend that is installed")
    parser.add_argument(
        "--seed", type=int, default=1, help="of weights, batches and samples (default 1)"
    )
    parser.add_argument("--fast", action="store_true", help="shrunk: seconds instead of minutes")
    parser.add_argument("--data", help="folder that holds the data sets already")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for pictures (out)")
    return parser


def images(lesson: Lesson) -> tuple[Any, bool]:
    """MNIST if it can be had, else the embedded digits enlarged to 28×28; and whether it is MNIST.

    Raises:
        DataError: if a data folder was named and does not hold MNIST: that is no reason to fall
            back to something else.
    """
    found = _fetched(lesson, "MNIST", mg.data.mnist)
    if found is not None:
        lesson.uses(f"MNIST, {len(found.x_train):,} and {len(found.x_test):,} images of 28x28")
        return found, True
    small = mg.data.digits()
    lesson.uses("the 1,797 digits of 8x8 pixels that come with microgpt, enlarged to 28x28")
    return small.replace_images(lambda x: mg.data.resize(x, (28, 28))), False


def long_text(lesson: Lesson) -> Any:
    """Tiny Shakespeare if it can be had, else the documentation that comes with every Python.

    Raises:
        DataError: if a data folder was named and does not hold it.
    """
    found = _fetched(lesson, "Tiny Shakespeare", mg.data.tiny_shakespeare) or mg.data.python_docs()
    lesson.uses(str(found))
    return found


def _fetched(lesson: Lesson, name: str, load: Callable[..., Any]) -> Any:
    """A data set that may have to be fetched; None if it cannot be had, and nobody named a folder
    that should have it: that would be no reason to fall back to something else."""
    try:
        return load(folder=lesson.data)
    except (DataError, MissingExtraError) as error:
        if lesson.data or mg.config.get("data"):
            raise
        print(f"{name} cannot be had:\n{error}\n")
        return None
