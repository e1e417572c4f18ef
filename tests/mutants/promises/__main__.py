"""Break each promise once, and see its test fail: `python -m tests.mutants.promises [P1 …]`.

`P<n>.patch` beside this file breaks promise n in a copy of the tree; the tests named here pass
without it and fail with it. A patch that no longer applies, or a test that does not notice, is a
failure. By hand, and in `make full`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[3]
PATCHES: Final = Path(__file__).parent
_COPIED: Final = ("migrator", "shims", "migrations", "tests", "playbooks", "pyproject.toml")
_LEFT_OUT: Final = shutil.ignore_patterns("__pycache__", "*.pyc", "node_modules")

# What breaks, and the file and test that have to see it.
PROMISES: Final = {
    "P1": (
        "a token is drawn, not derived",
        "tests/faults/test_outages.py",
        "test_p1_a_swap_whose_answer_was_lost_is_given_the_same_token_next_time",
    ),
    "P2": (
        "a fill does not ask what was evicted since it began",
        "tests/schedules/test_fills.py",
        "test_p2_nothing_comes_back_in_any_interleaving",
    ),
    "P3": (
        "a swapped session lasts as long as any",
        "tests/test_main_job.py",
        "test_p3_a_swap_carries_over_what_was_verified_and_nothing_more",
    ),
    "P4": (
        "who cannot be asked about is refused",
        "tests/faults/test_outages.py",
        "test_p4_with_postgres_killed_cached_sessions_are_answered_and_nobody_is_refused",
    ),
    "P5": (
        "in observe the shim lets no session in",
        "tests/test_phase_table.py",
        "test_p5_each_credential_gets_what_its_phase_says",
    ),
    "P6": (
        "a credential that is judged is logged",
        "tests/attacks/test_hostile_bytes.py",
        "test_p6_no_token_is_in_a_log_a_table_or_the_cache",
    ),
    "P7": (
        "an epoch is acknowledged before it is acted upon",
        "tests/test_pulse.py",
        "test_p7_an_epoch_is_acted_upon_before_it_is_acknowledged",
    ),
    "P8": (
        "a rehearsed hold is held",
        "tests/cli/test_dry_run.py",
        "test_p8_a_rehearsal_leaves_everything_as_it_was",
    ),
    "P9": (
        "there is no way back from the cutover",
        "tests/core/test_phases.py",
        "test_p9_every_phase_but_the_first_and_the_last_has_a_way_back",
    ),
    "P10": (
        "nothing bounds how deep JSON may be nested",
        "tests/core/test_strict.py",
        "test_p10_what_readers_read_differently_is_no_json",
    ),
    "P11": (
        "what is remembered is asked for all the same",
        "tests/faults/test_outages.py",
        "test_p11_the_hit_path_does_no_io_both_servers_frozen_it_answers",
    ),
    "P12": (
        "a swap hands nothing out",
        "tests/cli/demo/test_demo.py",
        "test_p12_the_whole_migration_logs_nobody_out",
    ),
}


def main(names: Iterable[str]) -> int:
    """Break those that are named, or all; how many nobody noticed."""
    asked = list(names) or list(PROMISES)
    missed = [why for name in asked if (why := verdict(name)) is not None]
    print(f"{len(asked) - len(missed)} of {len(asked)} broken promises were noticed")  # noqa: T201
    return len(missed)


def verdict(name: str) -> str | None:
    """Why breaking a promise was not noticed, or None."""
    broken, *named = PROMISES[name]
    test = "::".join(named)
    with tempfile.TemporaryDirectory(prefix="promise-") as folder:
        tree = Path(folder)
        for each in _COPIED:
            source = ROOT / each
            copy = shutil.copy if source.is_file() else _copy_folder
            copy(source, tree / each)
        why = None if _passes(tree, test) else "its test fails unbroken"
        if why is None and not _patched(tree, PATCHES / f"{name}.patch"):
            why = "its patch does not apply any more"
        if why is None and _passes(tree, test):
            why = "its test did not notice"
    print(f"{name:<4} {broken}: {why or 'noticed'}", flush=True)  # noqa: T201 - its result
    return why


def _copy_folder(source: Path, target: Path) -> None:
    shutil.copytree(source, target, ignore=_LEFT_OUT)


def _patched(tree: Path, patch: Path) -> bool:
    asked = ["patch", "--strip=1", "--fuzz=0", "--silent", f"--input={patch}"]
    return subprocess.run(asked, check=False, cwd=tree).returncode == 0


def _passes(tree: Path, test: str) -> bool:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", test],
        check=False,
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    if done.returncode not in {0, 1}:
        raise RuntimeError(f"pytest could not run {test}: exit {done.returncode}")
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
