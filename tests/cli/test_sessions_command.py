"""`sessions`, `revoke-subject`, `cutoff`, `sweep`, through the command line and real servers."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click.testing
import jsonschema
import jwt
import psycopg
import pytest

from migrator import wiring
from migrator.cli import main
from migrator.core.app import Sessions
from migrator.core.errors import Refused
from migrator.settings import Settings

SECRET = "k" + "Zq8vN3xR7tL1wP5yB9cF2hJ6mD4sG0aE" * 2
SCHEMAS = Path(__file__).parents[2] / "migrator" / "schemas"
CONFIG = """
environment = "staging"
[database]
url = "env:DB"
[redis]
url = "env:RD"
budget_ms = 500
[swap]
keys = [{ id = "k1", secret = "env:SWAP" }]
[[issuers]]
id = "a1"
name = "main"
algorithms = ["HS256"]
keys = ["env:JWT_SECRET"]
lifetime = "1h"
refresh_lifetime = "30d"
[issuers.claims]
family = "sid"
[issuers.purpose]
refresh = { type = "refresh" }
"""


@dataclass
class Place:
    """A deployment: its settings file, and a way to run commands against it."""

    url: str
    config: Path
    settings: Settings
    app: Sessions

    def run(self, *args: str, stdin: str = "", code: int = 0) -> str:
        result = click.testing.CliRunner().invoke(
            main, ["--config", str(self.config), *args], input=stdin
        )
        assert result.exit_code == code, (result.output, result.exception)
        self.stderr = result.stderr
        return result.stdout

    def json(self, *args: str, stdin: str = "", code: int = 0) -> Any:
        found = json.loads(self.run(*args, "--json", stdin=stdin, code=code))
        name = found["schema"].removeprefix("migrator.").replace("/", "-")
        schema = json.loads((SCHEMAS / f"{name}.json").read_text())
        jsonschema.validate(found, schema, format_checker=jsonschema.FormatChecker())
        return found

    def sql(self, statement: str, *facts: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url.replace("+psycopg", ""), autocommit=True) as connection:
            cursor = connection.execute(statement, facts)
            return cursor.fetchall() if cursor.description else []

    def login(self, subject: str = "ada") -> str:
        self.sql("UPDATE migrator.rollout SET phase = 'drain'")
        return str(wiring.operator(self.settings).login(subject, legacy=_never).token)

    def exchange(self, refresh: str) -> str:
        self.sql("UPDATE migrator.rollout SET phase = 'drain'")
        return str(wiring.operator(self.settings).exchange(refresh, legacy=_never).token)

    def alive(self, credential: str) -> bool:
        """Whether a node that remembers nothing lets the credential carry on."""
        try:
            wiring.operator(self.settings).exchange(credential, legacy=_never)
        except Refused:
            return False
        return True

    def id_of(self, token: str) -> str:
        digest = hashlib.sha256(token.encode()).digest()
        return str(self.sql("SELECT id FROM migrator.sessions WHERE digest = %s", digest)[0][0])


def _never() -> str:
    raise AssertionError("the rollout issues sessions")


def refresh_jwt(subject: str = "ada", *, kid: str | None = None, **claims: object) -> str:
    now = int(time.time())
    facts = {"sub": subject, "iat": now - 5, "exp": now + 86_400, "type": "refresh"}
    headers = {"kid": kid} if kid else None
    return jwt.encode({**facts, "n": secrets.token_hex(4), **claims}, SECRET, headers=headers)


@pytest.fixture
def place(migrated: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    config = tmp_path / "migrator.toml"
    config.write_text(CONFIG)
    swap_key = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")
    values = {"DB": migrated, "RD": redis_url, "SWAP": swap_key, "JWT_SECRET": SECRET}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MIGRATOR_OPERATOR", "dana")
    settings = Settings.load(config)
    return Place(migrated, config, settings, wiring.operator(settings))


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
