"""The settings: what loads, what overrides what, what is refused and how it is told."""

import dataclasses
import json
import os
import traceback
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from migrator.core.errors import BadSettings
from migrator.core.presets import PRESETS
from migrator.settings import Settings
from migrator.settings.problems import REMEDIES, no_swap_key
from migrator.settings.strength import pack

EXAMPLE = """\
environment = "prod"                 # typed to confirm moves
app = "acme-api"
expected_nodes = 24                  # processes that will run the shim; unset = gates inconclusive

[database]
url = "env:MIGRATOR_DATABASE_URL"    # postgresql+psycopg://…
schema = "migrator"
budget_ms = 1000                     # then 503

[redis]                              # leave out to run without
url = "env:MIGRATOR_REDIS_URL"       # redis:// rediss:// unix:// and cluster, sentinel forms
budget_ms = 50
entry_seconds = 60

[memory]
entries = 100_000
poll_ms = 400
trust_ms = 900                       # 0 = strict

[gates]
legacy_quiet = "24h"                 # no legacy token seen, for cutover
foreign_quiet = "24h"
retire_quiet = "30d"
ack_timeout = "30s"

[tokens]
session_prefix = "sess"
api_prefix = "pat"

[sessions]
realm = "users"                      # of sessions issued at login
idle = "14d"
absolute = "90d"
per_subject = 100                    # oldest out
store_ip = "full"                    # full | truncated | off
keep_ended = "30d"

[swap]
keys = [{ id = "k1", secret = "env:MIGRATOR_SWAP_KEY" }]   # the first derives, the others still match
min_remaining = "10m"
header = "Session-Token"

[[issuers]]
id = "a1"                            # immutable; part of every fingerprint
name = "main"
realm = "users"                      # whose "user 1" is the same person
# skew = "5s"                        # how far ahead its clock may be
preset = "simplejwt"                 # fills what follows; anything given wins
algorithms = ["HS256"]
keys = ["env:JWT_SECRET"]            # or file:key.pem, file:jwks.json, or { key = "env:X", kid = "k1", alg = "RS256" }
# encoding = "base64"                # of an HMAC secret; else its UTF-8 bytes
# refresh_keys = ["env:REFRESH_SECRET"]
rotates_refresh = false
integer_subject = false              # presets may set it
typ = ["JWT"]                        # if present in the header
accept_padding = false
# jwks_url = "https://idp.example/.well-known/jwks.json"
# issuer = "https://idp.example"     # `iss`; absent = tokens carry none
# audience = ["api"]
leeway = "30s"
# max_age = "365d"                   # for tokens without exp
lifetime = "1h"                      # what its signer gives an access token,
refresh_lifetime = "30d"             # and a refresh token: horizon and effective iat
transport = [{ header = "Authorization", scheme = "Bearer" }]   # or { cookie = "access_token" }, { query = "token" }
[issuers.claims]
subject = "user_id"
# client = "azp"   scopes = "scope"   family = "sid"   keep = ["name"]
[issuers.purpose]                    # what a login token looks like; everything else is refused or foreign
require = { token_type = "access" }
refresh = { token_type = "refresh" }

[routes]                             # path patterns
login = ["/auth/login"]
refresh = ["/auth/refresh"]
logout = ["/auth/logout"]
public = []

[cookie]
name = "__Host-session"
same_site = "lax"
secure = true                        # false only for plain-http development; then the name loses its prefix

[[foreign]]                          # JWT-like credentials that are not logins of ours and go to the app
# iss = "https://other.example"   claims = { purpose = "file" }   path = "/files/*"

[http]
foreign = "pass"                     # pass | refuse: everything else that is not ours
allowed_origins = []
max_credential_bytes = 8192
# deprecation_link = "https://acme.example/docs/sessions"
refusal = { status = 401 }           # status, scheme, body template
"""  # noqa: E501 - quoted as it is published

