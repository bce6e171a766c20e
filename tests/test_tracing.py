import threading

import numpy as np
import pytest

import microgpt as mg
from microgpt.ops import TABLE
from microgpt.plugins import registry
from microgpt.tracing import GraphRecorder, Profiler, size_in_bytes


def network():
    x = mg.tensor(np.ones((4, 3)), dtype="float32")
    w = mg.tensor(np.ones((2, 3)), dtype="float32", requires_grad=True)
    return mg.sum(mg.softmax(mg.tanh(mg.linear(x, w))))


# ---- costs nothing ---------------------------------------------------------------------------


def test_while_nobody_listens_the_ops_hold_the_plain_kernels():
    from microgpt_numpy import KERNELS
    from microgpt_python import KERNELS as PYTHON_KERNELS

    with mg.tracing.profile(), mg.tracing.record():
        network().backward()
        mg.Scalar(1.0).tanh()
        assert TABLE["tanh"].kernels[np.ndarray] is not KERNELS["tanh"]
    assert not registry.listening()
    network().backward()
    mg.Scalar(1.0).tanh()
    for op in TABLE.values():
        if op.name in KERNELS and op.body is None:
            assert op.kernels[np.ndarray] is KERNELS[op.name]
        if op.name in PYTHON_KERNELS and op.body is None:
            assert op.kernels[float] is PYTHON_KERNELS[op.name]
    assert TABLE["softmax"].fast[np.ndarray] is KERNELS["softmax"]
    assert TABLE["softmax"].fast_rules[np.ndarray] is KERNELS["softmax_vjp"]


def test_another_plugin_that_does_not_listen_leaves_the_kernels_plain():
    from microgpt_numpy import KERNELS

    class Silent:
        @mg.hookimpl
        def microgpt_kernel(self, backend, op):
            return None

    with mg.plugged(Silent()):
        mg.tanh(mg.tensor(1.0))
        assert TABLE["tanh"].kernels[np.float32] is KERNELS["tanh"]


def test_results_are_the_same_while_somebody_listens():
    plain = network()
    with mg.tracing.profile(), mg.tracing.record(kernels=True):
        traced = network()
    assert traced.item() == plain.item()


# ---- profiler --------------------------------------------------------------------------------


def rows_by_op(profiler):
    return {row.op: row for row in profiler.rows()}


def test_calls_forward_and_backward():
    with mg.tracing.profile() as p:
        for _ in range(3):
            network().backward()
        mg.exp(mg.tensor(1.0))
    rows = rows_by_op(p)
    assert (rows["linear"].forward_calls, rows["linear"].backward_calls) == (3, 3)
    assert (rows["tanh"].forward_calls, rows["tanh"].backward_calls) == (3, 3)
    assert (rows["exp"].forward_calls, rows["exp"].backward_calls) == (1, 0)
    assert {row.backend for row in p.rows()} == {"numpy"}
    assert not any(op.endswith("_vjp") for op in rows), "a kernel within a rule was counted twice"


def test_the_time_is_that_of_the_op_and_within_the_block():
    import time

    class Slow:
        @mg.hookimpl
        def microgpt_kernel(self, backend, op):
            if (backend, op) == ("numpy", "tanh"):
                return lambda x: (time.sleep(0.02), np.tanh(x))[1]
            if (backend, op) == ("numpy", "broadcast_to"):  # runs in the rule of sum
                return lambda x, shape: (time.sleep(0.03), np.broadcast_to(x, shape))[1]

    x = mg.ones(3, requires_grad=True)
    with mg.plugged(Slow()), mg.tracing.profile() as p:
        mg.sum(mg.tanh(x)).backward()
    rows = rows_by_op(p)
    assert rows["tanh"].forward_seconds >= 0.02
    assert rows["sum"].backward_seconds >= 0.03
    assert "broadcast_to" not in rows
    assert 0.05 <= p.seconds <= p.wall_seconds  # counted twice, it would be more
    assert p.rows()[0].op == "sum"


def test_bytes_are_those_of_inputs_and_outputs():
    a, b = mg.ones((2, 3)), mg.ones((2, 3))
    with mg.tracing.profile() as p:
        mg.add(a, b)
        mg.add(a.astype("float64"), b.astype("float64"))
    assert rows_by_op(p)["add"].bytes == 3 * 24 + 3 * 48
    assert size_in_bytes(None) == 0
    assert size_in_bytes((1.0, np.zeros(3, "float32"))) == 20


def test_a_backend_that_works_in_the_background_is_waited_for(monkeypatch):
    import time

    numpy = registry.backend("numpy")
    monkeypatch.setattr(type(numpy), "synchronize", lambda self: time.sleep(0.01))
    with mg.tracing.profile() as p:
        mg.tanh(mg.tensor(1.0))
    assert rows_by_op(p)["tanh"].forward_seconds >= 0.01


