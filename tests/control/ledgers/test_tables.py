"""Tables of tokens that the app itself has revoked: what they name ends here, and nothing else."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from migrator import wiring
from migrator.control.ledgers import tables
from migrator.control.ledgers.database import Database
from migrator.core.tokens import fingerprint
from migrator.stores import postgres
from migrator.stores.drivers import conninfo
from tests.control.ledgers.deployment import (
    SIMPLEJWT,
    App,
    claims_of,
    comes_true,
    jti,
    sign,
    sign_refresh,
)

NEVER: Any = pytest.fail
BLOCKLIST = "CREATE TABLE blocklist (id serial PRIMARY KEY, jti text, created_at timestamptz)"
BY_JTI = {
    "kind": "table",
    "table": "blocklist",
    "columns": {"jti": "jti", "revoked_at": "created_at"},
}


def put(app: App, name: str, *, ago: str = "0 s") -> None:
    app.execute(
        "INSERT INTO blocklist (jti, created_at) VALUES (%s, now() - %s::interval)", name, ago
    )


def outstanding(app: App, token: str, *, named: str | None = None) -> int:
    claims = claims_of(token)
    row: int = app.execute(
        "INSERT INTO token_blacklist_outstandingtoken"
        " (token, created_at, expires_at, user_id, jti)"
        " VALUES (%s, now(), to_timestamp(%s), 7, %s) RETURNING id",
        token,
        claims["exp"],
        named or claims["jti"],
    )[0][0]
    return row


def blacklist(app: App, row: int) -> None:
    app.execute(
        "INSERT INTO token_blacklist_blacklistedtoken (blacklisted_at, token_id)"
        " VALUES (now(), %s)",
        row,
    )


# ---- simplejwt ----------------------------------------------------------------------------------


def test_p2_a_blacklisted_refresh_token_ends_the_session_it_became(migrated: str) -> None:
    app = App(migrated, None, {"kind": "simplejwt"})
    app.execute(SIMPLEJWT)
    gone, other = sign_refresh("7"), sign_refresh("7")
    row = outstanding(app, gone)
    outstanding(app, other)
    sessions = wiring.sessions(app.settings)
    tokens = [str(sessions.exchange(each, legacy=NEVER).token).encode() for each in (gone, other)]
    assert app.poll().tally.denied == 0
    blacklist(app, row)
    turn = app.poll()
    assert (turn.why, turn.tally.denied, turn.tally.ended) == (None, 1, 1)
    assert [app.is_alive(each) for each in tokens] == [False, True]
    denied = app.execute(
        "SELECT fingerprint, jti, until IS NOT NULL, reason FROM migrator.denials ORDER BY id"
    )
    named = fingerprint("a1", gone.rpartition(".")[0].encode())
    assert (named, None, True, "ledger") in denied
    assert (None, jti(gone), True, "ledger") in denied


def test_a_blacklisted_token_never_seen_is_refused_even_where_its_jti_is_called_otherwise(
    migrated: str,
) -> None:
    app = App(migrated, None, {"kind": "simplejwt"})
    app.execute(SIMPLEJWT)
    token = sign("7", claims={"jti": None})
    row = app.execute(
        "INSERT INTO token_blacklist_outstandingtoken (token, created_at, expires_at, jti)"
        " VALUES (%s, now(), now() + interval '1 hour', 'elsewhere') RETURNING id",
        token,
    )[0][0]
    blacklist(app, row)
    app.poll()
    found = app.execute(
        "SELECT count(*) FROM migrator.denials WHERE fingerprint = %s",
        fingerprint("a1", token.rpartition(".")[0].encode()),
    )
    assert found == [(1,)]


def test_p6_no_raw_token_leaves_the_database_of_the_ledger(migrated: str, database: str) -> None:
    app = App(migrated, None, {"kind": "simplejwt", "url": database})
    token, session = app.swapped("7")
    with psycopg.connect(**conninfo(database), autocommit=True) as theirs:
        theirs.execute(SIMPLEJWT)
        theirs.execute(
            "INSERT INTO token_blacklist_outstandingtoken (token, created_at, expires_at, jti)"
            " VALUES (%s, now(), now() + interval '1 hour', %s)",
            (token, jti(token)),
        )
        theirs.execute(
            "INSERT INTO token_blacklist_blacklistedtoken (blacklisted_at, token_id)"
            " SELECT now(), id FROM token_blacklist_outstandingtoken"
        )
    listing = tables.SHAPES["simplejwt"](app.settings.ledgers[0], app.settings.issuers[0], True)
    with Database(database).read() as reader:
        rows = reader.rows(tables.TokenTable._query(listing, None))
    assert jti(token) in repr(rows)
    assert token not in repr(rows)
    assert app.poll().tally.ended == 1
    assert not app.is_alive(session)


def test_a_rotated_token_takes_neither_its_family_nor_its_successor_with_it(migrated: str) -> None:
    app = App(migrated, None, {"kind": "simplejwt"})
    app.execute(SIMPLEJWT)
    first, second = (sign_refresh("7", sid="login-1") for _ in range(2))
    sessions = wiring.sessions(app.settings)
    tokens = [
        str(sessions.exchange(each, legacy=NEVER).token).encode() for each in (first, second)
    ]
    blacklist(app, outstanding(app, first))
    app.poll()
    assert [app.is_alive(each) for each in tokens] == [False, True]


def test_a_family_goes_whole_where_the_settings_say_so(migrated: str) -> None:
    app = App(migrated, None, {**BY_JTI, "ends": "family"})
    app.execute(BLOCKLIST)
    one, first = app.swapped("7", sid="login-1")
    _, second = app.swapped("7", sid="login-1")
    _, other = app.swapped("7", sid="login-2")
    unseen = sign("7", claims={"sid": "login-1"})
    put(app, jti(one))
    assert app.poll().tally.ended == 2
    assert [app.is_alive(each) for each in (first, second, other)] == [False, False, True]
    assert app.standing(unseen) == "denied"


# ---- any table ----------------------------------------------------------------------------------


def test_p2_a_jti_on_the_list_is_refused_whether_it_was_swapped_or_not(migrated: str) -> None:
    app = App(migrated, None, BY_JTI)
    app.execute(BLOCKLIST)
    swapped, session = app.swapped("7")
    unseen, other = sign("8"), sign("9")
    put(app, jti(swapped))
    put(app, jti(unseen))
    assert app.poll().tally.denied == 2
    assert app.standing(swapped) in {"denied", "session_ended"}
    assert app.standing(unseen) == "denied"
    assert app.standing(other) == "admitted"
    assert not app.is_alive(session)


def test_what_is_taken_off_the_list_stays_denied(migrated: str) -> None:
    app = App(migrated, None, BY_JTI)
    app.execute(BLOCKLIST)
    token = sign("7")
    put(app, jti(token))
    app.poll()
    app.execute("DELETE FROM blocklist")
    app.poll()
    assert app.standing(token) == "denied"


def test_reading_again_changes_nothing_and_writes_no_word_in_the_feed(migrated: str) -> None:
    app = App(migrated, None, BY_JTI)
    app.execute(BLOCKLIST)
    for at in range(20):
        put(app, f"jti-{at}")
    assert app.poll().tally.denied == 20
    before = app.feed()
    for _ in range(3):
        assert app.poll().tally.denied == 0
    assert app.feed() == before
    assert app.rig.count("denials") == 20


def test_a_row_committed_after_later_rows_were_read_is_not_passed_over(migrated: str) -> None:
    """Its time is that of its transaction's beginning."""
    app = App(migrated, None, BY_JTI)
    app.execute(BLOCKLIST)
    with psycopg.connect(**conninfo(migrated)) as slow:
        slow.execute("INSERT INTO blocklist (jti, created_at) VALUES ('slow', now())")
        put(app, "quick")
        assert app.poll().tally.denied == 1
        slow.commit()
    assert app.poll().tally.denied == 1
    assert app.rig.count("denials", "jti = 'slow'") == 1


