"""The `microgpt` command: what is installed, who computes what, which settings are in effect."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any, TextIO

from microgpt.errors import MicrogptError
from microgpt.plugins import PluginWarning

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with `arguments` (by default those of the process).

    Returns:
        The exit status: 0, 1 if `doctor` found that the base does not work, `check` that a
        backend is not right or `bisect` that two part, 2 after an error.

    Example:
        >>> from microgpt.cli import main
        >>> main(["backends", "--op", "relu"])  # doctest: +ELLIPSIS
        relu: max(x, 0); the gradient at 0 is 0
        ...
        0
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    # What stands behind -- is for the script that `bisect` runs.
    end = given.index("--") if "bisect" in given and "--" in given else len(given)
    options = _parser().parse_args(given[:end])
    options.arguments = given[end + 1 :]
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
        elif isinstance(error, MicrogptError):
            print(f"microgpt: {error}", file=sys.stderr)
        else:
            print(
                f"microgpt: {type(error).__name__}: {error}\n"
                "This is a mistake of microgpt or of a plugin; --debug shows where it happened.",
                file=sys.stderr,
            )
        return 2


def _parser() -> argparse.ArgumentParser:
    from microgpt import __version__

    parser = argparse.ArgumentParser(
        prog="microgpt",
        description="Shows what microgpt finds on this machine and what it will do.",
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
    hall = command("museum", "look at bugs that people make, and let the checks find them", _museum)
    hall.add_argument(
        "action",
        nargs="?",
        choices=("list", "ask", "show", "run"),
        default="list",
        help="by default list",
    )
    hall.add_argument("number", nargs="?", type=int, metavar="NUMBER", help="of a bug, 1 to 60")
    return parser


# Each command imports what it needs when it runs, so that none slows the others down.


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
