"""Nothing is said twice: the app's configuration says whose its JWTs are, and where they are."""

# mypy: disable-error-code="untyped-decorator"
# jwt_required is annotated to return Any.

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from flask import Flask
from flask.testing import FlaskClient
from flask_jwt_extended import (
    JWTManager,
    create_access_token,
    create_refresh_token,
    get_jwt_identity,
    jwt_required,
)

from migrator.core.errors import BadSettings
from migrator.settings import Settings
from shims.flask import Migrator, current_principal, sessions
from tests.apps.flask_jwt_extended.guest_book import SECRET, bearer, guest_book, token_of
from tests.rig import SWAP_KEY, Rig

Open = Callable[..., FlaskClient]

# Where tokens are, and what they look like: said by the app, and nowhere else.

LOCATIONS: dict[str, tuple[dict[str, Any], Callable[[str], dict[str, Any]]]] = {
    "header": ({}, lambda token: {"headers": bearer(token)}),
    "header of another scheme": (
        {"JWT_HEADER_TYPE": "JWT"},
        lambda token: {"headers": bearer(token, "JWT")},
    ),
    "bare header of another name": (
        {"JWT_HEADER_NAME": "X-Access", "JWT_HEADER_TYPE": ""},
        lambda token: {"headers": {"X-Access": token}},
    ),
    "cookie": (
        {"JWT_TOKEN_LOCATION": "cookies"},
        lambda token: {"headers": {"Cookie": f"access_token_cookie={token}"}},
    ),
    "cookie of another name": (
        {"JWT_TOKEN_LOCATION": ["headers", "cookies"], "JWT_ACCESS_COOKIE_NAME": "at"},
        lambda token: {"headers": {"Cookie": f"at={token}"}},
    ),
    "query": (
        {"JWT_TOKEN_LOCATION": ["query_string"], "JWT_QUERY_STRING_NAME": "key"},
        lambda token: {"query_string": {"key": token}},
    ),
    "body": (
        {"JWT_TOKEN_LOCATION": ["json"], "JWT_JSON_KEY": "at"},
        lambda token: {"method": "POST", "json": {"at": token}},
    ),
}


@pytest.mark.parametrize(("config", "presented"), LOCATIONS.values(), ids=LOCATIONS)
def test_a_token_is_found_wherever_the_app_looks(
    opened: Open, config: dict[str, Any], presented: Callable[[str], dict[str, Any]]
) -> None:
    client = opened(**config)
    answer = client.open("/old", **presented(token_of(client)))
    assert answer.get_json() == {"principal": "ada"}


def test_a_header_is_handed_a_header_and_a_cookie_a_cookie(opened: Open) -> None:
    client = opened(JWT_TOKEN_LOCATION=["headers", "cookies"])
    token = token_of(client)
    by_header = client.get("/old", headers=bearer(token))
    assert by_header.headers["Session-Token"].startswith("sess_")
    by_cookie = client.get("/old", headers={"Cookie": f"access_token_cookie={token}"})
    assert by_cookie.headers["Set-Cookie"].startswith("sid=sess_")
    assert "Session-Token" not in by_cookie.headers


