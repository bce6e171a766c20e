"""Whom the registry asks for kernels and rules, and whom it tells what happens."""

import subprocess
import sys
import threading
import time
import types

import numpy as np
import pytest

import microgpt as mg
from microgpt import plugin_sources
from microgpt.errors import PluginError
from microgpt.ops import TABLE
from microgpt.plugins import registry
from tests.boxes import BoxBackend, BoxPlugin, Kernels, kernel_plugin

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
