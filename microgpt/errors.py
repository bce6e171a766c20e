"""Every exception microgpt raises on purpose.

Each message says what was required, what came, and what to do. All of them derive from
`MicrogptError`, and from the built-in exception a reader would expect, so that both
``except mg.errors.ShapeError`` and ``except ValueError`` work.
"""

from __future__ import annotations

from typing import Self


class MicrogptError(Exception):
    """Base class of all errors raised on purpose by microgpt and its backends.

    Attributes:
        topic: the mistake behind it, if it is a common one: `microgpt explain TOPIC` tells more.

    Example:
        >>> print(ShapeError("no room for two").about("broadcasting"))
        no room for two
          (microgpt explain broadcasting)
    """

    topic: str | None = None

    def about(self, topic: str) -> Self:
        """This error, which the section `topic` of the explanations is about."""
        self.topic = topic
        return self

    @property
    def message(self) -> str:
        """The text without the line about its explanation, to make another one of."""
        return super().__str__()

    def __str__(self) -> str:
        text = self.message
        return text if self.topic is None else f"{text}\n  (microgpt explain {self.topic})"


class ShapeError(MicrogptError, ValueError):
    """Shapes, axes or lengths that do not fit an operation."""


class DTypeError(MicrogptError, TypeError):
    """A data type that an operation, or its gradient, is not defined for."""


class InputError(MicrogptError, ValueError):
    """A value outside what a function accepts."""


class InputTypeError(MicrogptError, TypeError):
    """An argument of a kind that a function does not accept."""


class BackendError(MicrogptError, RuntimeError):
    """A backend that cannot be used, or tensors of two backends in one operation."""


class OutOfMemoryError(MicrogptError, MemoryError):
    """A device that has no room for another array."""


class KernelNotFoundError(BackendError, NotImplementedError):
    """A backend that has no kernel for an operation, which has no fallback either."""


class PluginError(MicrogptError, RuntimeError):
    """A plugin that cannot be loaded or that breaks the rules of the hooks."""


class ConfigError(MicrogptError, ValueError):
    """A configuration key or value that does not exist."""


class GraphFreedError(MicrogptError, RuntimeError):
    """A second backward pass through a graph whose saved values are gone."""


class ModifiedError(MicrogptError, RuntimeError):
    """A value that was replaced after an operation recorded it for the backward pass."""


class GradientError(MicrogptError, RuntimeError):
    """A gradient that was asked for where none is defined."""


class AnomalyError(MicrogptError, FloatingPointError):
    """The first NaN or infinity, reported in debug mode with the line that made it."""


class GradcheckError(MicrogptError, AssertionError):
    """An analytic gradient that differs from the numeric one; `.report` has the details."""

    report: object = None


class DataError(MicrogptError, OSError):
    """A data set that cannot be found, fetched or trusted."""


class CheckpointError(MicrogptError, RuntimeError):
    """A checkpoint that is missing, damaged, or belongs to a different model."""


class MissingExtraError(MicrogptError, ImportError):
    """An optional dependency that is not installed; the message names the extra."""


def missing_extra(package: str, extra: str, purpose: str) -> MissingExtraError:
    """The error for an optional `package` that `purpose` needs and `extra` would install."""
    return MissingExtraError(
        f"{purpose} needs the package '{package}', which is not installed; "
        f"run: pip install 'microgpt-autograd[{extra}]'"
    ).about("missing-extra")
