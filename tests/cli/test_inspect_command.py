"""`inspect` says what a JWT is and what would happen to it, and never what is in it."""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click.testing
import jsonschema
import jwt
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from migrator.cli import main
from migrator.core.phases import Phase

SECRET = "k" + "Zq8vN3xR7tL1wP5yB9cF2hJ6mD4sG0aE" * 2
SCHEMA = json.loads(
    (Path(__file__).parents[2] / "migrator" / "schemas" / "inspect-1.json").read_text()
)
CONFIG = """
environment = "staging"
[database]
url = "env:DB"
[swap]
keys = [{ id = "k1", secret = "env:SWAP" }]
[[issuers]]
id = "a1"
name = "main"
algorithms = ["HS256"]
keys = ["env:JWT_SECRET"]
[issuers.purpose]
require = { type = "access" }
refresh = { type = "refresh" }
"""


def token(**claims: object) -> str:
    now = int(time.time())
    facts = {"sub": "ada-lovelace", "iat": now, "exp": now + 3600, "jti": "j", "type": "access"}
    return jwt.encode(
        {name: value for name, value in {**facts, **claims}.items() if value is not None},
        SECRET,
        headers={"kid": "k"},
    )


Inspect = Callable[..., Any]


@pytest.fixture
def inspect(migrated: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inspect:
    config = tmp_path / "migrator.toml"
    config.write_text(CONFIG)
    monkeypatch.setenv("DB", migrated)
    monkeypatch.setenv("SWAP", secrets.token_urlsafe(32))
    monkeypatch.setenv("JWT_SECRET", SECRET)
    monkeypatch.chdir(tmp_path)
    return run


def run(credential: str | bytes, *args: str, code: int = 0) -> Any:
    result = click.testing.CliRunner().invoke(main, ["inspect", "--json", *args], input=credential)
    assert result.exit_code == code, result.output
    if code:
        return result.stderr
    found = json.loads(result.stdout)
    jsonschema.validate(found, SCHEMA, format_checker=jsonschema.FormatChecker())
    return found


def ids(found: Any) -> set[str]:
    return {each["id"] for each in found["hazards"]}


def test_a_login_token_is_told_by_phase(inspect: Inspect) -> None:
    found = inspect(token())
    assert (found["kind"], found["verified"], found["purpose"]) == ("legacy", True, "access")
    assert found["issuer"] == {"id": "a1", "name": "main"}
    assert {each["phase"]: each["verdict"] for each in found["phases"]} == {
        "observe": "app_decides",
        "swap": "admitted",
        "drain": "swapped",
        "cutover": "refused",
        "retired": "refused",
    }
    assert found["now"]["phase"] == "observe"
    assert [each["phase"] for each in found["phases"]] == list(Phase)


def test_a_refresh_token_is_exchanged(inspect: Inspect) -> None:
    found = inspect(token(type="refresh"))
    assert found["phases"][2]["verdict"] == "exchanged"
    assert "refresh-token" in ids(found)


def test_a_denied_token_is_refused_in_observe_too(inspect: Inspect, migrated: str) -> None:
    denied = token()
    result = click.testing.CliRunner().invoke(main, ["sessions", "revoke", "--stdin"], denied)
    assert result.exit_code == 0
    found = inspect(denied)
    assert (found["now"]["verdict"], found["now"]["why"][:6]) == ("refused", "denied")


def test_an_expired_token_is_passed_on_until_drain(inspect: Inspect) -> None:
    found = inspect(token(iat=int(time.time()) - 9000, exp=int(time.time()) - 5000))
    assert found["reason"] == "legacy_expired"
    assert [each["verdict"] for each in found["phases"][:4]] == [
        "app_decides",
        "passed_on",
        "passed_on",
        "refused",
    ]
    assert "expired" in ids(found)


@pytest.mark.parametrize(
    ("claims", "hazard"),
    [
        ({"exp": None}, "no-exp"),
        ({"jti": None}, "no-jti"),
        ({"iat": None}, "no-iat"),
        ({"exp": int(time.time() * 1000) + 10**6}, "ms-times"),
        ({"exp": int(time.time()) + 90 * 86_400}, "long-lived"),
        ({"sub": None}, "no-subject"),
        ({"sub": "ada@example.org"}, "mutable-subject"),
        ({"purpose": "password_reset"}, "other-purpose"),
        ({"at_hash": "x"}, "other-purpose"),
        ({"email": "a@example.org"}, "personal-data"),
    ],
)
def test_a_hazard_is_named(inspect: Inspect, claims: dict[str, object], hazard: str) -> None:
    assert hazard in ids(inspect(token(**claims)))


def test_an_integer_subject_is_named(inspect: Inspect) -> None:
    body = base64.urlsafe_b64encode(b'{"sub":7,"exp":9999999999}').rstrip(b"=").decode()
    assert "integer-subject" in ids(inspect(f"{token().split('.')[0]}.{body}.AAAA"))


def test_a_tutorials_secret_and_alg_none_are_named(inspect: Inspect) -> None:
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        known = jwt.encode({"sub": "a", "exp": 9999999999}, "secret")
    assert "known-secret" in ids(inspect(known))
    assert "alg-none" in ids(inspect(jwt.encode({"sub": "a"}, "", algorithm="none")))


def test_nothing_of_the_credential_is_printed(inspect: Inspect) -> None:
    secret_claims = {"name": "Ada King", "roles": ["owner-of-all"], "tenant": "acme-secret"}
    presented = token(**secret_claims)
    text = click.testing.CliRunner().invoke(main, ["inspect"], input=presented).output
    both = text + json.dumps(inspect(presented))
    for hidden in (*presented.split("."), "ada-lovelace", "Ada King", "owner-of-all", "acme-s"):
        assert hidden not in both
    assert max(map(len, text.splitlines())) <= 100


def test_empty_stdin_is_a_usage_error(inspect: Inspect) -> None:
    inspect("", code=2)
    inspect("  \n", code=2)


def test_a_session_token_is_told_alive_or_not(inspect: Inspect, migrated: str) -> None:
    with psycopg.connect(migrated.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("UPDATE migrator.rollout SET phase = 'drain'")
    assert inspect("sess_" + "0" * 49)["reason"] == "bad_token"


def test_the_phase_is_unknown_when_the_database_is_down(
    inspect: Inspect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DB", "postgresql://nobody@127.0.0.1:1/none")
    found = inspect(token())
    assert found["verified"] is True
    assert found["now"] is None
    assert "now" in found["unknown"]


def test_without_settings_the_shape_alone_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = run(token(token_type="access", user_id=7, type=None))
    assert found["presets"][0] == "simplejwt"
    assert (found["verified"], found["now"]) == (None, None)
    assert "refresh-first" in ids(found)


def test_settings_that_are_named_and_missing_are_exit_5(inspect: Inspect) -> None:
    inspect(token(), "--config", "no-such.toml", code=5)


def test_a_jwe_is_told(inspect: Inspect) -> None:
    header = base64.urlsafe_b64encode(b'{"alg":"dir","enc":"A128GCM"}').rstrip(b"=").decode()
    found = inspect(f"{header}..AAAA.AAAA.AAAA")
    assert (found["kind"], ids(found)) == ("jwe", {"jwe"})


def _as_jwt(value: object) -> bytes:
    segments = ({"alg": "HS256", "kid": value}, {"sub": value, "exp": value, "type": value})
    return b".".join(base64.urlsafe_b64encode(json.dumps(each).encode()) for each in segments)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.one_of(
        st.binary(max_size=300),
        st.tuples(st.binary(max_size=40), st.binary(max_size=80), st.binary(max_size=40)).map(
            lambda parts: b".".join(base64.urlsafe_b64encode(part) for part in parts)
        ),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=8,
        ).map(_as_jwt),
    )
)
def test_no_input_makes_it_raise(tmp_path_factory: pytest.TempPathFactory, sent: bytes) -> None:
    result = click.testing.CliRunner().invoke(
        main, ["inspect", "--json", "--config", _config(tmp_path_factory)], input=sent
    )
    assert result.exit_code in {0, 2}, result.output


def _config(factory: pytest.TempPathFactory) -> str:
    path = factory.getbasetemp() / "inspect.toml"
    if not path.exists():
        (path.parent / "swap.key").write_text(secrets.token_urlsafe(32))
        (path.parent / "jwt.key").write_text(SECRET)
        text = CONFIG.replace("env:SWAP", "file:swap.key").replace(
            "env:JWT_SECRET", "file:jwt.key"
        )
        path.write_text(text.replace("env:DB", "postgresql://nobody@127.0.0.1:1/none"))
    return str(path)


def test_the_command_itself_runs(tmp_path: Path) -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("migrator"), "inspect"],
        input=token().encode(),
        capture_output=True,
        check=True,
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if "MIGRATOR" not in name},
    )
    assert b"a JWT" in done.stdout


def test_before_the_tables_are_made_it_says_just_that(
    inspect: Inspect, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DB", database)
    for credential in (token(), "sess_" + "0" * 49):
        unknown = inspect(credential)["unknown"]
        assert unknown["now"] == "the tables are not there yet: migrator db upgrade"
        assert "UndefinedTable" not in json.dumps(unknown)
