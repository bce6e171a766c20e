"""Dataset: examples to learn from and examples to be tested on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, repr=False)
class Dataset:
    """Labelled examples, as NumPy arrays.

    Attributes:
        name: what it is called.
        x_train, x_test: (n, height, width) float32 images, 0 black to 1 white.
        y_train, y_test: (n,) int64 class numbers.
        classes: names of the classes, by number.
        source, licence: where it comes from, and on what terms.
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: tuple[str, ...]
    source: str
    licence: str

    def __repr__(self) -> str:
        shape = " x ".join(str(n) for n in self.x_train.shape[1:])
        return (
            f"{self.name}: {len(self.x_train):,} examples to learn from, {len(self.x_test):,} to "
            f"test on, of {shape} numbers, in {len(self.classes)} classes ({self.licence})"
        )

    def head(self, train: int, test: int) -> Dataset:
        """The same with only the first `train` and `test` examples."""
        return replace(
            self,
            x_train=self.x_train[:train],
            y_train=self.y_train[:train],
            x_test=self.x_test[:test],
            y_test=self.y_test[:test],
        )

    def replace_images(self, function: Callable[[np.ndarray], np.ndarray]) -> Dataset:
        """The same with `function` applied to both stacks of images."""
        return replace(self, x_train=function(self.x_train), x_test=function(self.x_test))
