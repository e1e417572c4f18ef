"""`status --watch`: redrawn in place on a terminal, a line at a time elsewhere, 0 at Ctrl-C."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.deployment import Deployment, validate

if TYPE_CHECKING:
    from collections.abc import Iterator

MIGRATOR = str(Path(sys.executable).parent / "migrator")


@pytest.fixture
def place(migrated: str, tmp_path: Path) -> Deployment:
    found = Deployment(migrated, tmp_path)
    found.beat("n1", "n2")
    return found


@contextmanager
def watching(
    place: Deployment, *args: str, terminal: int | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    command = [MIGRATOR, "--config", str(place.config), "status", *args]
    environ = {**os.environ, **place.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
    out = subprocess.PIPE if terminal is None else terminal
    with subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL, stdout=out) as process:
        try:
            yield process
        finally:
            process.kill()


def read_line(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().decode()


def test_elsewhere_than_on_a_terminal_it_is_a_line_at_a_time_until_ctrl_c(
    place: Deployment,
) -> None:
    with watching(place, "--watch", "0.1") as process:
        assert read_line(process).startswith("phase=observe epoch=1 ")
        place.put("swap", percent=40)
        while not (line := read_line(process)).startswith("phase=swap epoch=2 "):
            assert line.startswith("phase=observe ")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


def test_with_json_each_line_is_a_whole_answer(place: Deployment) -> None:
    with watching(place, "--json", "--watch") as process:
        found = json.loads(read_line(process))
        validate(found, "status")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


def test_on_a_terminal_the_screen_is_drawn_again_in_place(place: Deployment) -> None:
    ours, theirs = pty.openpty()
    drawn = b""
    with watching(place, "--watch", "0.1", terminal=theirs) as process:
        deadline = time.monotonic() + 30
        while drawn.count(b"migrator status") < 3:
            assert time.monotonic() < deadline, drawn
            drawn += os.read(ours, 65_536)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    os.close(ours)
    os.close(theirs)
    assert b"\x1b[1A" in drawn  # up, over what was drawn before
    assert "OBSERVE ─ swap ─ drain".encode() in drawn


def test_the_census_is_not_watched(place: Deployment) -> None:
    assert "--detail is longer" in place.run("status", "--watch", "--detail", code=2).stderr
