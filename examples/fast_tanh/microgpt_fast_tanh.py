"""A plugin for microgpt that overrides one kernel: tanh of large arrays, on all processors."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from microgpt import hookimpl

pool = ThreadPoolExecutor(os.cpu_count())


def tanh(x):
    """The kernel: an array in, a new array out."""
    if x.size < 2_000_000 or x.dtype.kind != "f":  # handing it out would take longer
        return np.tanh(x)
    y = np.empty(x.shape, x.dtype)
    parts = [np.array_split(a.reshape(-1), os.cpu_count()) for a in (x, y)]
    list(pool.map(np.tanh, *parts))  # NumPy lets other threads run while it computes
    return y


@hookimpl
def microgpt_kernel(backend, op):
    """Ours for tanh on NumPy arrays; None leaves an op to the others."""
    return tanh if (backend, op) == ("numpy", "tanh") else None
