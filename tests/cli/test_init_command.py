"""`init` writes settings that load, from what it is told and a sample, and loses no key."""

from __future__ import annotations

import json
import secrets
import stat
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click.testing
import jsonschema
import jwt
import psycopg
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from migrator import prepared
from migrator.cli import main
from migrator.core.claims import Claims
from migrator.core.presets import PRESETS
from migrator.settings import Settings
from migrator.settings.values import FAMILY_OF

SECRET = "k" + "Zq8vN3xR7tL1wP5yB9cF2hJ6mD4sG0aE" * 2
SCHEMA = json.loads(
    (Path(__file__).parents[2] / "migrator" / "schemas" / "init-1.json").read_text()
)
RECORDED = Path(__file__).parents[2] / "migrator" / "schemas" / "recorded-1.json"
NOW = int(time.time())
Init = Callable[..., Any]


@pytest.fixture(scope="module")
def public_pem() -> str:
    return (
        generate_private_key(65537, 2048)
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


@pytest.fixture
def init(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Init:
    monkeypatch.chdir(tmp_path)
    for name in ("MIGRATOR_DATABASE_URL", "MIGRATOR_REDIS_URL", "MIGRATOR_CONFIG"):
        monkeypatch.delenv(name, raising=False)

    def run(*args: str, stdin: str = "", code: int = 0) -> Any:
        result = click.testing.CliRunner().invoke(main, ["init", "--json", *args], input=stdin)
        assert result.exit_code == code, (result.output, result.exception)
        if code:
            return result.stderr
        found = json.loads(result.stdout)
        jsonschema.validate(found, SCHEMA)
        return found

    return run


def loaded(**more: str) -> Settings:
    environ = {
        "MIGRATOR_DATABASE_URL": "postgresql://u@h/d",
        "MIGRATOR_REDIS_URL": "redis://h",
        "JWT_SECRET": SECRET,
        **more,
    }
    return Settings.load("migrator.toml", environ=environ)


def sample(key: Any = SECRET, algorithm: str = "HS256", **claims: object) -> str:
    facts = {"sub": "7", "iat": NOW, "exp": NOW + 3600, **claims}
    return jwt.encode({k: v for k, v in facts.items() if v is not None}, key, algorithm)


@pytest.mark.parametrize("algorithm", list(FAMILY_OF))
def test_what_it_writes_loads(init: Init, algorithm: str, public_pem: str) -> None:
    init("--environment", "staging", "--app", "acme", "--algorithm", algorithm)
    settings = loaded(JWT_PUBLIC_KEY=public_pem)
    assert (settings.environment, settings.app) == ("staging", "acme")
    assert settings.issuers[0].algorithms == (algorithm,)
    assert len(settings.swap.keys[0].secret.get_secret_value()) == 32


@pytest.mark.parametrize("preset", list(PRESETS))
def test_every_preset_loads(init: Init, preset: str, public_pem: str) -> None:
    init("--preset", preset)
    assert loaded(JWT_PUBLIC_KEY=public_pem).issuers[0].preset == preset


def test_a_sample_fills_in_what_it_tells_and_then_verifies(init: Init) -> None:
    presented = sample(
        sub=None,
        uid="ada",
        iss="https://login.example",
        aud=["api"],
        azp="ios",
        scope="read",
        sid="f",
        token_type="access",
        exp=NOW + 900,
    )
    init(stdin=f"Bearer {presented}\n")
    settings = loaded()
    issuer = settings.issuers[0]
    assert (issuer.issuer, issuer.audience) == ("https://login.example", ("api",))
    assert issuer.lifetime is not None
    assert issuer.lifetime.total_seconds() == 900
    assert issuer.purpose.require == {"token_type": "access"}
    verifier = prepared.verifier_of(settings)
    owner = verifier.whose(presented.encode())
    held = verifier.verify(
        presented.encode(),
        owner.candidates,  # type: ignore[union-attr]  # it is a Legacy
        now=datetime.now(UTC),
    )
    assert isinstance(held, Claims)
    assert (held.subject, held.client, held.family) == ("ada", "ios", "f")


def test_a_simplejwt_sample_is_recognised_and_its_hazards_told(init: Init) -> None:
    found = init(stdin=sample(token_type="access", user_id=7, jti="j", sub=None))
    assert found["issuer"]["preset"] == "simplejwt"
    assert "refresh-first" in {each["id"] for each in found["hazards"]}
    assert loaded().issuers[0].claims.subject == "user_id"


def test_an_ed25519_sample_asks_for_a_public_key(init: Init) -> None:
    key = Ed25519PrivateKey.generate()
    init("--key-file", "key.pem", stdin=sample(key, "EdDSA"))
    public = serialization.PublicFormat.SubjectPublicKeyInfo
    Path("key.pem").write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, public))
    assert loaded().issuers[0].algorithms == ("EdDSA",)


def test_a_providers_sample_points_to_its_key_set(init: Init) -> None:
    key = generate_private_key(65537, 2048)
    init(stdin=sample(key, "RS256", iss="https://acme.eu.auth0.com/", aud="api"))
    issuer = loaded().issuers[0]
    assert issuer.jwks_url == "https://acme.eu.auth0.com/.well-known/jwks.json"
    assert issuer.audience == ("api",)


def test_a_strange_sample_cannot_write_settings_of_its_own(init: Init) -> None:
    evil = 'x"\n[http]\nforeign = "pass"\n#'
    init(stdin=sample(iss=evil, aud=[evil, 'a"b\\'], azp=evil, token_type="access"))
    settings = loaded()
    assert settings.issuers[0].audience == ('a"b\\',)
    assert settings.issuers[0].issuer is None


