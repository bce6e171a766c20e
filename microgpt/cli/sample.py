"""`microgpt sample`: texts that a trained model writes."""

from __future__ import annotations

import argparse
import sys

from microgpt import runs
from microgpt.errors import InputError


def loaded(options: argparse.Namespace) -> runs.Trained:
    """The trained model that the arguments name."""
    return runs.load(
        options.run_folder,
        weights=options.weights,
        backend=options.backend,
        device=options.device,
    )


def sample(options: argparse.Namespace) -> int:
    """Write texts; the exit status."""
    if options.count < 1:
        raise InputError(f"--count must be 1 or more; got {options.count}")
    if options.seed is not None and options.seed < 0:
        raise InputError(f"--seed must be 0 or more; got {options.seed}")
    if options.count > 1 and (options.temperature == 0 or options.top_k == 1):
        why = "--temperature 0" if options.temperature == 0 else "--top-k 1"
        print(
            f"microgpt: note: with {why} nothing is drawn, so all texts are the same",
            file=sys.stderr,
        )
    trained = loaded(options)
    lines = trained.settings.data.documents == "lines" if trained.tokenizer else False
    for number in range(options.count):
        if number and not lines:
            print("\n" + "-" * 40)
        pieces = trained.write(
            options.prompt,
            options.max_tokens,
            options.temperature,
            options.top_k,
            options.top_p,
            None if options.seed is None else options.seed + number,
        )
        try:
            if options.stream:
                print(options.prompt, end="", flush=True)
                for piece in pieces:
                    print(piece, end="", flush=True)
            else:
                print(options.prompt + "".join(pieces), end="")
        finally:
            print()
    sys.stdout.flush()
    return 0
