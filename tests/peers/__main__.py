"""Print how many of PyTorch's samples are used: `python -m tests.peers [NAME …]`."""

from __future__ import annotations

import sys
import time

from microgpt.ops import TABLE
from tests.peers.adapters import ADAPTERS
from tests.peers.comparison import Outcome, examine, load


def main(names: list[str]) -> int:
    infos = load()
    total, wrong = Outcome(), 0
    start = time.perf_counter()
    for key in names or ADAPTERS:
        found = examine(key, ADAPTERS[key], infos)
        total.used += found.used
        total.lacking += found.lacking
        total.strided += found.strided
        total.ops |= found.ops
        wrong += len(found.wrong)
        left_out = ", ".join(f"{n} with {why}" for why, n in found.lacking.most_common())
        print(f"{key:52} {found.used:4} of {found.samples:4}  {left_out}".rstrip())
        for text in found.wrong:
            print(f"    {text}")
    seconds = time.perf_counter() - start
    print(
        f"{len(names or ADAPTERS)} ops, {total.used} of {total.samples} samples used, "
        f"{total.strided} of them not contiguous, {len(total.ops & set(TABLE))} rows of the op "
        f"table, {wrong} differences, {seconds:.1f} s"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