SECRET = "kq7Z2mVw9XcR4tYb6NfH1sJd8GpL3aEu"  # 32 characters nobody else has
OTHER = "Wd5nQ8rTz2LkVx7PbM4cFhJ9sGy3AeU6"
SWAP = "3q2-7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs"
URL = "postgresql+psycopg://acme:hunter2@db/acme"
ENVIRON = {
    "MIGRATOR_DATABASE_URL": URL,
    "MIGRATOR_REDIS_URL": "redis://:sesame@cache:6379/0",
    "MIGRATOR_SWAP_KEY": SWAP,
    "JWT_SECRET": SECRET,
}
_public = ec.generate_private_key(ec.SECP256R1()).public_key()
PEM = _public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
BARE = "".join(PEM.splitlines()[1:-1])
DER = _public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def issuer(**given: Any) -> dict[str, Any]:
    return {"id": "a1", "algorithms": ["HS256"], "keys": [SECRET], **given}


def tables(**given: Any) -> dict[str, Any]:
    return {"database": {"url": URL}, **given}


def with_issuer(**given: Any) -> dict[str, Any]:
    return tables(issuers=[issuer(**given)])


def clearing(*copies: Mapping[str, str], **given: str) -> dict[str, Any]:
    return tables(cookie={"clear": list(copies), **given})


def problems_of(given: Mapping[str, Any]) -> dict[str, str]:
    with pytest.raises(BadSettings) as raised:
        Settings.build(given, environ={})
    return {problem.id: problem.what for problem in raised.value.problems}


def load(tmp_path: Path, text: str, **environ: str) -> Settings:
    path = tmp_path / "migrator.toml"
    path.write_text(text, encoding="utf-8")
    return Settings.load(path, environ=environ)


def problems_in(tmp_path: Path, text: str, **environ: str) -> dict[str, str]:
    with pytest.raises(BadSettings) as raised:
        load(tmp_path, text, **environ)
    return {problem.id: problem.what for problem in raised.value.problems}


FILE = '[database]\nurl = "env:MIGRATOR_DATABASE_URL"\n'


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


# What is refused

