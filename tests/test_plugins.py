import importlib.metadata
import subprocess
import sys
import textwrap
import threading
import time
import types

import numpy as np
import pluggy
import pytest

import microgpt as mg
from microgpt import hooks, plugin_sources, plugins
from microgpt.backend import Backend
from microgpt.errors import BackendError, KernelNotFoundError, MissingExtraError, PluginError
from microgpt.ops import TABLE
from microgpt.plugins import PluginWarning, Registry, registry


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


# ---- marks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"tryfirst": True}, {"trylast": True}])
def test_the_marks_are_those_of_pluggy(options):
    def ours():
        pass

    def theirs():
        pass

    mg.hookimpl(**options)(ours)
    pluggy.HookimplMarker("microgpt")(**options)(theirs)
    assert ours.microgpt_impl == theirs.microgpt_impl


def test_the_specifications_are_those_of_pluggy():
    for name in plugin_sources.HOOKS:
        ours = getattr(hooks, name).microgpt_spec

        def theirs():
            pass

        pluggy.HookspecMarker("microgpt")(firstresult=ours["firstresult"])(theirs)
        assert ours == theirs.microgpt_spec
    assert set(plugin_sources.HOOKS) == {
        "microgpt_backend_names",
        "microgpt_backend",
        "microgpt_kernel",
        "microgpt_rules",
        "microgpt_op",
    }


def test_hookimpl_works_without_parentheses_and_with_pluggys_own_marker(make):
    marker = pluggy.HookimplMarker("microgpt")

    class Theirs:
        @marker
        def microgpt_kernel(self, backend, op):
            return abs

    r = make()
    r.register(Theirs())
    assert r.kernel("numpy", "tanh") is abs


def test_a_hook_may_take_fewer_arguments(make):
    class OnlyOp:
        @mg.hookimpl
        def microgpt_kernel(self, op):
            return abs if op == "tanh" else None

    class Default:
        @mg.hookimpl
        def microgpt_kernel(self, backend, op="?"):
            return min if op == "exp" else None

    r = make()
    r.register(OnlyOp())
    r.register(Default())
    assert r.kernel("numpy", "tanh") is abs
    assert r.kernel("numpy", "exp") is min
    assert r.server_of("numpy", "tanh") == "OnlyOp"


# ---- where plugins come from -----------------------------------------------------------------


def test_configured_by_entry_point_module_and_file(make, tmp_path):
    file = tmp_path / "some where" / "third.py"
    file.parent.mkdir()
    file.write_text(
        "from __future__ import annotations\nimport dataclasses\nimport microgpt as mg\n"
        "@dataclasses.dataclass\nclass A:\n    x: int = 1\n"  # looks itself up in sys.modules
        "@mg.hookimpl\ndef microgpt_kernel(backend, op):\n"
        "    return (lambda x: 3) if op == 'cos' else None\n"
    )
    r = make(
        {"first": kernel_plugin(1, "sin"), "second": kernel_plugin(2, "tan")},
        ["point", "second", str(file)],
        {"point": "first"},
    )
    assert r.kernel("numpy", "sin")(0) == 1
    assert r.kernel("numpy", "tan")(0) == 2
    assert r.kernel("numpy", "cos")(0) == 3
    assert r.plugin_names() == ["point", "second", "third"]
    assert r.server_of("numpy", "cos") == "third"
    assert r.broken == {}


def test_two_files_of_one_name_and_one_plugin_by_two_names(make, tmp_path):
    files = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        files.append(tmp_path / folder / "same.py")
        files[-1].write_text("import microgpt as mg\n" + textwrap.dedent(kernel_plugin(folder)))
    r = make({"mod": kernel_plugin("mod")}, [*map(str, files), "mod", "point"], {"point": "mod"})
    assert r.kernel("numpy", "tanh")(0) == "mod"
    assert r.plugin_names() == ["same", str(files[1]), "mod"]
    assert [s.kernel(0) for s in r.servers("numpy", "tanh")] == ["mod", "b", "a"]


def test_the_last_one_listed_wins(make):
    sources = {f"p{i}": kernel_plugin(i) for i in range(3)}
    r = make(sources, ["p2", "p0", "p1"])
    assert r.kernel("numpy", "tanh")(0) == 1
    assert [s.plugin for s in r.servers("numpy", "tanh")] == ["p1", "p0", "p2"]


