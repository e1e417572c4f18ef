"""Where no node lives nothing is in effect, nobody is counted, nothing is destroyed in haste."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.cli.deployment import Deployment


@pytest.fixture
def place(migrated: str, tmp_path: Path) -> Deployment:
    return Deployment(migrated, tmp_path)


def tables(place: Deployment) -> int:
    """How many legacy tables are left."""
    return int(
        place.value(
            "SELECT count(*) FROM pg_tables WHERE schemaname = 'migrator'"
            " AND tablename = 'legacy_subjects'"
        )
    )


def test_a_move_without_nodes_is_committed_and_not_in_effect(place: Deployment) -> None:
    place.put("cutover")
    found = place.json("rollback")
    assert (found["state"], found["in_effect_at"], found["waiting_on"]) == ("committed", None, [])
    assert found["changed"] is True
    assert place.json("status")["phase"]["state"] == "committed"
    assert not place.execute(
        "SELECT 1 FROM migrator.rollout_log WHERE command = 'in effect' AND epoch = %s",
        found["epoch"],
    )


def test_a_move_without_nodes_says_that_nobody_acts_under_it(place: Deployment) -> None:
    place.put("cutover")
    said = place.run("rollback").stdout
    assert "committed; no node lives that would act under it" in said
    assert "in effect" not in said


def test_an_end_announced_without_nodes_is_committed_as_any_move_is(place: Deployment) -> None:
    place.put("drain")
    end = (datetime.now(UTC) + timedelta(days=30)).isoformat(timespec="seconds")
    found = place.json("advance", "drain", "--sunset", end, "--confirm", "staging")
    assert (found["state"], found["changed"], found["exit_code"]) == ("committed", True, 0)


def half_retired(place: Deployment, *, silent_s: int) -> None:
    """Marked, the tables still there, and every lease over."""
    place.put("cutover")
    place.beat("web-1")
    place.execute(
        "UPDATE migrator.rollout SET phase = 'retired', epoch = epoch + 1,"
        " legacy_removed_at = now()"
    )
    place.execute(
        "UPDATE migrator.nodes SET seen_at = now() - %s * interval '1 s',"
        " lease_until = now() - interval '5 s'",
        silent_s,
    )


def test_retire_takes_nothing_away_while_those_heard_just_now_may_be_back(
    place: Deployment,
) -> None:
    half_retired(place, silent_s=20)
    result = place.run("retire", "--confirm", "staging", "--wait", "0.2", code=7)
    assert "the legacy tables stay" in result.stderr
    assert tables(place) == 1


def test_retire_goes_on_once_the_fleet_is_silent_and_says_so(place: Deployment) -> None:
    half_retired(place, silent_s=90)
    result = place.run("retire", "--confirm", "staging")
    assert "no node lives, and none was heard for a minute" in result.stderr
    assert "in effect" not in result.stdout
    assert tables(place) == 0


def test_before_any_node_was_heard_nobody_knows_whom_a_cutover_would_hit(
    place: Deployment,
) -> None:
    found = place.json("status")
    assert found["if_cut_over"]["subjects"] is None
    assert "no node was ever heard" in found["unknown"]["if_cut_over.subjects"]
    assert found["nodes"]["heard_at"] is None
    text = place.run("status").stdout
    assert "IF CUT   unknown: no node was ever heard" in text
    assert text.splitlines()[0].startswith("migrator status · staging · acme · no node heard ")
    assert " subjects=unknown " in place.run("status", "--line").stdout


def test_one_node_heard_makes_nobody_a_number(place: Deployment) -> None:
    place.beat("web-1")
    assert place.json("status")["if_cut_over"]["subjects"] == 0


def test_status_says_first_how_old_its_data_is(place: Deployment) -> None:
    place.beat("web-1")
    place.execute(
        "UPDATE migrator.nodes SET seen_at = now() - interval '3 d 2 h 30 min',"
        " lease_until = now() - interval '3 d'"
    )
    head = place.run("status").stdout.splitlines()[0]
    assert " · data ≤ 3 d 2 h old " in head
    assert place.json("status")["nodes"]["heard_at"] is not None


def test_when_the_last_jwt_was_issued_is_never_cut_off(place: Deployment) -> None:
    place.put("swap", ago="9 days")
    place.put("drain", ago="1 day")
    place.beat("web-1", "web-2")
    place.execute(
        "UPDATE migrator.nodes SET last_jwt_issued_at = '2026-01-02 03:04:05Z'::timestamptz"
    )
    text = place.run("status").stdout
    assert "         last JWT issued 2026-01-02 03:04:05Z\n" in text