TWO = [issuer(realm="users"), issuer(realm="users", id="a2", name="other")]
BAD: list[tuple[str, str, dict[str, Any]]] = [
    (
        "alg-not-allowed",
        "issuers[0].keys",
        with_issuer(keys=[{"key": SECRET + OTHER, "alg": "HS384"}]),
    ),
    ("bad-algorithm", "issuers[0].algorithms[0]", with_issuer(algorithms=["none"])),
    ("bad-database-url", "database.url", {"database": {"url": "mysql://u:p@db/acme"}}),
    ("bridge-issuer", "bridge.issuer", tables(bridge={"issuer": "nobody"})),
    (
        "bridge-key",
        "bridge.key",
        with_issuer(algorithms=["RS256"], keys=[], jwks_url="https://idp.example/jwks")
        | {"bridge": {}},
    ),
    ("bad-duration", "sessions.idle", tables(sessions={"idle": "two weeks"})),
    ("bad-duration", "sessions.idle", tables(sessions={"idle": 14})),
    ("bad-duration", "sessions.absolute", tables(sessions={"absolute": "0s"})),
    ("bad-duration", "sessions.absolute", tables(sessions={"absolute": "999999999d"})),
    ("bad-encoding", "issuers[0].keys[0]", with_issuer(encoding="hex")),
    ("bad-origin", "http.allowed_origins[0]", tables(http={"allowed_origins": ["*"]})),
    ("bad-origin", "http.allowed_origins[0]", tables(http={"allowed_origins": ["https://a/b"]})),
    ("bad-path", "routes.login[0]", tables(routes={"login": ["login"]})),
    ("bad-redis-url", "redis.url", tables(redis={"url": "http://cache"})),
    ("bad-reference", "issuers[0].keys[0]", with_issuer(keys=["env:"])),
    ("bad-reference", "issuers[0].keys[0]", with_issuer(keys=["file:"])),
    ("bad-reference", "issuers[0].keys[0]", with_issuer(keys=[5])),
    (
        "bad-transport",
        "issuers[0].transport[0]",
        with_issuer(transport=[{"cookie": "a", "query": "b"}]),
    ),
    (
        "bad-transport",
        "issuers[0].transport[0]",
        with_issuer(transport=[{"cookie": "a", "scheme": "b"}]),
    ),
    ("bad-origin", "http.allowed_origins[0]", tables(http={"allowed_origins": ["https://a:b"]})),
    ("bad-reference", "issuers[0].keys[0]", with_issuer(keys=["file:a\0b"])),
    ("bad-url", "issuers[0].jwks_url", with_issuer(keys=[], jwks_url="idp.example")),
    ("bad-url", "issuers[0].jwks_url", with_issuer(keys=[], jwks_url="https://[idp/jwks")),
    ("bad-url", "issuers[0].jwks_url", with_issuer(keys=[], jwks_url="https://u:p@idp/jwks")),
    ("bad-value", "memory.poll_ms", tables(memory={"poll_ms": True})),
    ("bad-value", "redis.entry_seconds", tables(redis={"url": "redis://c", "entry_seconds": 61})),
    ("bad-value", "http.refusal.status", tables(http={"refusal": {"status": 200}})),
    ("bad-value", "http.deprecation_link", tables(http={"deprecation_link": "https://a\r\nb: c"})),
    ("bad-value", "swap.header", tables(swap={"header": "Session Token"})),
    ("bad-value", "cookie", tables(cookie="session")),
    ("bad-value", "issuers", tables(issuers={"id": "a1"})),
    ("bad-value", "issuers[0]", tables(issuers=["a1"])),
    ("bad-value", "cookie.clear[0].domain", clearing({"name": "a", "domain": "a; Secure"})),
    ("bad-value", "cookie.clear[0].path", clearing({"name": "a", "path": "auth"})),
    ("cookie-in-use", "cookie.clear[0]", clearing({"name": "__Host-session"})),
    ("cookie-in-use", "cookie.clear[1]", clearing({"name": "a"}, {"name": "h"}, hint="h")),
    ("cookie-in-use", "cookie.hint", clearing(hint="__Host-session")),
    ("cookie-insecure", "cookie.secure", tables(cookie={"secure": False})),
    (
        "cookie-insecure",
        "cookie.same_site",
        tables(environment="dev", cookie={"secure": False, "same_site": "none"}),
    ),
    ("duplicate-issuer", "issuers[1].id", tables(issuers=[TWO[0], {**TWO[1], "id": "a1"}])),
    ("duplicate-issuer", "issuers[1].name", tables(issuers=[TWO[0], {**TWO[1], "name": "a1"}])),
    (
        "duplicate-kid",
        "issuers[0].keys",
        with_issuer(keys=[{"key": SECRET, "kid": "k"}, {"key": OTHER, "kid": "k"}]),
    ),
    (
        "duplicate-client",
        "serve.clients[1].id",
        tables(serve={"clients": [{"id": "a", "secret": SWAP}, {"id": "a", "secret": OTHER}]}),
    ),
    (
        "duplicate-swap-key",
        "swap.keys[1].id",
        tables(swap={"keys": [{"id": "k", "secret": SWAP}, {"id": "k", "secret": SWAP}]}),
    ),
    ("empty-secret", "issuers[0].keys[0]", with_issuer(keys=[""])),
    (
        "insecure-jwks-url",
        "issuers[0].jwks_url",
        with_issuer(algorithms=["RS256"], keys=[], jwks_url="http://idp.example/jwks"),
    ),
    ("key-family-mismatch", "issuers[0].keys", with_issuer(keys=[PEM])),
    ("key-family-mismatch", "issuers[0].keys", with_issuer(keys=["\ufeff " + PEM])),
    ("key-family-mismatch", "issuers[0].keys", with_issuer(keys=[BARE])),
    ("key-family-mismatch", "issuers[0].keys", with_issuer(keys=[DER])),
    ("key-family-mismatch", "issuers[0].keys", with_issuer(keys=[BARE], encoding="base64")),
    ("key-family-mismatch", "issuers[0].keys", with_issuer(keys=["ssh-ed25519 AAAAC3NzaC1lZDI1"])),
    ("key-family-mismatch", "issuers[0].keys", with_issuer(keys=['{"kty": "RSA", "n": "AQAB"}'])),
    ("key-family-mismatch", "issuers[0].keys", with_issuer(algorithms=["RS256"])),
    ("key-family-mismatch", "issuers[0].refresh_keys", with_issuer(refresh_keys=[PEM])),
    ("key-family-mismatch", "issuers[0].jwks_url", with_issuer(jwks_url="https://idp.example/")),
    ("missing-env", "issuers[0].keys[0]", with_issuer(keys=["env:NOT_THERE"])),
    ("missing-env", "database.url", {"database": {"url": "env:NOT_THERE"}}),
    ("missing-file", "issuers[0].keys[0]", with_issuer(keys=["file:not-there.pem"])),
    ("missing-key", "database.url", {}),
    ("missing-key", "redis.url", tables(redis={})),
    (
        "missing-key",
        "issuers[0].id",
        tables(issuers=[{"algorithms": ["HS256"], "keys": [SECRET], "name": "a"}]),
    ),
    ("missing-key", "issuers[0].keys[0].key", with_issuer(keys=[{"kid": "k"}])),
    ("missing-key", "swap.keys[0].secret", tables(swap={"keys": [{"id": "k"}]})),
    (
        "missing-realm",
        "issuers[1].realm",
        tables(issuers=[TWO[0], {k: v for k, v in TWO[1].items() if k != "realm"}]),
    ),
    (
        "missing-refresh-lifetime",
        "issuers[0].refresh_lifetime",
        with_issuer(rotates_refresh=True),
    ),
    ("mixed-families", "issuers[0].keys", with_issuer(algorithms=["HS256", "RS256"])),
    ("no-algorithms", "issuers[0].algorithms", with_issuer(algorithms=[])),
    ("no-keys", "issuers[0].keys", with_issuer(keys=[])),
    (
        "public-hmac",
        "issuers[0].keys",
        with_issuer(keys=["super-secret-jwt-token-with-at-least-32-characters-long"]),
    ),
    (
        "public-hmac",
        "issuers[0].keys",
        with_issuer(
            encoding="hex",
            keys=["09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7"],
        ),
    ),
    (
        "public-hmac",
        "issuers[0].keys",
        with_issuer(keys=["a-string-secret-at-least-256-bits-long"]),
    ),
    ("route-twice", "routes.public[0]", tables(routes={"login": ["/a"], "public": ["/a"]})),
    ("same-prefix", "tokens.api_prefix", tables(tokens={"api_prefix": "sess"})),
    ("same-prefix", "tokens.api_prefix", tables(tokens={"api_prefix": "sess_api"})),
    (
        "shared-secret",
        "issuers[0].keys",
        {**with_issuer(keys=[SWAP]), "swap": {"keys": [{"id": "k", "secret": SWAP}]}},
    ),
    ("trust-below-poll", "memory.trust_ms", tables(memory={"trust_ms": 399})),
    ("twin-issuers", "issuers[1].keys", tables(issuers=TWO)),
    (
        "two-key-sources",
        "issuers[0].jwks_url",
        with_issuer(algorithms=["ES256"], keys=[PEM], jwks_url="https://idp.example/jwks"),
    ),
    ("unknown-key", "memory.trust", tables(memory={"trust": 5})),
    ("unknown-key", "memroy", tables(memroy={})),
    ("unknown-key", "issuers[0].keys[0].kind", with_issuer(keys=[{"key": SECRET, "kind": "x"}])),
    ("unknown-key", "issuers[0].claims.user", with_issuer(claims={"user": "x"})),
    ("unknown-preset", "issuers[0].preset", with_issuer(preset="homemade")),
    ("unreadable-file", "issuers[0].keys[0]", with_issuer(keys=["file:."])),
    (
        "weak-client-secret",
        "serve.clients[0].secret",
        tables(serve={"clients": [{"id": "a", "secret": SECRET[:15]}]}),
    ),
    ("weak-hmac", "issuers[0].keys", with_issuer(keys=[SECRET[:31]])),
    ("weak-hmac", "issuers[0].keys", with_issuer(algorithms=["HS256", "HS512"])),
    ("weak-hmac", "issuers[0].keys", with_issuer(keys=["aB3$" * 16])),
    ("weak-hmac", "issuers[0].keys", with_issuer(keys=["abcdefghij" * 5])),
    ("weak-hmac", "issuers[0].keys", with_issuer(keys=['{"kty": "oct", "k": "c2hvcnQ"}'])),
    (
        "weak-swap-key",
        "swap.keys[0].secret",
        tables(swap={"keys": [{"id": "k", "secret": SWAP[:40]}]}),
    ),
    (
        "weak-swap-key",
        "swap.keys[0].secret",
        tables(swap={"keys": [{"id": "k", "secret": SWAP + "="}]}),
    ),
    (
        "weak-swap-key",
        "swap.keys[0].secret",
        tables(swap={"keys": [{"id": "k", "secret": "A" * 43}]}),
    ),
]


