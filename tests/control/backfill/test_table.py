"""Any table by a mapping: columns of the types that people use, and what cannot be used."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest

from migrator.control.backfill.runner import Limits
from migrator.core.errors import Stopped
from migrator.core.tokens import fingerprint
from tests.control.backfill.ledgers import Ledger, backfill, body, counts, refresh


def named(token: str) -> bytes:
    return fingerprint("a1", token.rpartition(".")[0].encode())


@pytest.mark.parametrize(
    ("kind", "living", "dead"),
    [
        ("boolean", "false", "true"),
        ("integer", "0", "1"),
        ("timestamptz", "NULL", "now()"),
        ("text", "'no'", "'Yes'"),
    ],
)
def test_a_revoked_column_is_understood_in_each_usual_type(
    ledger: Ledger, kind: str, living: str, dead: str
) -> None:
    ledger.execute(
        f"CREATE TABLE tokens (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), jwt text, r {kind})"
    )
    for value in (living, dead):
        ledger.execute(f"INSERT INTO tokens (jwt, r) VALUES (%s, {value})", refresh("7"))
    report = backfill(ledger.url, "table", place="tokens", columns="token=jwt,revoked=r")
    assert counts(report) == {"read": 2, "seeded": 1, "denied": 1}


def test_a_word_that_is_neither_yes_nor_no_is_not_guessed(ledger: Ledger) -> None:
    ledger.execute("CREATE TABLE tokens (id int PRIMARY KEY, jwt text, status text)")
    ledger.execute("INSERT INTO tokens VALUES (1, %s, 'active')", refresh("7"))
    report = backfill(ledger.url, "table", place="tokens", columns="token=jwt,revoked=status")
    assert counts(report) == {"read": 1, "unreadable": 1}


@pytest.mark.parametrize(
    ("digest", "written"),
    [
        ("bytea", lambda raw: raw),
        ("text", lambda raw: raw.hex()),
        ("text", lambda raw: base64.b64encode(raw).decode()),
        ("text", lambda raw: base64.urlsafe_b64encode(raw).rstrip(b"=").decode()),
    ],
)
def test_fingerprints_are_read_in_each_spelling(ledger: Ledger, digest: str, written: Any) -> None:
    ledger.execute(
        f"CREATE TABLE tokens (id int PRIMARY KEY, f {digest}, who bigint, ends bigint)"
    )
    token = refresh("7")
    ledger.execute(
        "INSERT INTO tokens VALUES (1, %s, 7, %s)", written(named(token)), body(token)["exp"]
    )
    columns = "fingerprint=f,subject=who,exp=ends"
    assert counts(backfill(ledger.url, "table", place="tokens", columns=columns)) == {
        "read": 1,
        "seeded": 1,
    }
    found = ledger.execute("SELECT fingerprint, subject, purpose FROM migrator.legacy_tokens")
    assert found == [(named(token), "7", "refresh")]


def test_bad_fingerprints_subjects_and_ends_are_told_apart(ledger: Ledger) -> None:
    ledger.execute(
        "CREATE TABLE tokens (id int PRIMARY KEY, fingerprint text, subject text, exp timestamp)"
    )
    good = hashlib.sha256(b"x").hexdigest()
    for row in (
        (1, "abc", "7", "2099-01-01"),
        (2, good, "  ", "2099-01-01"),
        (3, good, "7", None),
        (4, good, "7", "2001-01-01"),
        (5, good, "7", "2099-01-01"),
    ):
        ledger.execute("INSERT INTO tokens VALUES (%s, %s, %s, %s)", *row)
    assert counts(backfill(ledger.url, "table", place="public.tokens")) == {
        "read": 5,
        "seeded": 1,
        "expired": 1,
        "bad_fingerprint": 1,
        "bad_subject": 1,
        "no_expiry": 1,
    }


def test_a_composite_key_and_odd_names_page_like_any_other(ledger: Ledger) -> None:
    ledger.execute(
        'CREATE TABLE "Odd ""100% Table" (a text, b int, "T%k" text, PRIMARY KEY (a, b))'
    )
    tokens = [refresh(str(user)) for user in range(30)]
    for at, token in enumerate(tokens):
        ledger.execute(
            'INSERT INTO "Odd ""100%% Table" VALUES (%s, %s, %s)', f"k{at % 3}", at, token
        )
    ledger.execute("""INSERT INTO "Odd ""100% Table" VALUES ('k1', 99, 'broken')""")
    report = backfill(
        ledger.url,
        "table",
        place='"Odd ""100% Table"',
        columns="token=T%k",
        limits=Limits(batch=4),
    )
    assert counts(report) == {"read": 31, "seeded": 30, "not_a_jws": 1}
    assert report.outcome.examples == (("k1,99", "not_a_jws"),)


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ("token", "backfill.bad_columns"),
        ("token=", "backfill.bad_columns"),
        ("token=jwt,token=jwt", "backfill.bad_columns"),
        ("secret=jwt", "backfill.bad_columns"),
        ("fingerprint=jwt", "backfill.bad_columns"),
        ("token=jwt,subject=jwt", "backfill.bad_columns"),
        ("token=jwt,exp=flag", "backfill.bad_columns"),
        ("token=elsewhere", "backfill.no_columns"),
        ("", "backfill.bad_columns"),
    ],
)
def test_a_mapping_that_cannot_be_used_is_refused_before_any_row(
    ledger: Ledger, columns: str, problem: str
) -> None:
    ledger.execute("CREATE TABLE tokens (id int PRIMARY KEY, jwt text, flag boolean)")
    with pytest.raises(Stopped) as stopped:
        backfill(ledger.url, "table", place="tokens", columns=columns)
    assert (stopped.value.problem.id, stopped.value.exit_code) == (problem, 2)
    assert ledger.count("jobs") == 0


@pytest.mark.parametrize("name", ["nowhere", "no.such.thing.at.all", "a b", "pg_catalog.nope"])
def test_a_table_that_is_not_there_is_refused(ledger: Ledger, name: str) -> None:
    with pytest.raises(Stopped) as stopped:
        backfill(ledger.url, "table", place=name, columns="token=jwt")
    assert stopped.value.problem.id == "backfill.no_table"


def test_a_table_without_a_key_is_refused(ledger: Ledger) -> None:
    ledger.execute("CREATE TABLE tokens (jwt text)")
    with pytest.raises(Stopped) as stopped:
        backfill(ledger.url, "table", place="tokens", columns="token=jwt")
    assert stopped.value.problem.id == "backfill.no_key"


def test_a_key_too_long_for_an_index_rejects_its_row_alone(ledger: Ledger) -> None:
    ledger.execute("CREATE TABLE tokens (id int PRIMARY KEY, jwt text, jti text, revoked boolean)")
    ledger.execute(
        "INSERT INTO tokens SELECT 1, '', string_agg(md5(n::text), ''), true"
        " FROM generate_series(1, 500) n"
    )
    ledger.execute("INSERT INTO tokens VALUES (2, %s, NULL, false)", refresh("7"))
    columns = "token=jwt,jti=jti,revoked=revoked"
    report = backfill(ledger.url, "table", place="tokens", columns=columns)
    assert counts(report) == {"read": 2, "seeded": 1, "unreadable": 1}