def test_a_cursor_reads_what_is_new_and_not_the_whole_list(migrated: str) -> None:
    app = App(migrated, None, BY_JTI)
    app.execute(BLOCKLIST)
    app.execute(
        "INSERT INTO blocklist (jti, created_at)"
        " SELECT 'old-' || n, now() - interval '1 day' + n * interval '1 s'"
        " FROM generate_series(1, 2500) n"
    )
    poller = app.poller()
    first = app.turn(poller).tally
    assert (first.read, first.denied) == (2500, 2500)
    # As if a minute had gone by since.
    app.execute(
        "UPDATE migrator.jobs SET checkpoint = jsonb_set(checkpoint, '{marks,0,0}',"
        " to_jsonb(ARRAY['at', (now() - interval '61 s')::text]))"
    )
    put(app, "new")
    again = app.turn(poller).tally
    poller.close()
    assert (again.read, again.denied) == (1, 1)


def test_a_list_that_began_anew_is_read_from_its_beginning(migrated: str) -> None:
    app = App(migrated, None, {**BY_JTI, "columns": {"jti": "jti", "revoked_at": "id"}})
    app.execute(BLOCKLIST)
    for at in range(5):
        put(app, f"first-{at}")
    assert app.poll().tally.denied == 5
    app.execute("TRUNCATE blocklist RESTART IDENTITY")
    put(app, "second")
    assert app.poll().tally.denied == 1


