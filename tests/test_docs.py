"""What the guides show is true: their Python runs, their links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from microgpt.cli import main
from microgpt.ops import TABLE

DOCS = Path(__file__).parent.parent / "docs"
GUIDES = sorted(DOCS.glob("*.md"))
MADE = {"ops.md", "lessons/index.md", "lessons/zh.md", "errors.md", "api/index"}
"""Pages that `docs/build.py` makes."""

RUN = ("index", "configure", "write-an-op", "check-your-gradients")
"""Guides whose Python runs from top to bottom."""


@pytest.mark.parametrize("name", RUN)
def test_the_python_of_a_guide_runs(name: str) -> None:
    text = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    names: dict[str, object] = {"__name__": "guide"}
    before = set(TABLE)
    try:
        for block in blocks:
            exec(block, names)
    finally:
        for op in set(TABLE) - before:
            TABLE.pop(op)


@pytest.mark.parametrize("guide", GUIDES, ids=lambda g: g.stem)
def test_links_lead_to_pages(guide: Path) -> None:
    text = guide.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if not target.startswith("http") and not target.startswith("api/"):
            assert target in MADE or (guide.parent / target).exists(), f"{guide.name}: {target}"


@pytest.mark.parametrize("guide", GUIDES, ids=lambda g: g.stem)
def test_commands_exist(guide: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = guide.read_text(encoding="utf-8")
    commands = set(re.findall(r"(?:^\$ |`)microgpt ([a-z]+)", text, re.MULTILINE))
    for command in commands:
        with pytest.raises(SystemExit) as done:
            main([command, "--help"])
        assert done.value.code == 0, f"{guide.name}: microgpt {command}"
    capsys.readouterr()


def test_every_guide_is_in_the_table_of_contents() -> None:
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^([a-z-]+)$", index, re.MULTILINE))
    assert {g.stem for g in GUIDES} - {"index"} <= listed
