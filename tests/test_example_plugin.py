import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parent.parent / "examples" / "fast_tanh"
MODULE = FOLDER / "microgpt_fast_tanh.py"

USE = """
import numpy as np
import microgpt as mg
from microgpt.plugins import registry
x = mg.tensor(np.linspace(-3, 3, 2_100_000), requires_grad=True)
y = mg.tanh(x)
assert np.array_equal(y.numpy(), np.tanh(x.numpy()))
y.sum().backward()
assert np.allclose(x.grad.numpy(), 1 - np.tanh(x.numpy()) ** 2)
assert mg.tanh(mg.tensor(0.5)).item() == np.tanh(np.float32(0.5))
print(registry.server_of("numpy", "tanh"), registry.server_of("numpy", "exp"))
"""


def run(*command, cwd, path=(), **settings):
    env = {k: v for k, v in os.environ.items() if not k.startswith("MICROGPT_")}
    env["PYTHONPATH"] = os.pathsep.join(map(str, path))
    return subprocess.run(
        [sys.executable, *command],
        env={**env, **settings},
        cwd=cwd,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    ).stdout


@pytest.fixture
def installed(tmp_path):
    """A folder with what pip would put into site-packages."""
    with open(FOLDER / "pyproject.toml", "rb") as file:
        project = tomllib.load(file)["project"]
    site = tmp_path / "site"
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    points = project["entry-points"]["microgpt"]
    lines = [f"{name} = {value}" for name, value in points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[microgpt]", *lines]))
    shutil.copy(MODULE, site)
    return site


def overridden(text):
    """The lines below "Overridden kernels"."""
    return [line.split() for line in text.partition("Overridden kernels\n")[2].splitlines()[1:]]


def test_it_is_short():
    lines = MODULE.read_text(encoding="utf-8").splitlines()
    code = [line for line in lines if line.strip() and not line.lstrip().startswith(('"""', "#"))]
    assert len([line for line in code if "import" not in line]) <= 11


def test_without_installing_it(tmp_path):
    text = run("-c", USE, cwd=tmp_path, MICROGPT_PLUGINS=str(MODULE))
    assert text.split() == ["microgpt_fast_tanh", "numpy"]
    listing = run("-m", "microgpt", "backends", cwd=FOLDER, MICROGPT_PLUGINS=MODULE.name)
    assert overridden(listing) == [["numpy", "tanh", "microgpt_fast_tanh", "numpy"]]


def test_by_a_settings_file(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "microgpt.toml").write_text("plugins = ['plugin/fast.py']")
    (tmp_path / "plugin").mkdir()
    shutil.copy(MODULE, tmp_path / "plugin" / "fast.py")
    assert run("-c", USE, cwd=tmp_path / "inner").split() == ["fast", "numpy"]


def test_installed(tmp_path, installed):
    place = {"cwd": tmp_path, "path": [installed], "MICROGPT_PLUGINS": "fast_tanh"}
    assert run("-c", USE, **place).split() == ["fast_tanh", "numpy"]
    listing = run("-m", "microgpt", "backends", **place)
    assert overridden(listing) == [["numpy", "tanh", "fast_tanh", "numpy"]]


def test_installed_and_not_listed_it_is_not_used(tmp_path, installed):
    assert run("-c", USE, cwd=tmp_path, path=[installed]).split() == ["numpy", "numpy"]
    listing = run("-m", "microgpt", "backends", cwd=tmp_path, path=[installed])
    assert "Overridden" not in listing
    assert "not in use: fast_tanh" in listing


def test_the_wheel(tmp_path):
    pytest.importorskip("hatchling")
    run("-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path), cwd=FOLDER)
    import zipfile

    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "microgpt_fast_tanh.py" in names
    points = next(n for n in names if n.endswith("entry_points.txt"))
    assert "fast_tanh = microgpt_fast_tanh" in zipfile.ZipFile(wheel).read(points).decode()


def test_kernel_on_other_inputs(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    from microgpt_fast_tanh import microgpt_kernel

    tanh = microgpt_kernel("numpy", "tanh")
    big = np.linspace(-2, 2, 4_200_000, dtype="float32").reshape(2000, 2100)
    for x in (big, big.T, big[:, ::2], big[:0], np.float32(0.25), np.arange(5)):
        assert np.array_equal(tanh(x), np.tanh(x))
        assert tanh(x).dtype == np.tanh(x).dtype
    assert microgpt_kernel("numpy", "exp") is None
    assert microgpt_kernel("python", "tanh") is None
