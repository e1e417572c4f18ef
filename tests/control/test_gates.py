"""What each gate says: whom the drain horizon still counts, and what silence proves."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from migrator.control import census, revisions
from migrator.control.gates import SETS
from migrator.control.scope import Scope
from migrator.core.phases import Exemption, Phase, Rollout, bucket_of
from tests.cli.deployment import Deployment

LONG = 'lifetime = "1h"\nrefresh_lifetime = "2h"'


@pytest.fixture
def place(migrated: str, tmp_path: Path) -> Deployment:
    return Deployment(migrated, tmp_path)


def gate(place: Deployment, name: str, phase: str = "cutover") -> dict[str, Any]:
    found = place.json_any("gates", phase)
    judged: dict[str, Any] = {one["id"]: one for one in found["gates"]}[name]
    assert judged["playbook"].endswith(f"#gate-{name}")
    return judged


def token(
    place: Deployment,
    name: str,
    *,
    client: str | None = "bot",
    issued_ago: str = "2 hours",
    lasts: str = "30 days",
    adopted: bool = False,
    session_ended: bool = False,
) -> bytes:
    """A legacy token that was swapped two hours ago and seen last an hour ago."""
    fingerprint = hashlib.sha256(name.encode()).digest()
    session = place.value(
        "INSERT INTO migrator.sessions (id, kind, realm, subject, client, expires_at, origin,"
        " revoked_at) VALUES (gen_random_uuid(), 'session', 'users', %s, %s,"
        " now() + interval '30 days', 'swap', CASE WHEN %s THEN now() END) RETURNING id",
        name,
        client,
        session_ended,
    )
    place.execute(
        "INSERT INTO migrator.legacy_tokens (fingerprint, issuer, jti, realm, subject, client,"
        " percent_bucket, kid, purpose, iat, exp, session_id, first_seen_at, last_seen_at,"
        " adopted_at, keep_until) VALUES (%s, 'a1', %s, 'users', %s, %s, %s, 'k9', 'access',"
        " now() - %s::interval, now() + %s::interval, %s, now() - interval '1 hour',"
        " now() - interval '1 hour', CASE WHEN %s THEN now() END, now() + interval '31 days')",
        fingerprint,
        f"jti-{name}",
        name,
        client,
        bucket_of(name, "users"),
        issued_ago,
        lasts,
        session,
        adopted,
    )
    return fingerprint


def test_the_sets_are_those_of_the_contract(place: Deployment) -> None:
    place.beat("n1", "n2")
    base = ["nodes-acked", "schema-head", "keys-present"]
    wanted = {
        "swap": base,
        "drain": [*base, "swap-complete"],
        "cutover": [
            *base, "swap-complete", "issuance-stopped", "drain-horizon", "legacy-seen",
            "foreign-seen",
        ],
        "retired": ["nodes-acked", "legacy-seen", "drain-horizon", "no-exceptions"],
    }  # fmt: skip
    assert {phase.value for phase in SETS} == set(wanted)
    for phase, ids in wanted.items():
        assert [one["id"] for one in place.json_any("gates", phase)["gates"]] == ids


def test_the_gates_of_a_quiet_drain_all_pass(place: Deployment) -> None:
    place.put("drain")
    place.beat("n1", "n2")
    found = place.json("gates", "cutover")
    assert found["ok"]
    assert found["legal"]
    assert {one["result"] for one in found["gates"]} == {"pass"}
    assert place.run("gates", "cutover").stdout.startswith("drain → cutover: READY")


def test_a_phase_that_no_move_leads_to_is_not_to_be_entered(place: Deployment) -> None:
    place.beat("n1", "n2")
    found = place.json("gates", "drain", code=3)
    assert not found["legal"]
    assert "no move leads" in found["why"]


def test_a_long_token_seen_and_not_adopted_holds_the_horizon(place: Deployment) -> None:
    place.put("drain")
    place.beat("n1", "n2")
    token(place, "robot-7")
    held = gate(place, "drain-horizon")
    assert held["result"] == "fail"
    assert "bot 1" in held["detail"]
    found = place.json("status")
    assert found["if_cut_over"]["subjects"] == 1
    assert found["if_cut_over"]["clients"][0]["client"] == "bot"
    assert found["drain"]["bound"] == "exact"
    assert "IF CUT   over now: 1 user bot 1" in place.run("status").stdout


@pytest.mark.parametrize(
    "leaving",
    [
        "INSERT INTO migrator.denials (issuer, fingerprint, reason) VALUES ('a1', %(f)s, 'x')",
        "INSERT INTO migrator.denials (issuer, jti, reason) VALUES ('a1', 'jti-robot-7', 'x')",
        (
            "INSERT INTO migrator.cutoffs (realm, subject, not_before)"
            " VALUES ('users', 'robot-7', now())"
        ),
        "INSERT INTO migrator.cutoffs (issuer, kid) VALUES ('a1', 'k9')",
        "INSERT INTO migrator.cutoffs (issuer) VALUES ('a1')",
        (
            "INSERT INTO migrator.legacy_subjects (realm, subject, issuer, client, last_seen_at,"
            " max_exp, session_seen_at) SELECT realm, subject, issuer, client, last_seen_at, exp,"
            " now() FROM migrator.legacy_tokens"
        ),
        "UPDATE migrator.legacy_tokens SET adopted_at = now()",
        "UPDATE migrator.sessions SET revoked_at = now()",
    ],
)
def test_a_token_that_is_settled_leaves_the_horizon(place: Deployment, leaving: str) -> None:
    place.put("drain")
    place.beat("n1", "n2")
    fingerprint = token(place, "robot-7")
    assert gate(place, "drain-horizon")["result"] == "fail"
    if "%(f)s" in leaving:
        place.execute(leaving.replace("%(f)s", "%s"), fingerprint)
    else:
        place.execute(leaving)
    assert gate(place, "drain-horizon")["result"] == "pass"


def test_a_cutoff_from_before_the_token_was_issued_settles_nothing(place: Deployment) -> None:
    place.put("drain")
    place.beat("n1", "n2")
    token(place, "robot-7")
    place.execute(
        "INSERT INTO migrator.cutoffs (realm, subject, not_before)"
        " VALUES ('users', 'robot-7', now() - interval '3 hours')"
    )
    assert gate(place, "drain-horizon")["result"] == "fail"


def test_a_session_of_another_client_settles_nothing(place: Deployment) -> None:
    place.put("drain")
    place.beat("n1", "n2")
    token(place, "robot-7")
    place.execute(
        "INSERT INTO migrator.legacy_subjects (realm, subject, issuer, client, last_seen_at,"
        " max_exp, session_seen_at) VALUES ('users', 'robot-7', 'a1', 'phone', now(), now(),"
        " now() + interval '1 s')"
    )
    assert "bot 1" in gate(place, "drain-horizon")["detail"]


def test_unseen_tokens_are_counted_from_when_issuing_stopped(
    migrated: str, tmp_path: Path
) -> None:
    place = Deployment(migrated, tmp_path, lifetimes=LONG)
    place.put("drain", ago="30 minutes")
    place.beat("n1", "n2")
    found = place.json("status")
    stopped = place.value("SELECT drain_since FROM migrator.rollout")
    assert datetime.fromisoformat(found["drain"]["horizon"]) == pytest.approx(
        stopped + timedelta(hours=2), abs=timedelta(seconds=1)
    )
    assert "1 h" in gate(place, "drain-horizon")["detail"]


def test_what_nodes_handed_out_counts_after_they_are_gone(place: Deployment) -> None:
    place.put("drain")
    place.beat("n1", "n2")
    place.execute(
        "INSERT INTO migrator.nodes (id, lease_until, seen_at, started_at, issued_horizon) VALUES"
        " ('old', now() - interval '1 h', now() - interval '2 h', now() - interval '9 h',"
        " now() + interval '1 day')"
    )
    assert gate(place, "drain-horizon")["result"] == "fail"


def test_an_issuer_without_a_lifetime_has_no_horizon(migrated: str, tmp_path: Path) -> None:
    place = Deployment(migrated, tmp_path, lifetimes='refresh_lifetime = "1s"')
    place.put("drain")
    place.beat("n1", "n2")
    drain = place.json("status")["drain"]
    assert (drain["bound"], drain["horizon"]) == ("none", None)
    assert "lifetime" in drain["why"]
    assert gate(place, "drain-horizon")["result"] == "inconclusive"


def test_restarted_nodes_do_not_move_the_horizon(place: Deployment) -> None:
    place.put("drain")
    place.execute("DELETE FROM migrator.rollout_log WHERE command = 'in effect'")
    place.execute(
        "INSERT INTO migrator.nodes (id, epoch, acked_at, lease_until, seen_at, started_at)"
        " SELECT 'first', epoch, drain_since + interval '1 s', now() - interval '30 min',"
        " now() - interval '31 min', drain_since - interval '1 day' FROM migrator.rollout"
    )
    place.execute(
        "INSERT INTO migrator.nodes (id, epoch, acked_at, lease_until, started_at)"
        " SELECT 'second', epoch, now(), now() + interval '9 s', now() FROM migrator.rollout"
    )
    horizon = datetime.fromisoformat(place.json("status")["drain"]["horizon"])
    since = place.value("SELECT drain_since FROM migrator.rollout")
    assert horizon - since < timedelta(seconds=10)


@pytest.mark.parametrize(
    ("statement", "word"),
    [
        ("UPDATE migrator.nodes SET last_jwt_issued_at = now() WHERE id = 'n1'", "n1"),
        (
            (
                "INSERT INTO migrator.legacy_usage (hour, outcome, count, last_at)"
                " VALUES (date_trunc('hour', now()), 'issued:legacy', 1, now())"
            ),
            "counted",
        ),
    ],
)
def test_issuing_that_goes_on_is_told(place: Deployment, statement: str, word: str) -> None:
    place.put("drain")
    place.beat("n1", "n2")
    assert gate(place, "issuance-stopped")["result"] == "pass"
    place.execute(statement)
    held = gate(place, "issuance-stopped")
    assert held["result"] == "fail"
    assert word in held["detail"]


def test_a_signer_we_do_not_see_is_told_by_its_tokens(place: Deployment) -> None:
    place.put("drain")
    place.beat("n1", "n2")
    token(place, "ann", issued_ago="5 minutes", adopted=True)
    held = gate(place, "issuance-stopped")
    assert held["result"] == "fail"
    assert "issuer main" in held["detail"]


def test_somebody_seen_within_the_quiet_window_holds_the_cutover(
    migrated: str, tmp_path: Path
) -> None:
    place = Deployment(migrated, tmp_path, quiet="1h")
    place.put("drain", ago="3 hours")
    place.beat("n1", "n2")
    place.sight("ann", "ios/7.2", ago="2 hours", lasts="-1 s")
    assert gate(place, "legacy-seen")["result"] == "pass"
    place.sight("bob", "ios/7.2", ago="5 minutes", lasts="-1 s")
    held = gate(place, "legacy-seen")
    assert held["result"] == "fail"
    assert held["value"] == 1
    assert "ios/7.2 1" in held["detail"]


def test_a_client_that_only_shows_what_is_revoked_holds_nothing(
    migrated: str, tmp_path: Path
) -> None:
    place = Deployment(migrated, tmp_path, quiet="1h")
    place.put("drain", ago="3 hours")
    place.beat("n1", "n2")
    place.sight("thief", "curl", lasts="-1 s")
    place.execute(
        "INSERT INTO migrator.legacy_usage (hour, issuer, client, outcome, count, last_at) VALUES"
        " (date_trunc('hour', now()), 'a1', 'curl', 'refused:denied', 3, now())"
    )
    assert gate(place, "legacy-seen")["result"] == "pass"


def test_a_refused_straggler_holds_retire(migrated: str, tmp_path: Path) -> None:
    place = Deployment(migrated, tmp_path, quiet="1h")
    place.put("cutover", ago="3 hours")
    place.beat("n1", "n2")
    assert gate(place, "legacy-seen", "retire")["result"] == "pass"
    place.execute(
        "INSERT INTO migrator.legacy_usage (hour, issuer, client, outcome, count, last_at) VALUES"
        " (date_trunc('hour', now()), 'a1', 'bot', 'refused:legacy_retired', 3, now())"
    )
    assert gate(place, "legacy-seen", "retire")["result"] == "fail"
    assert "bot" in place.run("status").stdout


def test_silence_without_a_listener_proves_nothing(migrated: str, tmp_path: Path) -> None:
    place = Deployment(migrated, tmp_path, quiet="1h")
    place.put("drain", ago="3 hours")
    assert gate(place, "legacy-seen")["result"] == "inconclusive"
    place.beat("n1", "n2")
    assert gate(place, "legacy-seen")["result"] == "pass"
    place.execute("UPDATE migrator.nodes SET started_at = now() - interval '5 min'")
    watched = gate(place, "foreign-seen")
    assert watched["result"] == "inconclusive"
    assert "5 min of 1 h" in watched["detail"]
    place.execute("UPDATE migrator.nodes SET started_at = now() - interval '1 day'")
    place.execute("UPDATE migrator.nodes SET seen_at = now() - interval '1 min'")
    assert gate(place, "legacy-seen")["result"] == "stale"


def test_a_foreign_bearer_credential_holds_the_cutover_and_basic_does_not(
    migrated: str, tmp_path: Path
) -> None:
    place = Deployment(migrated, tmp_path, quiet="1h")
    place.put("drain", ago="3 hours")
    place.beat("n1", "n2")
    seen = (
        "INSERT INTO migrator.legacy_usage (hour, outcome, count, last_at)"
        " VALUES (date_trunc('hour', now()), %s, 1, now())"
    )
    place.execute(seen, "foreign:scheme")
    assert gate(place, "foreign-seen")["result"] == "pass"
    place.execute(seen, "foreign:credential")
    assert gate(place, "foreign-seen")["result"] == "fail"


@pytest.mark.parametrize(
    ("statement", "result", "word"),
    [
        ("UPDATE migrator.nodes SET epoch = 0 WHERE id = 'n1'", "fail", "n1"),
        ("DELETE FROM migrator.nodes WHERE id = 'n1'", "fail", "1 of 2"),
        (
            (
                "INSERT INTO migrator.nodes (id, epoch, lease_until)"
                " SELECT 'n3', epoch, now() + interval '9 s' FROM migrator.rollout"
            ),
            "fail",
            "3 nodes live, 2 expected",
        ),
        (
            (
                "INSERT INTO migrator.nodes (id, lease_until, seen_at)"
                " VALUES ('n3', now() - interval '9 s', now())"
            ),
            "fail",
            "n3",
        ),
        (
            (
                "INSERT INTO migrator.nodes (id, lease_until, seen_at)"
                " VALUES ('n3', now() - interval '9 s', now() - interval '1 min')"
            ),
            "pass",
            "all 2",
        ),
    ],
)
def test_every_node_there_should_be_has_to_act_under_the_epoch(
    place: Deployment, statement: str, result: str, word: str
) -> None:
    place.beat("n1", "n2")
    place.execute(statement)
    judged = gate(place, "nodes-acked", "swap")
    assert judged["result"] == result
    assert word in judged["detail"]


def test_every_node_has_to_hold_the_key_that_derives(place: Deployment) -> None:
    place.beat("n1", "n2")
    assert gate(place, "keys-present", "swap")["result"] == "pass"
    place.execute("UPDATE migrator.nodes SET key_ids = '{old}' WHERE id = 'n2'")
    judged = gate(place, "keys-present", "swap")
    assert judged["result"] == "fail"
    assert "n2" in judged["detail"]


@pytest.mark.parametrize("by", ["issuer", "client", "cohort"])
def test_the_database_counts_a_segment_as_the_gate_judges_it(place: Deployment, by: str) -> None:
    """The scope's SQL and `Rollout.phase_for` are one rule written twice."""
    now = place.value("SELECT now()")
    value = {"issuer": "a1", "client": "ios", "cohort": "40"}[by]
    exempt = Exemption(by=by, value=value, phase=Phase.CUTOVER)  # type: ignore[arg-type] # three
    before = Rollout(phase=Phase.DRAIN, epoch=1, percent=100, since=now)
    after = Rollout(phase=Phase.DRAIN, epoch=2, percent=100, since=now, exceptions=(exempt,))
    clients = ("ios", "ios/7.2", "iosx", "")
    subjects = [(f"ü-{number}", clients[number % 4]) for number in range(80)]
    for subject, client in subjects:
        place.sight(subject, client)
    wanted = sum(
        after.phase_for(issuer="a1", client=client or None, bucket=bucket_of(subject, "users"))
        is Phase.CUTOVER
        for subject, client in subjects
    )
    assert wanted > 0
    with revisions.connected(place.url) as connection:
        seen = census.seen_since(
            connection,
            "migrator",
            since=now - timedelta(hours=1),
            scope=Scope(before=before, after=after),
        )
    assert seen.subjects == wanted


