"""What dropping in gives, with nothing said twice: the app's configuration says whose JWTs."""

# mypy: disable-error-code="untyped-decorator"
# jwt_required is annotated to return Any.

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
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
from flask import Flask, Response, jsonify
from flask.testing import FlaskClient
from flask_jwt_extended import (
    JWTManager,
    create_access_token,
    current_user,
    get_jwt,
    get_jwt_identity,
    jwt_required,
)

from migrator import wiring
from migrator.core.errors import BadSettings
from shims.flask import Migrator, current_principal, session_required, sessions
from tests.apps.flask_jwt_extended.deployment import COOKIES, Notebook
from tests.rig import SWAP_KEY, Rig

SECRET = "what the guest book signs with, and always has"
Open = Callable[..., FlaskClient]


@pytest.fixture
def rig(migrated: str) -> Iterator[Rig]:
    yield Rig(migrated)
    wiring.stop()


@pytest.fixture
def opened(rig: Rig) -> Open:
    """Opens a small app configured as given, with the migration in `swap` or as told."""

    def open_(phase: str = "swap", **config: Any) -> FlaskClient:
        rig.move(phase)
        return guest_book(rig, **config).test_client(use_cookies=False)

    return open_


def guest_book(rig: Rig, *, more: dict[str, Any] | None = None, **config: Any) -> Flask:
    """An app of a few views, one under each decorator; its session tokens come in a header."""
    app = Flask(__name__)
    app.config.update(JWT_SECRET_KEY=SECRET, JWT_COOKIE_CSRF_PROTECT=False)
    app.config.update(config)
    manager = JWTManager(app)
    app.config["MIGRATOR"] = {
        "environment": "test",
        "database": {"url": rig.url},
        "memory": {"poll_ms": 100},
        "swap": {"keys": [{"id": "k1", "secret": SWAP_KEY}]},
        "cookie": {"name": "__Host-sid", "secure": False},
        **(more or {}),
    }
    Migrator(app)

    @manager.user_lookup_loader
    def find(_header: Any, payload: dict[str, Any]) -> str | None:
        name = payload[app.config["JWT_IDENTITY_CLAIM"]]
        return None if name == "nobody" else f"user {name}"

    @app.after_request
    def allow(response: Response) -> Response:
        response.headers["Access-Control-Allow-Origin"] = "https://page.example"
        return response

    @app.route("/old", methods=["GET", "POST"])
    @jwt_required()
    def old() -> Any:
        return {"principal": current_principal.subject if current_principal else None}

    @app.route("/new", methods=["GET", "POST"])
    @session_required()
    def new() -> Any:
        return jsonify(id=get_jwt_identity(), user=str(current_user), type=get_jwt()["type"])

    @app.get("/front")
    @session_required(optional=True)
    def front() -> Any:
        return jsonify(id=get_jwt_identity())

    @app.get("/scoped")
    @session_required(scopes=["write"])
    def scoped() -> str:
        return "written"

    return app


def token_of(client: FlaskClient, subject: str = "ada", **claims: Any) -> str:
    with client.application.app_context():
        token: str = create_access_token(subject, additional_claims=claims)
    return token


def bearer(token: str, scheme: str = "Bearer") -> dict[str, str]:
    return {"Authorization": f"{scheme} {token}"}


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
}


@pytest.mark.parametrize(("config", "presented"), LOCATIONS.values(), ids=LOCATIONS)
def test_a_token_is_found_wherever_the_app_looks(
    opened: Open, config: dict[str, Any], presented: Callable[[str], dict[str, Any]]
) -> None:
    client = opened(**config)
    answer = client.get("/old", **presented(token_of(client)))
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


# Views under our decorator in place of the library's.


def test_the_librarys_accessors_answer_for_jwt_and_session_alike(opened: Open) -> None:
    client = opened()
    first = client.get("/new", headers=bearer(token_of(client)))
    second = client.get("/new", headers=bearer(first.headers["Session-Token"]))
    said = {"id": "ada", "user": "user ada", "type": "access"}
    assert first.get_json() == second.get_json() == said


def test_whoever_is_turned_away_hears_the_library(opened: Open) -> None:
    client = opened()
    assert client.get("/new").get_json() == {"msg": "Missing Authorization Header"}
    expired = token_of(client, exp=int(time.time()) - 120)
    answer = client.get("/new", headers=bearer(expired))
    assert (answer.status_code, answer.get_json()) == (401, {"msg": "Token has expired"})
    token = client.get("/old", headers=bearer(token_of(client, "ada"))).headers["Session-Token"]
    with client.application.app_context():
        sessions.end(token)
    answer = client.get("/new", headers=bearer(token))
    assert (answer.status_code, answer.get_json()) == (401, {"msg": "Token has been revoked"})
    assert client.get("/front").get_json() == {"id": None}


def test_a_session_of_a_user_that_the_app_forgot_is_refused(opened: Open) -> None:
    client = opened("drain")
    with client.application.app_context():
        token = sessions.login("nobody", legacy=lambda: "").token
    answer = client.get("/new", headers=bearer(str(token)))
    message = {"msg": "Error loading the user nobody"}
    assert (answer.status_code, answer.get_json()) == (401, message)