def test_what_the_shim_cannot_see_stays_the_apps_business(
    opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    config = {
        "JWT_TOKEN_LOCATION": ["query_string"],
        "JWT_QUERY_STRING_VALUE_PREFIX": "Bearer ",
    }
    client = opened(**config)
    answer = client.get("/old", query_string={"jwt": f"Bearer {token_of(client)}"})
    assert answer.get_json() == {"principal": None}
    assert [getattr(each, "what", None) for each in caplog.records] == [
        "JWT_QUERY_STRING_VALUE_PREFIX"
    ]


def test_a_token_without_an_end_is_given_a_year(opened: Open, rig: Rig) -> None:
    client = opened(JWT_ACCESS_TOKEN_EXPIRES=False)
    assert client.get("/old", headers=bearer(token_of(client))).get_json()["principal"] == "ada"
    left = "extract(day FROM exp - now())::int"
    assert rig.execute(f"SELECT {left} FROM migrator.legacy_tokens") == [(364,)]


@pytest.mark.parametrize("expires", [timedelta(hours=2), 7200], ids=["timedelta", "seconds"])
def test_lifetimes_are_the_apps(opened: Open, expires: Any) -> None:
    client = opened(JWT_ACCESS_TOKEN_EXPIRES=expires, JWT_REFRESH_TOKEN_EXPIRES=expires)
    issuer = client.application.extensions["migrator"].settings.issuers[0]
    assert (issuer.lifetime, issuer.refresh_lifetime) == (timedelta(hours=2),) * 2


CLAIMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "identity claim": ({"JWT_IDENTITY_CLAIM": "identity"}, {}),
    "encoded iss": ({"JWT_ENCODE_ISSUER": "guests"}, {}),
    "decoded iss": ({"JWT_ENCODE_ISSUER": "guests", "JWT_DECODE_ISSUER": "guests"}, {}),
    "encoded aud": ({"JWT_ENCODE_AUDIENCE": "guests"}, {}),
    "decoded aud": ({"JWT_ENCODE_AUDIENCE": ["a", "b"], "JWT_DECODE_AUDIENCE": "b"}, {}),
    "no type": ({}, {"type": None}),
    "HS512": ({"JWT_ALGORITHM": "HS512", "JWT_SECRET_KEY": SECRET * 2}, {}),
    "bytes": ({"JWT_SECRET_KEY": SECRET.encode()}, {}),
    "line end": ({"JWT_SECRET_KEY": SECRET + "\n"}, {}),
    "SECRET_KEY": ({"JWT_SECRET_KEY": None, "SECRET_KEY": SECRET}, {}),
    "env:": ({"JWT_SECRET_KEY": "env:no variable but a secret that begins so"}, {}),
    "JSON": ({"JWT_SECRET_KEY": json.dumps({"odd": SECRET})}, {}),
}


@pytest.mark.parametrize(("config", "claims"), CLAIMS.values(), ids=CLAIMS)
def test_tokens_are_read_as_the_app_reads_them(
    opened: Open, config: dict[str, Any], claims: dict[str, Any]
) -> None:
    client = opened(**config)
    token = token_of(client)
    if claims:  # a token from before the library said what it is
        payload = jwt.decode(token, options={"verify_signature": False})
        del payload["type"]
        token = jwt.encode(payload, SECRET, algorithm="HS256")
    answer = client.get("/old", headers=bearer(token))
    assert answer.get_json() == {"principal": "ada"}
    assert "Session-Token" in answer.headers


def test_the_app_decides_which_iss_and_aud_it_takes(opened: Open) -> None:
    strict = opened(JWT_DECODE_ISSUER="guests", JWT_DECODE_AUDIENCE="b")
    for claims in ({"iss": "others", "aud": "b"}, {"iss": "guests", "aud": "a"}):
        answer = strict.get("/old", headers=bearer(token_of(strict, **claims)))
        assert answer.status_code == 422
    right = token_of(strict, iss="guests", aud="b")
    assert strict.get("/old", headers=bearer(right)).status_code == 200


def test_public_keys_are_the_apps(opened: Open) -> None:
    key = rsa.generate_private_key(65537, 2048)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    client = opened(
        JWT_ALGORITHM="RS256",
        JWT_SECRET_KEY=None,
        JWT_PRIVATE_KEY=private.decode(),
        JWT_PUBLIC_KEY=public.decode(),
    )
    answer = client.get("/old", headers=bearer(token_of(client)))
    assert answer.get_json() == {"principal": "ada"}


def test_keys_that_a_function_chooses_have_to_be_written_down(rig: Rig) -> None:
    app = Flask(__name__)
    app.config["JWT_SECRET_KEY"] = SECRET
    JWTManager(app).decode_key_loader(lambda _header, _payload: SECRET)
    app.config["MIGRATOR"] = {"database": {"url": rig.url}}
    with pytest.raises(BadSettings) as raised:
        Migrator(app)
    assert raised.value.problems[0].id == "flask.undescribed-issuer"
    assert SECRET not in str(raised.value)


def test_a_weak_secret_is_refused_and_not_shown(rig: Rig) -> None:
    with pytest.raises(BadSettings) as raised:
        guest_book(rig, JWT_SECRET_KEY="super-secret")
    assert [problem.id for problem in raised.value.problems] == ["settings.weak-hmac"]
    assert "super-secret" not in str(raised.value)


