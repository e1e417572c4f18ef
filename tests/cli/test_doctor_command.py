"""`doctor` tells what is wrong, each with its remedy, and never a secret."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click.testing
import jsonschema
import psycopg
import pytest
import redis

from migrator.cli import main
from migrator.cli.demo.servers import Redis
from migrator.control.diagnosis import cache as cache_looks

SECRET = "k" + "Zq8vN3xR7tL1wP5yB9cF2hJ6mD4sG0aE" * 2
SCHEMA = json.loads(
    (Path(__file__).parents[2] / "migrator" / "schemas" / "doctor-1.json").read_text()
)
CONFIG = """
environment = "staging"
expected_nodes = 2
[database]
url = "env:DB"
[redis]
url = "env:RD"
[swap]
keys = [{ id = "k1", secret = "env:SWAP" }]
[[issuers]]
id = "a1"
name = "main"
algorithms = ["HS256"]
keys = ["env:JWT_SECRET"]
lifetime = "1h"
[routes]
login = ["/login"]
refresh = ["/refresh"]
"""
Doctor = Callable[..., dict[str, Any]]


@pytest.fixture
def doctor(
    migrated: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Doctor]:
    monkeypatch.chdir(tmp_path)
    Path("migrator.toml").write_text(CONFIG)
    values = {"DB": migrated, "RD": redis_url, "SWAP": secrets.token_urlsafe(32)}
    for name, value in {**values, "JWT_SECRET": SECRET}.items():
        monkeypatch.setenv(name, value)

    def run(*, code: int = 0) -> dict[str, Any]:
        result = click.testing.CliRunner().invoke(main, ["doctor", "--json"])
        assert result.exit_code == code, (result.output, result.exception)
        assert SECRET not in result.output
        found = json.loads(result.stdout)
        jsonschema.validate(found, SCHEMA)
        assert found["ok"] is (code == 0)
        return {each["id"]: each for each in found["findings"]}

    with redis.Redis.from_url(redis_url) as client:
        policy = client.config_get("maxmemory-policy")["maxmemory-policy"]
        yield run
        client.config_set("maxmemory-policy", policy)


def sql(url: str, statement: str) -> None:
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(statement)


def test_a_sound_deployment_has_no_failure(doctor: Doctor) -> None:
    found = doctor()
    sound = {"settings", "database", "schema", "clock", "redis", "redis.policy", "issuers.keys"}
    assert sound <= found.keys()
    assert all(found[each]["level"] == "ok" for each in sound)


def test_it_writes_nothing(doctor: Doctor, migrated: str) -> None:
    doctor()
    with psycopg.connect(migrated.replace("+psycopg", "")) as connection:
        for table in ("feed", "nodes", "legacy_usage", "rollout_log"):
            row = connection.execute(f"SELECT count(*) FROM migrator.{table}").fetchone()
            assert row == (0,)


def test_every_problem_of_the_settings_is_a_finding(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JWT_SECRET")
    monkeypatch.setenv("SWAP", "short")
    found = doctor(code=5)
    assert {"settings.missing-env", "settings.weak-swap-key"} <= found.keys()


def test_a_database_that_is_down_fails_and_the_rest_is_told(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DB", "postgresql://u:hidden-word@127.0.0.1:1/none")
    found = doctor(code=5)
    assert found["database.unreachable"]["level"] == "fail"
    assert found["redis"]["level"] == "ok"
    assert "hidden-word" not in json.dumps(found)


def test_a_schema_that_is_absent_fails(
    doctor: Doctor, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DB", database)
    assert doctor(code=5)["schema.absent"]["do"] == "migrator db upgrade"


def test_a_schema_that_drifted_fails(doctor: Doctor, migrated: str) -> None:
    sql(migrated, "ALTER TABLE migrator.sessions DROP COLUMN label")
    assert "label" in doctor(code=5)["schema.drifted"]["text"]


def test_redis_that_is_down_fails(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RD", "redis://:hidden-word@127.0.0.1:1/0")
    found = doctor(code=5)
    assert found["redis.unreachable"]["level"] == "fail"
    assert "hidden-word" not in json.dumps(found)


def test_a_policy_that_drops_tombstones_fails(
    doctor: Doctor, own_redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RD", own_redis.url)
    with redis.Redis.from_url(own_redis.url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
    assert doctor(code=5)["redis.policy"]["level"] == "fail"


def test_an_old_redis_fails() -> None:
    (found,) = cache_looks._version({"redis_version": "6.0.16"})
    assert (found.id, found.level) == ("redis.old", "fail")


def test_a_key_set_that_cannot_be_fetched_fails(doctor: Doctor) -> None:
    text = CONFIG.replace('"HS256"', '"RS256"').replace(
        'keys = ["env:JWT_SECRET"]', 'jwks_url = "http://127.0.0.1:1/jwks.json"'
    )
    Path("migrator.toml").write_text(text)
    assert doctor(code=5)["issuers.jwks-unreachable"]["level"] == "fail"


def test_a_key_that_is_none_fails(doctor: Doctor) -> None:
    Path("key.pem").write_text("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
    text = CONFIG.replace('"HS256"', '"RS256"').replace("env:JWT_SECRET", "file:key.pem")
    Path("migrator.toml").write_text(text)
    assert doctor(code=5)["key-unreadable"]["level"] == "fail"


def test_an_id_that_changed_fails(doctor: Doctor, migrated: str) -> None:
    sql(migrated, """UPDATE migrator.rollout SET issuers = '{"a9": "main"}'""")
    assert 'id = "a9"' in doctor(code=5)["issuers.id-changed"]["do"]


def test_a_role_without_rights_fails(doctor: Doctor, migrated: str) -> None:
    sql(migrated, "REVOKE UPDATE ON migrator.sessions FROM PUBLIC, CURRENT_USER")
    found = doctor(code=0) if _is_superuser(migrated) else doctor(code=5)
    assert "database.rights" in found


def _is_superuser(url: str) -> bool:
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        row = connection.execute("SELECT current_setting('is_superuser')").fetchone()
    return row == ("on",)


def test_what_nodes_counted_is_read(doctor: Doctor, migrated: str) -> None:
    sql(
        migrated,
        "INSERT INTO migrator.legacy_usage (hour, issuer, client, outcome, count) VALUES"
        " (date_trunc('hour', now()), 'a1', 'ios', 'legacy', 9),"
        " (date_trunc('hour', now()), '', '/signup', 'route:bad_signature', 3)",
    )
    sql(
        migrated,
        "INSERT INTO migrator.feed (at, kind, key) VALUES (now() - '2 d'::interval, 'all', '')",
    )
    found = doctor()
    assert found["app.issues-by-itself"]["level"] == "warn"
    assert "/signup" in found["routes.proposed"]["text"]
    assert found["sweep.overdue"]["level"] == "warn"


def test_what_is_left_out_is_told(doctor: Doctor) -> None:
    text = CONFIG.replace("expected_nodes = 2", "").partition("[routes]")[0]
    Path("migrator.toml").write_text(text.replace('lifetime = "1h"', ""))
    found = doctor()
    left_out = {"nodes.expected-unset", "routes.no-refresh", "issuers.no-lifetime"}
    assert left_out <= found.keys()


def test_its_text_fits_a_screen(doctor: Doctor) -> None:
    text = click.testing.CliRunner().invoke(main, ["doctor"]).output
    assert max(map(len, text.splitlines())) <= 100
    assert "ok    " in text


def test_no_issuer_is_missed_once_retired(doctor: Doctor, migrated: str) -> None:
    Path("migrator.toml").write_text(CONFIG.partition("[[issuers]]")[0])
    assert "migrator init" in doctor()["issuers.none"]["do"]
    sql(migrated, "UPDATE migrator.rollout SET phase = 'retired', legacy_removed_at = now()")
    found = doctor()["issuers.none"]
    assert (found["level"], found["do"]) == ("ok", None)
