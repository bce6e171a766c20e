"""What all lessons share: their options, their checks, and where their pictures go."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import microgpt as mg


@dataclass
class Lesson:
    """The options of one run, and the checks made so far."""

    fast: bool
    seed: int
    out: Path
    data: str | None
    failed: list[str] = field(default_factory=list)

    def check(self, name: str, value: Any, bound: str, passed: bool) -> None:
        """Print one line of the form ``CHECK name value bound PASS``; remember a FAIL."""
        shown = f"{value:.4g}" if isinstance(value, float) else f"{value:,}"
        print(f"CHECK  {name:<44} {shown:>10}  {bound:<12} {'PASS' if passed else 'FAIL'}")
        if not passed:
            self.failed.append(name)

    def picture(self, figure: Any, name: str) -> None:
        """Write a figure into the output folder."""
        print(f"picture {mg.viz.save(figure, self.out / name)}")

    def finish(self) -> None:
        """End the lesson; the exit status is 1 if a check failed."""
        if self.failed:
            sys.exit(f"{len(self.failed)} check(s) failed: {', '.join(self.failed)}")
        print("all checks passed")


def start(title: str) -> Lesson:
    """Read the options (none in a notebook) and put the settings in force for this process."""
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--backend", help="numpy (default), or any backend that is installed")
    parser.add_argument("--seed", type=int, default=1, help="of weights and batches (default 1)")
    parser.add_argument("--fast", action="store_true", help="shrunk: seconds instead of minutes")
    parser.add_argument("--data", help="folder that holds the data sets already")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for pictures")
    # Jupyter starts its kernels with options of its own.
    options = parser.parse_args([] if "ipykernel" in sys.modules else None)
    if options.backend:
        mg.use_backend(options.backend).__enter__()
    where = mg.zeros(1)
    print(f"{title}\nbackend {where.backend}, device {where.device}, seed {options.seed}\n")
    return Lesson(options.fast, options.seed, options.out, options.data)


def images(lesson: Lesson) -> tuple[Any, bool]:
    """MNIST if it can be had, else the embedded digits enlarged to 28×28; and whether it is MNIST.

    A data folder that was named and does not hold MNIST is an error, not a reason to fall back.
    """
    named = lesson.data or mg.config.get("data")
    try:
        return mg.data.mnist(folder=lesson.data), True
    except (mg.errors.DataError, mg.errors.MissingExtraError) as error:
        if named:
            raise
        print(f"MNIST cannot be had:\n{error}\n")
        print("Using the 1,797 digits of 8x8 pixels that come with microgpt, enlarged to 28x28.\n")
    small = mg.data.digits()
    return small.replace_images(lambda x: mg.data.resize(x, (28, 28))), False
