"""`migrator cutoffs`, and the sweep of what is over."""

from __future__ import annotations

import json
import time

import psycopg
import pytest

from tests.cli.sessions.places import Place, refresh_jwt

# ---- cutoffs -----------------------------------------------------------------------------------


def test_a_kid_cutoff_ends_what_came_from_that_key_and_nothing_else(place: Place) -> None:
    leaked, good = refresh_jwt(kid="leaked"), refresh_jwt(kid="good")
    bad_token, good_token, login = place.exchange(leaked), place.exchange(good), place.login()
    out = place.run("cutoff", "add", "--issuer", "a1", "--kid", "leaked", "--reason", "CHG-1")
    assert out.split()[0].isdigit()
    assert not place.alive(bad_token)
    assert not place.alive(leaked)
    assert not place.alive(refresh_jwt(kid="leaked"))
    assert all(place.alive(each) for each in (good_token, good, login))
    assert place.sql(
        "SELECT who, why, command FROM migrator.rollout_log ORDER BY id DESC LIMIT 1"
    )[0] == ("dana", "CHG-1", "cutoff add")


def test_a_cutoff_added_twice_is_one_and_ends_what_was_left(place: Place) -> None:
    token = place.exchange(refresh_jwt())
    place.sql("INSERT INTO migrator.cutoffs (issuer) VALUES ('a1')")  # killed after its commit
    done = place.json("cutoff", "add", "--issuer", "a1")
    assert (done["ended"], done["changed"]) == (1, True)
    assert not place.alive(token)
    assert place.json("cutoff", "add", "--issuer", "a1")["changed"] is False
    assert len(place.json("cutoff", "list")["cutoffs"]) == 1


def test_a_removed_cutoff_lets_tokens_in_again_but_no_ended_session(place: Place) -> None:
    seen, unseen = refresh_jwt(), refresh_jwt()
    token = place.exchange(seen)
    made = place.json("cutoff", "add", "--issuer", "a1")
    assert not place.alive(unseen)
    removed = place.json("cutoff", "remove", str(made["cutoff"]["id"]))
    assert removed["changed"] is True
    assert place.alive(unseen)
    assert not place.alive(token)
    assert not place.alive(seen)
    again = place.json("cutoff", "remove", str(made["cutoff"]["id"]))
    assert (again["cutoff"], again["changed"]) == (None, False)
    for rehearsed in ((), ("--dry-run",)):
        never = place.json("cutoff", "remove", "999", *rehearsed, code=2)
        assert never["error"]["id"] == "cutoff.unknown"


def test_a_subjects_cutoff_spares_logins_and_later_tokens(place: Place) -> None:
    now = int(time.time())
    old, late = refresh_jwt(iat=now - 1000), refresh_jwt(iat=now - 5)
    tokens = place.exchange(old), place.exchange(late), place.login()
    before = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now - 500))
    done = place.json("cutoff", "add", "--subject", "ada", "--before", before)
    assert done["ended"] == 1
    assert [place.alive(each) for each in tokens] == [False, True, True]
    assert not place.alive(old)


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("--issuer", "a1", "--subject", "ada"),
        ("--kid", "k", "--subject", "ada"),
        ("--issuer", "a1", "--before", "2026-01-01T00:00:00Z"),
        ("--issuer", "main"),
        ("--subject", "ada", "--before", "2099-01-01T00:00:00Z"),
        ("--subject", "ada", "--before", "2026-01-01"),
    ],
)
def test_a_contradictory_cutoff_is_a_usage_error(place: Place, args: tuple[str, ...]) -> None:
    place.run("cutoff", "add", *args, code=2)
    assert place.sql("SELECT count(*) FROM migrator.cutoffs") == [(0,)]


def test_a_frozen_swap_does_not_hold_a_cutoff_up(place: Place) -> None:
    """A node that froze inside its pipeline keeps its share of the lock."""
    from migrator.stores.postgres import issuer_lock  # noqa: PLC0415 - one test's

    token = place.exchange(refresh_jwt())
    frozen = psycopg.connect(place.url.replace("+psycopg", ""))
    frozen.execute("SELECT pg_advisory_xact_lock_shared(%s)", [issuer_lock("a1")])
    assert place.json("cutoff", "add", "--issuer", "a1")["ended"] == 1
    assert not place.alive(token)
    frozen.close()


# ---- sweep -------------------------------------------------------------------------------------


def test_a_swept_session_is_not_reborn_from_its_jwt(place: Place) -> None:
    refresh = refresh_jwt()
    token = place.exchange(refresh)
    place.run("sessions", "revoke", place.id_of(token))
    place.sql("UPDATE migrator.sessions SET revoked_at = now() - interval '31 days'")
    done = place.json("sweep")
    assert (done["deleted"]["sessions_ended"], done["deleted"]["legacy_tokens"]) == (1, 0)
    assert not place.alive(refresh)


def test_the_row_of_a_legacy_token_stays_while_its_session_lives(place: Place) -> None:
    place.exchange(refresh_jwt(sid="f1"))
    gone = place.exchange(refresh_jwt())
    place.run("sessions", "revoke", place.id_of(gone))
    place.sql("UPDATE migrator.legacy_tokens SET keep_until = now() - interval '1 second'")
    assert place.json("sweep")["deleted"]["legacy_tokens"] == 1
    assert place.sql("SELECT family FROM migrator.legacy_tokens") == [("f1",)]


