"""Batches: shuffled anew every epoch, reproducible, and resumable in the middle of one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from microgpt import config
from microgpt.autograd import attach
from microgpt.data.checks import positive
from microgpt.errors import InputError, InputTypeError, ShapeError
from microgpt.plugins import registry
from microgpt.tensor import Tensor


class EpochBatches(ABC):
    """What all loaders have in common: epochs that can be repeated, and resumed in the middle.

    A kind of batches says how many there are in an epoch (`__len__`), and which one comes at a
    position of it (`_batch`). That must depend on `seed`, `epoch` and the position alone.
    """

    def __init__(
        self,
        batch_size: int,
        seed: int | None,
        transform: Callable[..., Any] | None,
        tensors: bool,
    ) -> None:
        self.batch_size = positive("batch_size", batch_size)
        self.transform = transform
        self.tensors = tensors
        seed = config.resolve("seed", seed)
        self.seed = int(np.random.SeedSequence().entropy % 2**63) if seed is None else seed  # type: ignore[operator]
        self.epoch = 0
        self.position = 0
        self._start = 0

    @abstractmethod
    def __len__(self) -> int:
        """Batches per epoch."""

    @property
    @abstractmethod
    def examples(self) -> int:
        """Number of examples in an epoch."""

    def _order(self) -> Any:
        """What `_batch` is to know of the epoch that begins; by default nothing."""
        return None

    @abstractmethod
    def _batch(self, order: Any, position: int) -> tuple[np.ndarray, ...]:
        """The arrays of one batch."""

    def _tensors(self, order: Any, position: int, place: _Place) -> tuple[Tensor, ...]:
        """The tensors of one batch."""
        return tuple([place.tensor(array) for array in self._batch(order, position)])

    def __iter__(self) -> Iterator[Any]:
        """One epoch; after `load_state_dict` the rest of the one that was under way."""
        self.position, self._start = self._start, 0
        count, transform, order = len(self), self.transform, self._order()
        place = _Place() if self.tensors else None
        while self.position < count:
            if place is None:
                batch: tuple[Any, ...] = self._batch(order, self.position)
            else:
                batch = self._tensors(order, self.position, place)
            # Counted before it is handed out: a state saved by the receiver does not repeat it.
            self.position += 1
            yield batch if transform is None else transform(*batch)
        self.epoch += 1
        self.position = 0

    def state_dict(self) -> dict[str, int]:
        """Seed, epoch and number of batches seen in it."""
        return {"seed": self.seed, "epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where `state` was taken.

        Raises:
            InputError: if the state is not one of batches, or of more batches than there are.
        """
        if set(state) != {"seed", "epoch", "position"} or state["position"] > len(self):
            raise InputError(
                f"a state of {type(self).__name__} has seed, epoch and position (0 to {len(self)});"
                f" got {state}"
            )
        self.seed, self.epoch, self.position = state["seed"], state["epoch"], state["position"]
        self._start = self.position