def test_what_the_settings_say_of_the_issuer_wins(opened: Open) -> None:
    issuers = [{"id": "a1", "name": "guests", "preset": "flask-jwt-extended", "lifetime": "3h"}]
    client = opened(more={"issuers": issuers}, JWT_HEADER_TYPE="Token")
    [issuer] = client.application.extensions["migrator"].settings.issuers
    assert (issuer.id, issuer.name, issuer.lifetime) == ("a1", "guests", timedelta(hours=3))
    answer = client.get("/old", headers=bearer(token_of(client), "Token"))
    assert answer.get_json() == {"principal": "ada"}


def test_a_file_without_issuers_leaves_them_to_the_app(rig: Rig, tmp_path: Path) -> None:
    rig.move("swap")
    file = tmp_path / "migrator.toml"
    (tmp_path / "swap").write_text(SWAP_KEY)
    file.write_text(
        f'environment = "test"\n[database]\nurl = "{rig.url}"\n'
        '[swap]\nkeys = [{ id = "k1", secret = "file:swap" }]\n[sessions]\nrealm = "guests"\n'
    )
    app = Flask(__name__)
    app.config.update(JWT_SECRET_KEY=SECRET, MIGRATOR=str(file))
    JWTManager(app)
    Migrator(app)

    @app.get("/old")
    @jwt_required()
    def old() -> str:
        assert current_principal
        return f"{current_principal.realm}/{current_principal.subject}"

    client = app.test_client()
    assert client.get("/old", headers=bearer(token_of(client))).text == "guests/ada"


def test_the_operators_file_can_say_what_the_app_says(
    opened: Open, rig: Rig, tmp_path: Path
) -> None:
    client = opened(
        JWT_TOKEN_LOCATION=["headers", "cookies"],
        JWT_HEADER_TYPE="JWT",
        JWT_ACCESS_TOKEN_EXPIRES=timedelta(seconds=90),
        JWT_REFRESH_TOKEN_EXPIRES=False,
    )
    told = client.application.test_cli_runner().invoke(args=["migrator-issuer"])
    assert told.exit_code == 0
    assert SECRET not in told.output
    file = tmp_path / "migrator.toml"
    file.write_text(f'[database]\nurl = "{rig.url}"\n{told.output}')
    [read] = Settings.load(file, environ={"JWT_SECRET_KEY": SECRET}).issuers
    [app] = client.application.extensions["migrator"].settings.issuers
    assert [read.id, read.transport, read.lifetime, read.refresh_lifetime, read.max_age] == [
        *(app.id, app.transport, app.lifetime, app.refresh_lifetime, app.max_age)
    ]
    assert read.keys[0].value == app.keys[0].value
    assert (read.issuer, read.audience, read.leeway) == (app.issuer, app.audience, app.leeway)


def test_a_bridge_knows_the_names_of_the_apps_cookies(opened: Open) -> None:
    client = opened(
        more={"bridge": {"lifetime": "30s"}},
        JWT_TOKEN_LOCATION=["cookies"],
        JWT_COOKIE_CSRF_PROTECT=True,
        JWT_REFRESH_COOKIE_NAME="rt",
        JWT_ACCESS_CSRF_COOKIE_NAME="ca",
        JWT_REFRESH_CSRF_COOKIE_NAME="cr",
    )
    bridge = client.application.extensions["migrator"].settings.bridge
    assert bridge.refresh_cookies == ("rt",)
    assert (bridge.mirrors, bridge.refresh_mirrors) == ({"csrf": "ca"}, {"csrf": "cr"})
    assert bridge.lifetime == timedelta(seconds=30)


def test_a_refusal_on_the_bridge_is_in_the_apps_words(opened: Open) -> None:
    client = opened("drain", more={"bridge": {}, "routes": {"refresh": ["/refresh"]}})

    @client.application.post("/refresh")
    @jwt_required(refresh=True)
    def refresh() -> Any:
        return {"access_token": create_access_token(get_jwt_identity())}

    with client.application.app_context():
        token = create_refresh_token("ada")
    answer = client.post("/refresh", headers=bearer(token))
    session = answer.get_json()["access_token"]
    assert client.get("/old", headers=bearer(session)).get_json() == {"principal": "ada"}
    with client.application.app_context():
        sessions.end(session)
    answer = client.post("/refresh", headers=bearer(token))
    assert (answer.status_code, answer.get_json()) == (401, {"msg": "Token has been revoked"})
