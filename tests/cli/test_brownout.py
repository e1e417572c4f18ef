"""`migrator brownout`: what may be scheduled, what nodes are told, and what it taught."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from migrator.control import flip
from migrator.control.brownouts import scheduling
from migrator.control.brownouts.asking import Asked
from migrator.core.brownouts import Limits
from migrator.core.errors import Exit, Stopped
from migrator.core.soaks import Back, Soak
from tests.cli.deployment import Deployment

NODES = ("n1", "n2")
WINDOW = ("--from", "now", "--for", "15m", "--percent", "100")


@pytest.fixture
def place(migrated: str, tmp_path: Path) -> Deployment:
    made = Deployment(migrated, tmp_path)
    made.put("drain")
    made.beat(*NODES)
    return made


def schedule(place: Deployment, *args: str, code: int = 0) -> dict[str, Any]:
    return place.move("brownout", "schedule", *args, "--wait", "0", code=code)


def windows(place: Deployment) -> list[int]:
    return [one["id"] for one in place.value("SELECT brownouts FROM migrator.rollout")]


def epoch(place: Deployment) -> int:
    found: int = place.value("SELECT epoch FROM migrator.rollout")
    return found


def later(**by: float) -> str:
    return (datetime.now(UTC) + timedelta(**by)).isoformat()


def test_a_schedule_moves_the_epoch_so_that_its_acknowledgement_proves_it_is_known(
    place: Deployment,
) -> None:
    before = epoch(place)
    with place.nodes(*NODES):
        made = place.move(
            *("brownout", "schedule", "--from", later(hours=1), "--for", "15m"),
            *("--percent", "10", "--reason", "CHG-9"),
        )
    assert made["changed"]
    assert made["state"] == "in_effect"
    assert made["epoch"] == before + 1
    [one] = made["brownouts"]
    assert (one["id"], one["state"], one["percent"], one["abort_sign_ins"]) == (
        1,
        "scheduled",
        10,
        2.0,
    )
    assert windows(place) == [1]
    assert place.phase() == ("drain", 100)
    log = place.execute(
        "SELECT who, why, command, epoch FROM migrator.rollout_log"
        " WHERE command <> 'in effect' ORDER BY id DESC LIMIT 1"
    )
    assert log == [("dana", "CHG-9", "brownout schedule", before + 1)]
    assert place.value("SELECT key FROM migrator.feed ORDER BY id DESC LIMIT 1") == (
        f"epoch:{before + 1}"
    )
    assert place.json("status")["last_change"]["to"] == "drain"


def test_who_has_not_acknowledged_a_schedule_is_named(place: Deployment) -> None:
    made = place.move(
        *("brownout", "schedule", "--from", later(hours=1), "--for", "1m"),
        *("--percent", "10", "--wait", "0.1"),
        code=7,
    )
    assert made["state"] == "propagating"
    assert made["waiting_on"] == ["n1", "n2"]
    assert place.json("status")["phase"]["state"] == "propagating"
    assert windows(place) == [1]


@pytest.mark.parametrize(
    ("problem", "args"),
    [
        ("past", ("--from", later(hours=-2), "--for", "3h")),
        ("past", ("--from", later(hours=-2), "--until", later(hours=-1))),
        ("empty", ("--from", later(hours=2), "--until", later(hours=1))),
        ("too_long", ("--from", later(hours=1), "--for", "25h")),
        ("overlap", ("--from", later(minutes=5), "--for", "1h")),
    ],
    ids=["begun", "over", "empty", "too-long", "overlap"],
)
def test_what_cannot_be_announced_is_refused_and_changes_nothing(
    place: Deployment, problem: str, args: tuple[str, ...]
) -> None:
    schedule(place, *WINDOW)
    before = place.execute("SELECT * FROM migrator.rollout")
    refused = schedule(place, *args, "--percent", "10", code=3)
    assert refused["error"]["id"] == f"brownout.{problem}"
    assert place.execute("SELECT * FROM migrator.rollout") == before
    assert place.value("SELECT count(*) FROM migrator.brownouts") == 1


def test_another_segment_may_be_browned_out_at_the_same_time(place: Deployment) -> None:
    schedule(place, *WINDOW)
    schedule(place, *WINDOW, "--segment", "client=ios", "--unseen")
    schedule(place, *WINDOW, "--segment", "client=ios", "--unseen", code=3)
    assert windows(place) == [1, 2]


@pytest.mark.parametrize(
    "args",
    [
        ("--from", "2026-12-01T09:00:00", "--for", "15m", "--percent", "10"),
        ("--from", "now", "--percent", "10"),
        ("--from", "now", "--for", "15m", "--percent", "0"),
        ("--from", "now", "--for", "15m", "--percent", "10", "--segment", "planet=mars"),
        ("--from", "now", "--for", "15m", "--until", later(hours=1), "--percent", "10"),
    ],
    ids=["no-offset", "no-end", "nobody", "no-segment", "two-ends"],
)
def test_a_slip_of_the_pen_is_a_usage_error(place: Deployment, args: tuple[str, ...]) -> None:
    place.run("brownout", "schedule", *args, "--confirm", "staging", code=2)
    assert place.value("SELECT count(*) FROM migrator.brownouts") == 0


@pytest.mark.parametrize(
    ("phase", "code"), [("observe", 0), ("swap", 0), ("drain", 0), ("cutover", 3), ("retired", 12)]
)
def test_a_brownout_may_be_planned_up_to_the_cutover(
    place: Deployment, phase: str, code: int
) -> None:
    place.put(phase)
    made = schedule(place, *WINDOW, code=code)
    if not code:
        warned = any("takes effect in drain alone" in one for one in made["warnings"])
        assert warned == (phase != "drain")


def test_a_rehearsal_says_who_would_be_refused_and_writes_nothing(place: Deployment) -> None:
    for number in range(10):
        place.sight(f"u{number}", "ios/7.1", ago="5 min")
    place.sight("robot", "partner-sync", ago="2 days")
    before = place.execute("SELECT * FROM migrator.rollout")
    found = place.json("brownout", "schedule", *WINDOW, "--dry-run")
    assert found["dry_run"]
    assert not found["changed"]
    forecast = found["brownouts"][0]["forecast"]
    assert (forecast["subjects"], forecast["at_most"], forecast["silent"]) == (10, 11, None)
    assert {one["client"]: one["at_most"] for one in forecast["clients"]} == {
        "ios/7.1": 10,
        "partner-sync": 1,
    }
    half = place.json(
        *("brownout", "schedule", "--from", "now", "--for", "15m", "--percent", "50"),
        *("--segment", "client=ios", "--dry-run"),
    )
    assert half["brownouts"][0]["forecast"]["subjects"] == 5
    assert place.execute("SELECT * FROM migrator.rollout") == before
    assert place.value("SELECT count(*) FROM migrator.brownouts") == 0
    assert place.value("SELECT nextval('migrator.brownouts_id_seq')") == 1


def test_who_has_come_back_with_a_session_is_in_no_forecast(place: Deployment) -> None:
    for number in range(4):
        place.sight(f"u{number}", "ios/7.1", ago="5 min")
    place.execute(
        "UPDATE migrator.legacy_subjects SET session_seen_at = now() WHERE subject <> 'u0'"
    )
    found = place.json("brownout", "schedule", *WINDOW, "--dry-run")
    forecast = found["brownouts"][0]["forecast"]
    assert (forecast["subjects"], forecast["at_most"]) == (1, 1)


def test_it_has_to_be_confirmed_by_name(place: Deployment) -> None:
    shown = place.run("brownout", "schedule", *WINDOW, code=9)
    assert "would refuse about 0 subjects" in shown.stderr
    place.run("brownout", "schedule", *WINDOW, "--confirm", "prod", code=9)
    assert windows(place) == []


def test_pausing_takes_every_window_from_the_nodes_and_resuming_gives_back_what_is_left(
    place: Deployment,
) -> None:
    schedule(place, *WINDOW)
    schedule(place, "--from", later(hours=2), "--for", "1h", "--percent", "10")
    start = epoch(place)
    paused = place.json("brownout", "pause", "--reason", "incident", "--wait", "0")
    assert [one["state"] for one in paused["brownouts"]] == ["paused", "paused"]
    assert windows(place) == []
    assert epoch(place) == start + 1
    again = place.json("brownout", "pause", "--wait", "0")
    assert not again["changed"]
    assert epoch(place) == start + 1
    refused = schedule(place, *WINDOW, code=3)
    assert refused["error"]["id"] == "brownout.overlap"
    place.json("brownout", "resume", "2", "--wait", "0")
    assert windows(place) == [2]
    place.json("brownout", "resume", "--wait", "0")
    assert windows(place) == [1, 2]


def test_cancelling_ends_one_for_good_and_again_changes_nothing(place: Deployment) -> None:
    schedule(place, *WINDOW)
    assert place.json("brownout", "cancel", "1", "--wait", "0")["changed"]
    assert windows(place) == []
    assert not place.json("brownout", "cancel", "1", "--wait", "0")["changed"]
    assert not place.json("brownout", "resume", "--wait", "0")["changed"]
    [one] = place.json("brownout", "list")["brownouts"]
    assert (one["state"], one["cancelled_by"]) == ("cancelled", "dana")
    assert "cancelled" in place.run("brownout", "list").stdout


def test_only_an_open_one_is_aborted_and_the_reason_stays(place: Deployment) -> None:
    schedule(place, "--from", later(hours=1), "--for", "15m", "--percent", "10")
    not_open = place.json("brownout", "abort", "1", code=3)
    assert not_open["error"]["id"] == "brownout.not_open"
    schedule(place, *WINDOW)
    done = place.json("brownout", "abort", "2", "--reason", "support is flooded", "--wait", "0")
    assert done["brownouts"][0]["why_over"] == "support is flooded"
    assert windows(place) == [1]
    assert not place.json("brownout", "abort", "2", "--wait", "0")["changed"]
    unknown = place.json("brownout", "cancel", "9", code=2)
    assert unknown["error"]["id"] == "brownout.unknown"


def test_of_two_operators_one_wins_and_the_other_is_told_who(place: Deployment) -> None:
    asked = Asked(start=None, lasting=timedelta(minutes=5), percent=10, limits=Limits())
    planned = [
        scheduling.plan(place.settings, asked, who=who, why=None) for who in ("kim", "dana")
    ]
    scheduling.schedule(place.settings, planned[0])
    with pytest.raises(Stopped, match="kim ran `brownout schedule`") as lost:
        scheduling.schedule(place.settings, planned[1])
    assert lost.value.exit_code is Exit.CONFLICT
    assert windows(place) == [1]
    assert place.value("SELECT count(*) FROM migrator.brownouts") == 1


def test_a_soak_goes_on_under_the_epoch_of_a_schedule(place: Deployment) -> None:
    now, standing = datetime.now(UTC), flip.read(place.settings)[0]
    soak = Soak(
        since=now - timedelta(minutes=1),
        until=now + timedelta(minutes=9),
        sign_ins=2.0,
        baseline_per_min=1.0,
        epoch=standing.epoch,
        back=Back.to(standing),
    )
    place.execute("UPDATE migrator.rollout SET soak = %s::jsonb", json.dumps(soak.as_json()))
    schedule(place, *WINDOW)
    assert place.value("SELECT soak->'epoch' FROM migrator.rollout") == standing.epoch + 1
    assert place.json("status")["soak"] is not None


def test_the_sweep_takes_figures_older_than_two_days(place: Deployment) -> None:
    place.execute(
        "INSERT INTO migrator.minutes (minute, outcome, count) VALUES"
        " (now() - interval '49 hours', 'sign_in', 1), (now(), 'sign_in', 1)"
    )
    assert place.json("sweep")["deleted"]["minutes"] == 1
    assert place.value("SELECT count(*) FROM migrator.minutes") == 1


@pytest.mark.parametrize("command", ["pause", "resume", "cancel", "abort"])
def test_a_rehearsed_decision_writes_nothing(place: Deployment, command: str) -> None:
    schedule(place, *WINDOW)
    if command == "resume":
        place.json("brownout", "pause", "--wait", "0")
    before = place.execute("SELECT r.*, b.* FROM migrator.rollout r, migrator.brownouts b")
    found = place.json("brownout", command, "1", "--dry-run")
    assert found["dry_run"]
    assert not found["changed"]
    assert place.execute("SELECT r.*, b.* FROM migrator.rollout r, migrator.brownouts b") == before
