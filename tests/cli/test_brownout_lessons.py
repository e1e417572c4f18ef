"""What brownouts taught, the gates that ask for them, and the end that clients are told."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from migrator.control.notices import Notice, given_since
from tests.cli.deployment import Deployment

NODES = ("n1", "n2")
AT = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture
def place(migrated: str, tmp_path: Path) -> Deployment:
    made = Deployment(migrated, tmp_path)
    made.put("drain")
    made.beat(*NODES)
    return made


def asking(place: Deployment, *lines: str) -> None:
    text = place.config.read_text()
    place.config.write_text(text.replace("[gates]", "\n".join(["[gates]", *lines])))


def ran(place: Deployment, *, ago: str = "20 min", forecast: str = "{}") -> int:
    """A brownout of ten minutes that began so long ago."""
    number: int = place.value(
        "INSERT INTO migrator.brownouts (created_by, starts_at, ends_at, percent, forecast)"
        " VALUES ('dana', now() - %s::interval, now() - %s::interval + interval '10 min', 100,"
        " %s::jsonb) RETURNING id",
        ago,
        ago,
        forecast,
    )
    return number


def hit(place: Deployment, number: int, subject: str, client: str) -> None:
    place.execute(
        "INSERT INTO migrator.brownout_hits SELECT id, 'users', %s, 'a1', %s,"
        " starts_at + interval '1 min', starts_at + interval '2 min'"
        " FROM migrator.brownouts WHERE id = %s",
        subject,
        client,
        number,
    )


def back_with_session(place: Deployment, subject: str, client: str) -> None:
    place.sight(subject, client, ago="18 min")
    place.execute(
        "UPDATE migrator.legacy_subjects SET session_seen_at = now() - interval '5 min'"
        " WHERE subject = %s",
        subject,
    )


def logged_in(place: Deployment, subject: str, client: str) -> None:
    place.execute(
        "INSERT INTO migrator.sessions (id, digest, kind, realm, subject, client, created_at,"
        " expires_at, origin) VALUES (gen_random_uuid(), sha256(%s::bytea), 'session', 'users',"
        " %s, %s, now() - interval '15 min', now() + interval '1 day', 'login')",
        subject,
        subject,
        client,
    )


def taught(place: Deployment, **given: str) -> int:
    """Eight people on iOS: four back silently, three signed in, one not seen; and one robot."""
    number = ran(place, **given)
    for n in range(8):
        hit(place, number, f"u{n}", "ios/7.1")
    for n in range(4):
        back_with_session(place, f"u{n}", "ios/7.1")
    for n in range(4, 7):
        logged_in(place, f"u{n}", "ios/7.2")
    hit(place, number, "robot", "partner-sync")
    place.sight("robot", "partner-sync", ago="1 min")
    return number


def test_a_report_tells_how_those_who_were_refused_came_back(place: Deployment) -> None:
    back = dict.fromkeys(("silent", "sign_in", "breaks"))
    clients = [
        {"issuer": "a1", "client": name, "subjects": many, "at_most": many, **back}
        for name, many in (("ios/7.1", 10), ("web", 2))
    ]
    forecast = {"subjects": 12, "at_most": 12, **back, "calibrated_by": [], "clients": clients}
    number = taught(place, forecast=json.dumps(forecast))
    found = place.json("brownout", "report", str(number))
    assert found["brownout"]["state"] == "finished"
    assert found["brownout"]["refused"] == 9
    assert found["totals"] == {"silent": 4, "signed_in": 3, "still": 1, "unseen": 1}
    told = {one["client"]: one for one in found["clients"]}
    ios = told["ios/7.1"]
    assert (ios["forecast"], ios["refused"], ios["silent"], ios["signed_in"]) == (10, 8, 4, 3)
    assert (told["partner-sync"]["forecast"], told["partner-sync"]["still"]) == (0, 1)
    assert (told["web"]["forecast"], told["web"]["refused"]) == (2, 0)
    assert found["forecast_error"] == {"forecast": 12, "actual": 9, "percent": -25.0}
    text = place.run("brownout", "report", str(number)).stdout
    assert "back silently 4 · signed in 3 · still on the JWT 1 · not seen since 1" in text
    assert all(len(line) <= 100 for line in text.splitlines())


@pytest.fixture
def untaught(place: Deployment) -> Deployment:
    for n in range(70):
        place.sight(f"v{n}", "ios/8.0", ago="1 min")
    return place


def test_status_says_how_those_a_cutover_hits_would_come_back(untaught: Deployment) -> None:
    place = untaught
    before = place.json("status")
    assert before["if_cut_over"]["silent"] is None
    assert "ios/8.0" in before["unknown"]["if_cut_over.silent"]
    assert before["if_cut_over"]["calibrated_by"] == []
    number = taught(place)
    after = place.json("status")["if_cut_over"]
    clients = {one["client"]: one for one in after["clients"]}
    assert [clients["ios/8.0"][name] for name in ("silent", "sign_in", "breaks")] == [40, 30, 0]
    assert [clients["partner-sync"][name] for name in ("silent", "sign_in", "breaks")] == [0, 0, 1]
    assert (after["silent"], after["sign_in"], after["breaks"]) == (40, 30, 1)
    assert after["calibrated_by"] == [number]
    assert "→ 40 recover silently, 30 sign in, 1 break" in place.run("status").stdout


def test_the_next_forecast_is_told_by_what_the_last_brownout_taught(untaught: Deployment) -> None:
    number = taught(untaught)
    asked = ("brownout", "schedule", "--from", "now", "--for", "10m", "--percent", "100")
    found = untaught.json(*asked, "--dry-run")
    forecast = found["brownouts"][0]["forecast"]
    assert forecast["calibrated_by"] == [number]
    assert (forecast["subjects"], forecast["silent"], forecast["breaks"]) == (71, 40, 1)


def test_an_aborted_brownout_teaches_nothing(place: Deployment) -> None:
    number = taught(place)
    place.execute(
        "UPDATE migrator.brownouts SET aborted_at = ends_at - interval '1 min',"
        " aborted_why = 'too many'"
    )
    found = place.json("status")
    assert found["if_cut_over"]["calibrated_by"] == []
    assert [one["state"] for one in found["brownouts"]] == ["aborted"]
    assert f"BROWNOUT #{number} aborted 11 min" in place.run("status").stdout
    assert place.json("brownout", "report", str(number))["totals"]["silent"] == 4


def test_status_shows_what_is_open_what_is_next_and_what_is_paused(place: Deployment) -> None:
    for start, percent in (("now", "10"), (_later(hours=2), "20")):
        place.move(
            *("brownout", "schedule", "--from", start, "--for", "15m", "--percent", percent),
            *("--wait", "0"),
        )
    hit(place, 1, "ann", "web")
    screen = place.run("status").stdout
    assert "BROWNOUT #1 open until" in screen
    assert "refused 1 subject, 10 % of all   migrator brownout abort 1" in screen
    assert "NEXT     brownout #2" in screen
    assert "20 % of all, abort if sign-ins > 2x" in screen
    found = place.json("status")["brownouts"]
    assert [(one["id"], one["state"], one["refused"]) for one in found] == [
        (1, "open", 1),
        (2, "scheduled", 0),
    ]
    place.json("brownout", "pause", "--wait", "0")
    assert "PAUSED   brownout #1, #2   migrator brownout resume" in place.run("status").stdout


def test_a_report_after_retirement_says_what_is_unknown(place: Deployment) -> None:
    number = taught(place)
    place.put("cutover")
    place.execute("DELETE FROM migrator.legacy_subjects")
    with place.nodes(*NODES):
        place.move("retire", "--wait-gates", "10")
        found = place.json("brownout", "report", str(number))
        assert found["totals"]["silent"] is None
        assert "took the record" in found["unknown"]["totals"]
        assert "unknown" in place.run("brownout", "report", str(number)).stdout
        assert place.json("brownout", "list")["brownouts"][0]["refused"] is None
        assert place.json("status")["brownouts"][0]["refused"] is None


def _later(**by: float) -> str:
    return (datetime.now(UTC) + timedelta(**by)).isoformat()


# ---- the gates that ask for them ---------------------------------------------------------------


def gate(place: Deployment, name: str) -> dict[str, Any] | None:
    found = place.json_any("gates", "cutover")
    return next((one for one in found["gates"] if one["id"] == name), None)


def test_gates_that_nobody_asked_for_are_absent(place: Deployment) -> None:
    assert gate(place, "brownout-done") is None
    assert gate(place, "notice-given") is None


def test_brownouts_count_that_ran_to_their_end_since_drain(place: Deployment) -> None:
    asking(place, "brownouts = 2")
    found = gate(place, "brownout-done")
    assert found is not None
    assert (found["result"], found["value"], found["threshold"]) == ("fail", 0, 2)
    assert found["overridable"]
    assert found["playbook"] == "30-cutover#gate-brownout-done"
    ran(place, ago="3 hours")  # before drain, which was an hour ago
    aborted = ran(place, ago="50 min")
    place.execute("UPDATE migrator.brownouts SET aborted_at = ends_at WHERE id = %s", aborted)
    first = ran(place, ago="40 min")
    counted = gate(place, "brownout-done")
    assert counted is not None
    assert (counted["result"], counted["value"]) == ("fail", 1)
    second = ran(place, ago="20 min")
    done = gate(place, "brownout-done")
    assert done is not None
    assert done["result"] == "pass"
    assert f"#{first}, #{second}" in done["detail"]


def test_notice_counts_from_what_an_operator_announced(place: Deployment) -> None:
    asking(place, 'notice = "10m"')
    place.execute("UPDATE migrator.rollout SET sunset_at = now() + interval '1 day'")
    horizon_only = gate(place, "notice-given")
    assert horizon_only is not None
    assert horizon_only["result"] == "fail"
    assert "no end was announced" in horizon_only["detail"]
    place.move("advance", "drain", "--sunset", "2031-12-01T09:00+0000", "--wait", "0")
    fresh = gate(place, "notice-given")
    assert fresh is not None
    assert fresh["result"] == "fail"
    assert "2031-12-01 09:00:00Z was announced" in fresh["detail"]
    place.execute(
        "UPDATE migrator.rollout_log SET at = at - interval '11 min' WHERE detail ? 'sunset_at'"
    )
    given = gate(place, "notice-given")
    assert given is not None
    assert given["result"] == "pass"


@pytest.mark.parametrize(
    ("ends", "since"),
    [
        ([], None),
        ([10], 0),
        ([10, 20], 0),
        ([20, 10], 1),
        ([10, 20, 10], 2),
        ([10, 20, 30], 0),
        ([30, 20, 25], 1),
    ],
    ids=str,
)
def test_notice_counts_since_all_were_told_of_no_later_an_end(
    ends: list[int], since: int | None
) -> None:
    """Who was told of a later end knows of an earlier one only since it was moved forward."""
    told = [
        Notice(AT + timedelta(days=n), AT + timedelta(days=100 + day))
        for n, day in enumerate(ends)
    ]
    assert given_since(told) == (None if since is None else AT + timedelta(days=since))


# ---- the end that clients are told -------------------------------------------------------------


def test_the_end_moves_under_a_new_epoch_and_the_same_again_changes_nothing(
    place: Deployment,
) -> None:
    epoch = place.value("SELECT epoch FROM migrator.rollout")
    with place.nodes(*NODES):
        told = place.move("advance", "drain", "--sunset", "2031-12-01T09:00+0000")
        assert (told["changed"], told["epoch"], told["state"]) == (True, epoch + 1, "in_effect")
        again = place.move("advance", "drain", "--sunset", "2031-12-01T10:00+0100")
        assert (again["changed"], again["epoch"]) == (False, epoch + 1)
        later = place.move("advance", "drain", "--sunset", "2031-12-24T09:00+0000")
        assert later["epoch"] == epoch + 2
        place.json("status")
    assert place.value("SELECT sunset_at FROM migrator.rollout") == datetime(
        2031, 12, 24, 9, tzinfo=UTC
    )
    assert place.phase() == ("drain", 100)
    assert place.value("SELECT count(*) FROM migrator.feed") == 2


def test_a_rehearsed_end_is_not_announced(place: Deployment) -> None:
    before = place.execute("SELECT * FROM migrator.rollout")
    found = place.json("advance", "drain", "--sunset", "2031-12-01T09:00+0000", "--dry-run")
    assert found["would_change"]
    assert place.execute("SELECT * FROM migrator.rollout") == before


def test_no_end_is_announced_that_contradicts_what_clients_are_told(place: Deployment) -> None:
    early = place.move("advance", "drain", "--sunset", "2020-12-01T09:00+0000", code=3)
    assert early["error"]["id"] == "sunset.before_deprecation"
    place.move(
        *("brownout", "schedule", "--from", _later(hours=5), "--for", "1h", "--percent", "10"),
        *("--wait", "0"),
    )
    soon = datetime.now(UTC) + timedelta(hours=1)
    held = place.move("advance", "drain", "--sunset", f"{soon:%Y-%m-%dT%H:%M+0000}", code=3)
    assert held["error"]["id"] == "sunset.before_brownout"
    assert place.value("SELECT sunset_at FROM migrator.rollout") is None
    far = datetime.now(UTC) + timedelta(hours=9)
    place.move("advance", "drain", "--sunset", f"{far:%Y-%m-%dT%H:%M+0000}", "--wait", "0")
    after = place.move(
        *("brownout", "schedule", "--from", _later(hours=9), "--for", "1h", "--percent", "10"),
        code=3,
    )
    assert after["error"]["id"] == "brownout.after_sunset"


def test_an_end_before_now_is_refused_with_the_drain_that_would_announce_it(
    place: Deployment,
) -> None:
    place.put("swap")
    with place.nodes(*NODES):
        refused = place.move("advance", "drain", "--sunset", "2020-12-01T09:00+0000", code=3)
    assert refused["error"]["id"] == "sunset.before_deprecation"
    assert place.phase() == ("swap", 100)
