"""`migrator sessions revoke` and `revoke-subject`."""

from __future__ import annotations

import time
from typing import Any

import jwt
import pytest

from tests.cli.sessions.places import Place, refresh_jwt

# ---- revoke ------------------------------------------------------------------------------------


def test_revoked_by_id_the_token_and_its_jwt_are_dead_on_other_nodes(place: Place) -> None:
    refresh = refresh_jwt()
    token = place.exchange(refresh)
    assert place.alive(token)
    done = place.json("sessions", "revoke", place.id_of(token))
    assert done["changed"] is True
    assert not place.alive(token)
    assert not place.alive(refresh)


def test_revoking_twice_changes_nothing_the_second_time(place: Place) -> None:
    token = place.login()
    place.run("sessions", "revoke", place.id_of(token))
    assert place.json("sessions", "revoke", place.id_of(token))["changed"] is False


def test_revoke_by_stdin_takes_a_token(place: Place) -> None:
    token = place.login()
    assert place.json("sessions", "revoke", "--stdin", stdin=f"{token}\n")["changed"] is True
    assert not place.alive(token)


def test_an_unswapped_jwt_is_denied_by_its_fingerprint(place: Place) -> None:
    refresh = refresh_jwt()
    done = place.json("sessions", "revoke", "--stdin", stdin=f"Bearer {refresh}")
    assert (done["target"], done["denied"], done["changed"]) == ("legacy_token", True, True)
    place.sql("UPDATE migrator.rollout SET phase = 'drain'")
    assert not place.alive(refresh)
    again = place.json("sessions", "revoke", "--stdin", stdin=refresh)
    assert again["changed"] is False


def test_a_jwt_from_a_log_without_its_signature_ends_what_it_became(place: Place) -> None:
    refresh = refresh_jwt()
    token = place.exchange(refresh)
    place.run("sessions", "revoke", "--stdin", stdin=refresh.rpartition(".")[0])
    assert not place.alive(token)
    assert place.sql("SELECT revoked_by FROM migrator.sessions") == [("dana",)]


def test_a_forged_jwt_denies_nobody(place: Place) -> None:
    forged = jwt.encode({"sub": "ada", "exp": int(time.time()) + 60}, "x" * 40)
    place.run("sessions", "revoke", "--stdin", stdin=forged, code=2)
    assert "bad_signature" in place.stderr
    assert place.sql("SELECT count(*) FROM migrator.denials") == [(0,)]


def test_an_expired_jwt_needs_no_denial(place: Place) -> None:
    past = refresh_jwt(iat=int(time.time()) - 9000, exp=int(time.time()) - 5000)
    assert place.json("sessions", "revoke", "--stdin", stdin=past)["changed"] is False


@pytest.mark.parametrize("stdin", ["", "  \n", "\x00\xff", "sess_" + "0" * 49, "a.b.c", "{}"])
def test_what_names_nothing_is_a_usage_error_and_never_a_traceback(
    place: Place, stdin: str
) -> None:
    place.run("sessions", "revoke", "--stdin", stdin=stdin, code=2)


@pytest.mark.parametrize(
    "args",
    [
        ("sessions", "revoke", "{id}"),
        ("sessions", "regenerate", "{id}"),
        ("sessions", "expire", "{id}"),
        ("revoke-subject", "ada"),
        ("cutoff", "add", "--issuer", "a1"),
        ("cutoff", "add", "--subject", "ada"),
        ("cutoff", "remove", "1"),
        ("sweep",),
    ],
)
def test_a_dry_run_writes_nothing(place: Place, args: tuple[str, ...]) -> None:
    token = place.exchange(refresh_jwt())
    place.sql("INSERT INTO migrator.cutoffs (issuer) VALUES ('other')")
    before = _contents(place)
    found = place.json(*(arg.format(id=place.id_of(token)) for arg in args), "--dry-run")
    assert found["changed"] is False
    assert _contents(place) == before
    assert place.alive(token)


def _contents(place: Place) -> list[tuple[Any, ...]]:
    names = ("sessions", "legacy_tokens", "cutoffs", "denials", "feed", "rollout_log", "nodes")
    return [row for name in names for row in place.sql(f"TABLE migrator.{name}")]


# ---- revoke-subject ----------------------------------------------------------------------------


def test_revoke_subject_ends_all_and_what_was_never_seen(place: Place) -> None:
    tokens = [place.login(), place.exchange(refresh_jwt())]
    unseen = refresh_jwt()
    done = place.json("revoke-subject", "ada", "--confirm", "staging", "--reason", "stolen")
    assert len(done["ended"]) == 2
    assert not any(place.alive(each) for each in [*tokens, unseen])
    assert place.sql("SELECT DISTINCT revoked_by FROM migrator.sessions") == [("dana",)]


def test_revoke_subject_asks_for_the_environments_name(place: Place) -> None:
    token = place.login()
    place.run("revoke-subject", "ada", code=9)
    place.run("revoke-subject", "ada", "--confirm", "prod", code=9)
    assert place.alive(token)


def test_the_same_name_in_another_realm_is_told_and_untouched(place: Place) -> None:
    place.login()
    place.sql("UPDATE migrator.sessions SET realm = 'partners'")
    place.run("revoke-subject", "ada", "--confirm", "staging")
    assert "partners" in place.stderr
    assert place.sql("SELECT revoked_at FROM migrator.sessions") == [(None,)]