def crowd(place: Deployment) -> None:
    """Two subjects nobody can name a client of, and one bot that cannot adopt."""
    place.put("drain", ago="3 hours")
    place.beat("n1", "n2")
    token(place, "ann", client=None)
    token(place, "ben", client=None)
    token(place, "robot-7", client="report-bot/1.0")


def test_the_client_that_holds_the_horizon_is_named_first_and_in_full(place: Deployment) -> None:
    crowd(place)
    for command in (("gates", "cutover"), ("status",)):
        text = place.run(*command, code=None).stdout
        row = text.partition("✗ drain-horizon")[2].partition("\n  ✓")[0].partition("\nIF")[0]
        assert "report-bot/1.0 1" in " ".join(row.split())
        assert max(map(len, text.splitlines())) <= 100
    assert "IF CUT   over now: 3 users report-bot/1.0 1 · unknown client 2" in text


def test_a_refused_cutover_names_the_client_when_nobody_was_seen_of_late(
    place: Deployment,
) -> None:
    crowd(place)
    assert gate(place, "legacy-seen")["result"] == "pass"
    result = place.run("cutover", "--all", "--confirm", "staging", code=3)
    said = result.stderr.partition("gates.failed")[2]
    assert "report-bot/1.0 1 · unknown client 2" in " ".join(said.split())
    assert "legacy-seen" not in said


