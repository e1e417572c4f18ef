"""A simplejwt ledger in our own database: fingerprints made there, rows that wait."""

from __future__ import annotations

import base64
import json
import subprocess
import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest

from migrator import wiring
from migrator.core.errors import Refused, Stopped
from migrator.core.phases import bucket_of
from migrator.core.tokens import fingerprint
from migrator.core.verdicts import Reason
from tests.control.backfill.ledgers import (
    SECRET,
    Ledger,
    backfill,
    body,
    counts,
    refresh,
    settings,
)

NEVER: Any = pytest.fail


def named(token: str) -> bytes:
    return fingerprint("a1", token.rpartition(".")[0].encode())


def test_a_living_refresh_token_becomes_a_session_that_waits_for_it(ledger: Ledger) -> None:
    token = refresh("7")
    ledger.add(token)

    report = backfill(ledger.url)

    assert counts(report) == {"read": 1, "seeded": 1}
    assert report.outcome.changed
    (row,) = ledger.execute(
        "SELECT t.fingerprint, t.jti, t.subject, t.realm, t.issuer, t.purpose, t.exp, t.iat,"
        " t.keep_until, t.swap_key_id, t.first_seen_at, t.percent_bucket, s.digest, s.origin,"
        " s.kind, s.subject, s.expires_at, s.revoked_at, s.id"
        " FROM migrator.legacy_tokens t JOIN migrator.sessions s ON s.id = t.session_id"
    )
    claims = body(token)
    exp = datetime.fromtimestamp(claims["exp"], UTC)
    assert row[0] == named(token)
    assert row[1:6] == (claims["jti"], "7", "users", "a1", "refresh")
    assert row[6] == exp
    assert row[7] == datetime.fromtimestamp(claims["iat"], UTC)
    assert row[8] == exp + timedelta(seconds=35)
    assert row[9:12] == (None, None, bucket_of("7", "users"))
    assert row[12:16] == (None, "backfill", "session", "7")
    assert (row[16], row[17]) == (exp, None)
    assert (row[18].version, row[18].variant) == (7, uuid.RFC_4122)


def test_ids_carry_the_time_they_were_made(ledger: Ledger) -> None:
    ledger.fill(300)
    before = int(time.time() * 1000)
    backfill(ledger.url)
    ids = [row[0] for row in ledger.execute("SELECT id FROM migrator.sessions")]
    assert len(set(ids)) == 300
    assert all(abs((one.int >> 80) - before) < 60_000 for one in ids)


def test_buckets_and_fingerprints_in_sql_are_those_of_the_gate(ledger: Ledger) -> None:
    subjects = [str(at) for at in range(400)] + ["zoë", "日本", "a" * 255, "auth0|5f", "x y"]
    tokens = {subject: refresh(subject) for subject in subjects}
    for token in tokens.values():
        ledger.add(token)
    assert counts(backfill(ledger.url))["seeded"] == len(subjects)
    found = ledger.execute(
        "SELECT subject, percent_bucket, fingerprint FROM migrator.legacy_tokens"
    )
    assert {row[0]: (row[1], row[2]) for row in found} == {
        subject: (bucket_of(subject, "users"), named(token)) for subject, token in tokens.items()
    }


def test_a_session_ends_when_an_exchange_now_would_make_it_end(ledger: Ledger) -> None:
    ledger.add(refresh("1", days=7))
    ledger.add(refresh("2", days=400))
    backfill(ledger.url, issuer={"rotates_refresh": True})
    days = dict(
        ledger.execute(
            "SELECT subject, round(extract(epoch FROM expires_at - now()) / 86400)::int"
            " FROM migrator.sessions"
        )
    )
    assert days == {"1": 30, "2": 90}