def test_nothing_of_the_samples_subject_is_written(init: Init) -> None:
    init(stdin=sample(sub="ada-lovelace", jti="very-unique", email="a@b.example"))
    text = Path("migrator.toml").read_text()
    assert not any(each in text for each in ("ada-lovelace", "very-unique", "a@b.example"))


def test_the_swap_key_is_the_owners_alone_and_survives_force(init: Init) -> None:
    init("--algorithm", "HS256")
    key = Path("swap.key")
    before = key.read_text()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    init("--algorithm", "HS256", "--force")
    assert key.read_text() == before


def test_settings_that_are_there_are_not_overwritten(init: Init) -> None:
    Path("migrator.toml").write_text("# mine\n")
    assert "init.exists" in init("--algorithm", "HS256", code=9)
    assert Path("migrator.toml").read_text() == "# mine\n"
    assert not Path("swap.key").exists()


def test_a_swap_key_for_the_environment_is_printed_and_never_written(init: Init) -> None:
    found = init("--algorithm", "HS256", "--swap-key-env", "SWAP")
    name, _, value = found["export"].removeprefix("export ").partition("=")
    assert (name, found["swap_key"]) == ("SWAP", "env:SWAP")
    assert not Path("swap.key").exists()
    assert value not in Path("migrator.toml").read_text()
    assert loaded(SWAP=value).swap.keys[0].id == "k1"


def test_a_dry_run_prints_the_file_and_writes_none(init: Init, tmp_path: Path) -> None:
    result = click.testing.CliRunner().invoke(
        main, ["init", "--dry-run", "--algorithm", "HS256", "--swap-key-env", "S"]
    )
    assert "[[issuers]]" in result.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stdin", ["not a jwt", "e30.e30", "a.b.c.d.e"])
def test_a_sample_that_is_none_is_a_usage_error(init: Init, stdin: str) -> None:
    init(stdin=stdin, code=2)
    assert not Path("migrator.toml").exists()


def test_without_any_hint_how_tokens_are_signed_it_stops(init: Init) -> None:
    assert "init.no-algorithm" in init(code=2)


def test_a_secret_given_as_a_name_is_refused_and_not_repeated(init: Init) -> None:
    secret = secrets.token_urlsafe(32) + "-+"
    assert secret not in init("--algorithm", "HS256", "--key-env", secret, code=2)


def test_the_database_keeps_the_issuers_id_for_ever(
    init: Init, migrated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIGRATOR_DATABASE_URL", migrated)
    assert init("--algorithm", "HS256", "--issuer-name", "main")["issuer"]["id"] == "a1"
    Path("migrator.toml").unlink()
    second = init("--algorithm", "HS256", "--issuer-name", "partner")
    assert (second["issuer"]["id"], second["recorded"]) == ("a2", True)
    again = init("--algorithm", "HS256", "--issuer-name", "main", "--force")
    assert again["issuer"]["id"] == "a1"
    with psycopg.connect(migrated.replace("+psycopg", "")) as connection:
        row = connection.execute("SELECT issuers FROM migrator.rollout").fetchone()
    assert row == ({"a1": "main", "a2": "partner"},)


def test_lines_fit_a_screen(init: Init) -> None:
    init("--preset", "keycloak")
    assert max(map(len, Path("migrator.toml").read_text().splitlines())) <= 100


def test_the_ids_are_recorded_afterwards_too(
    init: Init, migrated: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    init("--algorithm", "HS256", "--issuer-name", "web")
    values = {"DATABASE_URL": migrated, "REDIS_URL": redis_url}
    for name, value in values.items():
        monkeypatch.setenv(f"MIGRATOR_{name}", value)
    monkeypatch.setenv("JWT_SECRET", SECRET)
    changed = []
    for args in (["--dry-run"], [], []):
        result = click.testing.CliRunner().invoke(main, ["init", "--record", "--json", *args])
        assert result.exit_code == 0, result.output
        schema = json.loads(RECORDED.read_text())
        jsonschema.validate(json.loads(result.stdout), schema)
        changed.append(json.loads(result.stdout)["changed"])
    assert changed == [False, True, False]
    with psycopg.connect(migrated.replace("+psycopg", "")) as connection:
        row = connection.execute("SELECT issuers FROM migrator.rollout").fetchone()
    assert row == ({"a1": "web"},)


def test_one_require_line_and_what_is_left_to_be_said(init: Init) -> None:
    found = init("--environment", "prod", stdin=sample(token_type="access", user_id=7, sub=None))
    text = Path("migrator.toml").read_text()
    assert text.count("require = ") <= 1
    steps = " ".join(found["next"])
    assert "migrator init --record" in steps
    assert "refresh_lifetime" in steps
    assert init("--algorithm", "HS256", "--force")["next"]
    assert Path("migrator.toml").read_text().count("require = ") == 1
    assert "set lifetime and refresh_lifetime" in " ".join(
        init("--algorithm", "HS256", "--force")["next"]
    )
    assert "[issuers.purpose] refresh" in " ".join(init("--algorithm", "HS256", "--force")["next"])


def test_a_rule_that_the_sample_told_is_written_once(init: Init) -> None:
    init("--environment", "prod", stdin=sample(token_use="access"))
    assert Path("migrator.toml").read_text().count("require = ") == 1
    assert loaded().issuers[0].purpose.require == {"token_use": "access"}
