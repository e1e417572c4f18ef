"""Fuzz one target or all of them: `python -m tests.fuzz [NAME …] --seconds N`.

Coverage guides it (atheris, libFuzzer); where atheris has no wheel, chance alone changes the
seeds, and the result says so. Inputs that crash are written to `.fuzz/`, which is not kept;
whoever finds one adds it to the seeds, so that `make test` meets it for ever.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

ROOM: Final = 16 * 1024
_CORPUS: Final = Path(".fuzz")


def main() -> int:
    """Run the targets one after the other; the worst exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--seed", type=int, default=0, help="0: another one each time")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.alone:
        fuzz = _guided if importlib.util.find_spec("atheris") else _blind
        return fuzz(asked.names[0], asked.seconds, asked.seed)
    from tests.fuzz.targets import TARGETS  # noqa: PLC0415 - the children import it instrumented

    names = asked.names or list(TARGETS)
    return max(_apart(name, asked.seconds, asked.seed) for name in names)


def _apart(name: str, seconds: int, seed: int) -> int:
    """One target in a process of its own: libFuzzer ends the one it runs in."""
    more = [name, "--alone", "--seconds", str(seconds), "--seed", str(seed)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", *more],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    counted = [line for line in done.stdout.splitlines() if line.startswith("Done ")]
    if done.returncode or not counted:
        sys.stdout.write(done.stdout[-8000:])
    print(f"{name}: {counted[0] if counted else 'crashed'}")  # noqa: T201 - its result
    return done.returncode


def _guided(name: str, seconds: int, seed: int) -> int:
    # What it instruments is imported below it.
    import atheris  # type: ignore[import-untyped]  # noqa: PLC0415

    with atheris.instrument_imports(include=["migrator", "shims"]):
        from tests.fuzz import targets  # noqa: PLC0415

    corpus = _CORPUS / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(targets.SEEDS[name]):
        (corpus / f"seed-{number}").write_bytes(data)

    def one(data: bytes) -> None:
        targets.run(name, data)

    arguments: list[Any] = [
        sys.argv[0],
        f"-max_total_time={seconds}",
        f"-max_len={ROOM}",
        f"-seed={seed}",
        f"-artifact_prefix={_CORPUS}/{name}-",
        "-rss_limit_mb=2048",
        "-timeout=10",
        "-print_final_stats=0",
        str(corpus),
    ]
    atheris.Setup(arguments, one)
    atheris.Fuzz()
    return 0


def _blind(name: str, seconds: int, seed: int) -> int:
    from tests.fuzz import targets  # noqa: PLC0415 - as above

    dice = random.Random(seed or None)
    until, runs = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        data = bytearray(dice.choice(targets.SEEDS[name]))
        for _ in range(dice.randrange(8)):
            at = dice.randrange(len(data) + 1)
            data[at : at + dice.randrange(3)] = dice.randbytes(dice.randrange(4))
        runs += 1
        try:
            targets.run(name, bytes(data))
        except BaseException:
            _CORPUS.mkdir(exist_ok=True)
            (_CORPUS / f"{name}-crash").write_bytes(data)
            raise
    print(f"Done {runs} runs, unguided: atheris is not installed")  # noqa: T201 - its result
    return 0


if __name__ == "__main__":
    sys.exit(main())
