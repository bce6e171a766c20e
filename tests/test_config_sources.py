"""Settings files and variables: which file is found, when it is read again, what is refused."""

from __future__ import annotations

import os

import numpy as np
import pytest

from microgpt import config, config_sources
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


# ---- files -----------------------------------------------------------------------------------


def test_pyproject_table(folder):
    (folder / "pyproject.toml").write_text("[tool.microgpt]\nseed = 9\n")
    assert config.effective()["seed"] == (9, "file ./pyproject.toml [tool.microgpt]")
    (folder / "microgpt.toml").write_text("seed = 10\n")
    assert config.effective()["seed"] == (10, "file ./microgpt.toml")


def test_the_nearest_parent_wins_and_files_without_settings_are_passed(folder):
    (folder.parent.parent / "microgpt.toml").write_text("seed = 1\ndtype = 'float64'\n")
    (folder.parent / "pyproject.toml").write_text("[tool.microgpt]\nseed = 2\n")
    (folder / "pyproject.toml").write_text("[tool.other]\nfor = 'microgpt'\n")
    assert config.effective()["seed"] == (2, "file ../pyproject.toml [tool.microgpt]")
    assert config.get("dtype") == "float32"  # one file decides; files do not merge


def test_an_empty_table_stops_the_search(folder):
    (folder.parent / "microgpt.toml").write_text("seed = 1\n")
    (folder / "pyproject.toml").write_text("[tool.microgpt]\n")
    assert config.get("seed") is None


def test_changes_of_file_and_folder_are_noticed(folder, monkeypatch):
    file = folder / "microgpt.toml"
    for seed in range(10, 40):  # as fast as possible: same size, perhaps the same tick of the clock
        file.write_text(f"seed = {seed}\n")
        assert config.get("seed") == seed
    monkeypatch.chdir(folder.parent)
    assert config.get("seed") is None
    monkeypatch.chdir(folder)
    assert config.get("seed") == 39
    file.unlink()
    assert config.get("seed") is None


def test_settled_files_are_read_once(folder, monkeypatch):
    (folder / "microgpt.toml").write_text("seed = 1\n")
    for path in (folder / "microgpt.toml", folder):
        os.utime(path, (1e9, 1e9))
    config.get("seed")
    monkeypatch.setattr(config_sources, "_search", lambda: pytest.fail("searched again"))
    assert config.get("seed") == 1
    os.utime(folder, (2e9, 2e9))
    with pytest.raises(pytest.fail.Exception, match="searched again"):
        config.get("seed")


def test_paths_in_a_file_are_relative_to_the_file(folder):
    (folder.parent / "microgpt.toml").write_text("data = 'numbers'\n")
    assert config.resolve("data").resolve() == (folder.parent / "numbers").resolve()


def test_windows_editors_may_write_a_byte_order_mark(folder):
    (folder / "microgpt.toml").write_bytes(b"\xef\xbb\xbfseed = 1\r\n")
    assert config.get("seed") == 1


# ---- what is refused -------------------------------------------------------------------------


def test_unknown_keys_name_their_source_and_list_the_valid_ones(folder, monkeypatch):
    every = "backend, device, dtype, seed, data, plugins, debug"
    for call in (config.get, config.resolve, lambda key: config.resolve(key, 1)):
        with pytest.raises(ConfigError, match=f"'sed'; did you mean 'seed'\\? valid: {every}"):
            call("sed")
    with pytest.raises(ConfigError, match=f"configure\\(\\).*'sed'.*{every}"):
        config.configure(sed=1)
    (folder / "microgpt.toml").write_text("sed = 1\n")
    with pytest.raises(ConfigError, match=f"file ./microgpt.toml: .*'sed'.*{every}"):
        config.get("seed")
    (folder / "microgpt.toml").unlink()
    monkeypatch.setenv("MICROGPT_BACKENDS", "numpy")
    with pytest.raises(ConfigError, match="'MICROGPT_BACKENDS'; did you mean 'MICROGPT_BACKEND'"):
        config.get("seed")
    with pytest.raises(ConfigError, match="MICROGPT_DEBUG"):
        config.effective()


BAD = [
    ("backend", "", " ", "1", "name of a backend"),
    ("device", 1, " ", "false", "name of a device"),
    ("dtype", "float16", "int32", '"double"', "'float32' or 'float64'"),
    ("dtype", np.int32, "float", "32", "'float32' or 'float64'"),
    ("seed", True, "x", "1.5", "integer of 0 or more"),
    ("seed", -1, "-1", '"1"', "integer of 0 or more"),
    ("data", 3, " ", "[]", "path of a folder"),
    ("debug", 1, "maybe", '"yes"', "true or false"),
]


@pytest.mark.parametrize(("key", "argument", "env", "toml", "required"), BAD)
def test_bad_values_name_their_source(key, argument, env, toml, required, folder, monkeypatch):
    with pytest.raises(ConfigError, match=f"argument: the setting '{key}' must be.*{required}"):
        config.resolve(key, argument)
    with pytest.raises(ConfigError, match=f"configure\\(\\): the setting '{key}' .*{required}"):
        config.configure(**{key: argument})
    (folder / "pyproject.toml").write_text(f"[tool.microgpt]\n{key} = {toml}\n")
    with pytest.raises(ConfigError, match=f"pyproject.toml.*'{key}' must be.*{required}.*; got"):
        config.get(key)
    (folder / "pyproject.toml").unlink()
    monkeypatch.setenv(f"MICROGPT_{key.upper()}", env)
    with pytest.raises(ConfigError, match=f"MICROGPT_{key.upper()}: .*{required}.*; got '{env}'"):
        config.get(key)


def test_plugins_must_be_a_list(folder):
    (folder / "microgpt.toml").write_text('plugins = "one"')
    with pytest.raises(ConfigError, match=r"file \./microgpt\.toml: .*list of plugin names"):
        config.get("plugins")


@pytest.mark.parametrize("content", [b"seed = = 1", b"\xff\xfe", b"seed = 1\nseed = 2"])
def test_broken_toml_names_the_file(content, folder):
    (folder.parent / "microgpt.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"file \.\./microgpt\.toml: must be a readable TOML"):
        config.get("seed")


def test_a_tool_entry_that_is_no_table(folder):
    (folder / "pyproject.toml").write_text("[tool]\nmicrogpt = 3\n")
    with pytest.raises(ConfigError, match="must be a table of settings; got 3"):
        config.get("seed")


def test_broken_pyproject_of_another_project_is_passed(folder):
    (folder / "pyproject.toml").write_text("[tool = 1")
    assert config.get("seed") is None


def test_a_deleted_current_folder_means_no_file(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert config.get("seed") is None
    monkeypatch.chdir(tmp_path)
