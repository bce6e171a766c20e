"""`python -m tests.mutation`: draw mutants, run the checks that reach them, list the survivors."""

from __future__ import annotations

import argparse
import json
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.mutation.mutants import Mutant, all_mutants, draw
from tests.mutation.worker import attempt, context, traced

TESTS = "tests"
"""The name of the last check; see `checks`."""

EQUIVALENT = Path(__file__).with_name("equivalent.toml")


def main(arguments: list[str] | None = None) -> int:
    """Run; the exit status is 1 if a mutant survives that is not known to be equivalent."""
    options = _options(arguments)
    reasons = known_equivalents()
    mutants = [m for m in all_mutants() if _wanted(m, options)]
    drawn = draw(mutants, options.count, options.seed)
    print(f"{len(drawn)} of {len(mutants)} mutants, seed {options.seed}", flush=True)
    done = _kills(options.out) if options.resume else {}
    if options.trust:
        done |= {m.name: _record(m, check=None, why="trusted") for m in drawn if m.name in reasons}
    todo = [m for m in drawn if m.name not in done]
    records = [done[m.name] for m in drawn if m.name in done]
    ctx = context()
    start = time.perf_counter()
    reach = Reach(traced(ctx, options.only) if todo else {})
    seconds = time.perf_counter() - start
    print(f"{len(reach.checks)} checks to choose from, traced in {seconds:.0f} s", flush=True)
    judge = _Judge(ctx, reach, options)
    with _lines(options.out) as write, ThreadPoolExecutor(options.workers) as pool:
        for record in records:
            write(record)
        for record in pool.map(judge, todo):
            write(record)
            records.append(record)
            if record["check"] is None and record["name"] not in reasons:
                print(f"survived: {_where(record)}", flush=True)
    return report(records, reasons, reach.failing)


