"""`microgpt museum`: mistakes that people make in autograd libraries, to be looked at and run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from microgpt.cli.text import WIDTH, fields, lines_of, table
from microgpt.errors import InputError, MissingExtraError
from microgpt.testing import museum
from microgpt.testing.museum import ORACLE, Bug, Check, Demo, killers

BARS = "▁▂▃▄▅▆▇█"
COLUMNS = 40


def visit(action: str, number: int | None) -> int:
    """List the bugs, ask about one, tell its story, or run it.

    Raises:
        InputError: if `ask`, `show` or `run` come without a number, or there is no such bug.
    """
    if action == "list":
        show_list()
    elif number is None:
        raise InputError(
            f"`microgpt museum {action}` needs the number of a bug, as in "
            f"`microgpt museum {action} 21`; `microgpt museum` lists them"
        )
    elif action == "ask":
        ask(museum.find(number))
    elif action == "show":
        show_story(museum.find(number))
    else:
        run(museum.find(number))
    return 0


def show_list() -> None:
    """Print all bugs, one per line."""
    rows = [
        (str(bug.number), bug.room, f"{bug.title}{_not_yet(bug)}{_seen_in(bug)}")
        for bug in museum.BUGS.values()
    ]
    print(table(("bug", "room", "what is wrong [seen in]"), rows))
    there = sum(bug.plant is not None for bug in museum.BUGS.values())
    print(f"\n{len(rows)} bugs, {there} of them can be run. The rooms:\n")
    print(table(("room", "what is there"), list(museum.ROOMS.items())))
    print(
        "\nmicrogpt museum ask NUMBER   shows a mistake: which check finds it, and which do not?\n"
        "microgpt museum run NUMBER   puts it in, shows what a learner would see, and runs the "
        "checks\nmicrogpt museum show NUMBER  tells its story"
    )


def _not_yet(bug: Bug) -> str:
    return f" (not yet: waits for {bug.waits_for})" if bug.plant is None else ""


def _seen_in(bug: Bug) -> str:
    return f"  [{bug.seen_in}]" if bug.seen_in else ""


def ask(bug: Bug) -> None:
    """Print the mistake, what a learner would see, and checks to choose from."""
    print(f"{bug.number}. {bug.title}  ({bug.room})\n")
    print(fields([("wrong", bug.wrong), ("right", bug.right)]))
    print()
    if bug.show is not None:
        _show_difference(bug, bug.show)
        print("\nWhich of these checks find it, and which pass?\n")
        names = sorted({str(check) for check in (*bug.killers, *bug.missed_by)})
        print("\n".join(f"  {name}" for name in names))
        print(f"\nmicrogpt museum run {bug.number} knows.")
    else:
        print(f"Not yet: this bug waits for {bug.waits_for}.")


def show_story(bug: Bug) -> None:
    """Print what was wrong, why it looked right, and what finds it."""
    print(f"{bug.number}. {bug.title}  ({bug.room})\n")
    print(fields([("wrong", bug.wrong), ("right", bug.right)]))
    print()
    _say(bug.story)
    print()
    _say(bug.blind)
    print()
    rows = [("found by", ", ".join(str(k) for k in bug.killers))] if bug.killers else []
    rows += [("missed by", ", ".join(str(c) for c in bug.missed_by))] if bug.missed_by else []
    rows += [("seen in", bug.seen_in)] if bug.seen_in else []
    rows += [("not yet", f"waits for {bug.waits_for}")] if bug.plant is None else []
    print(fields(rows))


def _say(text: str) -> None:
    print("\n".join(lines_of(text, min(WIDTH, 88))))


def run(bug: Bug) -> None:
    """Show what a learner would see, without the bug and with it, and what the suite says."""
    print(f"{bug.number}. {bug.title}\n")
    if bug.show is None:
        print(f"Not yet: this bug waits for {bug.waits_for}.")
        return
    _show_difference(bug, bug.show)
    print("\nWhat the suite says:")
    for check in bug.killers:
        _examine(bug, check)
    if bug.missed_by:
        print("\nChecks that do not see it:")
    for check in bug.missed_by:
        _examine(bug, replace(check, examples=10))


def _show_difference(bug: Bug, demo: Demo) -> None:
    with np.errstate(all="ignore"):
        without = _seen(demo)
        with museum.planted(bug.number):
            planted = _seen(demo)
    _say(demo.what[0].upper() + demo.what[1:] + ":")
    print("\n".join(compared(without, planted)))


def _seen(demo: Demo) -> Any:
    """What the demonstration shows, or the error that it ends with."""
    try:
        return demo.run()
    except MissingExtraError:
        raise
    except Exception as error:  # a crash is what a learner would see, too
        return f"{type(error).__name__}: {error}".splitlines()[0]


def _examine(bug: Bug, killer: Check) -> None:
    if killer.name == ORACLE:
        finds = "finds it" if killer in bug.killers else "passes"
        print(
            f"  {killer} {finds}: a comparison with an independent formula, which lives with the\n"
            f"    tests: python -m pytest tests/test_museum.py -k '{bug.number}-{killer.name}'"
        )
        return
    with np.errstate(all="ignore"):
        before = killers.failure(killer)
        if isinstance(before, MissingExtraError):
            raise before
        with museum.planted(bug.number):
            error = killers.failure(killer)
    print(f"  {killer} without the bug: {'passes' if before is None else 'FAILS'}; with it:")
    text = "passes" if error is None else str(error) or type(error).__name__
    for line in text.strip().splitlines()[:12]:
        print("\n".join("    " + part for part in lines_of(line, WIDTH - 4)))


# ---- pictures ----------------------------------------------------------------------------------


def compared(without: Any, planted: Any) -> list[str]:
    """Two results, one above the other: losses as curves on one scale, all else as text."""
    names = ("without the bug", "with the bug")
    pair = (without, planted)
    values = [x for losses in pair if isinstance(losses, list) for x in losses]
    lines = []
    for name, result in zip(names, pair, strict=True):
        if isinstance(result, list):
            ends = f"{result[0]:.4g} → {result[-1]:.4g}"
            lines.append(f"  {name:<16} {curve(result, values)}  loss {ends}")
        else:
            head, *rest = lines_of(str(result), WIDTH - 19)
            lines += [f"  {name:<16} {head}", *[" " * 19 + part for part in rest]]
    if without == planted:
        lines.append("  (no difference to be seen)")
    if values and _over_powers_of_ten(values):
        lines.append("  (the height of a bar is the logarithm of the loss)")
    return lines


def curve(losses: Sequence[float], scale: Sequence[float]) -> str:
    """A row of bars, one per loss or per few losses; × where one is not finite.

    Args:
        losses: what is drawn.
        scale: the values from the lowest to the highest of which the bars reach.

    Example:
        >>> from microgpt.cli.museum import curve
        >>> curve([8.0, 4.0, 2.0, 1.0], [0.0, 8.0])
        '█▅▃▂'
    """
    low, high = _ends(scale)
    logarithmic = _over_powers_of_ten(scale)
    if logarithmic:
        low, high = math.log(low), math.log(high)
    step = max(1, math.ceil(len(losses) / COLUMNS))
    text = ""
    for x in losses[::step]:
        if not math.isfinite(x):
            text += "×"
            continue
        height = (math.log(x) if logarithmic else x) - low
        share = height / (high - low) if high > low else 0.0
        text += BARS[min(len(BARS) - 1, int(share * len(BARS)))]
    return text


def _ends(scale: Sequence[float]) -> tuple[float, float]:
    finite = [x for x in scale if math.isfinite(x)]
    return min(finite, default=0.0), max(finite, default=1.0)


def _over_powers_of_ten(scale: Sequence[float]) -> bool:
    """Whether only the logarithm would show anything."""
    low, high = _ends(scale)
    return low > 0 and high / low > 1000
