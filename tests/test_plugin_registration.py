"""What the registry checks when a plugin is registered."""

import numpy as np
import pluggy
import pytest

import microgpt as mg
from microgpt.backend import Backend
from microgpt.errors import BackendError, KernelNotFoundError, PluginError
from microgpt.plugins import registry
from tests.boxes import Box, BoxBackend, BoxPlugin, Kernels

# ---- what is checked at registration ---------------------------------------------------------


class Duck:
    """Not derived from Backend, and not complete."""

    name = "box"
    dtypes = ("float64",)

    def asarray(self, data, dtype, device): ...


def variant(**attributes):
    return type("Variant", (BoxBackend,), attributes)


@pytest.mark.parametrize(
    ("maker", "reason"),
    [
        (
            Duck,
            r"must have array_types, devices\(\), device_name\(\), take_over\(\), take_rows\(\), "
            r"to_numpy\(\), dtype\(\)",
        ),
        (variant(array_types=()), "array_types must be a tuple"),
        (variant(array_types=[Box]), "array_types must be a tuple"),
        (variant(name="bax"), "asked for the backend 'box' and returned one called 'bax'"),
        (variant(array_types=(Box, np.ndarray)), "ndarray, which belong to backend 'numpy'"),
        (variant(array_types=(float,)), "float, which belong to backend 'python'"),
        (type("Abstract", (Backend,), {}), "plugin 'BoxPlugin' failed in microgpt_backend"),
    ],
)
def test_a_backend_that_cannot_be_one_is_refused_when_it_is_made(make, maker, reason):
    r = make()
    r.register(BoxPlugin(maker))
    with pytest.raises(BackendError, match=reason):
        r.backend("box")
    assert "box" in r.broken
    assert r.maker_of("box") is None


def test_two_backends_cannot_share_an_array_class(make):
    class Second(BoxPlugin):
        @mg.hookimpl
        def microgpt_backend(self, name):
            return variant(name="crate")() if name == "crate" else None

    r = make()
    r.register(BoxPlugin())
    r.register(Second())
    assert r.backend("box") is r.backend("box")
    with pytest.raises(BackendError, match="class Box, which belong to backend 'box'"):
        r.backend("crate")


def test_a_kernel_must_be_callable(make):
    r = make()
    r.register(Kernels(tanh=42), "odd")
    with pytest.raises(PluginError, match="plugin 'odd' must answer .*op='tanh'.*got 42"):
        r.kernel("numpy", "tanh")


def test_a_hook_that_fails_names_its_plugin(make):
    class Fails:
        @mg.hookimpl
        def microgpt_kernel(self, backend, op):
            raise KeyError(op)

    r = make()
    r.register(Fails())
    with pytest.raises(PluginError, match="plugin 'Fails' failed in microgpt_kernel.*KeyError"):
        r.kernel("numpy", "tanh")


def test_hook_wrappers_are_refused(make):
    class Wraps:
        @pluggy.HookimplMarker("microgpt")(wrapper=True)
        def microgpt_kernel(self, backend, op):
            return (yield)

    r = make()
    with pytest.raises(PluginError, match="hook wrapper; required: a plain function"):
        r.register(Wraps())
    assert r.plugin_names() == []


def test_registering_twice_and_removing_what_is_not_there(make):
    r = make()
    plugin = Kernels(tanh=abs)
    assert r.register(plugin) == "Kernels"
    with pytest.raises(PluginError, match="'Kernels' is registered already"):
        r.register(plugin)
    assert r.kernel("numpy", "tanh") is abs  # the first registration stands
    assert r.register(Kernels(tanh=min)) == "Kernels-2"
    with pytest.raises(PluginError, match="Kernels"):
        r.register(Kernels(), "Kernels")
    r.unregister(plugin)
    with pytest.raises(PluginError, match="'Kernels' is not registered.*Kernels-2"):
        r.unregister(plugin)
    with pytest.raises(PluginError, match="implements no hook"):
        r.register(None)


def test_a_backend_goes_with_its_plugin():
    for _ in range(2):
        with mg.plugged(BoxPlugin(), "boxes"):
            x = mg.tensor([0.0, 1.0], backend="box")
            assert x.backend == "box"
            assert np.array_equal(mg.exp(x).numpy(), np.exp(np.float32([0, 1])))
            assert registry.server_of("box", "exp") == "boxes"
            with pytest.raises(KernelNotFoundError, match="no kernel for the op 'tanh'"):
                mg.tanh(x)
        with pytest.raises(BackendError, match="no backend 'box'"):
            registry.backend("box")
        with pytest.raises(BackendError, match="a Box, which is an array of no loaded backend"):
            mg.exp(x)
