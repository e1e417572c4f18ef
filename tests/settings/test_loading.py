"""The settings: what loads, what overrides what, what is refused and how it is told."""

import dataclasses
import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from migrator.core.errors import BadSettings
from migrator.core.presets import PRESETS
from migrator.settings import Settings
from migrator.settings.problems import no_swap_key
from tests.settings.given import (
    BARE,
    DER,
    ENVIRON,
    EXAMPLE,
    FILE,
    PEM,
    SECRET,
    SWAP,
    URL,
    issuer,
    load,
    problems_in,
    tables,
    with_issuer,
)

# What loads


def test_the_published_example_loads_unchanged(tmp_path: Path) -> None:
    settings = load(tmp_path, EXAMPLE, **ENVIRON)
    assert (settings.environment, settings.app, settings.expected_nodes) == (
        "prod",
        "acme-api",
        24,
    )
    assert settings.database.url.get_secret_value() == URL
    assert settings.database.schema == "migrator"
    assert settings.redis is not None
    assert settings.redis.entry_seconds == 60
    assert settings.memory.trust_ms == 900
    assert settings.gates.retire_quiet == timedelta(days=30)
    assert settings.sessions.idle == timedelta(days=14)
    assert [key.id for key in settings.swap.keys] == ["k1"]
    assert len(settings.swap.keys[0].secret.get_secret_value()) == 32
    assert settings.routes.refresh == ("/auth/refresh",)
    assert settings.cookie.effective_name == "__Host-session"
    assert settings.foreign == ()
    assert settings.http.refusal.status == 401
    (main,) = settings.issuers
    assert (main.id, main.name, main.realm, main.preset) == ("a1", "main", "users", "simplejwt")
    assert main.keys[0].value.get_secret_value() == SECRET.encode()
    assert (main.keys[0].form, main.keys[0].origin) == ("secret", "env:JWT_SECRET")
    assert (main.skew, main.leeway) == (timedelta(seconds=5), timedelta(seconds=30))
    assert main.claims.subject == "user_id"
    assert main.purpose.require == {"token_type": "access"}
    assert main.transport[0].scheme == "Bearer"


def test_the_defaults_are_those_of_the_example(tmp_path: Path) -> None:
    written = load(tmp_path, EXAMPLE, **ENVIRON)
    bare = Settings.build(tables(redis={"url": "redis://cache"}))
    for name in ("memory", "gates", "tokens", "sessions", "cookie", "http", "foreign"):
        assert getattr(written, name) == getattr(bare, name), name
    assert written.database.budget_ms == bare.database.budget_ms
    assert written.swap.min_remaining == bare.swap.min_remaining
    assert written.swap.per_minute == bare.swap.per_minute == 600


@pytest.mark.parametrize("most", [-1, 1.5, "many"])
def test_the_limit_of_swaps_is_a_whole_number(most: object) -> None:
    with pytest.raises(BadSettings) as caught:
        Settings.build(tables(swap={"per_minute": most}))
    assert "per_minute" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("14d", timedelta(days=14)),
        ("24h", timedelta(hours=24)),
        ("10m", timedelta(minutes=10)),
        ("30s", timedelta(seconds=30)),
        ("1500ms", timedelta(milliseconds=1500)),
        ("0s", timedelta(0)),
    ],
)
def test_durations_become_lengths_of_time(text: str, length: timedelta) -> None:
    assert Settings.build(tables(gates={"ack_timeout": text})).gates.ack_timeout == length


def test_settings_cannot_be_changed() -> None:
    settings = Settings.build(tables())
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.memory.trust_ms = 1  # type: ignore[misc]  # the claim is that this fails


def test_settings_without_swap_keys_load_for_commands_that_need_none() -> None:
    assert Settings.build(tables()).swap.keys == ()
    assert no_swap_key().id == "settings.no-swap-key"


def test_an_insecure_cookie_loses_its_prefix() -> None:
    settings = Settings.build(tables(environment="dev", cookie={"secure": False}))
    assert settings.cookie.effective_name == "session"


def test_a_foreign_rule_that_names_nothing_matches_nothing() -> None:
    settings = Settings.build(tables(foreign=[{}, {"path": "/files/*"}]))
    assert [rule.path for rule in settings.foreign] == ["/files/*"]


def test_any_spelling_of_a_postgres_url_names_the_same_driver() -> None:
    settings = Settings.build({"database": {"url": "postgres://db/acme"}})
    assert settings.database.url.get_secret_value() == "postgresql+psycopg://db/acme"


@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1", "[::1]:9"])
def test_keys_may_be_fetched_in_the_clear_from_this_machine(host: str) -> None:
    url = f"http://{host}/jwks"
    given = with_issuer(algorithms=["RS256"], keys=[], jwks_url=url)
    assert Settings.build(given).issuers[0].jwks_url == url