BOX = """
    from tests_box import BoxPlugin
    plugin = BoxPlugin()
"""


def test_a_backend_that_is_loaded_later_does_not_undo_an_override(make, monkeypatch):
    # Its kernels are not marked trylast, as a stranger's might not be.
    module = types.ModuleType("tests_box")
    module.BoxPlugin = BoxPlugin
    monkeypatch.setitem(sys.modules, "tests_box", module)
    r = make(
        {"box_plugin": BOX, "override": kernel_plugin("mine", "exp", "box")},
        ["override"],
        {"box": "box_plugin:plugin", "override": "override"},
    )
    assert r.backend("box").name == "box"
    assert [s.plugin for s in r.servers("box", "exp")] == ["override", "box"]
    assert r.kernel("box", "exp")(0) == "mine"
    assert r.maker_of("box") == "box"


def test_a_backend_may_be_called_otherwise_than_its_entry_point(make, monkeypatch):
    module = types.ModuleType("tests_box")
    module.BoxPlugin = BoxPlugin
    monkeypatch.setitem(sys.modules, "tests_box", module)
    r = make({"box_plugin": BOX}, (), {"crate": "box_plugin:plugin"})
    assert r.backend("box").name == "box"
    with pytest.raises(BackendError, match="no backend 'crate'; installed: box"):
        r.backend("crate")


def test_only_the_selected_backend_is_imported(make):
    r = make(
        {"other": "raise RuntimeError('imported')", "npy": "from microgpt_numpy import *"},
        (),
        {"other": "other", "numpy": "microgpt_numpy"},
    )
    assert r.backend("numpy").name == "numpy"
    assert r.backend_names() == ["numpy", "other"]
    assert "other" not in sys.modules
    assert r.idle_plugins() == ["other"]


def test_asking_for_a_plugin_without_backend_does_not_put_it_into_use(make):
    r = make({"fast": kernel_plugin(1)}, (), {"fast": "fast", "numpy": "microgpt_numpy"})
    with pytest.raises(BackendError, match="no backend 'fast'; installed: numpy"):
        r.backend("fast")
    assert r.plugin_names() == []
    r.backend("numpy")
    assert r.kernel("numpy", "tanh") is np.tanh


# ---- broken plugins --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise ValueError('on purpose')", "ValueError: on purpose"),
        ("import no_such_module_at_all", "No module named 'no_such_module_at_all'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("def broken(:", "SyntaxError"),
        ("x = 1", "it implements no hook; required"),
        (kernel_plugin(1, mark=""), "microgpt_kernel must be marked with @mg.hookimpl"),
        (
            "@mg.hookimpl\ndef microgpt_kernels(backend, op):\n    pass",
            "unknown hook 'microgpt_kernels'",
        ),
        ("@mg.hookimpl\ndef microgpt_kernel(backend, opp):\n    pass", "opp"),
    ],
)
def test_a_broken_plugin_is_named_and_the_others_are_used(make, source, reason):
    r = make({"bad": source, "good": kernel_plugin(7)}, ["bad", "good"])
    with pytest.warns(PluginWarning, match="'bad'") as caught:
        assert r.kernel("numpy", "tanh")(0) == 7
    assert reason in str(caught[0].message)
    assert "the other plugins are used" in str(caught[0].message)
    assert set(r.broken) == {"bad"}
    assert r.plugin_names() == ["good"]


def test_warnings_as_errors_leave_the_registry_whole(make):
    r = make({"bad": "1/0", "good": kernel_plugin(7)}, ["bad", "good"])
    with pytest.raises(PluginWarning):
        r.kernel("numpy", "tanh")
    assert r.kernel("numpy", "tanh")(0) == 7


def test_a_plugin_that_does_not_exist(make):
    r = make({"good": kernel_plugin(7)})
    for name in ("nowhere", "./nowhere.py"):
        with pytest.raises(PluginError, match=r"installed plugin \(good\).*path of a \.py file"):
            r.load(name)