@contextmanager
def _lines(path: Path | None) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A function that writes one line of JSON at a time to a file, or does nothing for None."""
    if path is None:
        yield lambda record: None
        return
    with path.open("w", encoding="utf-8") as file:

        def write(record: dict[str, Any]) -> None:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            file.flush()

        yield write


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    add = parser.add_argument
    add("--count", type=int, default=300, help="how many mutants to draw (default: 300)")
    add("--seed", type=int, default=0, help="which ones (default: 0)")
    add("--workers", type=int, default=1, help="how many run at a time (default: 1)")
    add("--only", metavar="OP", help="mutants of one op, judged by its own checks alone")
    add("--module", help="mutants of one module, e.g. microgpt.ops.conv")
    add("--match", help="mutants whose text contains this, e.g. the name of a function")
    add("--examples", type=int, default=40, help="per check (default: 40)")
    add("--ops", type=int, default=6, help="how many ops judge a function (default: 6)")
    add("--timeout", type=float, default=120, help="seconds for one check (default: 120)")
    add("--budget", type=float, default=300, help="seconds for one mutant (default: 300)")
    add("--out", type=Path, help="write one JSON object per mutant to this file")
    add("--resume", action="store_true", help="keep the kills in --out; run survivors again")
    add("--trust", action="store_true", help="do not run the mutants listed as equivalent")
    return parser.parse_args(arguments)


def _wanted(mutant: Mutant, options: argparse.Namespace) -> bool:
    return (
        options.only in (None, mutant.op)
        and options.module in (None, mutant.module)
        and (options.match is None or options.match in mutant.name)
    )


def known_equivalents() -> dict[str, str]:
    """The mutants that no test can notice, with the reasons."""
    with EQUIVALENT.open("rb") as file:
        entries = tomllib.load(file).get("equivalent", [])
    return {
        f"{e['module']}:{e['scope']}: {e['before']} → {after}": e["reason"]
        for e in entries
        for after in e["after"]
    }


def _kills(path: Path | None) -> dict[str, dict[str, Any]]:
    """The mutants that a file of an earlier run says were killed."""
    if path is None or not path.exists():
        return {}
    records = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return {r["name"]: r for r in records if r["check"] is not None}


def _record(mutant: Mutant, **found: Any) -> dict[str, Any]:
    """What is known of a mutant, for the report and for one line of JSON."""
    place = {"name": mutant.name, "module": mutant.module, "line": mutant.line}
    change = {"scope": mutant.scope, "before": mutant.before, "after": mutant.after}
    return {**place, **change, "passed": 0, "checks": 0, "seconds": 0.0, **found}


class Reach:
    """Which checks may notice a change of a function; the most particular ones first."""

    def __init__(self, found: dict[str, Any]) -> None:
        self.checks: list[str] = found.get("checks", [])
        self.failing: list[str] = list(found.get("failing", []))
        """Checks that fail without any mutant: their kills would mean nothing."""
        called = {**found.get("ops", {}), **found.get("laws", {})}
        self._called = {
            name: {(module, line) for module, lines in places.items() for line in lines}
            for name, places in called.items()
        }

    def of(self, mutant: Mutant, most: int) -> list[str]:
        """The checks to run: of the op itself, of those that call little else, and the laws.

        `most` is the number of ops; a function that more of them call is judged by these.
        """
        places = {(mutant.module, line) for line in mutant.lines}
        users = [TESTS]  # they may notice anything
        users += [n for n, called in self._called.items() if called & places or n == mutant.op]
        users.sort(key=lambda n: (n != mutant.op, len(self._called.get(n, ())), n))
        ranks = {name: rank for rank, name in enumerate(users)}

        def order(check: str) -> tuple[bool, bool, int]:
            kind, _, op = check.partition(" ")
            return not op, kind != TESTS, ranks[op or kind]

        laws = [n for n in users if n in self.checks]
        ops = [n for n in users if n not in self.checks][:most]
        chosen = [c for c in self.checks if c.partition(" ")[2] in ops or c in laws]
        return sorted([c for c in chosen if c not in self.failing], key=order)


class _Judge:
    """Runs one mutant."""

    def __init__(self, ctx: Any, reach: Reach, options: argparse.Namespace) -> None:
        self.ctx, self.reach, self.options = ctx, reach, options
        self.sound: dict[str, bool] = {}

    def __call__(self, mutant: Mutant) -> dict[str, Any]:
        start = time.perf_counter()
        checks = self.reach.of(mutant, self.options.ops)
        found = self._attempt(mutant.module, mutant.source(), checks)
        while found["check"] and found["at"] in checks and not self._sound(found["at"]):
            self.reach.failing.append(found["at"])
            checks.remove(found["at"])
            found = self._attempt(mutant.module, mutant.source(), checks)
        seconds = round(time.perf_counter() - start, 2)
        return _record(mutant, **found, checks=len(checks), seconds=seconds)

    def _attempt(self, module: str | None, text: str | None, checks: list[str]) -> dict[str, Any]:
        o = self.options
        return attempt(
            self.ctx, module, text, checks, o.examples, timeout=o.timeout, budget=o.budget
        )

    def _sound(self, check: str) -> bool:
        """Whether a check passes on the library as it is: else its kills would mean nothing."""
        if check not in self.sound:
            # Twice, because as a rule it is not the first in its process.
            self.sound[check] = self._attempt(None, None, [check, check])["check"] is None
        return self.sound[check]


def _where(record: dict[str, Any]) -> str:
    head = f"{record['module']}:{record['line']} {record['scope']}"
    ran = f"{record['passed']} of {record['checks']} checks passed"
    return f"{head}\n    - {record['before']}\n    + {record['after']}\n    ({ran})"


def report(records: list[dict[str, Any]], reasons: dict[str, str], failing: list[str]) -> int:
    """Print the counts and the survivors; 1 if there are any that are not equivalent."""
    killed = [r for r in records if r["check"] is not None]
    equivalent = [r for r in records if r["check"] is None and r["name"] in reasons]
    survivors = [r for r in records if r["check"] is None and r["name"] not in reasons]
    by = Counter(r["check"].partition(" ")[0] for r in killed)
    print("\nkilled by")
    for name, count in by.most_common():
        print(f"  {name:32} {count:5}")
    for record in survivors:
        print(f"\nsurvived: {_where(record)}")
    wrong = [r for r in killed if r["name"] in reasons]
    for record in wrong:
        print(f"\nkilled by {record['check']}, but listed as equivalent: {_where(record)}")
    for name in failing:
        print(f"\nnot used, because it fails without any mutant: {name}")
    print(
        f"\n{len(records)} mutants: {len(killed)} killed, {len(equivalent)} equivalent, "
        f"{len(survivors)} survived"
    )
    return 1 if survivors or wrong or failing else 0


if __name__ == "__main__":
    sys.exit(main())
