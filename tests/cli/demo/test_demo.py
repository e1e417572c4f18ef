"""The rehearsal itself: the main acceptance of the project, run as an operator runs it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import migrator
from migrator.cli.demo import processes

# One at a time: two rehearsals on two cores would measure each other.
pytestmark = [pytest.mark.xdist_group("demo"), pytest.mark.timeout(600)]

_PROGRAM = [sys.executable, "-c", "from migrator.cli import main; main(prog_name='migrator')"]
_CREDENTIAL = re.compile(r"\beyJ[\w-]+\.[\w-]+\.|\b(?:sess|pat)_[0-9A-Za-z]{49}\b")


@pytest.fixture
def place() -> Iterator[Path]:
    """A short directory that is the rehearsal's temporary one, open to the servers' account."""
    path = Path(tempfile.mkdtemp(prefix="m", dir="/tmp"))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def start(place: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*_PROGRAM, "demo", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=place,
        env={**os.environ, "TMPDIR": str(place)},
    )


def rehearse(place: Path, *words: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, result and talk of a whole rehearsal."""
    with start(place, "--json", *words) as process:
        out, err = process.communicate()
    result: dict[str, Any] = json.loads(out)
    schema = Path(migrator.__file__).parent / "schemas/demo-1.json"
    jsonschema.validate(result, json.loads(schema.read_text()))
    assert not _CREDENTIAL.search(out + err), "a credential was printed"
    assert list(place.iterdir()) == []
    return process.returncode, result, err


def test_p12_the_whole_migration_logs_nobody_out(place: Path) -> None:
    code, result, talk = rehearse(place)
    assert (code, result["faults"]) == (0, []), talk
    assert result["logged_out_unintentionally"] == 0
    assert result["revoked_admitted_past_bound"] == 0
    assert result["wrong_user"] == 0
    assert result["stragglers"] == ["report-bot/1.0"]
    assert result["adopted_backfilled"] >= 24
    assert result["probe"] == [
        "admitted",
        "401 legacy_retired",
        "admitted",
        "401 legacy_retired",
        "401 legacy_retired",
    ]
    said = iter(talk.splitlines())
    for command in (
        "$ migrator db upgrade",
        "$ migrator advance swap --percent 10",
        "$ migrator backfill simplejwt",
        "$ migrator advance swap --percent 100",
        "$ migrator sessions revoke --stdin",
        "$ migrator advance drain",
        "$ migrator cutover --all",
        "report-bot/1.0",
        "$ migrator cutover --all",
        "$ migrator rollback",
        "$ migrator cutover --all",
        "$ migrator retire",
    ):
        assert any(command in line for line in said), f"{command}, in its turn:\n{talk}"


def test_a_cutover_without_its_drain_is_seen_to_log_users_out(place: Path) -> None:
    """The test of the test: a rehearsal that could not fail would prove nothing."""
    code, result, _ = rehearse(place, "--skip-drain")
    assert code == 1
    assert result["ok"] is False
    assert result["logged_out_unintentionally"] > 0
    assert result["evidence"]


@pytest.mark.parametrize("sign", ["log in to the app", "$ migrator advance swap --percent 10"])
def test_interrupted_at_any_moment_it_leaves_nothing(place: Path, sign: str) -> None:
    with start(place) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if sign in line:
                break
        below = processes.descendants(process.pid)
        directories = [path for pid in below for path in _data_directories(pid)]
        process.send_signal(signal.SIGINT)
        process.communicate()
    assert process.returncode == 130
    assert below
    assert directories
    deadline = time.monotonic() + 20
    while any(map(processes.is_running, below)) or any(map(Path.exists, directories)):
        assert time.monotonic() < deadline, "something was left behind"
        time.sleep(0.05)
    assert list(place.iterdir()) == []


def test_a_dry_run_starts_nothing(place: Path) -> None:
    with start(place, "--dry-run") as process:
        _, said = process.communicate()
    assert process.returncode == 0
    assert "migrator advance drain" in said


def _data_directories(pid: int) -> list[Path]:
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if b"-D" in words:
            return [Path(os.fsdecode(words[words.index(b"-D") + 1]))]
    return []
