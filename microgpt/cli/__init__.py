"""The `microgpt` command: train, sample, look; what is installed, who computes what."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TextIO

from microgpt.errors import MicrogptError
from microgpt.plugins import PluginWarning

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with `arguments` (by default those of the process).

    Returns:
        The exit status: 0, 1 if `doctor` found that the base does not work, `check` that a
        backend is not right or `bisect` that two part, 2 after an error, 130 after Ctrl-C, and 143
        if `train` was ended by SIGTERM.

    Example:
        >>> from microgpt.cli import main
        >>> main(["backends", "--op", "relu"])  # doctest: +ELLIPSIS
        relu: max(x, 0); the gradient at 0 is 0
        ...
        0
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    own, others = _parted(given)
    parser, names = _parser()
    unknown = _word(own)
    if unknown is not None and unknown not in names:
        print(
            f"microgpt: there is no command '{unknown}'{_nearest(unknown, names)}", file=sys.stderr
        )
        return 2
    options = parser.parse_args(own)
    options.arguments = others
    options.debug = options.debug or (options.run is _train and "--debug" in others)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # formulas must not fail where output is ASCII only
            stream.reconfigure(errors="replace")  # pyright: ignore[reportAttributeAccessIssue]
    try:
        with warnings.catch_warnings():
            # Commands that list the plugins say there what is wrong with them.
            listed = options.run in (_doctor, _backends)
            warnings.simplefilter("ignore" if listed else "always", PluginWarning)
            warnings.showwarning = _show_warning
            status = options.run(options)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # The reader (`| head`) has seen enough. Python would complain once more while exiting.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if options.debug:
            traceback.print_exc()
        elif isinstance(error, MicrogptError | OSError):  # a full disk is nobody's mistake here
            print(f"microgpt: {error}", file=sys.stderr)
        else:
            print(
                f"microgpt: {type(error).__name__}: {error}\n"
                "This is a mistake of microgpt or of a plugin; --debug shows where it happened.",
                file=sys.stderr,
            )
        return 2


def _parted(given: list[str]) -> tuple[list[str], list[str]]:
    """The arguments that are parsed here, and those that the command deals with itself."""
    name = _word(given)
    if name == "train":  # which arguments there are depends on the model
        end = given.index(name) + 1
        return given[:end], given[end:]
    if name == "bisect" and "--" in given:  # what stands behind is for the script that it runs
        end = given.index("--")
        return given[:end], given[end + 1 :]
    return given, []


def _word(given: Sequence[str]) -> str | None:
    """The first argument that is no flag: the command."""
    return next((word for word in given if not word.startswith("-")), None)


def _nearest(name: str, valid: Sequence[str]) -> str:
    close = get_close_matches(name, valid, n=1)
    return (f"; did you mean '{close[0]}'?" if close else "") + f"\n(valid: {', '.join(valid)})"


def _parser() -> tuple[argparse.ArgumentParser, list[str]]:
    """The parser, and the names of the commands."""
    from microgpt import __version__

    parser = argparse.ArgumentParser(
        prog="microgpt",
        description="Trains models and uses them; shows what microgpt finds on this machine.",
    )
    parser.add_argument("--version", action="version", version=f"microgpt {__version__}")
    parser.add_argument("--debug", action="store_true", help="show tracebacks of errors")
    parser.set_defaults(run=lambda _: parser.print_help() or 0)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    def command(name: str, line: str, run: Any) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=line, description=line[0].upper() + line[1:] + ".")
        # SUPPRESS: `microgpt --debug ops` must not be undone by the command's own default.
        made.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS, help="show tracebacks"
        )
        made.set_defaults(run=run)
        return made

    command("train", "train a model: microgpt train gpt --data names (--help lists all)", _train)
    write = command("sample", "let a trained model write", _sample)
    judged = command("eval", "say how good a trained model is on what it has not learnt", _eval)
    shown = command("info", "show the settings, parameters, losses and files of a run", _info)
    for made in (write, judged, shown):
        made.add_argument("run_folder", metavar="RUN", help="its folder, such as runs/gpt-names")
    write.add_argument("--prompt", metavar="TEXT", default="", help="what the text begins with")
    write.add_argument("--max-tokens", metavar="N", type=int, default=200, help="at most (200)")
    write.add_argument(
        "--temperature", metavar="T", type=float, default=0.8,
        help="0: always the likeliest token; 1: as it has learnt (0.8)",
    )  # fmt: skip
    write.add_argument("--top-k", metavar="K", type=int, help="draw from the K likeliest only")
    write.add_argument(
        "--top-p", metavar="P", type=float, help="draw from the likeliest, together P, only"
    )
    write.add_argument("--seed", metavar="N", type=int, help="the same seed, the same texts")
    write.add_argument("--count", metavar="N", type=int, default=1, help="how many texts (1)")
    write.add_argument("--stream", action="store_true", help="show each piece when it comes")
    for made in (judged, shown):
        made.add_argument("--json", action="store_true", help="print JSON, for programs")
    for made in (write, judged):
        made.add_argument(
            "--weights", choices=("best", "last"), help="by default the best, if there are any"
        )
        made.add_argument("--backend", metavar="NAME", help="by default that of the training")
        made.add_argument("--device", metavar="NAME", help="of the backend")
    command("doctor", "check the installation and say what would mend it", _doctor)
    listing = command("backends", "list the backends, and which plugin serves which op", _backends)
    which = listing.add_mutually_exclusive_group()
    which.add_argument("--ops", action="store_true", help="for every op, who serves it")
    which.add_argument("--op", metavar="NAME", help="for one op, who serves it, in order")
    table = command("ops", "show the op table: formulas, gradients, kernels", _ops)
    table.add_argument("name", nargs="?", metavar="NAME", help="everything about one op")
    table.add_argument("--markdown", action="store_true", help="the reference table, as Markdown")
    command("config", "show the settings in effect and where each comes from", _config)
    judge = command("check", "check that a backend computes every op and gradient rightly", _check)
    judge.add_argument("--backend", metavar="NAME", help="by default the configured one")
    judge.add_argument("--examples", metavar="N", type=int, default=20, help="inputs per op (20)")
    judge.add_argument("--json", metavar="FILE", help="write everything that was found there")
    judge.add_argument(
        "--tier", metavar="N", type=int, nargs="+", action="extend", help="only these tiers"
    )
    both = command(
        "bisect", "run a script on two backends, find the first op that differs", _bisect
    )
    both.add_argument("script", metavar="SCRIPT", help="its own arguments come last, behind --")
    both.add_argument("--backends", metavar="A,B", required=True, help="numpy,opencl for instance")
    both.add_argument("--seed", metavar="N", type=int, help="the setting 'seed' while it runs")
    both.add_argument(
        "--rtol", metavar="R", type=float, help="allow this share of a result's largest element"
    )
    taught = command("learn", "list the lessons, or run some: microgpt learn 7", _learn)
    taught.add_argument(
        "lessons", nargs="*", metavar="LESSON", help="chapters (1 to 8, talk), names"
    )
    taught.add_argument("--all", action="store_true", help="all of them")
    taught.add_argument("--fast", action="store_true", help="shrunk: seconds instead of minutes")
    taught.add_argument("--solutions", action="store_true", help="the solutions of their exercises")
    taught.add_argument("--seed", metavar="N", type=int, help="of weights, batches and samples")
    taught.add_argument("--backend", metavar="NAME", help="by default the configured one")
    taught.add_argument("--data", metavar="FOLDER", help="that holds the data sets already")
    taught.add_argument(
        "--out", metavar="FOLDER", type=Path, default=Path("out"), help="for pictures (out)"
    )
    taught.add_argument(
        "--jobs", metavar="N", type=int, help="how many at once (with --all one per core, else 1)"
    )
    told = command("explain", "explain an error: microgpt explain in-place", _explain)
    told.add_argument("topic", nargs="?", metavar="TOPIC", help="as the message names it")
    hall = command("museum", "look at bugs that people make, and let the checks find them", _museum)
    hall.add_argument(
        "action",
        nargs="?",
        choices=("list", "ask", "show", "run"),
        default="list",
        help="by default list",
    )
    hall.add_argument("number", nargs="?", type=int, metavar="NUMBER", help="of a bug, 1 to 60")
    return parser, list(commands.choices)


# Each command imports what it needs when it runs, so that none slows the others down.


def _train(options: argparse.Namespace) -> int:
    from microgpt.cli.train import main as train

    return train(options.arguments)


def _sample(options: argparse.Namespace) -> int:
    from microgpt.cli.sample import sample

    return sample(options)


def _eval(options: argparse.Namespace) -> int:
    from microgpt.cli.evaluate import evaluate

    return evaluate(options)


def _info(options: argparse.Namespace) -> int:
    from microgpt.cli.info import info

    return info(options.run_folder, options.json)


def _learn(options: argparse.Namespace) -> int:
    from microgpt.cli.learn import learn

    return learn(options)


def _explain(options: argparse.Namespace) -> int:
    from microgpt.cli.explain import explain

    return explain(options.topic)


def _doctor(_: argparse.Namespace) -> int:
    from microgpt.cli.doctor import report

    return report()


def _backends(options: argparse.Namespace) -> int:
    from microgpt.cli import backends

    if options.op:
        backends.show_op(options.op)
    else:
        backends.show_backends(every_op=options.ops)
    return 0


def _ops(options: argparse.Namespace) -> int:
    from microgpt.cli import ops

    if options.name:
        ops.show_op(options.name)
    elif options.markdown:
        ops.show_markdown()
    else:
        ops.show_table()
    return 0


def _config(_: argparse.Namespace) -> int:
    from microgpt.cli.text import table
    from microgpt.config import effective

    found = effective()
    rows = [(key, _value(setting.value), setting.source) for key, setting in found.items()]
    print(table(("setting", "value", "from"), rows))
    print(
        "\nStronger first: a call's argument, a with block, the environment (MICROGPT_BACKEND, …),"
    )
    print(
        "microgpt.toml or [tool.microgpt] of a pyproject.toml in this folder or above, the default."
    )
    return 0


def _check(options: argparse.Namespace) -> int:
    from microgpt.cli.check import check

    return check(options.backend, options.examples, options.json, options.tier)


def _bisect(options: argparse.Namespace) -> int:
    from microgpt.cli.bisect import bisect

    return bisect(options.script, options.backends, options.arguments, options.seed, options.rtol)


def _museum(options: argparse.Namespace) -> int:
    from microgpt.cli.museum import visit

    return visit(options.action, options.number)


def _value(value: Any) -> str:
    if value is None or value == ():
        return "-"
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    print(f"microgpt: warning: {message}", file=sys.stderr)
