"""The example backend, installed and used the way a stranger would do it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent.parent / "examples" / "microgpt_example_backend"
PACKAGE = FOLDER / "microgpt_example_backend"
VERDICT = r"example: (\d+)/\1 ops, T0–T8, worst \d\.\d+ ulp \(\w+\)"


@pytest.fixture(scope="module")
def site(tmp_path_factory: Any) -> Path:
    """A folder with what pip would put into site-packages."""
    with open(FOLDER / "pyproject.toml", "rb") as file:
        project = tomllib.load(file)["project"]
    site: Path = tmp_path_factory.mktemp("installed") / "site"
    shutil.copytree(PACKAGE, site / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    points = [f"{name} = {value}" for name, value in project["entry-points"]["microgpt"].items()]
    (info / "entry_points.txt").write_text("\n".join(["[microgpt]", *points]))
    return site


def run(*command: str, cwd: Path, site: Path) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MICROGPT_", "PYTEST_"))}
    return subprocess.run(
        [sys.executable, *command],
        env={**env, "PYTHONPATH": str(site), "PYTHONIOENCODING": "utf-8"},
        cwd=cwd, capture_output=True, text=True, encoding="utf-8", check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def checked(tmp_path_factory: Any, site: Path) -> tuple[str, dict[str, Any]]:
    """What `microgpt check` prints from an empty folder, and the verdict that it writes."""
    folder = tmp_path_factory.mktemp("empty")
    command = ("-m", "microgpt", "check", "--backend", "example", "--examples", "4")
    done = run(*command, "--json", "verdict.json", cwd=folder, site=site)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, json.loads((folder / "verdict.json").read_text(encoding="utf-8"))


def test_check_passes_from_an_empty_folder(checked: tuple[str, dict[str, Any]]) -> None:
    printed, found = checked
    *lines, last = printed.splitlines()
    assert [line[:2] for line in lines] == [f"T{n}" for n in range(9)]
    assert re.fullmatch(VERDICT, last), last
    assert found["ok"] and found["verdict"] == last
    assert {r["status"] for r in found["results"]} == {"passed"}


def test_its_own_tests_pass_where_they_are(tmp_path: Path, site: Path) -> None:
    shutil.copytree(FOLDER / "tests", tmp_path / "tests")
    # The other tiers have been run by the test above.
    some = ("-k", "used or conformance and (0 or 4 or 8)")
    options = ("-q", "-p", "no:cacheprovider", "tests", *some)
    done = run("-m", "pytest", *options, cwd=tmp_path, site=site)
    assert done.returncode == 0 and "4 passed, 6 deselected" in done.stdout, done.stdout


def test_it_is_listed_and_computes(tmp_path: Path, site: Path) -> None:
    done = run("-m", "microgpt", "backends", cwd=tmp_path, site=site)
    assert "example" in done.stdout.split(), done.stdout + done.stderr
    served = run("-m", "microgpt", "backends", "--op", "matmul", cwd=tmp_path, site=site)
    assert re.search(r"example +.*microgpt_example_backend", served.stdout), served.stdout


def test_no_kernel_is_that_of_another_backend() -> None:
    for file in PACKAGE.glob("*.py"):
        text = file.read_text(encoding="utf-8")
        assert "microgpt_numpy" not in text and "registry" not in text, file.name
        assert len(text.splitlines()) < 400, f"{file.name} is too long to read in one sitting"


def test_the_wheel(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="building the wheel needs hatchling")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=FOLDER, check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    files = zipfile.ZipFile(wheel)
    assert f"{PACKAGE.name}/kernels.py" in files.namelist()
    points = next(n for n in files.namelist() if n.endswith("entry_points.txt"))
    assert "example = microgpt_example_backend" in files.read(points).decode()


# ---- the guide ---------------------------------------------------------------------------------

GUIDE = FOLDER.parent.parent / "docs" / "write-a-backend.md"
BLOCK = re.compile(r"^```(\w+)(?: title=\"(.*?)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = BLOCK.findall(GUIDE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_code_of_the_guide_is_that_of_the_example(number: int) -> None:
    language, title, text = BLOCKS[number]
    if not title:
        assert language in ("console", "text"), f"where is this code from?\n{text}"
        return
    assert text in (FOLDER / title).read_text(encoding="utf-8"), f"not in {title}:\n{text}"


def test_the_guide_says_what_the_kit_says(checked: tuple[str, dict[str, Any]]) -> None:
    from microgpt.testing.conformance import TIERS

    guide = GUIDE.read_text(encoding="utf-8")
    for number, name in enumerate(TIERS):
        assert f"| T{number} {name} |" in guide
    shown = re.findall(r"^(T\d .*?: \d+/\d+ passed)", guide, re.MULTILINE)
    told = re.findall(r"^(T\d .*?: \d+/\d+ passed)", checked[0], re.MULTILINE)
    assert len(told) == len(TIERS) and set(shown) == set(told), "paste what `microgpt check` prints"
