"""The kernels for graphics cards in Oclgrind, a simulator that reports data races between
work-items, and reads and writes outside of arrays (Price & McIntosh-Smith, IWOCL 2015)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.opencl import needed, run

pytest.importorskip("pyopencl", reason="pyopencl is not installed")
needed()


def _driver() -> Path | None:
    """The simulator as a driver, if it is installed."""
    command = shutil.which("oclgrind")
    if command is None:
        return None
    return next(Path(command).resolve().parent.parent.glob("lib*/**/liboclgrind-rt-icd.so"), None)


DRIVER = _driver()
pytestmark = pytest.mark.skipif(DRIVER is None, reason="Oclgrind is not installed")

HEAD = """
    import numpy as np
    import microgpt as mg
    from microgpt import ops
    from microgpt_opencl import device, platforms
    from microgpt_opencl.transfers import from_numpy

    NAME, FOUND = next(
        (n, d) for n, d in platforms.found().items() if d.name.startswith("Oclgrind")
    )
    as_told = device.Device.__init__
    device.Device.__init__ = lambda self, name, found, cpu=None: as_told(self, name, found, False)
    RNG = np.random.default_rng(0)

    def drawn(*shape):
        return RNG.uniform(0.1, 1, shape).astype("f")

    def same(function, *arrays):
        "The result and its gradients are those of NumPy."
        found = []
        for where in ({"backend": "numpy"}, {"backend": "opencl", "device": NAME}):
            inputs = [mg.tensor(x, requires_grad=x.dtype == np.float32, **where) for x in arrays]
            with mg.use_backend("opencl", NAME) if "device" in where else mg.use_backend("numpy"):
                y = function(*inputs)
                mg.sum(y * y).backward()
                found.append([y, *[x.grad for x in inputs if x.requires_grad]])
        for ours, theirs in zip(*found, strict=True):
            np.testing.assert_allclose(theirs.numpy(), ours.numpy(), rtol=1e-3, atol=1e-4)
