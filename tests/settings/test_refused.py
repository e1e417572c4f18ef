"""Settings that are refused: what is wrong, where, and what to write instead."""

import traceback
from pathlib import Path
from typing import Any

import pytest

from migrator.core.errors import BadSettings
from migrator.settings import Settings
from migrator.settings.problems import REMEDIES
from tests.settings.given import (
    BARE,
    DER,
    ENVIRON,
    FILE,
    OTHER,
    PEM,
    SECRET,
    SWAP,
    URL,
    clearing,
    issuer,
    load,
    problems_in,
    problems_of,
    tables,
    with_issuer,
)

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


@pytest.mark.parametrize(("problem", "key", "given"), BAD)
def test_no_secret_in_a_problem(problem: str, key: str, given: dict[str, Any]) -> None:
    with pytest.raises(BadSettings) as raised:
        Settings.build(given, environ={})
    shown = "".join(traceback.format_exception(raised.value))
    for secret in (SECRET[:31], SWAP[:40], "hunter2", BARE, "c2hvcnQ", "mysql://"):
        assert secret not in shown
