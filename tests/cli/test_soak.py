"""A soak: written with the move, watched by nodes, ended by any other move."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from migrator import wiring
from tests.cli.deployment import Deployment
from tests.cli.test_moves import NODES

CUTOVER = ("cutover", "--all", "--wait-gates", "10")


@pytest.fixture
def place(migrated: str, tmp_path: Path) -> Deployment:
    found = Deployment(migrated, tmp_path)
    found.put("drain")
    return found


def sign_ins(place: Deployment, *, minutes: int, each: int) -> None:
    place.execute(
        "INSERT INTO migrator.minutes (minute, outcome, count) SELECT"
        " date_trunc('minute', now()) - n * interval '1 minute', 'sign_in', %s"
        " FROM generate_series(1, %s) n",
        each,
        minutes,
    )


def column(place: Deployment) -> dict[str, Any] | None:
    found: dict[str, Any] | None = place.value("SELECT soak FROM migrator.rollout")
    return found


def until(condition: Callable[[], bool], *, seconds: float = 15) -> None:
    over = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < over
        time.sleep(0.05)


def test_a_soak_is_written_with_the_move_and_says_what_ends_it(place: Deployment) -> None:
    sign_ins(place, minutes=60, each=4)
    drained = place.value("SELECT drain_since FROM migrator.rollout")
    with place.nodes(*NODES):
        found = place.move(*CUTOVER, "--soak", "15m")
        assert found["soak"]["back_to"] == "drain"
        assert 3.8 < found["soak"]["baseline_per_min"] <= 4.0
        kept = column(place)
        assert kept is not None
        assert (kept["epoch"], kept["sign_ins"]) == (found["epoch"], 2.0)
        assert kept["back"] | {"drain_since": None} == {
            "phase": "drain",
            "percent": 100,
            "exceptions": [],
            "drain_since": None,
            "sunset_at": kept["back"]["sunset_at"],
        }
        assert (
            place.value("SELECT (soak->'back'->>'drain_since')::timestamptz FROM migrator.rollout")
            == drained
        )
        assert "auto-rollback to drain if sign-ins > 2.0x" in place.run("status").stdout
        assert place.json("status")["soak"]["back_to"] == "drain"
        row = next(one for one in place.json("log")["rows"] if one["command"] == "cutover")
        assert row["detail"]["soak"]["epoch"] == found["epoch"]
        place.json("rollback")
        assert column(place) is None
        assert place.json("status")["soak"] is None


def test_a_soak_without_a_baseline_says_that_nothing_is_compared(place: Deployment) -> None:
    sign_ins(place, minutes=5, each=4)
    place.beat(*NODES)
    said = place.run(*CUTOVER, "--soak", "15m", "--dry-run").stderr
    assert "no auto-rollback: sign-ins were counted for" in said
    with place.nodes(*NODES):
        assert place.move(*CUTOVER, "--soak", "15m")["soak"]["baseline_per_min"] is None
    assert "nothing to compare" in place.run("status").stdout


def test_the_settings_may_ask_for_a_soak_and_a_move_for_none(place: Deployment) -> None:
    text = place.config.read_text()
    place.config.write_text(text.replace("[gates]\n", '[gates]\nsoak = "10m"\nsign_ins = 3\n'))
    with place.nodes(*NODES):
        soak = place.move(*CUTOVER)["soak"]
        assert (soak["sign_ins"], soak["back_to"]) == (3, "drain")
        place.json("rollback")
        assert place.move(*CUTOVER, "--soak", "0s")["soak"] is None
        place.json("rollback")
        assert place.json("rollback")["soak"] is None
        assert place.move("advance", "drain")["soak"]["back_to"] == "swap"


def test_a_segment_that_soaks_leads_back_to_before_it_and_no_further(place: Deployment) -> None:
    with place.nodes(*NODES):
        place.move(
            "cutover", "--segment", "client=ios", "--unseen", "--wait-gates", "10", "--soak", "15m"
        )
    kept = column(place)
    assert kept is not None
    assert (kept["back"]["phase"], kept["back"]["exceptions"]) == ("drain", [])


def test_letting_somebody_in_again_does_not_soak(place: Deployment) -> None:
    with place.nodes(*NODES):
        place.move(*CUTOVER)
        found = place.move(
            "cutover", "--all", "--except", "client=bot", "--unseen", "--soak", "15m"
        )
    assert (found["changed"], found["soak"]) == (True, None)


def test_a_plan_keeps_its_soak(place: Deployment) -> None:
    with place.nodes(*NODES):
        made = place.json("plan", "cutover", "--all", "--soak", "15m")["plan"]
        assert made["soak"]["seconds"] == 900
        assert place.move("cutover", "--plan", made["id"])["soak"] is not None


def test_a_real_node_takes_a_move_back_when_sign_ins_rise_and_who_looks_on_is_told(
    migrated: str, tmp_path: Path
) -> None:
    place = Deployment(migrated, tmp_path, expected=1)
    place.put("drain")
    sign_ins(place, minutes=60, each=4)
    node = wiring.sessions(place.settings)
    try:
        node.login("ann", legacy=lambda: "unused")
        place.execute(  # five minutes of them within the first moments
            "CREATE FUNCTION migrator.later() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " IF NEW.soak IS NOT NULL AND OLD.soak IS NULL THEN"
            " NEW.soak := jsonb_set(NEW.soak, '{since}',"
            " to_jsonb(to_char((now() - interval '3 minutes') AT TIME ZONE 'UTC',"
            ' \'YYYY-MM-DD"T"HH24:MI:SS"+00:00"\')));'
            " INSERT INTO migrator.minutes VALUES (date_trunc('minute', now()), 'sign_in', 400)"
            " ON CONFLICT (minute, outcome) DO UPDATE SET count = 400;"
            " END IF; RETURN NEW; END $$"
        )
        place.execute(
            "CREATE TRIGGER later BEFORE UPDATE ON migrator.rollout"
            " FOR EACH ROW EXECUTE FUNCTION migrator.later()"
        )
        until(lambda: place.value("SELECT count(*) FROM migrator.nodes") == 1)
        given = ("--reason", "CHG-7", "--for", "24h")
        override = place.move("override", "add", "legacy-seen", *given)["override"]["id"]
        found = place.move(*CUTOVER, "--soak", "15m", "--follow", code=13)
        assert "by soak" in found["taken_back"]
        assert place.phase()[0] == "drain"
        last = place.json("status")["last_change"]
        assert (last["who"], last["from"], last["to"]) == ("soak", "cutover", "drain")
        assert "sign-ins a minute" in last["why"]
        assert column(place) is None
        [ended] = place.json("override", "list", "--ended")["overrides"]
        assert (ended["id"], ended["revoked_by"]) == (override, "rollback")
        moved = next(row for row in place.json("log")["rows"] if row["command"] == "rollback")
        assert moved["detail"]["revoked"] == [{"id": override, "gate": "legacy-seen"}]
    finally:
        wiring.stop()