def test_without_a_cursor_all_of_it_is_read_each_time(migrated: str) -> None:
    app = App(migrated, None, {**BY_JTI, "columns": {"jti": "jti"}, "where": "created_at < now()"})
    app.execute(BLOCKLIST)
    put(app, "one", ago="1 s")
    put(app, "not yet", ago="-1 hour")
    assert app.poll().tally.denied == 1
    put(app, "backdated", ago="1 year")
    assert app.poll().tally.denied == 1
    assert app.rig.count("denials", "jti = 'not yet'") == 0


@pytest.mark.parametrize("column", ["bytea", "text"])
def test_fingerprints_raw_tokens_and_families_are_understood(migrated: str, column: str) -> None:
    app = App(
        migrated,
        None,
        {"kind": "table", "table": "public.prints", "columns": {"fingerprint": "f"}},
        {
            "kind": "table",
            "name": "raw",
            "table": "raw",
            "columns": {"token": "jwt", "exp": "ends"},
            "where": "state = 'revoked'",
        },
        {"kind": "table", "name": "logins", "table": "logins", "columns": {"family": "sid"}},
    )
    by_print, first = app.swapped("1")
    by_token, second = app.swapped("2")
    _, third = app.swapped("3", sid="login-3")
    app.execute(f"CREATE TABLE prints (f {column})")
    digest = fingerprint("a1", by_print.rpartition(".")[0].encode())
    app.execute("INSERT INTO prints VALUES (%s)", digest if column == "bytea" else digest.hex())
    app.execute("CREATE TABLE raw (jwt text, ends bigint, state text)")
    app.execute("INSERT INTO raw VALUES (%s, %s, 'revoked')", by_token, claims_of(by_token)["exp"])
    app.execute("CREATE TABLE logins (sid text)")
    app.execute("INSERT INTO logins VALUES ('login-3')")
    assert [app.poll(at).tally.ended for at in range(3)] == [1, 1, 1]
    assert not any(map(app.is_alive, (first, second, third)))
    until = app.execute("SELECT until FROM migrator.denials WHERE until IS NOT NULL")
    exp = datetime.fromtimestamp(claims_of(by_token)["exp"], UTC)
    assert until == [(exp + timedelta(seconds=35),)]


def test_a_denial_that_would_lapse_before_it_matters_is_not_written(migrated: str) -> None:
    columns = {"jti": "jti", "exp": "ends"}
    app = App(migrated, None, {"kind": "table", "table": "dead", "columns": columns})
    app.execute("CREATE TABLE dead (jti text, ends timestamptz)")
    app.execute("INSERT INTO dead VALUES ('over', now() - interval '1 day')")
    assert app.poll().tally.denied == 0
    assert app.rig.count("denials") == 0


def test_a_jti_that_is_a_sessions_id_ends_that_session(migrated: str) -> None:
    """An app behind the bridge knows a session without a jti of its own by its id."""
    app = App(migrated, None, BY_JTI)
    app.execute(BLOCKLIST)
    token = str(wiring.sessions(app.settings).login("7", legacy=NEVER).token).encode()
    (row,) = app.execute("SELECT id FROM migrator.sessions")
    put(app, row[0].hex)
    assert app.poll().tally.ended == 1
    assert not app.is_alive(token)


def test_hostile_rows_of_a_ledger_stop_nothing(migrated: str) -> None:
    app = App(migrated, None, {**BY_JTI, "columns": {"jti": "jti"}})
    app.execute(BLOCKLIST)
    good = sign("7")
    for odd in ("", " ", "a\x1fb", "x" * 4000, "é" * 200, "0" * 32, jti(good)):
        put(app, odd)
    turn = app.poll()
    assert turn.why is None
    assert app.standing(good) == "denied"
    assert app.rig.count("denials") == 2


def test_p2_a_swap_under_way_while_its_token_is_denied_ends_with_it(migrated: str) -> None:
    """Its locks are held over the denial's commit; the poll waits for them, and then ends it."""
    app = App(migrated, None, BY_JTI)
    app.execute(BLOCKLIST)
    tokens = [sign(f"user-{at}") for at in range(60)]
    stop = threading.Event()

    def present_all() -> None:
        for token in tokens:
            app.show(token)
            time.sleep(0.002)

    def deny_all() -> None:
        for token in tokens:
            put(app, jti(token))
        while not stop.is_set():
            app.poll()

    threads = [threading.Thread(target=each) for each in (present_all, deny_all)]
    for thread in threads:
        thread.start()
    threads[0].join()
    stop.set()
    threads[1].join()
    app.poll()
    assert app.rig.count("sessions", "revoked_at IS NULL") == 0


