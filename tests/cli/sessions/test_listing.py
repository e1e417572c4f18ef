"""`migrator sessions list`, `show`, `regenerate` and `expire`, through the command line."""

from __future__ import annotations

import hashlib
import json

import pytest

from tests.cli.sessions.places import Place, refresh_jwt

# ---- list, show --------------------------------------------------------------------------------


def test_list_shows_the_living_and_never_a_token(place: Place) -> None:
    token = place.login()
    found = place.json("sessions", "list", "ada")
    assert [one["state"] for one in found["sessions"]] == ["living"]
    assert token not in json.dumps(found)
    assert place.id_of(token) in place.run("sessions", "list", "ada")


def test_list_ended_says_when_why_and_by_whom(place: Place) -> None:
    token = place.login()
    place.run("sessions", "revoke", place.id_of(token), "--reason", "lost phone")
    assert place.json("sessions", "list", "ada")["sessions"] == []
    (one,) = place.json("sessions", "list", "ada", "--ended")["sessions"]
    assert (one["state"], one["ended"]["why"], one["ended"]["by"]) == (
        "ended",
        "lost phone",
        "dana",
    )
    text = place.run("sessions", "list", "ada", "--ended")
    assert "lost phone, by dana" in text
    assert max(map(len, text.splitlines())) <= 100


def test_show_names_the_legacy_token_it_came_from(place: Place) -> None:
    token = place.exchange(refresh_jwt(sid="f1", kid="key-7"))
    found = place.json("sessions", "show", place.id_of(token))
    (root,) = found["legacy_tokens"]
    assert (root["issuer"], root["kid"], root["family"]) == ("a1", "key-7", "f1")
    assert "refresh token of a1" in place.run("sessions", "show", place.id_of(token))


def test_an_unknown_id_is_a_usage_error_with_a_way_on(place: Place) -> None:
    place.run("sessions", "show", "019a0000-0000-7000-8000-000000000000", code=2)
    assert "session.unknown" in place.stderr


def test_a_token_on_the_command_line_is_refused_and_not_repeated(place: Place) -> None:
    token = place.login()
    out = place.run("sessions", "revoke", token, code=2)
    assert token not in out + place.stderr


def test_text_of_a_strange_subject_cannot_draw_on_the_terminal(place: Place) -> None:
    place.login("ada")
    place.sql("UPDATE migrator.sessions SET client = %s", "evil\x1b[2Jclient")
    assert "\x1b" not in place.run("sessions", "list", "ada")


# ---- regenerate, expire ------------------------------------------------------------------------


def test_regenerate_prints_a_new_token_and_kills_the_old_one_and_its_jwt(place: Place) -> None:
    refresh = refresh_jwt()
    old = place.exchange(refresh)
    new = place.run("sessions", "regenerate", place.id_of(old)).strip()
    assert place.alive(new)
    assert not place.alive(old)
    assert not place.alive(refresh)
    assert place.sql("SELECT origin FROM migrator.sessions") == [("regenerate",)]
    assert place.sql("SELECT swap_key_id FROM migrator.legacy_tokens") == [(None,)]


def test_regenerate_tells_the_feed_of_the_old_token(place: Place) -> None:
    old = place.login()
    place.run("sessions", "regenerate", place.id_of(old))
    digest = hashlib.sha256(old.encode()).hexdigest()
    assert ("session", digest) in place.sql("SELECT kind, key FROM migrator.feed")


def test_a_session_unused_for_long_comes_back_alive(place: Place) -> None:
    token = place.exchange(refresh_jwt())
    place.sql("UPDATE migrator.sessions SET last_seen_at = now() - interval '40 days'")
    new = place.run("sessions", "regenerate", place.id_of(token)).strip()
    assert place.alive(new)


@pytest.mark.parametrize("verb", ["regenerate", "expire"])
def test_what_is_over_stays_over(place: Place, verb: str) -> None:
    token = place.login()
    session_id = place.id_of(token)
    place.run("sessions", "revoke", session_id)
    place.run("sessions", verb, session_id, code=3)
    assert "session.over" in place.stderr


def test_expire_ends_a_session_now(place: Place) -> None:
    token = place.login()
    assert place.alive(token)
    assert place.json("sessions", "expire", place.id_of(token))["changed"] is True
    assert not place.alive(token)
    (one,) = place.json("sessions", "list", "ada", "--ended")["sessions"]
    assert one["state"] == "expired"


def test_expire_never_moves_an_end_to_later(place: Place) -> None:
    token = place.login()
    session_id = place.id_of(token)
    far = place.json("sessions", "expire", session_id, "--at", "2099-01-01T00:00:00Z")
    assert far["changed"] is False
    assert far["expires_at"] == far["was"]