def test_table():
    with mg.tracing.profile() as p:
        network().backward()
    lines = p.table().splitlines()
    assert len(lines) == 3 + len(p.rows())
    assert all(len(line) <= 100 for line in lines)
    shares = [float(line.split("%")[0].split()[-1]) for line in lines[2:-1]]
    assert sum(shares) == pytest.approx(100, abs=0.5)
    assert lines[-1].startswith("kernels and gradient rules ") and "in the block" in lines[-1]
    assert str(p) == p.table()
    short = p.table(limit=1).splitlines()
    assert short[2] == lines[2] and short[3].startswith(f"… {len(p.rows()) - 1} more ops")
    assert "kernels and gradient rules 0.000 ms" in Profiler().table()


def test_scalars_are_counted_for_the_python_backend():
    with mg.tracing.profile() as p:
        mg.Scalar(2.0).tanh()
    assert [(r.op, r.backend, r.forward_calls, r.bytes) for r in p.rows()] == [
        ("tanh", "python", 1, 16)
    ]


def test_blocks_nest_and_end_after_an_error():
    x = mg.tensor(1.0)
    with pytest.raises(ZeroDivisionError), mg.tracing.profile() as outer:
        mg.exp(x)
        with mg.tracing.profile() as inner:
            mg.tanh(x)
        mg.exp(x)
        1 / 0  # noqa: B018
    mg.tanh(x)
    assert {r.op: r.forward_calls for r in outer.rows()} == {"exp": 2, "tanh": 1}
    assert {r.op: r.forward_calls for r in inner.rows()} == {"tanh": 1}
    assert outer.wall_seconds > inner.wall_seconds > 0


def test_threads_are_counted_together():
    x = mg.ones(3)

    def work():
        for _ in range(50):
            mg.tanh(x)

    with mg.tracing.profile() as p:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
    assert rows_by_op(p)["tanh"].forward_calls == 200


# ---- graph recorder --------------------------------------------------------------------------


def test_records_are_in_order_with_shapes_and_sources():
    x, w = mg.ones((4, 3)), mg.ones((3, 2))
    with mg.tracing.record() as graph:
        h = x @ w
        mg.sum(mg.tanh(h) * 2.0 + h)
    assert [r.op for r in graph] == ["matmul", "tanh", "multiply", "add", "sum"]
    assert [r.number for r in graph] == list(range(5))
    assert [r.sources for r in graph] == [(None, None), (0,), (1, None), (2, 0), (3,)]
    assert graph[0].inputs == ((4, 3), (3, 2)) and graph[0].outputs == ((4, 2),)
    assert graph[2].inputs == ((4, 2), 2.0)
    assert graph[4].outputs == ((),)
    assert {(r.phase, r.backend, r.dtype) for r in graph} == {("forward", "numpy", "float32")}
    assert len(graph) == 5 and all(r.seconds >= 0 for r in graph)


def test_the_backward_pass_is_recorded_rule_by_rule():
    x = mg.ones((4, 3), requires_grad=True)
    with mg.tracing.record() as graph:
        mg.sum(mg.tanh(x)).backward()
    assert [(r.op, r.phase) for r in graph] == [
        ("tanh", "forward"),
        ("sum", "forward"),
        ("ones_like", "forward"),
        ("sum", "backward"),
        ("tanh", "backward"),
    ]
    assert graph[4].sources[0] == 3  # its gradient came from the rule of sum
    assert graph[4].outputs == ((4, 3),)


def test_kernels_within_rules_on_demand():
    x = mg.ones((4, 3), requires_grad=True)
    with mg.tracing.record(kernels=True) as graph:
        mg.sum(x).backward()
    inner = [r for r in graph if r.within]
    assert [(r.op, r.within) for r in inner] == [("broadcast_to", "sum")]
    assert "    broadcast_to" in graph.table()


def test_arrays_are_not_kept_and_ids_used_again_do_not_confuse():
    recorder = GraphRecorder()
    x = mg.ones(1000)
    with mg.plugged(recorder):
        for _ in range(20):
            mg.tanh(x)  # the result goes at once, its memory and id come again
        y = mg.tensor(np.ones(1000, dtype="float32"))
        mg.exp(y)
    assert recorder[-1].sources == (None,)


def test_table_of_records():
    x = mg.ones((4, 3), requires_grad=True)
    with mg.tracing.record() as graph:
        mg.sum(x * 2.0).backward()
    lines = graph.table().splitlines()
    assert lines[0].split() == ["#", "op", "inputs", "→", "outputs"]
    assert lines[1].split() == ["0", "multiply", "4×3,", "2", "→", "4×3", "float32"]
    assert lines[4].split()[:3] == ["3", "sum", "←"]
    assert str(graph) == graph.table()


def test_profiler_and_recorder_may_be_part_of_another_plugin():
    class Both:
        def __init__(self):
            self.parts = (Profiler(), GraphRecorder())

        @mg.hookimpl
        def microgpt_op(self, event):
            for part in self.parts:
                part.microgpt_op(event)

    with mg.plugged(Both()) as both:
        mg.tanh(mg.tensor(1.0))
    assert both.parts[0].rows()[0].op == both.parts[1][0].op == "tanh"
