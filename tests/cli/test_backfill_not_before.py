"""`backfill not-before`: dates of users become cutoffs, and nothing is done twice."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from migrator import wiring
from tests.cli.deployment import Deployment
from tests.faults.nodes import present
from tests.rig import sign

# Django's and Laravel's kind of table: most users never changed anything.
USERS = """
CREATE TABLE users (id bigserial PRIMARY KEY, tokens_valid_after timestamptz, kind text,
  changed text)"""
COLUMNS = ("--columns", "subject=id,not_before=tokens_valid_after")
RUN = ("backfill", "not-before", "--from", "users", *COLUMNS)


@pytest.fixture
def deployment(migrated: str, tmp_path: Path) -> Deployment:
    made = Deployment(migrated, tmp_path, lifetimes='lifetime = "1h"\nrefresh_lifetime = "30d"')
    made.put("drain")
    made.execute(USERS)
    made.execute(
        "INSERT INTO users (tokens_valid_after) SELECT CASE n % 4"
        " WHEN 0 THEN now() - interval '10 minutes' WHEN 1 THEN now() - interval '2 years' END"
        " FROM generate_series(1, 1200) n"
    )
    return made


def cutoffs(deployment: Deployment) -> int:
    found: int = deployment.value("SELECT count(*) FROM migrator.cutoffs")
    return found


def old(subject: str) -> bytes:
    """An access token of ten minutes ago."""
    claims = {"token_type": "access", "iat": int(time.time()) - 600}
    return sign(subject, claims=claims).encode()


def test_a_token_issued_before_its_users_date_is_refused_and_its_session_ends(
    deployment: Deployment,
) -> None:
    gate = wiring.gate(deployment.settings)
    assert present(gate, old("2")).token
    assert present(gate, old("3")).token
    deployment.execute("UPDATE users SET tokens_valid_after = now() - interval '1 min' WHERE id=3")
    assert deployment.json(*RUN)["ended"] == 1
    assert deployment.execute(
        "SELECT subject, revoked_reason, revoked_by FROM migrator.sessions ORDER BY subject"
    ) == [("2", None, None), ("3", "ledger", "backfill:public.users")]
    answer = present(wiring.gate(deployment.settings), old("3"))
    assert (answer.kind, answer.reason) == ("refused", "cut_off")
    assert present(wiring.gate(deployment.settings), old("2")).token


def test_dates_are_counted_exactly_and_a_second_run_changes_nothing(
    deployment: Deployment,
) -> None:
    rehearsed = deployment.json(*RUN, "--dry-run")
    assert (rehearsed["cut"], rehearsed["changed"], cutoffs(deployment)) == (300, False, 0)
    said = deployment.run(*RUN).stdout.splitlines()
    assert said == [
        "backfill not-before from public.users",
        "1 200 of about 1 200 rows read: done",
        "         300  subjects cut off, newly or later than before",
        "         600  without a date",
        "         300  dates before any token that still lives",
    ]
    assert cutoffs(deployment) == 300
    again = deployment.json(*RUN)
    assert (again["cut"], again["already"], again["changed"]) == (0, 300, False)
    assert cutoffs(deployment) == 300


def test_a_later_date_wins_and_an_earlier_one_changes_nothing(deployment: Deployment) -> None:
    deployment.run(*RUN)
    kept = "SELECT not_before FROM migrator.cutoffs WHERE subject = '4'"
    first = deployment.value(kept)
    deployment.execute("UPDATE users SET tokens_valid_after = now() - interval '1 h' WHERE id = 4")
    assert deployment.json(*RUN)["cut"] == 0
    assert deployment.value(kept) == first
    deployment.execute("UPDATE users SET tokens_valid_after = now() WHERE id = 4")
    assert deployment.json(*RUN)["cut"] == 1
    assert deployment.value(kept) > first
    assert cutoffs(deployment) == 300


def test_a_run_stopped_by_a_limit_goes_on_where_it_was_and_counts_the_whole_pass(
    deployment: Deployment,
) -> None:
    first = deployment.json(*RUN, "--limit-rows", "700", code=13)
    assert (first["read"], first["end"], first["resumed"]) == (700, "limit", False)
    last = deployment.json(*RUN)
    assert (last["read"], last["cut"], last["resumed"]) == (1200, 300, True)
    assert cutoffs(deployment) == 300
    deployment.run(*RUN, "--limit-rows", "1", code=13)
    deployment.run(*RUN, "--realm", "users", code=3)
    assert deployment.json(*RUN, "--realm", "users", "--restart")["read"] == 1200


def test_what_cannot_be_read_is_rejected_by_its_key_and_the_rest_is_done(
    deployment: Deployment, tmp_path: Path
) -> None:
    deployment.execute("UPDATE users SET kind = 'users', changed = '2026-01-01 10:00'")
    deployment.execute("UPDATE users SET changed = 'tomorrow-ish' WHERE id = 7")
    deployment.execute("UPDATE users SET kind = 'nobody' WHERE id = 8")
    deployment.execute("UPDATE users SET changed = now()::text WHERE id = 9")
    path = tmp_path / "rejects.jsonl"
    columns = "subject=id,not_before=changed,realm=kind"
    args = ("backfill", "not-before", "--from", "users", "--columns", columns)
    found = deployment.json(*args, "--rejects", str(path))
    assert found["rejected_by_reason"] == {"unreadable": 1, "unknown_realm": 1}
    assert found["read"] == 1200
    assert found["cut"] + found["past"] == 1198
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"row": "7", "reason": "unreadable"},
        {"row": "8", "reason": "unknown_realm"},
    ]


@pytest.mark.parametrize(
    ("columns", "more"),
    [
        ("subject=id", ()),
        ("subject=id,not_before=nowhere", ()),
        ("subject=id,not_before=tokens_valid_after,jti=id", ()),
        ("subject=tokens_valid_after,not_before=tokens_valid_after", ()),
        ("subject=id,not_before=tokens_valid_after", ("--realm", "mars")),
    ],
    ids=["no-date", "no-column", "not-ours", "no-type", "no-realm"],
)
def test_an_order_that_cannot_be_fulfilled_is_refused_before_any_row(
    deployment: Deployment, columns: str, more: tuple[str, ...]
) -> None:
    args = ("backfill", "not-before", "--from", "users", "--columns", columns, *more)
    deployment.run(*args, code=2)
    assert cutoffs(deployment) == deployment.value("SELECT count(*) FROM migrator.jobs") == 0


def test_a_run_that_was_killed_is_taken_over_once_it_is_silent(deployment: Deployment) -> None:
    deployment.run(*RUN, "--limit-rows", "500", code=13)
    dies = "UPDATE migrator.jobs SET state = 'running', detail = detail || jsonb_build_object("
    due = "'run', 'dead', 'due', extract(epoch FROM now()) + %s)"
    deployment.execute(dies + due, 10)
    refused = deployment.json(*RUN, code=8)
    assert refused["error"]["id"] == "backfill.taken"
    deployment.execute(dies + due, -1)
    found = deployment.json(*RUN)
    assert (found["read"], found["cut"], found["resumed"]) == (1200, 300, True)
    assert cutoffs(deployment) == 300
