"""Plugins: how they are marked, where they come from, and what a broken one does."""

import importlib.metadata
import sys
import textwrap
import types

import numpy as np
import pluggy
import pytest

import microgpt as mg
from microgpt import hooks, plugin_sources
from microgpt.errors import BackendError, MissingExtraError, PluginError
from microgpt.plugins import PluginWarning, registry
from tests.boxes import BoxPlugin, kernel_plugin

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
