"""Acceptance: SIGKILL at every statement of every move leaves a state with a way back.

A command is a process of its own and speaks to Postgres through a tap that kills it. Whatever the
moment: the rollout stands before the move or after it and never between, row, journal and feed
agree, there is a way back, and running the command again comes to the end it would have come to.

`make test` kills before every statement that writes, locks or ends a transaction, and right after
those that make the move, and at a sample of those that only look; `make full` at every single one,
twenty times over.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from migrator.control import flip, rollout
from migrator.core.phases import Phase, Rollout
from tests.cli.deployment import Deployment
from tests.conftest import DatabaseServer
from tests.control.tapped import Commands, Tap, When, commands, tapped

CONFIRM = ("--confirm", "staging")
# Whatever else is sent can leave nothing behind but a closed connection.
_MATTERS = re.compile(
    r"(UPDATE|INSERT|DELETE|COMMIT|DROP|ALTER|CREATE|DO)\b|.*\b(FOR UPDATE|pg_advisory)", re.DOTALL
)
# Killed right after any other statement is killed before the next one.
_MAKES = re.compile(r"UPDATE|COMMIT")
_SAMPLE = 100


@dataclass(frozen=True)
class Move:
    """A move, where it starts, and how it is asked for again after a kill."""

    phase: str
    percent: int
    args: tuple[str, ...]
    again: tuple[str, ...] | None = None
    exceptions: str = "[]"


MOVES = {
    "swap": Move("observe", 0, ("advance", "swap", "--percent", "10", *CONFIRM)),
    "percent": Move("swap", 10, ("advance", "swap", "--percent", "60", *CONFIRM)),
    "drain": Move("swap", 100, ("advance", "drain", *CONFIRM)),
    "cutover": Move("drain", 100, ("cutover", "--all", *CONFIRM)),
    "segment": Move("drain", 100, ("cutover", "--segment", "client=ios", "--unseen", *CONFIRM)),
    "back": Move("cutover", 100, ("rollback",)),
    "back to observe": Move("swap", 50, ("rollback", "--to", "observe")),
    "back to swap": Move("drain", 100, ("rollback", "--to", "swap")),
    "back to drain": Move("cutover", 100, ("rollback", "--to", "drain")),
    "retire": Move("cutover", 100, ("retire", *CONFIRM)),
}


@pytest.fixture(scope="module")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    with commands(tmp_path_factory.mktemp("said")) as warm:
        yield warm


class Bench:
    """One move, made again and again from the same state and killed each time elsewhere."""

    def __init__(
        self, move: Move, server: DatabaseServer, template: str, directory: Path, starter: Commands
    ) -> None:
        self.move = move
        self._server = server
        self._directory = directory
        self._starter = starter
        self._start, self._name = "killed_start", "killed_once"
        self._place: Deployment | None = None
        place = Deployment(server.create_database(self._start, template), directory)
        if move.phase != "observe":
            place.put(move.phase, percent=move.percent)
        place.execute("UPDATE migrator.rollout SET exceptions = %s::jsonb", move.exceptions)

    def close(self) -> None:
        self._let_go()
        self._server.drop_database(self._start)

    def _let_go(self) -> None:
        if self._place is not None:
            self._server.drop_database(self._name)
            self._place = None

    def killed(self, at: int | None, when: When = "before") -> tuple[int, list[str]]:
        """Run it until statement `at`, hold what it left to the claims, and run it again.

        Where nothing was moved, the next kill meets what this one left: that is the repetition.

        Returns: how it ended, and the statements it sent.
        """
        if self._place is None:
            url = self._server.create_database(self._name, self._start)
            self._place = Deployment(url, self._directory)
        place = self._place
        before = flip.read(place.settings)[0]
        with tapped(place.url) as tap, place.nodes("n1", "n2"):
            ended = self._run(place, tap, at, when)
            sent = list(tap.statements)
            self._settled(place)
            moved = held_together(place, before)
            if at is None:
                assert moved
            elif moved:
                self._again(place, before)
        if moved:
            self._let_go()
        return ended, sent

    def _run(self, place: Deployment, tap: Tap, at: int | None, when: When) -> int:
        tap.arm(at, when)
        env = {**place.environ, "TEST_DATABASE_URL": tap.url_of(place.url)}
        running = self._starter.start(["--config", str(place.config), *self.move.args], env)
        tap.aim(running.pid)
        ended = running.wait()
        assert ended.code == 0 if at is None else ended.code in {0, -9}, ended.said
        return ended.code

    def _settled(self, place: Deployment) -> None:
        """A server ends the work of a client that is gone when it comes to notice."""
        until = time.monotonic() + 10
        while time.monotonic() < until:
            if not place.value(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND application_name LIKE 'migrator%%'"
            ):
                return
            time.sleep(0.005)
        raise TimeoutError("a backend of the command stays")

    def _again(self, place: Deployment, before: Rollout) -> None:
        if self.move.args == ("rollback",) and _said_in_effect(place, before.epoch + 1):
            return  # it had come to its end: typed again, it means one phase more
        found = place.json(*self.move.args)
        assert held_together(place, before)
        epoch = flip.read(place.settings)[0].epoch
        assert epoch == before.epoch + 1, "killed and repeated, it is one move"
        if self.move.args[0] != "retire":
            assert found["changed"] is False
        else:
            assert place.value("SELECT to_regclass('migrator.legacy_tokens')") is None
            assert place.json(*self.move.args)["changed"] is False


def _said_in_effect(place: Deployment, epoch: int) -> bool:
    noted = "SELECT count(*) FROM migrator.rollout_log WHERE command = 'in effect' AND epoch = %s"
    return bool(place.value(noted, epoch))


def held_together(place: Deployment, before: Rollout) -> bool:
    """Whether the move is made; and that row, journal, feed and tables agree on that."""
    after, mark = flip.read(place.settings)
    moves = place.execute(
        "SELECT epoch, to_phase, to_percent FROM migrator.rollout_log"
        " WHERE command NOT IN ('in effect', 'test') ORDER BY id"
    )
    fed = place.execute("SELECT key FROM migrator.feed ORDER BY id")
    moved = after.epoch > before.epoch
    if moved:
        assert moves == [(after.epoch, after.phase.value, after.percent)]
        assert fed == [(f"epoch:{after.epoch}",)]
    else:
        assert (after, moves, fed) == (before, [], [])
    kept: Any = place.value("SELECT to_regclass('migrator.legacy_tokens') IS NOT NULL")
    assert kept or after.phase is Phase.RETIRED, "destroyed before its commit"
    assert (mark is not None) == (after.phase is Phase.RETIRED)
    if after.phase not in {Phase.OBSERVE, Phase.RETIRED}:
        assert not rollout.back(after).gated
    noted = place.execute("SELECT epoch FROM migrator.rollout_log WHERE command = 'in effect'")
    assert len(noted) == len(set(noted))
    return moved


def points(sent: list[str], when: When, *, every: bool) -> list[int]:
    """At which statements to kill, counted from one."""
    numbers = range(1, len(sent) + 1)
    if every:
        return list(numbers)
    if when == "after":
        return [n for n in numbers if _MAKES.match(sent[n - 1])]
    return [n for n in numbers if _MATTERS.match(sent[n - 1]) or n % _SAMPLE == 1]


def rounds(
    name: str,
    times: int,
    *,
    every: bool,
    server: DatabaseServer,
    template: str,
    directory: Path,
    starter: Commands,
) -> int:
    bench = Bench(MOVES[name], server, template, directory, starter)
    killed = 0
    try:
        _, sent = bench.killed(None)
        assert any(".rollout SET" in one for one in sent)
        for number in range(times):
            when: When = "before" if number % 2 == 0 else "after"
            for at in points(sent, when, every=every):
                code, _ = bench.killed(at, when)
                killed += code == -9
            bench.killed(None)
    finally:
        bench.close()
    return killed


@pytest.mark.parametrize("name", list(MOVES))
def test_p8_a_move_killed_at_any_statement_is_made_or_not_and_comes_to_its_end(
    name: str,
    postgres: DatabaseServer,
    migrated_template: str,
    tmp_path: Path,
    starter: Commands,
) -> None:
    killed = rounds(
        name,
        2,
        every=False,
        server=postgres,
        template=migrated_template,
        directory=tmp_path,
        starter=starter,
    )
    assert killed >= 6


@pytest.mark.full
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", list(MOVES))
def test_p8_a_move_killed_at_every_single_statement_twenty_times_over(
    name: str,
    postgres: DatabaseServer,
    migrated_template: str,
    tmp_path: Path,
    starter: Commands,
) -> None:
    killed = rounds(
        name,
        20,
        every=True,
        server=postgres,
        template=migrated_template,
        directory=tmp_path,
        starter=starter,
    )
    assert killed >= 20 * 50