def test_a_broken_backend_says_why(make):
    r = make({"bad": "import no_such_module_at_all"})
    for _ in range(2):
        with pytest.raises(
            BackendError, match="backend 'bad' cannot be used: plugin 'bad'.*no_such"
        ):
            r.backend("bad")
    assert "no_such_module_at_all" in r.broken["bad"]
    assert r.installed_backends() == []


def test_a_missing_extra_is_reported_in_its_own_words(make):
    def needs_more():
        raise MissingExtraError("run: pip install 'microgpt-autograd[opencl]'")

    r = make()
    r.register(BoxPlugin(needs_more))
    with pytest.raises(MissingExtraError, match="^run: pip install"):
        r.backend("box")


def test_a_backend_of_no_name():
    with pytest.raises(BackendError) as caught:
        registry.backend("nope")
    text = str(caught.value)
    assert text.startswith("there is no backend 'nope'; installed: ")
    assert "numpy, " in text and "python" in text
    assert "pip install" not in text
    with pytest.raises(BackendError, match="did you mean 'numpy'"):
        registry.backend("numpi")


def test_a_backend_that_an_extra_brings(make):
    with pytest.raises(BackendError, match=r"pip install 'microgpt-autograd\[opencl\]'"):
        make({"good": kernel_plugin(7)}).backend("opencl")


def test_without_an_installation_the_mend_is_named(make):
    with pytest.raises(BackendError, match="pip install -e"):
        make().backend("numpy")


def test_two_packages_with_one_name(monkeypatch):
    points = [
        importlib.metadata.EntryPoint("p", value, "microgpt") for value in ("one", "one", "other")
    ]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: points)
    found, clashes = plugin_sources.installed()
    assert found["p"].value == "one"
    assert list(clashes) == ["p (other)"]
    assert "uninstall one of them" in clashes["p (other)"]


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
            r"must have array_types, devices\(\), take_over\(\), to_numpy\(\), dtype\(\)",
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


# ---- asking ----------------------------------------------------------------------------------


def test_plugins_are_asked_once_for_each_op_and_backend():
    class Counts:
        def __init__(self):
            self.asked = []

        @mg.hookimpl
        def microgpt_kernel(self, backend, op):
            self.asked.append((backend, op))

    with mg.plugged(Counts()) as counts:
        for data in (1.0, [1.0, 2.0], np.ones(3), np.float64(3)):
            mg.softmax(mg.exp(mg.tensor(data)).reshape(-1))
            mg.exp(mg.tensor(data, dtype="float64"))
        assert ("numpy", "exp") in counts.asked
        assert ("numpy", "softmax") in counts.asked
        assert len(counts.asked) == len(set(counts.asked))


def test_one_kernel_is_overridden_and_comes_back():
    x = mg.tensor([1.0, -2.0], requires_grad=True)
    before = mg.tanh(x)
    with mg.plugged(Kernels(tanh=lambda x: x * 0 + 0.5)):
        y = mg.tanh(x)
        assert y.tolist() == [0.5, 0.5]
        y.sum().backward()
        assert x.grad.tolist() == [0.75, 0.75]  # the rule is that of the op: 1 - y²
        with mg.plugged(Kernels(tanh=lambda x: x * 0 + 9.0)):
            assert mg.tanh(x).tolist() == [9.0, 9.0]
        assert mg.tanh(x).tolist() == [0.5, 0.5]
    assert mg.tanh(x).tolist() == before.tolist()


def cross_entropy_grad(target):
    x = mg.tensor([[1.0, 2.0, 0.5], [0.1, 0.2, 0.3]], requires_grad=True)
    loss = mg.cross_entropy(x, target)
    loss.backward()
    return loss.item(), x.grad.numpy()