def test_broken_rows_are_rejected_each_with_its_reason_and_the_rest_is_seeded(
    ledger: Ledger, tmp_path: Any
) -> None:
    good = [refresh(str(user)) for user in range(20)]
    head, payload, tail = refresh("8").split(".")
    odd: dict[str, tuple[str, dict[str, Any]]] = {
        "no_user": (refresh("1"), {"user": None}),
        "no_dots": ("notatoken", {}),
        "empty": ("", {}),
        "non_ascii": ("ä.ö.ü", {}),
        "long_subject": (refresh("x" * 300), {}),
        "no_subject": (refresh(None), {}),
        "control": (refresh("a\tb"), {}),
        "nul": (refresh("a\0b"), {}),
        "bool": (refresh(True), {}),
        "huge": (refresh("1", note="x" * 9000), {}),
        "not_base64": (f"{head}.{payload}A.{tail}", {}),
        "not_json": (f"{head}.{'A' * 40}.{tail}", {}),
        "list": (f"{head}.W10.{tail}", {}),
        "access": (refresh("1", token_type="access", events={}), {}),
        "foreign": (refresh("1", iss="https://elsewhere.example"), {}),
        "milliseconds": (refresh("1", exp=int(time.time() * 1000) + 10**9), {"jti": "ms"}),
        "text_exp": (refresh("1"), {}),
    }
    odd["text_exp"] = (
        f"{head}.{_segment({**body(good[0]), 'exp': 'tomorrow', 'jti': 'tx'})}.{tail}",
        {"jti": "tx"},
    )
    keys = {}
    for at, (name, (token, row)) in enumerate(odd.items()):
        ledger.add(good[at])
        keys[name] = str(
            ledger.execute(
                "INSERT INTO token_blacklist_outstandingtoken"
                " (token, created_at, expires_at, user_id, jti)"
                " VALUES (%s, now(), now() + interval '7 days', %s, %s) RETURNING id",
                token,
                row.get("user", 7),
                f"odd-{name}",
            )[0][0]
        )
    rejects = tmp_path / "rejects.jsonl"

    report = backfill(ledger.url, rejects=rejects)

    written = [json.loads(line) for line in rejects.read_text().splitlines()]
    by_key = {line["row"]: line["reason"] for line in written}
    assert {name: by_key[key] for name, key in keys.items()} == {
        "no_user": "no_user",
        "no_dots": "not_a_jws",
        "empty": "not_a_jws",
        "non_ascii": "not_a_jws",
        "long_subject": "bad_subject",
        "no_subject": "bad_subject",
        "control": "bad_subject",
        "nul": "unreadable",
        "bool": "bad_subject",
        "huge": "oversized",
        "not_base64": "unreadable",
        "not_json": "unreadable",
        "list": "bad_payload",
        "access": "wrong_purpose",
        "foreign": "unknown_issuer",
        "milliseconds": "bad_time",
        "text_exp": "bad_time",
    }
    assert len(written) == len(odd)
    assert report.outcome.tally.counts["seeded"] == len(odd)
    assert report.outcome.tally.counts["read"] == 2 * len(odd)
    assert {tuple(sorted(line)) for line in written} == {("reason", "row")}


def test_what_is_over_is_passed_by_and_never_parsed(ledger: Ledger) -> None:
    ledger.add(refresh("1", days=-1))
    ledger.add("no token at all", days=-1)
    assert counts(backfill(ledger.url)) == {"read": 2, "expired": 2}
    assert ledger.count("legacy_tokens") == ledger.count("sessions") == 0


def test_a_second_run_changes_nothing(ledger: Ledger) -> None:
    ledger.fill(50)
    ledger.add(refresh("60"), revoked=True)
    assert counts(backfill(ledger.url)) == {"read": 51, "seeded": 50, "denied": 1}
    again = backfill(ledger.url)
    assert counts(again) == {"read": 51, "already": 50, "revoked_already": 1}
    assert not again.outcome.changed


def test_one_token_twice_in_a_ledger_is_one_session(ledger: Ledger) -> None:
    token = refresh("7")
    ledger.add(token)
    ledger.add(token, jti="another")
    assert counts(backfill(ledger.url)) == {"read": 2, "seeded": 1, "already": 1}
    assert ledger.count("sessions") == 1


def test_no_raw_token_is_in_any_of_our_tables(ledger: Ledger, postgres: Any) -> None:
    tokens = ledger.fill(20)
    ledger.add(dead := refresh("99"), revoked=True)
    ledger.add(broken := refresh("a\0b"))
    backfill(ledger.url)
    dump = _dump(postgres, ledger.url, "--schema=migrator")
    for token in (*tokens, dead, broken):
        for part in token.split(".")[1:]:
            assert part not in dump
    assert named(tokens[0]).hex() in dump


def test_a_rehearsal_leaves_the_database_byte_identical(ledger: Ledger, postgres: Any) -> None:
    ledger.fill(30)
    ledger.add(refresh("99"), revoked=True)
    ledger.add("broken")
    before = _dump(postgres, ledger.url)
    report = backfill(ledger.url, dry_run=True)
    assert _dump(postgres, ledger.url) == before
    assert counts(report) == {"read": 32, "seeded": 30, "denied": 1, "not_a_jws": 1}
    assert not report.outcome.changed
    assert counts(backfill(ledger.url)) == counts(report)


# ---- what a ledger may not bring back ----------------------------------------------------------