# ---- other databases ----------------------------------------------------------------------------


def test_a_ledger_in_sqlite_is_read_by_its_jti(migrated: str, tmp_path: Path) -> None:
    place = tmp_path / "app.db"
    with sqlite3.connect(place) as theirs:
        theirs.execute("CREATE TABLE revoked_tokens (jti TEXT, at TIMESTAMP, jwt TEXT)")
    app = App(
        migrated,
        None,
        {
            "kind": "table",
            "url": f"sqlite:///{place}",
            "table": "revoked_tokens",
            "columns": {"jti": "jti", "revoked_at": "at", "token": "jwt"},
        },
    )
    token, session = app.swapped("7")
    with sqlite3.connect(place) as theirs:
        theirs.execute(
            "INSERT INTO revoked_tokens VALUES (?, '2026-01-01 10:00:00', ?)", (jti(token), token)
        )
    theirs.close()
    assert app.poll().tally.ended == 1
    assert not app.is_alive(session)
    assert token not in str(app.execute("SELECT checkpoint, detail FROM migrator.jobs"))


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("sqlite:////nowhere/at/all.db", "OperationalError"),
        ("postgresql://u:hidden-word@127.0.0.1:1/none", "OperationalError"),
        ("nothing://u:hidden-word@h/d", "no driver for its url is installed"),
    ],
)
def test_a_source_that_fails_is_told_and_its_secrets_are_not(
    migrated: str, url: str, why: str
) -> None:
    app = App(migrated, None, {**BY_JTI, "url": url})
    try:
        told = app.poll().why
    except Exception as failed:  # noqa: BLE001 - what a thread would log
        told = getattr(failed, "why", "")
    assert told == why
    assert "hidden-word" not in str(app.execute("SELECT detail FROM migrator.jobs"))


@pytest.mark.parametrize("others", [0, 40], ids=["few", "many"])
@pytest.mark.parametrize("by", ["jti", "fingerprint"])
def test_p2_a_swap_that_read_before_the_denial_is_waited_for_and_ended(
    migrated: str, others: int, by: str
) -> None:
    """It has its locks and saw no denial; the poll commits one, and must not return before it."""
    app = App(migrated, None, {**BY_JTI, "columns": {by: "jti"}})
    app.execute(BLOCKLIST)
    token = sign("7")
    named = fingerprint("a1", token.rpartition(".")[0].encode())
    for at in range(others):
        put(app, f"other-{at}" if by == "jti" else f"{at:064d}")
    put(app, jti(token) if by == "jti" else named.hex())
    done: list[Any] = []
    with psycopg.connect(**conninfo(migrated)) as swap:
        locks = [
            postgres.subject_lock("users", "7"),
            postgres.issuer_lock("a1"),
            postgres.jti_lock("a1", jti(token)),
        ]
        for lock in locks:
            swap.execute("SELECT pg_advisory_xact_lock_shared(%s)", (lock,))
        polling = threading.Thread(target=lambda: done.append(app.poll()))
        polling.start()
        assert comes_true(lambda: app.rig.count("denials") == others + 1)
        assert not done
        opened = uuid.uuid4()
        swap.execute(
            "INSERT INTO migrator.legacy_tokens (fingerprint, issuer, jti, realm, subject,"
            " purpose, exp, session_id, keep_until) VALUES (%s, 'a1', %s, 'users', '7', 'access',"
            " now() + interval '1 hour', %s, now() + interval '2 hours')",
            (named, jti(token), opened),
        )
        swap.execute(
            "INSERT INTO migrator.sessions (id, digest, kind, realm, subject, expires_at, origin)"
            " VALUES (%s, %s, 'session', 'users', '7', now() + interval '1 hour', 'swap')",
            (opened, os.urandom(32)),
        )
        assert not done
        swap.commit()
    polling.join(10)
    assert [turn.tally.ended for turn in done] == [1]
    assert app.rig.count("sessions", "revoked_at IS NULL") == 0


def test_p2_a_swap_frozen_within_its_locks_does_not_hold_a_denial_up(migrated: str) -> None:
    app = App(migrated, None, BY_JTI)
    app.execute(BLOCKLIST)
    token = sign("7")
    put(app, jti(token))
    frozen = psycopg.connect(**conninfo(migrated))
    lock = postgres.jti_lock("a1", jti(token))
    frozen.execute("SELECT pg_advisory_xact_lock_shared(%s)", (lock,))
    began = time.monotonic()
    assert app.poll().why is None
    assert time.monotonic() - began < 5
    with pytest.raises(psycopg.OperationalError):
        frozen.execute("SELECT 1")
    frozen.close()