@pytest.mark.parametrize("scheme", ["redis", "rediss", "unix", "redis+cluster", "rediss+sentinel"])
def test_redis_is_named_by_any_of_its_urls(scheme: str) -> None:
    settings = Settings.build(tables(redis={"url": f"{scheme}://:sesame@cache/0"}))
    assert settings.redis is not None


def test_an_origin_is_compared_in_lower_case() -> None:
    settings = Settings.build(tables(http={"allowed_origins": ["https://App.Example:8443"]}))
    assert settings.http.allowed_origins == ("https://app.example:8443",)


def test_a_program_may_give_lengths_of_time_and_bytes() -> None:
    given = {
        **with_issuer(keys=[SECRET.encode()], leeway=timedelta(seconds=1)),
        "gates": {"legacy_quiet": timedelta(seconds=2)},
    }
    settings = Settings.build(given)
    assert settings.issuers[0].leeway == timedelta(seconds=1)
    assert settings.gates.legacy_quiet == timedelta(seconds=2)


def test_an_empty_string_takes_away_what_a_preset_says() -> None:
    settings = Settings.build(with_issuer(claims={"family": ""}, issuer=""))
    assert settings.issuers[0].claims.family is None
    assert settings.issuers[0].issuer is None


# Where settings come from


def test_without_a_file_the_environment_says_where_the_stores_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings.load(environ=ENVIRON)
    assert settings.database.url.get_secret_value() == URL
    assert settings.redis is not None
    assert Settings.load(environ={"MIGRATOR_DATABASE_URL": URL}).redis is None


def test_with_a_file_leaving_redis_out_means_without_redis(tmp_path: Path) -> None:
    assert load(tmp_path, FILE, **ENVIRON).redis is None


def test_a_named_file_wins_over_the_variable_and_that_over_the_one_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("migrator", "named", "variable"):
        (tmp_path / f"{name}.toml").write_text(f'app = "{name}"\n{FILE}', encoding="utf-8")
    assert Settings.load(environ=ENVIRON).app == "migrator"
    environ = {**ENVIRON, "MIGRATOR_CONFIG": str(tmp_path / "variable.toml")}
    assert Settings.load(environ=environ).app == "variable"
    assert Settings.load("named.toml", environ=environ).app == "named"


def test_the_process_environment_is_what_load_reads_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("MIGRATOR_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MIGRATOR_DATABASE_URL", URL)
    monkeypatch.setenv("MIGRATOR_EXPECTED_NODES", "3")
    assert Settings.load().expected_nodes == 3


def test_variables_override_the_file_key_by_key(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        f'environment = "prod"\nexpected_nodes = 4\n{FILE}budget_ms = 900\n',
        **ENVIRON,
        MIGRATOR_ENVIRONMENT="stage",
        MIGRATOR_EXPECTED_NODES="7",
        MIGRATOR_DATABASE__BUDGET_MS="800",
        MIGRATOR_COOKIE__SECURE="false",
        MIGRATOR_SESSIONS__IDLE="2d",
        MIGRATOR_ROUTES__LOGIN='["/in"]',
        MIGRATOR_HTTP__REFUSAL='{"status": 403, "body": "no"}',
        MIGRATOR_HTTP__DEPRECATION_LINK="https://acme.example/docs",
        MIGRATOR_REDIS__URL="redis://:sesame@other",
    )
    assert (settings.environment, settings.expected_nodes) == ("stage", 7)
    assert settings.database.budget_ms == 800
    assert settings.cookie.secure is False
    assert settings.sessions.idle == timedelta(days=2)
    assert settings.routes.login == ("/in",)
    assert (settings.http.refusal.status, settings.http.refusal.body) == (403, "no")
    assert settings.redis is not None


def test_a_variable_may_hold_the_secret_itself(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        "",
        MIGRATOR_DATABASE__URL=URL,
        MIGRATOR_SWAP__KEYS=json.dumps([{"id": "k1", "secret": SWAP}]),
        MIGRATOR_ISSUERS=json.dumps([issuer()]),
    )
    assert settings.database.url.get_secret_value() == URL
    assert settings.swap.keys[0].id == "k1"
    assert settings.issuers[0].keys[0].origin == "inline"