def test_a_backfilled_row_is_adopted_at_its_first_exchange(ledger: Ledger) -> None:
    token = refresh("7")
    ledger.add(token)
    backfill(ledger.url)
    app = _app(ledger)
    issued = app.exchange(token, legacy=NEVER)
    assert issued.kind == "session"
    assert app.exchange(token, legacy=NEVER).token == issued.token
    (session,) = app.list("7", realm="users")
    assert session.origin == "backfill"
    assert ledger.count("sessions") == ledger.count("legacy_tokens") == 1
    assert ledger.count("legacy_tokens", "swap_key_id = 'k1' AND first_seen_at IS NOT NULL") == 1


def test_a_token_the_ledger_revoked_is_refused_and_has_no_session(ledger: Ledger) -> None:
    token = refresh("7")
    ledger.add(token, revoked=True)
    report = backfill(ledger.url)
    assert counts(report) == {"read": 1, "denied": 1}
    assert ledger.count("sessions") == ledger.count("legacy_tokens") == 0
    assert ledger.count("denials", "reason = 'ledger'") == 2
    assert ledger.count("feed", "kind = 'legacy' AND key = 'a1'") == 1
    with pytest.raises(Refused) as refused:
        _app(ledger).exchange(token, legacy=NEVER)
    assert refused.value.reason is Reason.DENIED


def test_a_revoked_row_whose_token_was_blanked_is_denied_by_its_jti(ledger: Ledger) -> None:
    token = refresh("7")
    ledger.add("", jti=body(token)["jti"], revoked=True)
    ledger.add("", jti="deleted-user", user=None, revoked=True)
    assert counts(backfill(ledger.url)) == {"read": 2, "denied": 2}
    with pytest.raises(Refused) as refused:
        _app(ledger).exchange(token, legacy=NEVER)
    assert refused.value.reason is Reason.DENIED


def test_a_session_of_a_token_revoked_since_ends_at_the_next_run(ledger: Ledger) -> None:
    waiting, used = refresh("7"), refresh("8")
    rows = [ledger.add(waiting), ledger.add(used)]
    backfill(ledger.url)
    app = _app(ledger)
    app.exchange(used, legacy=NEVER)
    for row in rows:
        ledger.revoke(row)
    assert counts(backfill(ledger.url)) == {"read": 2, "denied": 2, "ended": 2}
    assert ledger.count("sessions", "revoked_reason = 'ledger'") == 2
    assert ledger.count("feed", "kind = 'session'") == 1
    for token in (waiting, used):
        with pytest.raises(Refused):
            app.exchange(token, legacy=NEVER)


def test_what_was_ended_denied_or_cut_off_stays_so(ledger: Ledger) -> None:
    ended, denied, cut, later = (refresh(subject) for subject in ("1", "2", "3", "4"))
    app = _app(ledger)
    app.exchange(ended, legacy=NEVER)
    app.end_all("1", realm="users")
    app.end(denied)
    app.end_all("3", realm="users")
    for token in (ended, denied, cut, later):
        ledger.add(token)
    assert counts(backfill(ledger.url)) == {"read": 4, "seeded": 1, "already": 2, "barred": 1}
    for token in (ended, denied, cut):
        with pytest.raises(Refused):
            app.exchange(token, legacy=NEVER)
    assert [app.list(subject, realm="users") for subject in ("1", "2", "3")] == [[], [], []]


def test_a_cut_off_key_or_issuer_seeds_nothing(ledger: Ledger) -> None:
    ledger.add(jwt.encode(body(refresh("1")), SECRET, headers={"kid": "leaked"}))
    ledger.add(jwt.encode(body(refresh("2")), SECRET, headers={"kid": "other"}))
    ledger.execute("INSERT INTO migrator.cutoffs (issuer, kid) VALUES ('a1', 'leaked')")
    assert counts(backfill(ledger.url)) == {"read": 2, "seeded": 1, "barred": 1}
    assert ledger.execute("SELECT subject, kid FROM migrator.legacy_tokens") == [("2", "other")]


def test_a_cutoff_that_a_page_could_not_see_is_settled_at_the_end(ledger: Ledger) -> None:
    """Whoever cut the subject off swept before the page was committed."""
    ledger.add(refresh("1"))
    ledger.add(refresh("2"))
    backfill(ledger.url, restart=True)
    ledger.execute(
        "INSERT INTO migrator.cutoffs (realm, subject, not_before) VALUES ('users', '1', now())"
    )
    ledger.execute("UPDATE migrator.cutoffs SET created_at = now() + interval '1 hour'")
    report = backfill(ledger.url)
    assert counts(report) == {"read": 2, "already": 2, "ended": 1}
    assert ledger.count("sessions", "subject = '1' AND revoked_reason = 'cutoff'") == 1
    assert ledger.count("sessions", "subject = '2' AND revoked_at IS NULL") == 1


