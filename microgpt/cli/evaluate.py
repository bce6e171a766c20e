"""`microgpt eval`: how good a trained model is on what it has not learnt from."""

from __future__ import annotations

import argparse
import json

from microgpt.cli.progress import perplexity, scores_line
from microgpt.cli.sample import loaded
from microgpt.cli.text import fields


def evaluate(options: argparse.Namespace) -> int:
    """Evaluate and print; the exit status."""
    trained = loaded(options)
    scores, split = trained.evaluate()
    text = trained.tokenizer is not None
    if options.json:
        found = {
            "run": str(trained.folder),
            "kind": trained.settings.kind,
            "data": trained.settings.data.data,
            "split": split,
            "weights": trained.weights,
            "step": trained.step,
            **scores,
            **({"perplexity": perplexity(scores["loss"])} if text else {}),
        }
        print(json.dumps(found, indent=1))
    else:
        rows = [
            ("model", f"{trained.folder}, {trained.weights} weights, step {trained.step:,}"),
            (split, scores_line(scores, trained.tokenizer)),
        ]
        print(fields(rows, indent=0))
    return 0