class Batches(EpochBatches):
    """Arrays of equal length, cut into batches; each ``for`` is one epoch.

    The order of epoch k depends on the seed and on k alone, so a run that was interrupted can go
    on with the batches it would have seen: keep `state_dict()` and load it into a new object.

    Args:
        arrays: NumPy arrays of equal length.
        batch_size: examples per batch; the last one may be smaller.
        seed: by default the configured seed; without any, every object has an order of its own.
        shuffle: whether examples are put in a new order every epoch.
        drop_last: leave a smaller last batch out.
        transform: called with the parts of a batch; what it returns is yielded instead.
        tensors: whether batches are tensors of the backend that is configured when an epoch
            begins, floats in the configured float type; otherwise they are NumPy arrays.

    Raises:
        ShapeError: if the arrays have different lengths.
        InputError: if there is nothing to cut up, or the size is not positive.
        InputTypeError: when a tensor is to be made of an array that has no numbers in it.

    Example:
        >>> import numpy as np
        >>> from microgpt.data import Batches
        >>> [x.tolist() for (x,) in Batches(np.arange(5), batch_size=2, shuffle=False)]
        [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self,
        *arrays: Any,
        batch_size: int,
        seed: int | None = None,
        shuffle: bool = True,
        drop_last: bool = False,
        transform: Callable[..., Any] | None = None,
        tensors: bool = True,
    ) -> None:
        self.arrays = tuple([np.asarray(a) for a in arrays])
        if not self.arrays or 0 in [len(a) for a in self.arrays]:
            raise InputError("batches need at least one array with at least one example")
        lengths = [len(a) for a in self.arrays]
        if len(set(lengths)) > 1:
            raise ShapeError(f"batches need arrays of equal length; got lengths {lengths}")
        super().__init__(batch_size, seed, transform, tensors)
        if drop_last and batch_size > lengths[0]:
            raise InputError(
                f"drop_last with batch_size={batch_size} leaves no batch of {lengths[0]} examples"
            )
        self.shuffle = shuffle
        self.drop_last = drop_last

    def __len__(self) -> int:
        """Batches per epoch."""
        n = len(self.arrays[0])
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    @property
    def examples(self) -> int:
        """Number of examples."""
        return len(self.arrays[0])

    def _order(self) -> np.ndarray | None:
        if not self.shuffle:
            return None
        return np.random.default_rng([self.seed, self.epoch]).permutation(self.examples)

    def _batch(self, order: np.ndarray | None, position: int) -> tuple[np.ndarray, ...]:
        here = self._span(position)
        if order is None:
            return tuple([a[here] for a in self.arrays])
        return tuple([a.take(order[here], axis=0) for a in self.arrays])

    def _tensors(
        self, order: np.ndarray | None, position: int, place: _Place
    ) -> tuple[Tensor, ...]:
        if order is None or type(self)._batch is not Batches._batch:
            return super()._tensors(order, position, place)
        chosen = order[self._span(position)]
        return tuple([place.tensor_of_rows(a, chosen) for a in self.arrays])

    def _span(self, position: int) -> slice:
        return slice(position * self.batch_size, (position + 1) * self.batch_size)


class _Place:
    """Where tensors are made; the settings that say so are looked up once per epoch."""

    def __init__(self) -> None:
        name, self.device = config.place()
        self.backend = registry.backend(name)
        self.floats = np.dtype(config.get("dtype"))

    def tensor(self, array: np.ndarray) -> Tensor:
        """A tensor of an array of one batch."""
        _require_numbers(array)
        if array.base is not None:  # a view of the user's array
            array = array.copy()
        if array.dtype.kind == "f" and array.dtype != self.floats:
            array = array.astype(self.floats)
        return attach(Tensor, self.backend.take_over(array, self.device))

    def tensor_of_rows(self, array: np.ndarray, rows: np.ndarray) -> Tensor:
        """A tensor of some rows of the user's array."""
        _require_numbers(array)
        if array.dtype.kind == "f" and array.dtype != self.floats:
            return self.tensor(array.take(rows, axis=0))
        return attach(Tensor, self.backend.take_rows(array, rows, self.device))


def _require_numbers(array: np.ndarray) -> None:
    if array.dtype.kind not in "fiub":
        raise InputTypeError(
            f"batches of tensors are made of numbers; got an array with elements of type "
            f"{array.dtype}; with tensors=False they are NumPy arrays of any type"
        )


def batches(
    *arrays: Any,
    batch_size: int,
    seed: int | None = None,
    shuffle: bool = True,
    drop_last: bool = False,
    transform: Callable[..., Any] | None = None,
    tensors: bool = True,
) -> Batches:
    """`Batches` of the arrays; see there."""
    return Batches(
        *arrays,
        batch_size=batch_size,
        seed=seed,
        shuffle=shuffle,
        drop_last=drop_last,
        transform=transform,
        tensors=tensors,
    )