@pytest.mark.parametrize(("problem", "key", "given"), BAD)
def test_what_cannot_be_run_with_is_refused_by_name(
    problem: str, key: str, given: dict[str, Any]
) -> None:
    assert problems_of(given) == {f"settings.{problem}": f"{key} in the settings given"}


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        ("inline-secret", f'[database]\nurl = "{URL}"'),
        ("inline-secret", '[database]\nurl = "postgresql://db/acme?password=hunter2"'),
        ("inline-secret", f'{FILE}[swap]\nkeys = [{{ id = "k1", secret = "{SWAP}" }}]'),
        (
            "inline-secret",
            f'{FILE}[[issuers]]\nid = "a"\nalgorithms = ["HS256"]\nkeys = ["{SECRET}"]',
        ),
    ],
)
def test_a_secret_in_the_file_is_refused(tmp_path: Path, problem: str, text: str) -> None:
    assert list(problems_in(tmp_path, text, **ENVIRON)) == [f"settings.{problem}"]


def test_a_url_without_a_password_is_no_secret(tmp_path: Path) -> None:
    settings = load(tmp_path, '[database]\nurl = "postgresql://acme@/acme?host=/run/postgresql"')
    assert settings.database.url.get_secret_value().endswith("host=/run/postgresql")


def test_a_named_file_that_is_not_there_is_not_passed_over(tmp_path: Path) -> None:
    missing = tmp_path / "not-there.toml"
    for path, environ in ((missing, {}), (None, {"MIGRATOR_CONFIG": str(missing)})):
        with pytest.raises(BadSettings) as raised:
            Settings.load(path, environ={**ENVIRON, **environ})
        (problem,) = raised.value.problems
        assert (problem.id, problem.what) == ("settings.missing-file", str(missing))


