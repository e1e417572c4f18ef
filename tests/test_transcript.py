"""Somebody who read README and playbooks only migrates the demo's app, and goes all the way back.

The app runs in one process (`migrator demo --keep`), every command in others, typed as the pages
show them; only the environment is called `demo` there. What they print is held against
`transcript.txt`, which UPDATE_DOCS=1 writes anew.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from migrator.control import right_now
from tests.docs_blocks import blocks, commands
from tests.docs_book import ALL

TRANSCRIPT = Path(__file__).with_name("transcript.txt")
_PATIENCE_S = 60.0
_PAUSE_S = 0.5
_PROGRAM = (sys.executable, "-c", "from migrator.cli import main; main(prog_name='migrator')")

pytestmark = [pytest.mark.xdist_group("demo"), pytest.mark.timeout(900)]


@dataclass(frozen=True, slots=True)
class Typed:
    """A command as it is typed, and how it ends.

    code: its exit code. again: typed until it ends so, as somebody does who waits.
    told: whether what it prints is in the transcript; versions of this machine are not.
    """

    line: str
    code: int = 0
    again: bool = False
    told: bool = True


_ME_BY_JWT = 'curl -s -i -H @jwt.header "$APP/me"'
_ME_BY_SESSION = 'curl -s -i -H @session.header "$APP/me"'
_KEEP_SESSION = (
    'umask 077; curl -s -i -H @jwt.header "$APP/me"'
    " | sed -n 's/^session-token: /Authorization: Bearer /p' | tr -d '\\r' > session.header"
)
ROLLOUT = (
    Typed("migrator db upgrade"),
    Typed("migrator init --record"),
    Typed("migrator inspect < probe.jwt"),
    Typed("migrator doctor", told=False),
    Typed("migrator gates swap", again=True),
    Typed(_ME_BY_JWT),
    Typed("migrator advance swap --percent 10 --dry-run"),
    Typed('migrator advance swap --percent 10 --confirm demo --reason "CHG-4411 first cohort"'),
    Typed('migrator advance swap --percent 100 --confirm demo --reason "CHG-4412 everybody"'),
    Typed(_KEEP_SESSION),
    Typed(_ME_BY_SESSION),
    Typed("migrator gates drain", again=True),
    Typed('migrator advance drain --confirm demo --reason "CHG-4420 issuance off"'),
    Typed("migrator gates cutover", code=3),
    Typed(_ME_BY_JWT),
    Typed('migrator sessions revoke --stdin --reason "bot moved to an API token" < bot.jwt'),
    Typed("migrator gates cutover", again=True),
    Typed('migrator plan cutover --all --reason "CHG-4502 cutover"'),
    Typed("migrator cutover --all --dry-run"),
    Typed('migrator cutover --all --confirm demo --reason "CHG-4502 cutover"'),
    Typed("migrator status --line"),
    Typed(_ME_BY_SESSION),
    Typed(_ME_BY_JWT),
    Typed('migrator rollback --drill --reason "CHG-4490 drill before the night"'),
    Typed('migrator rollback --reason "INC-93 twice the forecast"'),
    Typed(_ME_BY_JWT),
    Typed('migrator rollback --reason "CHG-4510 out again: to swap"'),
    Typed('migrator rollback --reason "CHG-4510 out again: to observe"'),
    Typed("migrator rollback", code=3),
    Typed(_ME_BY_SESSION),
    Typed("migrator log"),
)

# What differs from run to run and from machine to machine, and what stands for it.
_VARIES = (
    (r"(?m)^ +acks .*\n", ""),
    (r"(?m)^(date|content-length|content-type|x-worker|server): .*\n", ""),
    (r"(?m)^(sunset|deprecation): .*$", r"\1: …"),
    (r"sess_[0-9A-Za-z]{49}", "sess_…"),
    (r"(?m)^( +[✗~?] [\w-]+) .*(?:\n {19,}.*)*$", r"\1 …"),
    (r"(?m) *\n {20,}", " "),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?Z?", "TIME"),
    (r"\b\d\d:\d\d:\d\d(\.\d+)?Z?", "TIME"),
    (r"\b\d+(\.\d+)? (ms|s|min|h|d)\b( \d+ (min|h|s)\b)?", "SPAN"),
    (r"\b\d+(\.\d+)?%", "N%"),
    (r"\b[Pp]lan [0-9a-f]{4,}\b", "plan ID"),
    (r"(?m)^(  )?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", r"\1ID"),
    (r"\bsubjects=\d+", "subjects=N"),
    (r"(?m)  +", "  "),
    (r"(?m) +$", ""),
)


def test_who_read_only_the_pages_migrates_the_demo_and_goes_all_the_way_back() -> None:
    written = []
    with kept() as variables:
        for typed in ROLLOUT:
            printed = _type(typed, variables)
            written.append(f"$ {typed.line}" + (f"  # exit {typed.code}" if typed.code else ""))
            written.append(normalised(printed) if typed.told else "…\n")
    text = "\n".join(written)
    if os.environ.get("UPDATE_DOCS") == "1":
        TRANSCRIPT.write_text(text)
    assert text.splitlines() == TRANSCRIPT.read_text().splitlines()


def test_every_command_of_the_transcript_stands_in_a_page() -> None:
    shown = {
        command.command
        for page in ALL
        for block in blocks(page, "console")
        for command in commands(block)
    }
    here = {right_now.here(f"```console\n{line}\n```", "demo").splitlines()[1] for line in shown}
    assert {typed.line for typed in ROLLOUT} - here == set()


@contextmanager
def kept() -> Iterator[Path]:
    """The demo's app under its users; the file of variables. Nobody may be logged out by then."""
    place = Path(tempfile.mkdtemp(prefix="m", dir="/tmp"))
    place.chmod(0o777)
    said = place / "said"
    with said.open("wb") as talk:
        demo = subprocess.Popen(
            [*_PROGRAM, "demo", "--keep"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=talk,
            text=True,
            env={**os.environ, "TMPDIR": str(place)},
        )
    try:
        assert demo.stdout is not None
        line = demo.stdout.readline()
        assert line.startswith(". "), said.read_text()
        yield Path(line[2:].strip())
        demo.send_signal(signal.SIGINT)
        demo.wait(_PATIENCE_S)
        assert demo.returncode == 0, said.read_text()
        assert [path.name for path in place.iterdir()] == ["said"]
        assert " 0 users logged out unintentionally" in said.read_text(), said.read_text()
        assert "eyJ" not in said.read_text()
    finally:
        demo.kill()
        demo.wait()
        if demo.stdout is not None:
            demo.stdout.close()
        shutil.rmtree(place, ignore_errors=True)


def _type(typed: Typed, variables: Path) -> str:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        done = subprocess.run(
            ["/bin/sh", "-c", f". {variables}; {typed.line}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "MIGRATOR_OPERATOR": "dana"},
            check=False,
            timeout=_PATIENCE_S * 2,
        )
        printed = done.stdout.decode()
        if done.returncode == typed.code:
            return printed
        if not typed.again or time.monotonic() > deadline:
            raise AssertionError(
                f"{typed.line}\nexit {done.returncode}, not {typed.code}\n{printed}"
            )
        time.sleep(_PAUSE_S)


def normalised(printed: str) -> str:
    """What stays the same."""
    text = printed.replace("\r\n", "\n").rstrip() + "\n"
    for pattern, stands in _VARIES:
        text = re.sub(pattern, stands, text)
    return text