def test_scopes_are_asked_of_jwts_too(opened: Open) -> None:
    scoped = {"claims": {"subject": "sub", "scopes": "scope"}}
    issuers = [{"id": "a1", "preset": "flask-jwt-extended", **scoped}]
    client = opened(more={"issuers": issuers})
    assert client.get("/scoped", headers=bearer(token_of(client))).status_code == 403
    may = token_of(client, scope="read write")
    assert client.get("/scoped", headers=bearer(may)).text == "written"


# Refusals: the app's words, on every route, and its headers.


@pytest.fixture
def ended(opened: Open) -> tuple[FlaskClient, str, str]:
    """A client, a JWT and the session it became; the session was ended."""
    client = opened()
    token = token_of(client)
    session = client.get("/old", headers=bearer(token)).headers["Session-Token"]
    with client.application.app_context():
        assert sessions.end(session) == 1
    return client, token, session


def test_what_we_revoked_is_told_in_the_apps_words(ended: tuple[FlaskClient, str, str]) -> None:
    client, *tokens = ended
    for token in tokens:
        answer = client.get("/old", headers=bearer(token))
        assert (answer.status_code, answer.get_json()) == (401, {"msg": "Token has been revoked"})


def test_a_page_of_another_origin_can_read_a_refusal(ended: tuple[FlaskClient, str, str]) -> None:
    """The app's own after_request answers for CORS, and sees our refusals too."""
    client, token, _ = ended
    headers = client.get("/old", headers=bearer(token)).headers
    assert headers["Access-Control-Allow-Origin"] == "https://page.example"
    assert headers["Cache-Control"] == "no-store"


def test_loaders_of_the_app_word_the_refusal(ended: tuple[FlaskClient, str, str]) -> None:
    client, token, session = ended
    manager: JWTManager = client.application.extensions["flask-jwt-extended"]
    manager.revoked_token_loader(lambda _, payload: ({"gone": payload.get("sub")}, 418))
    answers = [client.get("/old", headers=bearer(each)) for each in (token, session)]
    assert [answer.status_code for answer in answers] == [418, 418]
    assert [answer.get_json() for answer in answers] == [{"gone": "ada"}, {"gone": None}]


def test_a_loader_that_fails_leaves_the_plain_refusal(
    ended: tuple[FlaskClient, str, str], caplog: pytest.LogCaptureFixture
) -> None:
    client, _, session = ended
    manager: JWTManager = client.application.extensions["flask-jwt-extended"]
    manager.revoked_token_loader(lambda _, payload: {"gone": payload["sub"]})
    answer = client.get("/old", headers=bearer(session))
    assert answer.status_code == 401
    assert answer.get_json() == {"error": "invalid_token", "reason": "revoked"}
    assert "refusal.unworded" in caplog.text
    assert session not in caplog.text


def test_settings_that_word_a_refusal_win(opened: Open) -> None:
    client = opened(more={"http": {"refusal": {"status": 403, "body": "no"}}})
    forged = jwt.encode({"sub": "ada"}, "somebody else's secret, long enough", algorithm="HS256")
    answer = client.get("/old", headers=bearer(forged))
    assert (answer.status_code, answer.text) == (403, "no")


@pytest.mark.parametrize("phase", ["cutover", "retired"])
def test_after_the_cutover_a_jwt_is_told_that_it_was_revoked(opened: Open, phase: str) -> None:
    client = opened(phase)
    answer = client.get("/old", headers=bearer(token_of(client)))
    assert (answer.status_code, answer.get_json()) == (401, {"msg": "Token has been revoked"})


# Cookies: the double submit stays the app's, ours guards the session cookie.


@pytest.fixture
def installed(rig: Rig, tmp_path: Path) -> Notebook:
    return Notebook(tmp_path, rig, config=COOKIES)


def test_a_jwt_cookie_of_another_site_is_refused_by_us_and_by_the_app(
    installed: Notebook,
) -> None:
    browser = installed.app("swap").test_client()
    browser.post("/login", json={"name": "ann", "password": "ann's password"})
    csrf = browser.get_cookie("csrf_access_token")
    assert csrf is not None
    note: dict[str, Any] = {"json": {"text": "milk"}}
    own = {"Sec-Fetch-Site": "same-origin"}
    assert browser.post("/notes", headers=own, **note).status_code == 401
    submitted = own | {"X-CSRF-TOKEN": csrf.value}
    assert browser.post("/notes", headers=submitted, **note).status_code == 201
    crossing = {"Sec-Fetch-Site": "cross-site", "X-CSRF-TOKEN": csrf.value}
    answer = browser.post("/notes", headers=crossing, **note)
    assert (answer.status_code, answer.get_json()) == (403, {"error": "csrf"})


def test_an_allowed_origin_keeps_its_double_submit(installed: Notebook) -> None:
    page = "https://page.example"
    app = installed.app("swap", http={"allowed_origins": [page]})
    browser = app.test_client()
    browser.post("/login", json={"name": "ann", "password": "ann's password"})
    csrf = browser.get_cookie("csrf_access_token")
    assert csrf is not None
    crossing = {"Sec-Fetch-Site": "cross-site", "Origin": page}
    note: dict[str, Any] = {"json": {"text": "milk"}}
    assert browser.post("/notes", headers=crossing, **note).status_code == 401
    submitted = crossing | {"X-CSRF-TOKEN": csrf.value}
    assert browser.post("/notes", headers=submitted, **note).status_code == 201
