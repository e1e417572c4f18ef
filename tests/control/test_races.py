"""Acceptance: two operators at once. One wins, the other is told who.

Both are real processes, and both have decided on the same epoch: what moves the rollout is held
back in each until the other has come to it too.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import combinations_with_replacement
from pathlib import Path

import pytest

from migrator.control import flip
from tests.cli.deployment import Deployment
from tests.conftest import DatabaseServer
from tests.control.tapped import Commands, Ended, commands, tapped
from tests.control.test_kills import CONFIRM, held_together

OPERATORS = ("dana", "kim")
_MEET_S = 20

Args = tuple[str, ...]
BACK: Args = ("rollback",)
# Every move that is legal from a phase, by where the rollout stands.
FROM: dict[tuple[str, int], tuple[Args, ...]] = {
    ("observe", 0): (
        ("advance", "swap", "--percent", "10", *CONFIRM),
        ("advance", "swap", "--percent", "50", *CONFIRM),
    ),
    ("swap", 50): (("advance", "swap", "--percent", "60", *CONFIRM), BACK),
    ("swap", 100): (("advance", "drain", *CONFIRM), BACK),
    ("drain", 100): (
        ("cutover", "--all", *CONFIRM),
        ("cutover", "--segment", "client=ios", "--unseen", *CONFIRM),
        BACK,
    ),
    ("cutover", 100): (
        ("cutover", "--all", "--except", "client=bot", "--unseen", *CONFIRM),
        ("retire", *CONFIRM),
        BACK,
    ),
}

_HOLD = """
INSERT INTO migrator.holds (created_by, reason, starts_at, until)
VALUES ('kim', 'not now', now(), now() + interval '1 hour')"""


@pytest.fixture(scope="module")
def starters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Commands, ...]]:
    with ExitStack() as stack:
        yield tuple(
            stack.enter_context(commands(tmp_path_factory.mktemp(who))) for who in OPERATORS
        )


def race(place: Deployment, starters: tuple[Commands, ...], both: tuple[Args, ...]) -> list[Ended]:
    """Run two commands that come to the moving statement at one moment."""
    line = threading.Barrier(2)

    def meet() -> None:
        line.wait(_MEET_S)

    with ExitStack() as stack:
        running = []
        for who, starter, args in zip(OPERATORS, starters, both, strict=True):
            tap = stack.enter_context(tapped(place.url))
            tap.arm()
            tap.hold_moves(meet)
            env = {
                **place.environ,
                "TEST_DATABASE_URL": tap.url_of(place.url),
                "MIGRATOR_OPERATOR": who,
            }
            argv = ["--config", str(place.config), "--json", *args]
            running.append(starter.start(argv, env))
        return [each.wait() for each in running]


@pytest.mark.parametrize(("phase", "percent"), list(FROM))
def test_of_two_operators_one_wins_and_the_other_is_told_who(
    phase: str,
    percent: int,
    postgres: DatabaseServer,
    migrated_template: str,
    tmp_path: Path,
    starters: tuple[Commands, ...],
) -> None:
    for both in combinations_with_replacement(FROM[phase, percent], 2):
        url = postgres.create_database("raced", migrated_template)
        try:
            place = Deployment(url, tmp_path)
            if phase != "observe":
                place.put(phase, percent=percent)
            before = flip.read(place.settings)[0]
            with place.nodes("n1", "n2"):
                ended = race(place, starters, both)
            codes = [each.code for each in ended]
            assert sorted(codes) == [0, 8], (both, [each.said for each in ended])
            winner = codes.index(0)
            said = ended[1 - winner].said
            told = json.loads(said[said.index("{") : said.rindex("}") + 1])
            assert told["changed"] is False
            assert told["error"]["id"] == "move.overtaken"
            assert f"{OPERATORS[winner]} ran `" in told["error"]["what"]
            assert held_together(place, before)
            assert flip.read(place.settings)[0].epoch == before.epoch + 1
            moves = place.execute(
                "SELECT who FROM migrator.rollout_log WHERE command NOT IN ('in effect', 'test')"
            )
            assert moves == [(OPERATORS[winner],)]
        finally:
            postgres.drop_database("raced")


def put_hold(place: Deployment) -> None:
    place.execute(_HOLD)


@pytest.mark.parametrize(
    ("args", "code"),
    [(("cutover", "--all", *CONFIRM), 3), (BACK, 0)],
    ids=["forward", "back"],
)
def test_a_hold_that_comes_between_the_gates_and_the_commit_still_holds(
    args: Args,
    code: int,
    migrated: str,
    tmp_path: Path,
    starters: tuple[Commands, ...],
) -> None:
    place = Deployment(migrated, tmp_path)
    place.put("drain")
    with place.nodes("n1", "n2"), tapped(place.url) as tap:
        tap.arm()
        tap.hold_moves(lambda: put_hold(place))
        env = {**place.environ, "TEST_DATABASE_URL": tap.url_of(place.url)}
        argv = ["--config", str(place.config), "--json", *args]
        ended = starters[0].start(argv, env).wait()
    assert ended.code == code, ended.said
    assert place.phase()[0] == ("drain" if code else "swap")
    assert ("hold.in_force" in ended.said) == bool(code)