def test_sweep_keeps_a_node_that_the_drain_horizon_counts(place: Place) -> None:
    place.sql(
        "INSERT INTO migrator.nodes (id, lease_until, issued_horizon) VALUES"
        " ('dead', now() - interval '2 days', NULL),"
        " ('issued', now() - interval '2 days', now() + interval '9 days'),"
        " ('young', now() - interval '1 hour', NULL)"
    )
    assert place.json("sweep")["deleted"]["nodes"] == 1
    assert place.sql("SELECT id FROM migrator.nodes ORDER BY id") == [("issued",), ("young",)]


def test_sweep_takes_what_is_old_and_leaves_what_is_not(place: Place) -> None:
    place.sql(
        "INSERT INTO migrator.feed (at, kind, key) VALUES"
        " (now() - interval '2 hours', 'all', ''), (now(), 'all', '')"
    )
    place.sql(
        "INSERT INTO migrator.denials (issuer, jti, until, reason) VALUES"
        " ('a1', 'x', now() - interval '1 s', ''), ('a1', 'y', NULL, ''),"
        " ('a1', 'z', now() + interval '1 h', '')"
    )
    place.sql(
        "INSERT INTO migrator.legacy_usage (hour, outcome) VALUES"
        " (now() - interval '91 days', 'legacy'), (now(), 'legacy')"
    )
    deleted = place.json("sweep")["deleted"]
    assert {name: deleted[name] for name in ("feed", "denials", "legacy_usage")} == {
        "feed": 1,
        "denials": 1,
        "legacy_usage": 1,
    }
    assert place.json("sweep")["changed"] is False


def test_sweep_stops_at_its_limit_and_goes_on(place: Place) -> None:
    place.sql(
        "INSERT INTO migrator.feed (at, kind, key)"
        " SELECT now() - interval '2 hours', 'all', '' FROM generate_series(1, 2500)"
    )
    first = place.json("sweep", "--limit-seconds", "0", code=13)
    assert first["finished"] is False
    assert place.json("sweep")["finished"] is True
    assert place.sql("SELECT count(*) FROM migrator.feed") == [(0,)]


def test_commands_work_once_the_legacy_tables_are_gone(place: Place) -> None:
    token = place.login()
    place.sql("UPDATE migrator.rollout SET phase = 'retired', legacy_removed_at = now();")
    for name in ("legacy_tokens", "denials", "cutoffs", "legacy_subjects", "legacy_usage"):
        place.sql(f"DROP TABLE migrator.{name}")
    assert place.json("sessions", "show", place.id_of(token))["legacy_tokens"] == []
    assert place.json("cutoff", "list")["cutoffs"] == []
    place.run("cutoff", "add", "--issuer", "a1", code=3)
    assert place.json("sweep")["finished"] is True
    new = place.run("sessions", "regenerate", place.id_of(token)).strip()
    assert place.json("revoke-subject", "ada", "--confirm", "staging")["changed"] is True
    assert not place.alive(new)


def test_a_database_without_our_tables_is_unfit_not_an_error(
    place: Place, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DB", database)
    for args in (("sessions", "list", "ada"), ("sweep",), ("cutoff", "list")):
        place.run(*args, code=5)
        assert "schema.absent" in place.stderr


def test_a_database_that_is_down_is_exit_11(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB", "postgresql://nobody@127.0.0.1:1/none")
    place.run("revoke-subject", "ada", "--confirm", "staging", code=11)


def test_list_ended_tells_a_denied_token_that_was_never_swapped(place: Place) -> None:
    credential = refresh_jwt()
    place.run("sessions", "revoke", "--stdin", "--reason", "lost phone", stdin=credential)
    assert place.json("sessions", "list", "ada")["denied"] == []
    found = place.json("sessions", "list", "ada", "--ended")
    (denied,) = found["denied"]
    assert (found["sessions"], denied["why"], denied["purpose"]) == ([], "lost phone", "refresh")
    assert credential not in json.dumps(found)
    text = place.run("sessions", "list", "ada", "--ended")
    assert "denied 20" in text
    assert "lost phone, by dana" in text
    assert denied["by"] == "dana"
    assert max(map(len, text.splitlines())) <= 100
    assert place.json("sessions", "list", "bob", "--ended")["denied"] == []
    assert place.json("sessions", "list", "ada", "--ended", "--realm", "x")["denied"] == []


def test_list_ended_tells_the_cutoff_of_a_subject_without_a_session(place: Place) -> None:
    args = ("revoke-subject", "ada", "--realm", "users", "--reason", "fraud")
    place.run(*args, "--confirm", "staging")
    (cut,) = place.json("sessions", "list", "ada", "--ended")["cutoffs"]
    assert (cut["reason"], cut["by"], cut["subject"]) == ("fraud", "dana", "ada")
    text = place.run("sessions", "list", "ada", "--ended")
    assert "fraud, by dana" in text
    assert max(map(len, text.splitlines())) <= 100
    assert place.json("sessions", "list", "bob", "--ended")["cutoffs"] == []