"""

WORK = {
    "products": """
        from microgpt_opencl import linalg, tuning
        same(lambda x, w, b: ops.linear(x, w, b), drawn(5, 37), drawn(18, 37), drawn(18))
        same(lambda x, y: x @ y, drawn(2, 3, 17, 9), drawn(3, 9, 20))
        d = device.Device(NAME, FOUND)
        x, y = drawn(33, 9), drawn(9, 36)
        for tile in tuning.CANDIDATES:
            if tuning.fits(tile, 4, d):
                d.programs.recipes.clear()
                tuning.tile = lambda *_: tile
                product = linalg.matmul(from_numpy(d, x), from_numpy(d, y))
                np.testing.assert_allclose(np.asarray(product), x @ y, rtol=1e-4)
    """,
    "attention": """
        qkv = drawn(2, 19, 3 * 2 * 5)
        same(lambda x: ops.self_attention(x, 2, causal=True), qkv)
        mask = RNG.random((1, 1, 7, 70)) < 0.7
        attend = lambda q, k, v: ops.scaled_dot_product_attention(q, k, v, mg.tensor(mask))
        same(attend, drawn(1, 2, 7, 4), drawn(1, 2, 70, 4), drawn(1, 2, 70, 3))
    """,
    "rows": """
        same(lambda x: ops.softmax(x, axis=-1), drawn(3, 300))
        same(lambda x: ops.log_softmax(x, axis=0), drawn(300, 3))
        same(lambda x, w, b: ops.layer_norm(x, w, b), drawn(5, 70), drawn(70), drawn(70))
        same(lambda x, w: ops.rms_norm(x, w), drawn(5, 70), drawn(70))
        same(lambda x: ops.cross_entropy(x, mg.tensor([1, 2, 299])), drawn(3, 300))
    """,
    "reductions": """
        for axis in (None, 0, 1, 2, (0, 2)):
            for name in ("sum", "max", "prod", "var", "logsumexp"):
                same(lambda x: getattr(ops, name)(x, axis=axis) + 0.0, drawn(3, 5, 40)
                     if name != "prod" else drawn(2, 3, 4))
        same(lambda x: ops.sum(x), drawn(20_000))
        same(lambda x: ops.cumulative_sum(x, axis=1), drawn(3, 70))
    """,
    "indexing": """
        ids = RNG.integers(0, 7, (4, 9))
        same(lambda w: ops.embedding(mg.tensor(ids), w), drawn(7, 6))
        many = RNG.integers(0, 3, 300)  # so many are sorted before they are added
        same(lambda w: ops.embedding(mg.tensor(many), w), drawn(3, 2))
        try:
            rows = mg.tensor(drawn(7, 6), backend="opencl", device=NAME)
            ops.take(rows, np.array([0, 1, 2, 9]), axis=0).numpy()
            raise AssertionError("index 9 was taken")
        except mg.errors.ShapeError:
            pass
        same(lambda x: ops.sort(x, axis=1), drawn(3, 33))
        same(lambda x: ops.topk(x, 4)[0], drawn(3, 33))
        same(lambda x: x[:, [0, 2, 2]] + 0.0, drawn(5, 4))
        same(lambda x, y: ops.concat([x, y], axis=1) * 1.0, drawn(2, 3), drawn(2, 4))
    """,
    "images": """
        same(lambda x, w, b: ops.conv2d(x, w, b, padding=1), drawn(2, 3, 9, 8), drawn(4, 3, 3, 3),
             drawn(4))
        same(lambda x, w: ops.conv2d(x, w, stride=2), drawn(2, 3, 9, 8), drawn(4, 3, 3, 3))
        same(lambda x: ops.max_pool2d(x, 2), drawn(2, 3, 8, 8))
        same(lambda x: ops.avg_pool2d(x, 2), drawn(2, 3, 8, 8))
    """,
    "training": """
        losses = []
        for where in (("numpy",), ("opencl", NAME)):
            with mg.use_backend(*where):
                model = mg.models.CharLSTM(8, hidden_size=5, generator=mg.generator(0))
                ids = np.arange(8).reshape(2, 4)
                for make in (mg.optim.AdamW, mg.optim.SGD):
                    optimizer = make(model.parameters(), lr=0.01)
                    logits, _ = model(mg.tensor(ids[:, :-1]))
                    loss = mg.cross_entropy(
                        logits.reshape(-1, 8), mg.tensor(ids[:, 1:].reshape(-1))
                    )
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    losses.append(loss.item())
                losses.append(float(mg.sum(model.head.weight).item()))
        np.testing.assert_allclose(losses[:3], losses[3:], rtol=1e-4, atol=1e-5)
    """,
}


def _reported(code: str, folder: Path) -> str:
    """What the simulator has to say about a program."""
    (folder / "simulator.icd").write_text(f"{DRIVER}\n")
    log = folder / "log"
    done = run(
        HEAD + code,
        OCL_ICD_VENDORS=str(folder),
        OCLGRIND_DATA_RACES="1",
        OCLGRIND_LOG=str(log),
        # It knows what compilers write without optimizing, and not all that they write with it.
        OCLGRIND_BUILD_OPTIONS="-cl-opt-disable",
        MICROGPT_OPENCL_CACHE="",
    )
    assert done.returncode == 0, done.stderr
    return log.read_text()


@pytest.mark.parametrize("name", WORK)
def test_no_work_item_meets_another(name: str, tmp_path: Path) -> None:
    code = "\n".join(line[4:] for line in WORK[name].splitlines())
    assert _reported(code, tmp_path) == ""


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("x[(i + 1) % get_global_size(0)] += x[i];", "data race"),
        ("x[i + 1000] = 1;", "Invalid write"),
    ],
)
def test_what_is_wrong_is_reported(line: str, said: str, tmp_path: Path) -> None:
    code = f"""
    d = device.Device(NAME, FOUND)
    source = "kernel void bad(global float *x) {{ const int i = get_global_id(0); {line} }}"
    kernel = d.programs.of_source(source, "bad", "bad")
    d.submit(kernel, (8,), (8,), [d.allocate(64).buffer])
    d.finish()
    """
    assert said in _reported(code, tmp_path)
