"""`python -m tests.soak`: hurt a whole deployment under load, check its history, print one page.

The seed decides which users do what, which faults come in which order and how long they last. It
does not decide how threads and processes interleave, when a packet arrives or how busy the machine
is: a finding is repeated by its kept history (`--check FILE`), not surely by its seed.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.soak import history, page
from tests.soak.checker import check
from tests.soak.soaking import Asked, soak

KEPT: Final = Path(__file__).parents[2] / ".soak"


def main(arguments: list[str] | None = None) -> int:
    """Run a soak; 1 where anything does not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--rate", type=float, default=80.0, help="users' own requests a second")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", action="store_true", help="keep the history of a good run too")
    parser.add_argument(
        "--check", type=Path, help="judge a kept history again, and do nothing else"
    )
    given = parser.parse_args(arguments)
    if given.check is not None:
        report = check(history.read(given.check))
        for finding in report.findings:
            _say(f"{finding.zero}: {finding.why}\n    {finding.record}")
        _say(str(report.zeros()))
        return 0 if report.holds else 1
    seed = secrets.randbelow(1_000_000) if given.seed is None else given.seed
    asked = Asked(seconds=given.seconds, seed=seed, rate=given.rate)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        soaked = soak(asked, Path(folder))
    _say(json.dumps(page.facts(soaked), indent=2) if given.json else page.text(soaked))
    if given.keep or not soaked.holds:
        KEPT.mkdir(exist_ok=True)
        kept = KEPT / f"{seed}-{given.seconds:g}s.jsonl"
        history.write(soaked.records, kept)
        sys.stderr.write(f"its history: {kept}\n")
    return 0 if soaked.holds else 1


def _say(words: str) -> None:
    sys.stdout.write(words + "\n")


if __name__ == "__main__":
    sys.exit(main())