def test_broken_toml_is_told_by_its_line_and_nothing_of_it_is_shown(tmp_path: Path) -> None:
    with pytest.raises(BadSettings) as raised:
        load(tmp_path, f'app = "a"\nsecret = {SECRET}\n')
    (problem,) = raised.value.problems
    assert problem.id == "settings.bad-toml"
    assert "line 2" in problem.why
    assert SECRET not in str(raised.value)


def test_a_file_that_is_not_text_or_not_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    for path, problem in (("binary.toml", "bad-toml"), (".", "unreadable-file")):
        with pytest.raises(BadSettings) as raised:
            Settings.load(tmp_path / path, environ=ENVIRON)
        assert [each.id for each in raised.value.problems] == [f"settings.{problem}"]


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    text = """
nodes = 4
[database]
url = "env:NOT_THERE"
budget_ms = "soon"
[memory]
poll_ms = 950
entries = -1
[sessions]
idle = 14
[swap]
keys = [{ id = "k1", secret = "env:SHORT" }]
[[issuers]]
id = "a1"
leeway = "soon"
algorithms = ["HS256"]
keys = ["env:SHORT"]
"""
    found = problems_in(tmp_path, text, SHORT="c2hvcnQtYnV0LW5vdC1lbm91Z2g", MIGRATOR_NO__SUCH="1")
    assert set(found) == {
        "settings.unknown-key",
        "settings.missing-env",
        "settings.bad-value",
        "settings.trust-below-poll",
        "settings.bad-duration",
        "settings.weak-swap-key",
        "settings.weak-hmac",
        "settings.shared-secret",
    }


