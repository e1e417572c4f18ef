"""Moves that somebody is asked about: what got worse while they thought is not committed."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.deployment import Deployment
from tests.cli.test_moves import NODES

if TYPE_CHECKING:
    from collections.abc import Iterator

MIGRATOR = str(Path(sys.executable).parent / "migrator")
CUTOVER = ("cutover", "--all")
QUESTION = b"Type the environment name"


@pytest.fixture
def place(migrated: str, tmp_path: Path) -> Deployment:
    """Drain, and one robot whose token is good for a month: somebody takes that on their name."""
    found = Deployment(migrated, tmp_path)
    found.put("drain")
    found.sight("robot-7", "bot")
    found.beat(*NODES)
    return found


def overridden(place: Deployment) -> str:
    given = place.move("override", "add", "drain-horizon", "--reason", "a robot", "--for", "1h")
    return str(given["override"]["id"])


class Asked:
    """A move on a terminal, which waits for an answer."""

    def __init__(self, process: subprocess.Popen[bytes], terminal: int) -> None:
        self._process = process
        self._terminal = terminal

    def answered(self) -> tuple[int, str]:
        """Type the name; how it ended and what was printed."""
        os.write(self._terminal, b"staging\n")
        out, _ = self._process.communicate(timeout=30)
        return self._process.returncode, out.decode()

    def stopped(self, code: int) -> dict[str, str]:
        """Type the name, and be refused: the page."""
        ended, said = self.answered()
        assert ended == code, said
        page: dict[str, str] = json.loads(said)["error"]
        return page


@contextmanager
def asked(place: Deployment, *args: str) -> Iterator[Asked]:
    ours, theirs = pty.openpty()
    command = [MIGRATOR, "--config", str(place.config), "--json", *args]
    environ = {**os.environ, **place.environ}
    with subprocess.Popen(
        command, env=environ, stdin=theirs, stderr=theirs, stdout=subprocess.PIPE
    ) as process:
        try:
            shown, until = b"", time.monotonic() + 30
            while QUESTION not in shown:
                assert time.monotonic() < until, shown
                assert process.poll() is None, shown
                if select.select([ours], [], [], 0.1)[0]:
                    shown += os.read(ours, 65_536)
            yield Asked(process, ours)
        finally:
            process.kill()
            os.close(ours)
            os.close(theirs)


def test_a_move_is_made_that_stands_as_it_was_shown(place: Deployment) -> None:
    number = overridden(place)
    with place.nodes(*NODES), asked(place, *CUTOVER) as waiting:
        code, said = waiting.answered()
    assert (code, json.loads(said)["state"]) == (0, "in_effect")
    row = next(row for row in place.json("log")["rows"] if row["command"] == "cutover")
    assert [str(one["id"]) for one in row["detail"]["overrides"]] == [number]


def test_an_override_that_is_revoked_while_somebody_is_asked_lets_nothing_pass(
    place: Deployment,
) -> None:
    number = overridden(place)
    with place.nodes(*NODES), asked(place, *CUTOVER) as waiting:
        place.run("override", "revoke", number)
        page = waiting.stopped(4)
    assert page["id"] == "gates.worse"
    assert "while this was asked: gate drain-horizon: overridden → fail" in page["what"]
    assert place.phase()[0] == "drain"


def test_more_users_than_were_shown_and_a_gate_that_turned_are_each_named(
    place: Deployment,
) -> None:
    overridden(place)
    with place.nodes(*NODES), asked(place, *CUTOVER) as waiting:
        place.sight("robot-8", "bot")
        place.run("hold", "add", "--reason", "freeze", "--for", "1h")
        page = waiting.stopped(4)
    assert "users refused: 1 → 2 (bot 1 → 2)" in page["what"]
    assert "gate no-hold: absent → fail (dana holds it until" in page["what"]
    assert page["do"] == "migrator gates cutover, then decide again"
    assert place.phase()[0] == "drain"


def test_fewer_users_than_were_shown_hold_nothing_up(place: Deployment) -> None:
    overridden(place)
    with place.nodes(*NODES), asked(place, *CUTOVER) as waiting:
        place.execute("DELETE FROM migrator.legacy_subjects")
        assert waiting.answered()[0] == 0


def test_whoever_moved_while_somebody_was_asked_is_named(place: Deployment) -> None:
    overridden(place)
    with place.nodes(*NODES), asked(place, *CUTOVER) as waiting:
        place.json("rollback")
        assert "dana ran `rollback`" in waiting.stopped(8)["what"]


def test_an_override_that_ends_between_the_gates_and_the_commit_is_asked_for_again(
    place: Deployment,
) -> None:
    """Nobody is asked here, and yet time passes: the commit looks once more."""
    number = overridden(place)
    place.execute(
        "CREATE FUNCTION migrator.first() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " UPDATE migrator.overrides SET revoked_at = now(), revoked_by = 'kim'; RETURN NEW;"
        " END $$"
    )
    place.execute(
        "CREATE TRIGGER first BEFORE UPDATE ON migrator.rollout"
        " FOR EACH ROW EXECUTE FUNCTION migrator.first()"
    )
    with place.nodes(*NODES):
        page = place.move(*CUTOVER, code=3)["error"]
    assert page["id"] == "override.ended"
    assert f"override {number} of the gate drain-horizon was revoked by kim" in page["what"]
    assert place.phase()[0] == "drain"


def test_a_rehearsal_of_a_move_that_the_gates_refuse_says_that_it_would_be(
    place: Deployment,
) -> None:
    with place.nodes(*NODES):
        found = place.json(*CUTOVER, "--dry-run", code=3)
        assert (found["would_change"], found["to"]) == (False, "cutover")
        said = place.run(*CUTOVER, "--dry-run", code=3).stdout
        assert said == "would be refused: drain-horizon; nothing was written\n"
        overridden(place)
        assert place.json(*CUTOVER, "--dry-run")["would_change"]


def test_a_retire_that_goes_on_takes_no_wrong_name(migrated: str, tmp_path: Path) -> None:
    place = Deployment(migrated, tmp_path)
    place.put("cutover")
    place.beat(*NODES)
    place.move("retire", "--wait", "0")
    with place.nodes(*NODES):
        refused = place.json("retire", "--confirm", "prod", code=9)
        assert refused["error"]["id"] == "confirm.declined"
        assert place.value("SELECT to_regclass('migrator.legacy_tokens')") is not None
        assert place.move("retire")["changed"]


def test_ctrl_c_comes_too_late_once_the_answer_is_being_printed(place: Deployment) -> None:
    """The answer is longer than its pipe, so it is half said when the signal comes."""
    reads, writes = os.pipe()
    fcntl.fcntl(writes, fcntl.F_SETPIPE_SZ, 4096)
    command = [MIGRATOR, "--config", str(place.config), "status", "--json"]
    environ = {**os.environ, **place.environ, "PYTHONUNBUFFERED": "1"}
    with (
        open(reads, "rb") as out,  # noqa: PTH123 - a descriptor
        subprocess.Popen(command, env=environ, stdout=writes) as process,
    ):
        os.close(writes)
        assert select.select([out], [], [], 30)[0]
        process.send_signal(signal.SIGINT)
        said = out.read()
        assert len(said) > 4096
        assert (process.wait(20), json.loads(said)["exit_code"]) == (0, 0)
