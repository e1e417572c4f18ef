"""Views under our decorator, and refusals: what clients hear is what the app always said."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from flask.testing import FlaskClient
from flask_jwt_extended import JWTManager

from shims.flask import sessions
from tests.apps.flask_jwt_extended.deployment import COOKIES, Notebook
from tests.apps.flask_jwt_extended.guest_book import bearer, token_of
from tests.rig import Rig

Open = Callable[..., FlaskClient]

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
