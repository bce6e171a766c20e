"""A backend of boxes, plugins that replace kernels, and registries made of files."""

import importlib.metadata
import sys
import textwrap

import numpy as np
import pytest

import microgpt as mg
from microgpt import plugin_sources, plugins
from microgpt.backend import Backend
from microgpt.plugins import Registry


class Box:
    """An array class of nobody's."""

    def __init__(self, value):
        self.value = np.asarray(value)
        self.shape = self.value.shape
        self.dtype = self.value.dtype


class BoxBackend(Backend):
    name = "box"
    array_types = (Box,)

    def asarray(self, data, dtype, device):
        return Box(np.array(data, dtype=dtype))

    def to_numpy(self, array):
        return array.value


class BoxPlugin:
    """A whole backend as an object."""

    def __init__(self, make=BoxBackend, kernels=None):
        self.make = make
        self.kernels = {"exp": lambda x: Box(np.exp(x.value))} if kernels is None else kernels

    @mg.hookimpl
    def microgpt_backend_names(self):
        return ["box"]

    @mg.hookimpl
    def microgpt_backend(self, name):
        return self.make() if name == "box" else None

    @mg.hookimpl
    def microgpt_kernel(self, backend, op):
        return self.kernels.get(op) if backend == "box" else None


class Kernels:
    """Overrides kernels of the NumPy backend."""

    def __init__(self, **kernels):
        self.kernels = kernels

    @mg.hookimpl
    def microgpt_kernel(self, backend, op):
        return self.kernels.get(op) if backend == "numpy" else None


@pytest.fixture
def make(monkeypatch, tmp_path):
    """Makes a registry of its own, with plugins in files: make({"name": source}, configured=…)."""
    monkeypatch.syspath_prepend(tmp_path)
    made = []

    def build(sources=(), configured=(), entry_points=None):
        for name, source in dict(sources).items():
            (tmp_path / f"{name}.py").write_text(
                "import microgpt as mg\n" + textwrap.dedent(source), encoding="utf-8"
            )
            made.append(name)
        points = {
            name: importlib.metadata.EntryPoint(name, value, "microgpt")
            for name, value in (entry_points or {n: n for n in dict(sources)}).items()
        }
        monkeypatch.setattr(plugin_sources, "installed", lambda: (points, {}))
        monkeypatch.setattr(
            plugins.config,
            "get",
            lambda key: {"plugins": tuple(configured), "backend": "numpy"}[key],
        )
        return Registry()

    yield build
    for name in made:
        sys.modules.pop(name, None)


def kernel_plugin(value, op="tanh", backend="numpy", mark="@mg.hookimpl"):
    return f"""
        {mark}
        def microgpt_kernel(backend, op):
            return (lambda x: {value!r}) if (backend, op) == ({backend!r}, {op!r}) else None
    """
