"""What the README shows is true: its Python runs, its commands and files exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import microgpt as mg
from microgpt.cli import main
from microgpt.ops import TABLE

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_the_python_blocks_run_one_after_the_other() -> None:
    assert len(BLOCKS) >= 3
    names: dict[str, object] = {}
    try:
        for block in BLOCKS:
            exec(block, names)
    finally:
        TABLE.pop("cube", None)
    assert callable(names["cube"])


def test_links_lead_to_files() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


def test_commands_exist(capsys: pytest.CaptureFixture[str]) -> None:
    commands = set(re.findall(r"^\S*microgpt (\w+)", TEXT, re.MULTILINE))
    assert {"check", "bisect", "museum", "config", "backends"} <= commands
    for command in commands:
        with pytest.raises(SystemExit) as done:
            main([command, "--help"])
        assert done.value.code == 0, command
    capsys.readouterr()


def test_numbers_of_ops() -> None:
    (count,) = re.findall(r"conformance kit: (\d+) ops", TEXT)
    judged = [op for op in TABLE.values() if op.function.__module__.startswith("microgpt.ops.")]
    assert int(count) == len([op for op in judged if op is not mg.ops.transfer.op])
