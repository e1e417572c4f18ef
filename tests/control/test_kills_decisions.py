"""SIGKILL at every statement of what is decided beside the moves: drills, holds, plans, windows.

A drill is two moves and may be left half-way; it is then on record, and run again it goes the rest
of the way. Everything else is there or not, with its line in the journal and its epoch.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from migrator.control import flip
from tests.cli.deployment import Deployment
from tests.conftest import DatabaseServer
from tests.control.tapped import Commands, commands, tapped
from tests.control.test_kills import CONFIRM, points

WHY = ("--reason", "CHG-1", "--for", "2h")
WINDOW = ("--from", "2032-01-01T00:00:00Z", "--for", "1h", "--percent", "10", "--wait", "0")
DECISIONS = {
    "holds": ("hold", "add", *WHY),
    "overrides": ("override", "add", "legacy-seen", *WHY, *CONFIRM),
    "plans": ("plan", "cutover", "--all"),
    "brownouts": ("brownout", "schedule", *WINDOW, *CONFIRM),
}
# Another window for the same segment would blur what each taught: said again, it is refused.
_AGAIN = {"brownouts": 3}


@dataclass(frozen=True)
class Stands:
    """What a decision leaves: its rows, its lines in the journal, epochs moved and made known."""

    rows: int
    lines: int
    epochs: int
    fed: int


NOTHING = Stands(0, 0, 0, 0)


@pytest.fixture(scope="module")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    with commands(tmp_path_factory.mktemp("said")) as warm:
        yield warm


def run(
    place: Deployment, starter: Commands, args: tuple[str, ...], at: int | None
) -> tuple[int, list[str]]:
    """Run a command, killed before statement `at`, and wait until the server is done with it."""
    with tapped(place.url) as tap:
        tap.arm(at)
        env = {**place.environ, "TEST_DATABASE_URL": tap.url_of(place.url)}
        running = starter.start(["--config", str(place.config), *args], env)
        tap.aim(running.pid)
        ended = running.wait()
        sent = list(tap.statements)
    assert ended.code == 0 if at is None else ended.code in {0, -9}, ended.said
    until = time.monotonic() + 10
    while place.value(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name LIKE 'migrator%%'"
    ):
        assert time.monotonic() < until, "a backend of the command stays"
        time.sleep(0.005)
    return ended.code, sent


def fresh(server: DatabaseServer, template: str, directory: Path) -> Deployment:
    place = Deployment(server.create_database("decided", template), directory)
    place.put("drain")
    place.beat("n1", "n2")
    return place


@pytest.mark.parametrize("table", list(DECISIONS))
def test_a_decision_killed_at_any_statement_is_there_or_not(
    table: str, postgres: DatabaseServer, migrated_template: str, tmp_path: Path, starter: Commands
) -> None:
    def stands(place: Deployment) -> Stands:
        epoch = place.value("SELECT epoch FROM migrator.rollout")
        lines = "SELECT count(*) FROM migrator.rollout_log WHERE who = 'dana'"
        return Stands(
            rows=place.value(f"SELECT count(*) FROM migrator.{table}"),
            lines=place.value(lines),
            epochs=epoch - began,
            fed=place.value("SELECT count(*) FROM migrator.feed"),
        )

    place = fresh(postgres, migrated_template, tmp_path)
    try:
        began = place.value("SELECT epoch FROM migrator.rollout")
        _, sent = run(place, starter, DECISIONS[table], None)
        done = stands(place)
    finally:
        postgres.drop_database("decided")
    assert done.rows == 1
    assert done.epochs == done.fed
    for at in points(sent, "before", every=False):
        place = fresh(postgres, migrated_template, tmp_path)
        try:
            run(place, starter, DECISIONS[table], at)
            found = stands(place)
            assert found in {NOTHING, done}, f"half made at {sent[at - 1][:80]}"
            code = 0 if found == NOTHING else _AGAIN.get(table, 0)
            place.run(*DECISIONS[table], code=code)
        finally:
            postgres.drop_database("decided")


def drilled(
    server: DatabaseServer, template: str, directory: Path, starter: Commands, at: int | None
) -> tuple[str, list[str]]:
    """A drill killed at a statement, then run again: where it stood between, and what it sent."""
    drill = ("rollback", "--drill")
    place = fresh(server, template, directory)
    try:
        before = flip.read(place.settings)[0]
        with place.nodes("n1", "n2"):
            _, sent = run(place, starter, drill, at)
            phase = place.phase()[0]
            if phase == "swap":
                warned = [one["id"] for one in place.json("status")["warnings"]]
                assert "drill.unfinished" in warned
            place.json(*drill)
        after = flip.read(place.settings)[0]
        assert (after.phase, after.percent, after.exceptions) == (
            before.phase,
            before.percent,
            before.exceptions,
        )
        moved = after.epoch - before.epoch
        assert moved in {2, 4}, "each drill is two moves, whoever finished it"
    finally:
        server.drop_database("decided")
    return phase, sent


def test_a_drill_killed_at_a_commit_ends_where_it_began_when_it_is_run_again(
    postgres: DatabaseServer, migrated_template: str, tmp_path: Path, starter: Commands
) -> None:
    place = (postgres, migrated_template, tmp_path, starter)
    _, sent = drilled(*place, None)
    moves = [n for n, one in enumerate(sent, 1) if ".rollout SET" in one]
    commits = [n for n, one in enumerate(sent, 1) if one.startswith("COMMIT")]
    killed = [*moves, *commits, commits[0] + 1]
    assert {drilled(*place, at)[0] for at in killed} == {"drain", "swap"}


@pytest.mark.full
@pytest.mark.timeout(7200)
def test_a_drill_killed_at_any_statement_ends_where_it_began_when_it_is_run_again(
    postgres: DatabaseServer, migrated_template: str, tmp_path: Path, starter: Commands
) -> None:
    place = (postgres, migrated_template, tmp_path, starter)
    _, sent = drilled(*place, None)
    seen = {drilled(*place, at)[0] for at in points(sent, "before", every=True)}
    assert seen == {"drain", "swap"}
