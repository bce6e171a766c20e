"""Initial values: NumPy arrays drawn on the host from an explicit generator.

The functions that end in ``_`` give a parameter new values. In a shape (m, n, …) the fan-in is
n·…, the number of inputs of each output, and the fan-out m·….
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from microgpt.errors import InputError, ShapeError
from microgpt.tensor import Tensor

Shape = tuple[int, ...]


def fans(shape: Shape) -> tuple[int, int]:
    """Fan-in and fan-out of a weight of this shape.

    Raises:
        ShapeError: if there are fewer than two dimensions.
    """
    if len(shape) < 2:
        raise ShapeError(f"fan-in and fan-out need two dimensions or more; got shape {shape}")
    window = math.prod(shape[2:])
    return shape[1] * window, shape[0] * window


def gain(nonlinearity: str, slope: float = 0.01) -> float:
    """The factor by which an activation shrinks what passes through, inverted."""
    gains = {
        "linear": 1.0,
        "sigmoid": 1.0,
        "tanh": 5 / 3,
        "relu": math.sqrt(2),
        "leaky_relu": math.sqrt(2 / (1 + slope**2)),
    }
    if nonlinearity not in gains:
        raise InputError(f"no gain for '{nonlinearity}'; there are {', '.join(gains)}")
    return gains[nonlinearity]


def uniform(
    shape: Shape, low: float = 0.0, high: float = 1.0, *, generator: np.random.Generator
) -> np.ndarray:
    """Uniform in [low, high)."""
    return generator.uniform(low, high, shape)


def normal(
    shape: Shape, mean: float = 0.0, std: float = 1.0, *, generator: np.random.Generator
) -> np.ndarray:
    """From the normal distribution."""
    return generator.normal(mean, std, shape)


def xavier_uniform(
    shape: Shape, gain: float = 1.0, *, generator: np.random.Generator
) -> np.ndarray:
    """Uniform in ±gain·√(6 / (fan_in + fan_out)). Source: Glorot and Bengio, AISTATS 2010."""
    bound = gain * math.sqrt(6 / sum(fans(shape)))
    return generator.uniform(-bound, bound, shape)


def xavier_normal(shape: Shape, gain: float = 1.0, *, generator: np.random.Generator) -> np.ndarray:
    """Normal with deviation gain·√(2 / (fan_in + fan_out)). Source: Glorot and Bengio, 2010."""
    return generator.normal(0, gain * math.sqrt(2 / sum(fans(shape))), shape)


def kaiming_uniform(
    shape: Shape, nonlinearity: str = "relu", *, generator: np.random.Generator
) -> np.ndarray:
    """Uniform in ±gain·√(3 / fan_in). Source: He, Zhang, Ren and Sun, arXiv:1502.01852."""
    bound = gain(nonlinearity) * math.sqrt(3 / fans(shape)[0])
    return generator.uniform(-bound, bound, shape)


def kaiming_normal(
    shape: Shape, nonlinearity: str = "relu", *, generator: np.random.Generator
) -> np.ndarray:
    """Normal with deviation gain / √fan_in. Source: He, Zhang, Ren and Sun, arXiv:1502.01852."""
    return generator.normal(0, gain(nonlinearity) / math.sqrt(fans(shape)[0]), shape)


def _set(parameter: Tensor, values: Any) -> Tensor:
    parameter.data = values
    return parameter


def zeros_(parameter: Tensor) -> Tensor:
    """Set all values to 0."""
    return constant_(parameter, 0.0)


def ones_(parameter: Tensor) -> Tensor:
    """Set all values to 1."""
    return constant_(parameter, 1.0)


def constant_(parameter: Tensor, value: float) -> Tensor:
    """Set all values to `value`."""
    return _set(parameter, np.full(parameter.shape, value))


def uniform_(
    parameter: Tensor, low: float = 0.0, high: float = 1.0, *, generator: np.random.Generator
) -> Tensor:
    """New values by `uniform`.

    Example:
        >>> import microgpt as mg
        >>> layer = mg.nn.Linear(2, 2)
        >>> _ = mg.nn.init.uniform_(layer.weight, -1, 1, generator=mg.generator(0))
    """
    return _set(parameter, uniform(parameter.shape, low, high, generator=generator))


def normal_(
    parameter: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: np.random.Generator
) -> Tensor:
    """New values by `normal`."""
    return _set(parameter, normal(parameter.shape, mean, std, generator=generator))


def xavier_uniform_(
    parameter: Tensor, gain: float = 1.0, *, generator: np.random.Generator
) -> Tensor:
    """New values by `xavier_uniform`."""
    return _set(parameter, xavier_uniform(parameter.shape, gain, generator=generator))


def xavier_normal_(
    parameter: Tensor, gain: float = 1.0, *, generator: np.random.Generator
) -> Tensor:
    """New values by `xavier_normal`."""
    return _set(parameter, xavier_normal(parameter.shape, gain, generator=generator))


def kaiming_uniform_(
    parameter: Tensor, nonlinearity: str = "relu", *, generator: np.random.Generator
) -> Tensor:
    """New values by `kaiming_uniform`."""
    return _set(parameter, kaiming_uniform(parameter.shape, nonlinearity, generator=generator))


def kaiming_normal_(
    parameter: Tensor, nonlinearity: str = "relu", *, generator: np.random.Generator
) -> Tensor:
    """New values by `kaiming_normal`."""
    return _set(parameter, kaiming_normal(parameter.shape, nonlinearity, generator=generator))
