"""Holds: nothing goes forward while one is in force, and anybody can see whose it is and why."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.cli.deployment import Deployment
from tests.cli.test_moves import NODES, dump
from tests.conftest import DatabaseServer

LATER = (datetime.now(UTC) + timedelta(days=300)).isoformat()


@pytest.fixture
def place(migrated: str, tmp_path: Path) -> Deployment:
    return Deployment(migrated, tmp_path)


def test_a_hold_keeps_everybody_from_going_forward_until_it_is_released(place: Deployment) -> None:
    with place.nodes(*NODES):
        made = place.json("hold", "add", "--reason", "CHG-9 freeze", "--for", "72h")
        assert (made["hold"]["state"], made["changed"]) == ("in_force", True)
        refused = place.move("advance", "swap", "--percent", "5", code=3)
        assert "dana holds it until" in refused["error"]["what"]
        assert "CHG-9 freeze" in refused["error"]["what"]
        assert refused["error"]["do"] == f"migrator hold release {made['hold']['id']}"
        assert "no-hold" in place.json("gates", "swap", code=3)["gates"][-1]["id"]
        assert "HOLD" in place.run("status").stdout
        released = place.json("hold", "release", str(made["hold"]["id"]))
        assert (released["hold"]["state"], released["hold"]["released_by"]) == ("released", "dana")
        assert place.json("hold", "release", str(made["hold"]["id"]))["changed"] is False
        assert place.move("advance", "swap", "--percent", "5")["changed"]
        assert place.json("hold", "list")["holds"] == []
        assert [one["state"] for one in place.json("hold", "list", "--ended")["holds"]] == [
            "released"
        ]


def test_no_hold_keeps_anybody_from_going_back(place: Deployment) -> None:
    place.put("cutover")
    place.run("hold", "add", "--reason", "nobody moves", "--for", "1h")
    with place.nodes(*NODES):
        for phase in ("drain", "swap 100 %", "observe"):
            assert place.json("rollback")["to"] == phase


def test_a_freeze_to_come_is_shown_and_holds_nothing_up_yet(place: Deployment) -> None:
    start = (datetime.now(UTC) + timedelta(days=2)).isoformat()
    made = place.json("hold", "add", "--reason", "sale", "--from", start, "--until", LATER)
    assert made["hold"]["state"] == "planned"
    assert "FREEZE" in place.run("status").stdout
    with place.nodes(*NODES):
        gates = place.json("gates", "swap")["gates"]
        assert gates[-1]["id"] == "no-hold"
        assert gates[-1]["result"] == "pass"
        assert place.move("advance", "swap", "--percent", "5")["changed"]


def test_a_hold_that_is_set_while_somebody_is_asked_holds_all_the_same(place: Deployment) -> None:
    """The gates were judged before it was there; the commit looks again."""
    place.beat(*NODES)
    place.execute(
        "CREATE FUNCTION migrator.slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO migrator.holds (created_by, reason, until)"
        " VALUES ('kim', 'stop', now() + interval '1 hour'); RETURN NEW; END $$"
    )
    place.execute(
        "CREATE TRIGGER slow BEFORE UPDATE ON migrator.rollout"
        " FOR EACH ROW EXECUTE FUNCTION migrator.slow()"
    )
    refused = place.move("advance", "swap", "--percent", "5", code=3)
    assert refused["error"]["id"] == "hold.in_force"
    assert "kim" in refused["error"]["what"]
    assert place.phase() == ("observe", 0)


def test_where_nobody_holds_there_is_no_such_gate(place: Deployment) -> None:
    place.beat(*NODES)
    assert "no-hold" not in [one["id"] for one in place.json("gates", "swap")["gates"]]


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("--for", "1h"), 2),
        (("--reason", "x"), 2),
        (("--reason", "x", "--for", "1h", "--until", LATER), 2),
        (("--reason", "x", "--for", "soon"), 2),
        (("--reason", " ", "--for", "1h"), 2),
        (("--reason", "", "--for", "1h"), 2),
        (("--reason", "x", "--for", "366d"), 2),
        (("--reason", "x", "--until", "2020-01-01T00:00:00Z"), 2),
        (("--reason", "x", "--until", "2026-12-31T00:00:00"), 2),
        (("--reason", "x", "--from", LATER, "--until", LATER), 2),
    ],
)
def test_a_hold_without_reason_or_end_is_a_usage_error(
    place: Deployment, args: tuple[str, ...], code: int
) -> None:
    place.run("hold", "add", *args, code=code)
    assert place.value("SELECT count(*) FROM migrator.holds") == 0


def test_a_hold_that_is_not_there_cannot_be_released(place: Deployment) -> None:
    assert place.json("hold", "release", "7", code=2)["error"]["id"] == "hold.unknown"


def test_decisions_are_in_the_log_and_are_no_moves(place: Deployment) -> None:
    with place.nodes(*NODES):
        place.move("advance", "swap", "--percent", "5")
        place.run("hold", "add", "--reason", "CHG-9", "--for", "1h")
        place.run("hold", "release", "1")
    commands = [row["command"] for row in place.json("log")["rows"]]
    assert commands[:2] == ["hold release", "hold add"]
    assert place.json("status")["last_change"]["command"] == "advance swap"


def test_rehearsed_holds_and_overrides_write_nothing(
    place: Deployment, postgres: DatabaseServer
) -> None:
    place.put("drain")
    place.beat(*NODES)
    place.run("hold", "add", "--reason", "CHG-9", "--for", "1h")
    place.run("override", "add", "legacy-seen", "--reason", "x", "--for", "1h", "--confirm",
              "staging")  # fmt: skip
    before = dump(postgres, place.url)
    rehearsed = place.json("hold", "add", "--reason", "x", "--for", "1h", "--dry-run")
    assert (rehearsed["hold"]["id"], rehearsed["changed"]) == (None, False)
    place.run("hold", "release", "1", "--dry-run")
    place.run("override", "add", "drain-horizon", "--reason", "x", "--for", "1h", "--dry-run")
    place.run("override", "revoke", "1", "--dry-run")
    for listing in (("hold", "list"), ("override", "list"), ("log",), ("plan", "list")):
        place.run(*listing, "--dry-run")
    assert dump(postgres, place.url) == before