def test_other_migrator_variables_are_left_alone(tmp_path: Path) -> None:
    others = {"MIGRATOR_TEST_DATABASE_URL": "x", "MIGRATOR_NONSENSE": "x", "migrator_app": "x"}
    assert load(tmp_path, FILE, **ENVIRON, **others).app == "app"


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("MIGRATOR_MEMORY__TRUST", "5", "settings.unknown-key"),
        ("MIGRATOR_NONSENSE__KEY", "5", "settings.unknown-key"),
        ("MIGRATOR_ISSUERS__ID", "a1", "settings.unknown-key"),
        ("MIGRATOR_HTTP__REFUSAL__STATUS", "403", "settings.unknown-key"),
        ("MIGRATOR_COOKIE__EFFECTIVE_NAME", "x", "settings.unknown-key"),
        ("MIGRATOR_MEMORY", "{}", "settings.bad-env"),
        ("MIGRATOR_ROUTES__LOGIN", "/in", "settings.bad-json"),
        ("MIGRATOR_ISSUERS", "[", "settings.bad-json"),
        ("MIGRATOR_EXPECTED_NODES", "many", "settings.bad-value"),
        ("MIGRATOR_GATES__ACK_TIMEOUT", "30", "settings.bad-duration"),
    ],
)
def test_a_variable_that_cannot_apply_is_named(
    tmp_path: Path, name: str, value: str, problem: str
) -> None:
    found = problems_in(tmp_path, FILE, **ENVIRON, **{name: value})
    assert list(found) == [problem]
    assert name in found[problem]


def test_relative_files_are_beside_the_settings_file(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "jwt.pem").write_text(PEM, encoding="utf-8")
    (tmp_path / "swap").write_text(SWAP + "\n", encoding="utf-8")
    (tmp_path / "hmac").write_bytes(SECRET.encode() + b"\r\n")
    text = f"""{FILE}
[swap]
keys = [{{ id = "k1", secret = "file:swap" }}]
[[issuers]]
id = "a1"
realm = "users"
algorithms = ["ES256"]
keys = [{{ key = "file:keys/jwt.pem", kid = "one", alg = "ES256" }}]
[[issuers]]
id = "a2"
realm = "users"
algorithms = ["HS256"]
keys = ["file:hmac"]
"""
    settings = load(tmp_path, text, **ENVIRON)
    pem, hmac = settings.issuers[0].keys[0], settings.issuers[1].keys[0]
    assert (pem.form, pem.kid, pem.alg, pem.origin) == ("pem", "one", "ES256", "file:keys/jwt.pem")
    assert hmac.value.get_secret_value() == SECRET.encode()


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("base64", "/+7dzLuqmYh3ZlVEMyIRAP/u3cy7qpmId2ZVRDMiEQA="),
        ("base64", "/+7dzLuqmYh3ZlVEMyIRAP/u3cy7qpmId2ZVRDMiEQE"),
        ("base64url", "_-7dzLuqmYh3ZlVEMyIRAP_u3cy7qpmId2ZVRDMiEQE"),
        ("hex", "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221101"),
    ],
)
def test_an_encoded_secret_is_decoded(encoding: str, text: str) -> None:
    key = Settings.build(with_issuer(encoding=encoding, keys=[text])).issuers[0].keys[0]
    assert key.value.get_secret_value()[:4] == b"\xff\xee\xdd\xcc"


def test_a_keycloak_key_without_its_pem_frame_is_a_public_key() -> None:
    key = Settings.build(with_issuer(algorithms=["ES256"], keys=[BARE])).issuers[0].keys[0]
    assert (key.form, key.value.get_secret_value()) == ("der", DER)


def test_secrets_and_a_key_set_live_together_when_every_key_says_what_it_is_for() -> None:
    settings = Settings.build(
        with_issuer(
            algorithms=["HS256", "ES256"],
            keys=[{"key": SECRET, "alg": "HS256"}],
            jwks_url="https://idp.example/jwks",
        )
    )
    assert settings.issuers[0].jwks_url == "https://idp.example/jwks"


# Presets


def test_a_preset_fills_what_is_absent_and_anything_given_wins() -> None:
    given: dict[str, Any] = {"id": "a1", "keys": [SECRET], "preset": "simplejwt"}
    filled = Settings.build(tables(issuers=[given])).issuers[0]
    assert filled.claims.subject == "user_id"
    assert filled.purpose.require == {"token_type": "access"}
    mine = Settings.build(
        tables(
            issuers=[
                {
                    **given,
                    "algorithms": ["HS256"],
                    "claims": {"client": "app"},
                    "purpose": {"refresh": {"kind": "r"}},
                }
            ]
        )
    ).issuers[0]
    assert (mine.claims.subject, mine.claims.client) == ("user_id", "app")
    assert mine.purpose.require == filled.purpose.require
    assert mine.purpose.refresh == {"kind": "r"}


def test_keys_that_are_given_replace_the_address_of_a_preset() -> None:
    given: dict[str, Any] = {"id": "a1", "preset": "firebase", "keys": [BARE]}
    assert Settings.build(tables(issuers=[given])).issuers[0].jwks_url is None


def test_every_preset_is_a_valid_issuer_once_it_has_keys() -> None:
    for name in PRESETS:
        given: dict[str, Any] = {
            "id": "a1",
            "preset": name,
            "jwks_url": "https://idp.example/jwks",
        }
        given |= {"algorithms": ["RS256"], "refresh_lifetime": "30d"}
        assert Settings.build(tables(issuers=[given])).issuers[0].preset == name
