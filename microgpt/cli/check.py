"""`microgpt check`: does a backend compute every op, and every gradient, rightly?"""

from __future__ import annotations

from collections.abc import Sequence

from microgpt.testing.conformance import check_backend


def check(
    backend: str | None, examples: int = 20, json: str | None = None,
    tiers: Sequence[int] | None = None,
) -> int:  # fmt: skip
    """Run the conformance kit and print what it finds, as it goes.

    Args:
        backend: its name; None: the configured one.
        examples: drawn inputs per op.
        json: a file to write everything to.
        tiers: numbers of the tiers to run; None: all.

    Returns:
        The exit status: 0 if the backend is right, 1 if it is not.

    Raises:
        BackendError: if there is no such backend.
    """

    def tell(line: str) -> None:
        print(line, flush=True)

    verdict = check_backend(backend, examples, tell, tiers)
    if json:
        verdict.write_json(json)
    return 0 if verdict.ok else 1