def test_a_revoked_sliding_token_is_denied_however_often_it_was_renewed(ledger: Ledger) -> None:
    issuer = {"purpose": {"require": {"token_type": "sliding"}}}
    token = refresh("7", token_type="sliding", days=1)
    ledger.add(token, revoked=True)
    backfill(ledger.url, issuer=issuer)
    (until,) = ledger.execute("SELECT until FROM migrator.denials WHERE jti IS NOT NULL")
    assert until == (None,)


# ---- refusals ----------------------------------------------------------------------------------


def test_without_the_blacklist_nothing_is_seeded(ledger: Ledger) -> None:
    ledger.fill(1)
    ledger.execute("DROP TABLE token_blacklist_blacklistedtoken")
    with pytest.raises(Stopped) as stopped:
        backfill(ledger.url)
    assert stopped.value.problem.id == "backfill.no_table"
    assert ledger.count("sessions") == ledger.count("jobs") == 0


def test_a_table_of_another_shape_is_refused(ledger: Ledger) -> None:
    ledger.execute("ALTER TABLE token_blacklist_outstandingtoken DROP COLUMN token")
    with pytest.raises(Stopped) as stopped:
        backfill(ledger.url)
    assert stopped.value.problem.id == "backfill.no_columns"


def test_a_retired_rollout_takes_no_backfill(ledger: Ledger) -> None:
    ledger.execute("UPDATE migrator.rollout SET phase = 'retired'")
    with pytest.raises(Stopped) as stopped:
        backfill(ledger.url)
    assert stopped.value.exit_code == 12


def test_integer_subjects_are_taken_where_the_issuer_says_so(ledger: Ledger) -> None:
    ledger.add(refresh(7))
    assert counts(backfill(ledger.url, issuer={"integer_subject": False})) == {
        "read": 1,
        "bad_subject": 1,
    }
    assert counts(backfill(ledger.url, restart=True)) == {"read": 1, "seeded": 1}
    assert ledger.execute("SELECT subject FROM migrator.sessions") == [("7",)]


def test_the_subject_is_what_the_token_says_and_not_the_user_column(ledger: Ledger) -> None:
    """Where USER_ID_FIELD is not the primary key they differ; the token is believed later."""
    ledger.add(refresh("f3c1-uuid"), user=7)
    backfill(ledger.url)
    assert ledger.execute("SELECT subject FROM migrator.sessions") == [("f3c1-uuid",)]


def test_a_ledger_in_another_database_hands_over_fingerprints_only(
    ledger: Ledger, database: str
) -> None:
    there = Ledger(database).create()
    tokens = there.fill(40)
    there.add(dead := refresh("50"), revoked=True)
    there.add(refresh("a\0b"))
    report = backfill(ledger.url, source_url=database, source_name="env:LEDGER")
    assert counts(report) == {"read": 42, "seeded": 40, "denied": 1, "unreadable": 1}
    found = {row[0] for row in ledger.execute("SELECT fingerprint FROM migrator.legacy_tokens")}
    assert found == {named(token) for token in tokens}
    assert report.place.endswith("at env:LEDGER")
    assert database not in str(report.as_json())
    with pytest.raises(Refused):
        _app(ledger).exchange(dead, legacy=NEVER)


def test_what_was_exchanged_before_is_left_as_it_is(ledger: Ledger) -> None:
    token = refresh("7")
    ledger.add(token)
    app = _app(ledger)
    first = app.exchange(token, legacy=NEVER)
    assert counts(backfill(ledger.url)) == {"read": 1, "already": 1}
    assert app.exchange(token, legacy=NEVER).token == first.token
    assert ledger.count("sessions") == 1


def _app(ledger: Ledger) -> Any:
    ledger.execute("UPDATE migrator.rollout SET phase = 'drain', drain_since = now()")
    return wiring.operator(settings(ledger.url))


def _dump(postgres: Any, url: str, *options: str) -> str:
    plain = url.replace("postgresql+psycopg://", "postgresql://")
    done = subprocess.run(
        [str(postgres.bin("pg_dump")), *options, plain], check=True, capture_output=True, text=True
    )
    # Newer ones put a random word around the dump.
    return "\n".join(
        line for line in done.stdout.splitlines() if not line.startswith(("\\restrict", "\\unres"))
    )


def _segment(claims: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