@pytest.mark.parametrize("name", ["cross_entropy", "cross_entropy_vjp", "cross_entropy_saving"])
def test_a_plugin_that_replaces_one_of_three_kernels_is_not_bypassed(name):
    target = mg.tensor(np.array([1, 0]))
    loss, grad = cross_entropy_grad(target)
    calls = []

    def forward(x, target, *, ignore_index):
        calls.append(name)
        return x.dtype.type(7.0)

    def backward(g, y, x, target, *, needs, ignore_index):
        calls.append(name)
        assert y.shape == (), "the output is expected, not what another plugin saved"
        return np.full_like(x, 7.0), None

    with mg.plugged(Kernels(**{name: backward if name.endswith("vjp") else forward})):
        other_loss, other_grad = cross_entropy_grad(target)
    expected = {"cross_entropy": (7.0, grad), "cross_entropy_vjp": (loss, np.full((2, 3), 7.0))}
    # Alone, a kernel that saves has no gradient kernel of its own plugin, so it is not asked.
    assert calls == ([name] if name in expected else [])
    want_loss, want_grad = expected.get(name, (loss, grad))
    assert other_loss == pytest.approx(want_loss, abs=1e-12)
    np.testing.assert_allclose(other_grad, want_grad)
    again, grad_again = cross_entropy_grad(target)
    assert again == loss
    np.testing.assert_array_equal(grad_again, grad)


def test_a_block_that_fails_removes_its_plugin():
    with pytest.raises(ZeroDivisionError), mg.plugged(Kernels(tanh=lambda x: x)):
        1 / 0  # noqa: B018
    assert mg.tanh(mg.tensor(1.0)).item() == pytest.approx(np.tanh(1.0))


def test_entry_points_are_read_once(make, monkeypatch):
    r = make({"a": kernel_plugin(1)})
    count = []
    found = plugin_sources.installed()
    monkeypatch.setattr(plugin_sources, "installed", lambda: (count.append(1), found)[1])
    for op in ("tanh", "exp", "log"):
        r.kernel("numpy", op)
        r.backend_names()
    assert len(count) == 1


def test_threads_that_all_come_first(make, monkeypatch):
    module = types.ModuleType("tests_slow")
    module.imports = 0
    module.makes = []
    module.BoxPlugin = BoxPlugin
    module.BoxBackend = BoxBackend
    monkeypatch.setitem(sys.modules, "tests_slow", module)
    r = make(
        {
            "slow": """
                import time
                import tests_slow
                tests_slow.imports += 1
                time.sleep(0.05)
                @mg.hookimpl
                def microgpt_kernel(backend, op):
                    return abs if op == "tanh" else None
            """,
            "boxes": """
                import time
                import tests_slow
                def make():
                    time.sleep(0.05)
                    tests_slow.makes.append(1)
                    return tests_slow.BoxBackend()
                plugin = tests_slow.BoxPlugin(make)
            """,
        },
        ["slow"],
        {"slow": "slow", "box": "boxes:plugin"},
    )
    start = threading.Barrier(8)
    found = []

    def work():
        start.wait()
        found.append((r.kernel("numpy", "tanh"), r.backend("box")))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(found) == 8
    assert {kernel for kernel, _ in found} == {abs}
    assert len({id(backend) for _, backend in found}) == 1
    assert module.imports == 1
    assert len(module.makes) == 1


def test_no_kernel_outlives_its_plugin_among_threads():
    stop = threading.Event()
    x = np.float32([1, 2])

    def work():
        while not stop.is_set():
            TABLE["tanh"].kernels[np.ndarray](x)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 0.5
    try:
        while time.monotonic() < end:
            with mg.plugged(Kernels(tanh=lambda x: x)):
                pass
            assert TABLE["tanh"].kernels[np.ndarray] is np.tanh
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)


def test_a_thread_that_was_late_does_not_leave_a_kernel_that_is_gone(monkeypatch):
    plugin = Kernels(tanh=lambda x: x)
    registry.register(plugin)
    cache = TABLE["tanh"].kernels
    cache.clear()
    leaver = threading.Thread(target=registry.unregister, args=(plugin,))
    listening = registry.listening

    def between_asking_and_keeping():
        leaver.start()
        leaver.join(0.2)
        return listening()

    monkeypatch.setattr(registry, "listening", between_asking_and_keeping)
    cache[np.ndarray]
    leaver.join(10)
    monkeypatch.undo()
    assert cache[np.ndarray] is np.tanh


class Rules:
    """Gives gradient rules for some ops."""

    def __init__(self, **rules):
        self.rules = rules

    @mg.hookimpl
    def microgpt_rules(self, op):
        return self.rules.get(op)


def slopes(function, *values):
    inputs = [mg.tensor(v, dtype="float64", requires_grad=True) for v in values]
    function(*inputs).sum().backward()
    return [x.grad.tolist() for x in inputs]


