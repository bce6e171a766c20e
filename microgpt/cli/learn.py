"""`microgpt learn`: which lessons there are, and running them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from argparse import Namespace
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from time import perf_counter

from microgpt.cli.text import table
from microgpt.errors import InputError
from microgpt.learn.catalogue import Card, cards, chosen

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POCL_MAX_PTHREAD_COUNT")


@dataclass(frozen=True)
class Outcome:
    """What became of a lesson."""

    card: Card
    status: int
    seconds: float
    passed: int
    failed: int
    data: str
    output: str


def learn(options: Namespace) -> int:
    """List the lessons, or run some.

    Raises:
        InputError: if there is no such lesson, or lessons are named and `--all` is given.
    """
    if options.all and options.lessons:
        raise InputError(
            "`microgpt learn --all` runs every lesson; got names as well; leave one of them out"
        )
    if not options.all and not options.lessons:
        show_list()
        return 0
    wanted = list(cards()) if options.all else chosen(options.lessons)
    given = _passed_on(options)
    jobs = min(options.jobs or (os.cpu_count() or 1 if options.all else 1), len(wanted))
    if jobs == 1:
        outcomes = [_watched(card, given, options) for card in wanted]
    else:
        outcomes = _side_by_side(wanted, given, options, jobs)
    if len(outcomes) > 1:
        show_outcomes(outcomes)
    return 1 if any(outcome.status for outcome in outcomes) else 0


def show_list() -> None:
    """Print all lessons with what they show and how long they take."""
    rows = [(c.chapter, c.file, _time(c.seconds), _time(c.fast), c.shows) for c in cards()]
    print(table(("chapter", "lesson", "takes", "--fast", "what you see"), rows))
    print(
        "\nmicrogpt learn 7              runs the lessons of a chapter\n"
        "microgpt learn ch06_softmax   runs one; --fast shrinks it, --out FOLDER takes pictures\n"
        "microgpt learn --all --fast   runs all\n"
        f"\nTheir scripts, to read and to change: {cards()[0].script.parent}"
    )


def show_outcomes(outcomes: Sequence[Outcome]) -> None:
    """Print a line for each lesson that ran."""
    rows = [
        (
            o.card.file, f"{o.seconds:.1f} s", str(o.passed),
            str(o.failed) if o.failed or not o.status else "stopped", o.data,
        )
        for o in outcomes
    ]  # fmt: skip
    print()
    print(table(("lesson", "time", "passed", "failed", "data"), rows))
    bad = [o.card.file for o in outcomes if o.status]
    print(
        f"\n{len(outcomes)} lessons, {sum([o.passed for o in outcomes])} checks passed"
        + (f"; not well: {', '.join(bad)}" if bad else "")
    )


def _time(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def _passed_on(options: Namespace) -> list[str]:
    """The options of the lessons themselves."""
    given = ["--fast"] if options.fast else []
    for name in ("seed", "backend", "data"):
        value = getattr(options, name)
        if value is not None:
            given += [f"--{name}", str(value)]
    return given


def _command(card: Card, given: Sequence[str], options: Namespace) -> list[str]:
    script = card.solution if options.solutions else card.script
    out = options.out / card.file if options.all or len(options.lessons) > 1 else options.out
    return [sys.executable, "-u", str(script), *given, "--out", str(out)]


def _watched(card: Card, given: Sequence[str], options: Namespace) -> Outcome:
    """Run a lesson, and show what it prints while it does."""
    print(f"──── {card.file}: {card.title}\n", flush=True)
    started = perf_counter()
    lines = []
    # At its end `with` waits for the lesson: Ctrl-C goes to both, and it may have to tidy up.
    with subprocess.Popen(
        _command(card, given, options), stdout=subprocess.PIPE, text=True, encoding="utf-8",
        env=os.environ | {"PYTHONIOENCODING": "utf-8"},
    ) as process:  # fmt: skip
        for line in process.stdout or ():
            print(line, end="", flush=True)
            lines.append(line)
    status = process.returncode
    print()
    return _outcome(card, status, perf_counter() - started, "".join(lines))


def _side_by_side(
    wanted: Sequence[Card], given: Sequence[str], options: Namespace, jobs: int
) -> list[Outcome]:
    """Run several lessons at once, each with one thread; a line for each that ends."""
    environment = os.environ | dict.fromkeys(THREADS, "1") | {"PYTHONIOENCODING": "utf-8"}

    def run(card: Card) -> Outcome:
        started = perf_counter()
        done = subprocess.run(
            _command(card, given, options), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, encoding="utf-8", env=environment,
        )  # fmt: skip
        return _outcome(card, done.returncode, perf_counter() - started, done.stdout)

    found: dict[str, Outcome] = {}
    longest_first = sorted(wanted, key=lambda card: -(card.fast if options.fast else card.seconds))
    with ThreadPoolExecutor(jobs) as pool:
        running = [pool.submit(run, card) for card in longest_first]
        for future in as_completed(running):
            outcome = future.result()
            found[outcome.card.file] = outcome
            word = "FAILED" if outcome.status else "ok"
            print(f"{word:<6} {outcome.card.file:<26} {outcome.seconds:6.1f} s", flush=True)
            if outcome.status:
                print(outcome.output, flush=True)
    return [found[card.file] for card in wanted]


def _outcome(card: Card, status: int, seconds: float, output: str) -> Outcome:
    checks = re.findall(r"^CHECK .* (PASS|FAIL)$", output, re.MULTILINE)
    data = re.findall(r"^data: (.*)$", output, re.MULTILINE)
    return Outcome(
        card, status, seconds, checks.count("PASS"), checks.count("FAIL"), "; ".join(data), output
    )