def test_a_misspelt_key_is_answered_with_the_right_one(tmp_path: Path) -> None:
    with pytest.raises(BadSettings) as raised:
        load(tmp_path, f"{FILE}[memory]\ntrust = 5\n", **ENVIRON)
    (problem,) = raised.value.problems
    assert problem.do == "did you mean `trust_ms`?"
    assert problem.what.startswith("memory.trust in ")
    assert problem.what.endswith("migrator.toml")


def test_every_remedy_belongs_to_a_problem_that_a_test_provokes() -> None:
    provoked = {f"settings.{problem}" for problem, _, _ in BAD}
    elsewhere = {"bad-env", "bad-json", "bad-toml", "inline-secret", "no-swap-key"}
    assert set(REMEDIES) == provoked | {f"settings.{name}" for name in elsewhere}


# What is never shown


def test_no_secret_in_a_repr(tmp_path: Path) -> None:
    settings = load(tmp_path, EXAMPLE, **ENVIRON)
    shown = repr(settings) + str(settings) + repr(dataclasses.asdict(settings))
    for secret in ("hunter2", "sesame", SWAP, SECRET):
        assert secret not in shown


@pytest.mark.parametrize(("problem", "key", "given"), BAD)
def test_no_secret_in_a_problem(problem: str, key: str, given: dict[str, Any]) -> None:
    with pytest.raises(BadSettings) as raised:
        Settings.build(given, environ={})
    shown = "".join(traceback.format_exception(raised.value))
    for secret in (SECRET[:31], SWAP[:40], "hunter2", BARE, "c2hvcnQ", "mysql://"):
        assert secret not in shown


# The list of public secrets


def test_the_shipped_list_is_made_from_the_public_one() -> None:
    source = Path(__file__).parents[2] / "shared/vectors/weak-secrets/jwt.secrets.list"
    if not source.exists():
        pytest.skip("the third-party vectors are not here")
    lines = [line.rstrip(b"\r") for line in source.read_bytes().split(b"\n")]
    shipped = Path(__file__).parents[1] / "migrator/settings/weak_secrets.bin"
    assert shipped.read_bytes() == pack(lines)


def test_every_long_enough_public_secret_is_refused() -> None:
    source = Path(__file__).parents[2] / "shared/vectors/weak-secrets/jwt.secrets.list"
    if not source.exists():
        pytest.skip("the third-party vectors are not here")
    lines = {line.rstrip(b"\r") for line in source.read_bytes().split(b"\n")}
    keys: list[Any] = [line for line in lines if len(line) >= 32 and not line.startswith(b"-----")]
    with pytest.raises(BadSettings) as raised:
        Settings.build(with_issuer(keys=keys))
    assert len(raised.value.problems) >= len(keys)
    told = {problem.id for problem in raised.value.problems}
    assert told <= {"settings.public-hmac", "settings.key-family-mismatch"}