def test_a_plugin_gives_an_op_other_gradient_rules():
    x = np.array([[1.0, 2.0], [3.0, 5.0]])
    right = {
        name: slopes(getattr(mg, name), *inputs)
        for name, inputs in {
            "tanh": (x,), "exp": (x,), "multiply": (x, x), "matmul": (x, x), "softmax": (x,)
        }.items()
    }  # fmt: skip
    wrong = Rules(
        tanh=(lambda g, y, x: g * x,),  # reads the input, which the op's own rule does not keep
        multiply=(lambda g, y, a, b: g * y, lambda g, y, a, b: g * a),
        softmax=lambda g, y, x, axis: (g * 0 + 7.0,),
        layer_norm=lambda g, y, x, weight, bias, eps: (g * 0 + 3.0, None, None),
    )
    with mg.plugged(wrong):
        assert slopes(mg.tanh, x) == [x.tolist()]
        assert slopes(mg.multiply, x, x + 1) == [(x * (x + 1)).tolist(), x.tolist()]
        assert slopes(mg.softmax, x) == [[[7.0, 7.0], [7.0, 7.0]]]
        assert slopes(mg.layer_norm, x) == [[[3.0, 3.0], [3.0, 3.0]]]
        assert slopes(mg.matmul, x, x) == right["matmul"]
        a = mg.Scalar(0.5)
        mg.tanh(a).backward()
        assert a.grad == 0.5
    for name in right:
        assert slopes(getattr(mg, name), *([x] * len(right[name]))) == right[name]
    a = mg.Scalar(0.5)
    mg.tanh(a).backward()
    assert a.grad == pytest.approx(1 - np.tanh(0.5) ** 2)


def test_rules_must_be_rules():
    with pytest.raises(PluginError, match="tuple of functions.*got 3"), mg.plugged(Rules(tanh=3)):
        pass
    with (
        pytest.raises(PluginError, match="1 gradient rules.*multiply.*required: 2"),
        mg.plugged(Rules(multiply=(lambda g, y, a, b: g,))),
    ):
        pass
    assert slopes(mg.tanh, 0.0) == [1.0]


# ---- telling ---------------------------------------------------------------------------------


class Listener:
    def __init__(self, act):
        self.act = act
        self.events = []

    @mg.hookimpl
    def microgpt_op(self, event):
        self.events.append(event)
        self.act(event)


def test_a_listener_may_use_ops_itself():
    with mg.plugged(Listener(lambda e: mg.sum(mg.tensor(e.output)))) as listener:
        mg.tanh(mg.tensor([1.0, 2.0]))
    assert [e.op for e in listener.events] == ["tanh"]


def test_a_listener_that_fails_is_named():
    with (
        mg.plugged(Listener(lambda e: 1 / 0)),
        pytest.raises(PluginError, match="plugin 'Listener' failed in microgpt_op.*tanh.*Zero"),
    ):
        mg.tanh(mg.tensor(1.0))


def test_a_listener_may_stop_the_computation():
    def refuse(event):
        raise mg.errors.AnomalyError("too large")

    with mg.plugged(Listener(refuse)), pytest.raises(mg.errors.AnomalyError, match="^too large"):
        mg.tanh(mg.tensor(1.0))


# ---- the process as a whole ------------------------------------------------------------------


def test_settings_of_the_environment_reach_a_new_process(tmp_path):
    plugin = tmp_path / "loud.py"
    plugin.write_text(
        "import microgpt as mg\n@mg.hookimpl\ndef microgpt_kernel(backend, op):\n"
        "    return (lambda x: x + 40) if (backend, op) == ('numpy', 'abs') else None\n"
    )
    code = (
        "import microgpt as mg, sys, warnings\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        "    print(mg.abs(mg.tensor(2.0)).item())\n"
        "print([w.category.__name__ for w in caught], 'nowhere_at_all' in str(caught[0].message))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**plugin_free_environment(), "MICROGPT_PLUGINS": f"nowhere_at_all,{plugin}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["42.0", "['PluginWarning'] True"]


def plugin_free_environment():
    import os

    return {k: v for k, v in os.environ.items() if not k.startswith("MICROGPT_")}
