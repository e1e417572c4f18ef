"""Segments of clients: a name nearly that of one is a slip of the pen, unless it is meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.deployment import Deployment
from tests.cli.test_moves import NODES

COMMANDS = {
    "segment": ("cutover", "--segment"),
    "except": ("cutover", "--all", "--except"),
    "plan": ("plan", "cutover", "--segment"),
    "brownout": (
        *("brownout", "schedule", "--from", "now", "--for", "15m", "--percent", "10"),
        *("--wait", "0", "--segment"),
    ),
}


@pytest.fixture
def place(migrated: str, tmp_path: Path) -> Deployment:
    found = Deployment(migrated, tmp_path)
    found.put("drain")
    found.sight("ann", "acme-ios/7.1")
    found.sight("bot", "report-bot")
    found.execute("UPDATE migrator.legacy_subjects SET max_exp = now() - interval '1 day',"
                  " last_seen_at = now() - interval '20 days'")  # fmt: skip
    return found


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize(
    ("typed", "meant"),
    [("acme-iso", "acme-ios"), ("ios", "acme-ios"), ("ReportBot", "report-bot")],
)
def test_a_client_that_nobody_saw_is_refused_and_near_names_are_said(
    place: Deployment, command: tuple[str, ...], typed: str, meant: str
) -> None:
    place.beat(*NODES)
    confirm = () if command[0] == "plan" else ("--confirm", "staging")
    before = place.execute("SELECT * FROM migrator.rollout")
    for rehearsed in ((), ("--dry-run",)):
        refused = place.json(*command, f"client={typed}", *confirm, *rehearsed, code=2)
        assert refused["error"]["id"] == "segment.unseen_client"
        assert f"did you mean {meant}?" in refused["error"]["what"]
        assert "seen: acme-ios, report-bot" in refused["error"]["why"]
    assert place.execute("SELECT * FROM migrator.rollout") == before


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize(
    "said", [("client=acme-ios",), ("client=acme-ios/7.1",), ("client=to-come", "--unseen")]
)
def test_a_client_that_was_seen_or_is_meant_to_come_is_taken(
    place: Deployment, command: tuple[str, ...], said: tuple[str, ...]
) -> None:
    confirm = () if command[0] == "plan" else ("--confirm", "staging")
    with place.nodes(*NODES):
        found = place.json_any(*command, *said, *confirm)
    assert found.get("error", {}).get("id") != "segment.unseen_client"
    assert found["exit_code"] in {0, 3, 4}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_name_unlike_any_is_told_and_taken(place: Deployment, command: tuple[str, ...]) -> None:
    with place.nodes(*NODES):
        told = place.run(*command, "client=zebra", "--dry-run", code=None)
    assert told.exit_code in {0, 3, 4}
    assert "! no client called 'zebra' was ever seen" in told.stdout + told.stderr


@pytest.mark.parametrize("table", ["legacy_usage", "legacy_tokens"])
def test_a_client_that_only_the_counts_or_a_token_know_was_seen(
    place: Deployment, table: str
) -> None:
    rows = {
        "legacy_usage": "(hour, issuer, client, outcome, count)"
        " VALUES (date_trunc('hour', now()), 'a1', 'cron/2', 'legacy', 3)",
        "legacy_tokens": "(fingerprint, issuer, realm, subject, purpose, exp, keep_until, client)"
        " VALUES (sha256('x'), 'a1', 'users', 'eve', 'access', now(), now(), 'cron/2')",
    }
    place.execute(f"INSERT INTO migrator.{table} {rows[table]}")
    with place.nodes(*NODES):
        place.json("cutover", "--segment", "client=crom", "--confirm", "staging", code=2)
        found = place.run("cutover", "--segment", "client=cron", "--dry-run", code=None)
    assert "was ever seen" not in found.stderr


def test_a_move_that_was_made_is_one_although_nobody_saw_the_client(place: Deployment) -> None:
    with place.nodes(*NODES):
        made = ("cutover", "--segment", "client=to-come")
        assert place.move(*made, "--unseen", "--wait-gates", "10")["changed"]
        assert place.move(*made)["changed"] is False
