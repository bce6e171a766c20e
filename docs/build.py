"""Build the documentation site: `python docs/build.py`, or `make docs`.

The sources are put together in a folder of their own: the guides of this folder, the lessons,
executed as notebooks with the pictures they draw, the op table and the API reference. Sphinx makes
the site of it, and any warning is an error.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

import microgpt
from microgpt.cli import ops
from microgpt.learn.catalogue import CHAPTERS, Card, cards

HERE = Path(__file__).parent
ROOT = HERE.parent

API = {
    "microgpt": "Tensors, scalars, gradients and ops",
    "microgpt.nn": "Layers and losses",
    "microgpt.nn.init": "Initial weights",
    "microgpt.optim": "Optimizers, schedules, clipping",
    "microgpt.models": "Networks",
    "microgpt.data": "Data sets and batches",
    "microgpt.text": "Tokenizers",
    "microgpt.train": "The training loop",
    "microgpt.checkpoints": "Weights and checkpoints",
    "microgpt.runs": "Runs by name",
    "microgpt.viz": "Pictures",
    "microgpt.testing": "Checking gradients and backends",
    "microgpt.tracing": "Watching ops: profiler and tracers",
    "microgpt.learn": "What lessons share",
    "microgpt.config": "Settings",
    "microgpt.hooks": "What a plugin may provide",
    "microgpt.backend": "What a backend is",
    "microgpt.array_api": "Array API libraries as backends",
    "microgpt.errors": "Errors",
}


def main() -> int:
    """Put the sources together and run Sphinx; the exit status is 1 if anything is not right."""
    parser = argparse.ArgumentParser(description="Build the documentation site.")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "docs", help="build/docs")
    parser.add_argument("--full", action="store_true", help="lessons as they are, not shrunk")
    parser.add_argument("--links", action="store_true", help="check links to other sites as well")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="lessons at once")
    options = parser.parse_args()
    source = options.out / "source"
    notebooks = options.out / "notebooks"
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(HERE, source, ignore=shutil.ignore_patterns("__pycache__", "build.py"))
    speed(source / "benchmarks.md")
    lessons(source / "lessons", notebooks, options.full, options.jobs)
    op_table(source / "ops.md")
    shutil.copy(Path(microgpt.__file__).parent / "explanations.md", source / "errors.md")
    reference(source / "api")
    site = options.out / "html"
    status = sphinx(source, site, "html")
    if not status and options.links:
        status = sphinx(source, options.out / "links", "linkcheck")
    if not status:
        print(f"the site is in {site / 'index.html'}")
    return status


def sphinx(source: Path, out: Path, builder: str) -> int:
    """Run Sphinx; warnings, such as a link that leads nowhere, are errors."""
    command = [sys.executable, "-m", "sphinx", "-b", builder, "-W", "--keep-going", "-q"]
    return subprocess.run([*command, str(source), str(out)]).returncode


# ---- lessons -----------------------------------------------------------------------------------


def lessons(folder: Path, kept: Path, full: bool, jobs: int) -> None:
    """The lessons as executed notebooks, and pages that list them."""
    folder.mkdir(parents=True)
    kept.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(jobs) as pool:
        for card, made in zip(
            cards(), pool.map(lambda c: executed(c, kept, full), cards()), strict=True
        ):
            shutil.copy(made, folder / f"{card.file}.ipynb")
            print(f"lesson {card.file}", flush=True)
    (folder / "index.md").write_text(english(), encoding="utf-8")
    (folder / "zh.md").write_text(chinese(), encoding="utf-8")


def executed(card: Card, kept: Path, full: bool) -> Path:
    """The notebook of a lesson, run unless that was done for the same script and package."""
    import jupytext
    import nbformat
    from nbclient import NotebookClient

    text = card.script.read_text(encoding="utf-8")
    key = hashlib.sha256(f"{text}{full}{_package()}".encode()).hexdigest()[:16]
    made = kept / f"{card.file}-{key}.ipynb"
    if made.exists():
        return made
    notebook = jupytext.reads(text, fmt="py:percent")
    notebook.metadata["kernelspec"] = {
        "name": "python3", "display_name": "Python 3", "language": "python",
    }  # fmt: skip
    # A name and not a path: lessons print where their pictures are.
    options = f"--out {card.file}" + ("" if full else " --fast")
    environment = os.environ | {"LESSON_OPTIONS": options, "MPLBACKEND": "agg"}
    client = NotebookClient(
        notebook, timeout=1800, kernel_name="python3",
        resources={"metadata": {"path": str(kept.resolve())}},
        extra_arguments=["--IPKernelApp.log_level=40"],
    )  # fmt: skip
    client.execute(env=environment)
    for cell in notebook.cells:
        _tidy(cell)
    nbformat.write(notebook, made)
    return made


def _tidy(cell: Any) -> None:
    """Leave out what is for a terminal: progress bars."""
    if cell.cell_type == "code":
        cell.outputs = [
            o for o in cell.outputs
            if not (o.output_type == "stream" and o.name == "stderr")
            and "application/vnd.jupyter.widget-view+json" not in o.get("data", {})
        ]  # fmt: skip


def _package() -> str:
    """Changes when a file of the package does."""
    files = sorted(Path(microgpt.__file__).parent.rglob("*.py"))
    return str([(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files])


def english() -> str:
    """The page with all lessons, in English."""
    lines = [
        "# Lessons", "",
        "Each goes with a chapter of 3Blue1Brown's series on neural networks: watch the chapter, "
        "then run its lessons. They are scripts (`microgpt learn 6`, or plain `python`), and open "
        "as notebooks in Jupyter and VS Code. Every claim is computed and checked while you watch; "
        "where the video is wrong, or lucky, they show that too. "
        "The summaries are there [in Chinese](zh.md) as well.", "",
    ]  # fmt: skip
    for chapter in CHAPTERS:
        lines += [f"## {_heading(chapter)}", ""]
        for card in _of(chapter):
            lines += [f"### [{card.title}]({card.file}.ipynb)", "", card.summary, ""]
            lines += [f"*{_time(card.seconds)}, shrunk {_time(card.fast)}; {card.data}.*", ""]
    lines += ["```{toctree}", ":hidden:", "", "zh", *[card.file for card in cards()], "```", ""]
    return "\n".join(lines)


def chinese() -> str:
    """The page with the summaries in Chinese."""
    lines = [
        "# 课程摘要（中文）", "",
        "每一课对应 3Blue1Brown 神经网络系列的一章：先看视频，再运行脚本（`microgpt learn 6`）。"
        "视频里的每个论断都在运行时计算并检验；视频有误或碰巧成立之处，课程也会指出。", "",
    ]  # fmt: skip
    for chapter in CHAPTERS:
        heading = "讲座" if chapter == "talk" else f"第 {chapter} 章"
        lines += [f"## {heading}", ""]
        for card in _of(chapter):
            lines += [f"### [{card.title}]({card.file}.ipynb)", "", card.summary_zh, ""]
    return "\n".join(lines)


def _of(chapter: str) -> list[Card]:
    return [card for card in cards() if card.chapter == chapter]


def _heading(chapter: str) -> str:
    return "The talk" if chapter == "talk" else f"Chapter {chapter}"


def _time(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


# ---- references --------------------------------------------------------------------------------


def op_table(page: Path) -> None:
    """The op table, as `microgpt ops --markdown` prints it."""
    text = io.StringIO()
    with redirect_stdout(text):
        ops.show_markdown()
    page.write_text(text.getvalue(), encoding="utf-8")


def speed(page: Path) -> None:
    """The tables of the README, in the place that is marked for them."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = readme.split("\n## Speed\n")[1].split("\n`python -m benchmarks")[0]
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace("<!-- README.md: Speed -->", table.strip()), encoding="utf-8")


def reference(folder: Path) -> None:
    """A page for each public module."""
    folder.mkdir()
    toc = ["# API reference", "", "```{toctree}", ":maxdepth: 1", "", *API, "```", ""]
    (folder / "index.md").write_text("\n".join(toc), encoding="utf-8")
    for module, title in API.items():
        heading = f"{title}: {module}"
        # A package gathers its names from its modules; a module has some of others for itself.
        gathers = ["   :imported-members:"] if hasattr(import_module(module), "__all__") else []
        page = [
            heading, "=" * len(heading), "", f".. automodule:: {module}", "   :members:", *gathers,
            "   :show-inheritance:", "",
        ]  # fmt: skip
        (folder / f"{module}.rst").write_text("\n".join(page), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