def test_a_token_of_a_ledger_goes_by_the_client_that_showed_it(place: Deployment) -> None:
    place.put("drain", ago="3 hours")
    place.beat("n1", "n2")
    fingerprint = token(place, "ann", client=None)
    place.sight("ann", "ios/7.2")
    place.execute(
        "UPDATE migrator.legacy_subjects SET max_exp ="
        " (SELECT exp FROM migrator.legacy_tokens WHERE fingerprint = %s)",
        fingerprint,
    )
    assert "1 subject: ios/7.2 1" in gate(place, "drain-horizon")["detail"]


def sunset(place: Deployment) -> datetime | None:
    found: datetime | None = place.value("SELECT sunset_at FROM migrator.rollout")
    return found


@pytest.mark.parametrize("command", [("status",), ("gates", "cutover")])
def test_sunset_follows_the_horizon_to_a_stragglers_exp_and_back(
    place: Deployment, command: tuple[str, ...]
) -> None:
    place.put("drain", ago="3 hours")
    place.beat("n1", "n2")
    place.execute("UPDATE migrator.rollout SET sunset_at = drain_since + interval '1 s'")
    fingerprint = token(place, "robot-7")
    exp = place.value("SELECT max(exp) FROM migrator.legacy_tokens")
    before = sunset(place)
    place.run(*command, "--dry-run", code=None)
    assert sunset(place) == before
    place.run(*command, code=None)
    assert sunset(place) == exp
    place.execute(
        "UPDATE migrator.legacy_tokens SET adopted_at = now() WHERE fingerprint = %s", fingerprint
    )
    place.run(*command, code=None)
    announced = sunset(place)
    assert announced is not None
    assert announced < exp
    assert announced >= place.value("SELECT drain_since FROM migrator.rollout")


def test_no_sunset_is_announced_for_a_horizon_that_is_not_exact(
    migrated: str, tmp_path: Path
) -> None:
    place = Deployment(migrated, tmp_path, lifetimes="")
    place.put("drain", ago="3 hours")
    place.beat("n1", "n2")
    place.execute("UPDATE migrator.rollout SET sunset_at = now()")
    place.run("status")
    assert sunset(place) is None


def test_a_sunset_that_the_operator_set_stays(place: Deployment) -> None:
    place.put("swap")
    with place.nodes("n1", "n2"):
        place.move("advance", "drain", "--sunset", "2031-12-01T09:00+0000")
        token(place, "robot-7")
        place.run("status")
        assert sunset(place) == datetime.fromisoformat("2031-12-01T09:00+00:00")


def test_a_role_that_may_only_read_is_told_all_the_same(place: Deployment, tmp_path: Path) -> None:
    place.put("drain", ago="3 hours")
    place.beat("n1", "n2")
    option = "options=-cdefault_transaction_read_only%3Don"
    url = f"{place.url}{'&' if '?' in place.url else '?'}{option}"
    assert Deployment(url, tmp_path).json("status")["drain"]["bound"] == "exact"
    assert sunset(place) is None
