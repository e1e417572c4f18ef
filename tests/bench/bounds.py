"""How soon a revocation binds, measured in every situation of design section 8.

    python -m tests.bench.bounds [--revocations N] [--only WORD]

Starts a Postgres and a Redis of its own and four nodes, and prints the README's table. A figure is
the time from the acknowledgement of a revocation to the beginning of the last request admitted by
another process; the strict column counts requests that began after it and were admitted at all.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Sequence

from tests.faults.bounds import ENTRY_S, SITUATIONS, measure, standing

_BATCH = 200


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 if a bound was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bounds", description=__doc__)
    parser.add_argument("--revocations", type=int, default=2000, help="of each situation")
    parser.add_argument("--only", default="", help="situations whose name has this in it")
    asked = parser.parse_args(arguments)
    batch, broken, began = min(_BATCH, asked.revocations), 0, time.monotonic()
    _say(
        f"{asked.revocations:,} revocations of each situation, batches of {batch}; ms; as shipped,"
    )
    _say(f"but entries in Redis live {ENTRY_S} s and not 60; {platform.machine()}")
    _say("| situation | promised | p50 | p99 | max | strict: admitted after it | presented |")
    _say("|---|---|---|---|---|---|---|")
    with standing() as stand:
        for situation in SITUATIONS:
            if asked.only not in situation.name:
                continue
            ordinary: list[float] = []
            late = presented = 0
            for _ in range(0, asked.revocations, batch):
                stand.recover()
                usual, strict = measure(stand, situation, batch)
                ordinary += usual.bounds_s
                late += strict.accepts + strict.hammered.alive
                broken += usual.hammered.alive
                presented += usual.hammered.presented + strict.hammered.presented
            broken += late + sum(one > situation.bound_s for one in ordinary)
            ranked = sorted(ordinary)
            figures = " | ".join(
                f"{ranked[min(len(ranked) - 1, int(share * len(ranked)))] * 1000:,.0f}"
                for share in (0.5, 0.99, 1.0)
            )
            _say(
                f"| {situation.name} | {situation.bound_s * 1000:,.0f} | {figures} | {late}"
                f" | {presented:,} |"
            )
    _say(f"{broken} bounds broken; {time.monotonic() - began:,.0f} s")
    return 1 if broken else 0


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - printing is what it does


if __name__ == "__main__":
    raise SystemExit(main())
