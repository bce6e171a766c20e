"""Settings: who wins, what is refused, and who does not see whose `with`."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from microgpt import config
from microgpt.errors import ConfigError


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty current folder with an empty folder above it, and a clean environment."""
    for name in list(os.environ):
        if name.startswith("MICROGPT_"):
            monkeypatch.delenv(name)
    here = tmp_path / "project" / "sub"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    return here


# ---- who wins --------------------------------------------------------------------------------

# key: (argument, with block, environment text, toml text) and the value of each after checking
VALUES = {
    "backend": (("a", "b", "c", '"d"'), ("a", "b", "c", "d"), "numpy"),
    "device": (("a", "b", "c", '"d"'), ("a", "b", "c", "d"), None),
    "dtype": (
        ("float64", "float32", "float64", '"float32"'),
        ("float64", "float32", "float64", "float32"),
        "float32",
    ),
    "seed": ((1, 2, "3", "4"), (1, 2, 3, 4), None),
    "data": (("a", "b", "c", '"d"'), (Path("a"), Path("b"), Path("c"), Path("d")), None),
    "debug": ((True, False, "1", "false"), (True, False, True, False), False),
}
SOURCES = ("argument", "with block", "environment MICROGPT_{}", "file ./microgpt.toml")


@pytest.mark.parametrize("key", VALUES)
@pytest.mark.parametrize("given", list(itertools.product((True, False), repeat=4)))
def test_the_strongest_layer_wins(key, given, folder, monkeypatch):
    raw, checked, default = VALUES[key]
    argument, block, env, file = given
    if file:
        (folder / "microgpt.toml").write_text(f"{key} = {raw[3]}\n")
    if env:
        monkeypatch.setenv(f"MICROGPT_{key.upper()}", raw[2])
    with config.configure(**({key: raw[1]} if block else {})):
        expected = next((v for v, g in zip(checked, given, strict=True) if g), default)
        assert config.resolve(key, raw[0] if argument else None) == expected
        if not argument:
            source = next((s for s, g in zip(SOURCES, given, strict=True) if g), "default")
            assert config.get(key) == expected
            assert config.effective()[key] == (expected, source.format(key.upper()))


def test_defaults():
    assert {key: tuple(setting) for key, setting in config.effective().items()} == {
        "backend": ("numpy", "default"),
        "device": (None, "default"),
        "dtype": ("float32", "default"),
        "seed": (None, "default"),
        "data": (None, "default"),
        "plugins": ((), "default"),
        "debug": (False, "default"),
    }


def test_plugins_come_from_environment_and_file(folder, monkeypatch):
    (folder.parent / "microgpt.toml").write_text('plugins = ["one", "mine/two.py"]')
    assert config.get("plugins") == ("one", os.path.join("..", "mine/two.py"))
    monkeypatch.setenv("MICROGPT_PLUGINS", "three, four,")
    assert config.get("plugins") == ("three", "four")
    with pytest.raises(ConfigError, match="MICROGPT_PLUGINS or a file.*mg.plugged"):
        config.configure(plugins=("five",))


def test_an_empty_variable_counts_as_unset(monkeypatch):
    monkeypatch.setenv("MICROGPT_SEED", "")
    assert config.get("seed") is None


def test_none_in_a_block_hides_the_environment(monkeypatch):
    monkeypatch.setenv("MICROGPT_SEED", "3")
    with config.configure(seed=None):
        assert config.effective()["seed"] == (None, "with block")


def test_values_arrive_in_their_own_type(monkeypatch):
    assert config.resolve("dtype", np.float64) == "float64"
    assert config.resolve("dtype", np.dtype("float32")) == "float32"
    seed = config.resolve("seed", np.int64(7))
    assert (seed, type(seed)) == (7, int)
    assert config.resolve("data", "~") == Path.home()


# ---- devices ---------------------------------------------------------------------------------


def test_a_device_belongs_to_the_backend_it_was_set_with(folder, monkeypatch):
    (folder / "microgpt.toml").write_text('backend = "opencl"\ndevice = "gpu"\n')
    assert config.place() == ("opencl", "gpu")
    assert config.place("numpy") == ("numpy", None)
    with config.use_backend("numpy"):
        assert config.get("device") is None
        assert config.place("opencl") == ("opencl", "gpu")
    monkeypatch.setenv("MICROGPT_BACKEND", "numpy")
    assert config.place() == ("numpy", None)
    with config.use_backend("opencl"):
        assert config.effective()["device"] == ("gpu", "file ./microgpt.toml")


def test_a_device_set_alone_holds_for_any_backend(monkeypatch):
    monkeypatch.setenv("MICROGPT_DEVICE", "gpu")
    with config.use_backend("opencl"):
        assert config.place() == ("opencl", "gpu")


def test_an_inner_block_with_another_backend_drops_the_device():
    with config.use_backend("opencl", device="gpu"):
        assert config.place() == ("opencl", "gpu")
        with config.use_backend("opencl"):
            assert config.place() == ("opencl", "gpu")
        with config.use_backend("numpy"):
            assert config.place() == ("numpy", None)
            assert config.place("cupy", "1") == ("cupy", "1")
        assert config.place() == ("opencl", "gpu")


# ---- blocks ----------------------------------------------------------------------------------


def test_blocks_nest_and_restore_after_an_exception():
    with config.configure(seed=1, dtype="float64"):
        with pytest.raises(KeyError), config.configure(seed=2):
            assert (config.get("seed"), config.get("dtype")) == (2, "float64")
            raise KeyError
        assert config.get("seed") == 1
    assert (config.get("seed"), config.get("dtype")) == (None, "float32")


def test_one_block_may_be_entered_twice():
    block = config.configure(seed=1)
    with block, config.configure(seed=2):
        with block:
            assert config.get("seed") == 1
        assert config.get("seed") == 2
    assert config.get("seed") is None


def test_decorated_functions():
    @config.use_backend("python")
    @config.configure(seed=5)
    def recurse(n: int) -> list:
        """Docstring."""
        return [(config.get("backend"), config.get("seed"))] + (recurse(n - 1) if n else [])

    @config.configure(seed=6)
    async def wait() -> int | None:
        await asyncio.sleep(0)
        return config.get("seed")

    assert recurse(2) == [("python", 5)] * 3
    assert recurse.__name__ == "recurse"
    assert recurse.__doc__ == "Docstring."
    assert asyncio.run(wait()) == 6
    assert config.get("seed") is None
    with pytest.raises(ConfigError, match="generator function"):

        @config.configure(seed=7)
        def produce():
            yield 1


def test_threads_do_not_see_each_other():
    barrier = threading.Barrier(3)
    seen: dict[int, list] = {}

    def work(n: int) -> None:
        before = config.get("seed")
        with config.configure(seed=n):
            barrier.wait(10)
            seen[n] = [before, config.get("seed")]
            barrier.wait(10)

    with config.configure(seed=100):
        threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert config.get("seed") == 100
    assert seen == {n: [None, n] for n in range(3)}


def test_async_tasks_do_not_see_each_other():
    async def work(n: int) -> tuple:
        with config.configure(seed=n):
            await asyncio.sleep(0.01 * (3 - n))
            return config.get("seed"), config.get("dtype")

    async def main() -> list:
        with config.configure(dtype="float64"):
            return await asyncio.gather(*(work(n) for n in range(3)))

    assert asyncio.run(main()) == [(n, "float64") for n in range(3)]
    assert config.get("seed") is None
