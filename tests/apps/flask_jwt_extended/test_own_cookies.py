"""The notebook's own tests, tokens in cookies: they know its routes, and nothing of us."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

pytestmark = pytest.mark.xdist_group("notebook in cookies")
IN_COOKIES = True


@pytest.fixture
def browser(notebook: Callable[[], FlaskClient]) -> FlaskClient:
    return notebook()


def log_in(browser: FlaskClient, name: str = "ann") -> None:
    answer = browser.post("/login", json={"name": name, "password": f"{name}'s password"})
    assert said(answer) == (200, {"msg": "logged in"})


def value(browser: FlaskClient, name: str) -> str | None:
    cookie = browser.get_cookie(name)
    return None if cookie is None else cookie.value


def change(
    browser: FlaskClient, path: str, method: str = "POST", *, csrf: str | None = "", **more: Any
) -> TestResponse:
    """An unsafe request; with the double submit of its access token unless told otherwise."""
    token = value(browser, "csrf_access_token") if csrf == "" else csrf
    headers = {} if token is None else {"X-CSRF-TOKEN": token}
    return browser.open(path, method=method, headers=headers, **more)


def said(answer: TestResponse) -> tuple[int, Any]:
    return answer.status_code, answer.json


def age(browser: FlaskClient, *, left_s: int) -> str:
    """The browser's access token as it is when `left_s` seconds of it are left."""
    token = value(browser, "access_token_cookie")
    assert token is not None
    payload = jwt.decode(token, options={"verify_signature": False})
    secret = browser.application.config["JWT_SECRET_KEY"]
    aged = {**payload, "exp": int(time.time()) + left_s, "iat": payload["iat"] - 3000}
    older = jwt.encode(aged, secret, algorithm="HS256")
    browser.set_cookie("access_token_cookie", older)
    return older


def test_a_browser_is_let_in_by_its_cookies(browser: FlaskClient) -> None:
    log_in(browser, "bob")
    for _ in range(3):
        answer = browser.get("/me")
        assert said(answer) == (200, {"id": "2", "name": "bob", "role": "writer"})


def test_two_browsers_are_two_people(
    browser: FlaskClient, notebook: Callable[[], FlaskClient]
) -> None:
    other = notebook()
    log_in(browser, "ann")
    log_in(other, "bob")
    assert [browser.get("/me").get_json()["name"], other.get("/me").get_json()["name"]] == [
        "ann",
        "bob",
    ]


def test_strangers_are_told_which_cookie_is_missing(browser: FlaskClient) -> None:
    assert said(browser.get("/me")) == (401, {"msg": 'Missing cookie "access_token_cookie"'})
    answer = browser.post("/refresh")
    assert said(answer) == (401, {"msg": 'Missing cookie "refresh_token_cookie"'})
    assert browser.get("/").json == {"hello": "stranger"}


def test_what_changes_something_needs_the_double_submit(browser: FlaskClient) -> None:
    log_in(browser)
    browser.get("/me")
    answer = change(browser, "/notes", csrf=None, json={"text": "milk"})
    assert said(answer) == (401, {"msg": "Missing CSRF token"})
    answer = change(browser, "/notes", csrf="guessed", json={"text": "milk"})
    assert said(answer) == (401, {"msg": "CSRF double submit tokens do not match"})
    refresh_csrf = value(browser, "csrf_refresh_token")
    answer = change(browser, "/notes", csrf=refresh_csrf, json={"text": "milk"})
    assert answer.status_code == 401
    assert browser.get("/notes").json == []
    assert change(browser, "/notes", json={"text": "milk"}).status_code == 201
    notes = browser.get("/notes").get_json()
    assert [note["text"] for note in notes] == ["milk"]
    assert change(browser, f"/notes/{notes[0]['id']}", "DELETE").status_code == 204


def test_refreshing_needs_the_refresh_tokens_double_submit(browser: FlaskClient) -> None:
    log_in(browser)
    browser.get("/me")
    assert change(browser, "/refresh").status_code == 401
    csrf = value(browser, "csrf_refresh_token")
    before = value(browser, "access_token_cookie")
    assert said(change(browser, "/refresh", csrf=csrf)) == (200, {"msg": "refreshed"})
    assert value(browser, "access_token_cookie") != before
    assert browser.get("/me").get_json()["name"] == "ann"


def test_a_refreshed_token_is_not_fresh(browser: FlaskClient) -> None:
    log_in(browser, "cem")
    body = {"password": "cem's password"}
    assert change(browser, "/password", "PUT", json=body).status_code == 200
    change(browser, "/refresh", csrf=value(browser, "csrf_refresh_token"))
    answer = change(browser, "/password", "PUT", json=body)
    assert said(answer) == (401, {"msg": "Fresh token required"})


def test_a_token_that_is_nearly_over_is_renewed_on_the_way_out(browser: FlaskClient) -> None:
    log_in(browser)
    before = value(browser, "access_token_cookie")
    browser.get("/me")
    assert value(browser, "access_token_cookie") == before
    old = age(browser, left_s=1200)
    answer = browser.get("/me")
    assert answer.status_code == 200
    renewed = value(browser, "access_token_cookie")
    assert renewed not in {before, old}
    assert browser.get("/me").get_json()["name"] == "ann"
    assert value(browser, "access_token_cookie") == renewed
    assert change(browser, "/notes", json={"text": "tea"}).status_code == 201


def test_an_expired_token_is_told_so_and_refreshed(browser: FlaskClient) -> None:
    log_in(browser, "bob")
    age(browser, left_s=-120)
    expired = {"msg": "Token has expired", "code": "token_expired", "type": "access"}
    assert said(browser.get("/me")) == (401, expired)
    csrf = value(browser, "csrf_refresh_token")
    assert change(browser, "/refresh", csrf=csrf).status_code == 200
    assert browser.get("/me").get_json()["name"] == "bob"


def test_a_forged_token_is_unprocessable(browser: FlaskClient) -> None:
    secret = "the secret of somebody else entirely"
    payload = {"sub": "1", "type": "access", "jti": "x", "exp": int(time.time()) + 600}
    browser.set_cookie("access_token_cookie", jwt.encode(payload, secret, algorithm="HS256"))
    assert said(browser.get("/me")) == (422, {"msg": "Signature verification failed"})


def test_after_logout_a_copy_of_the_cookie_is_worth_nothing(browser: FlaskClient) -> None:
    log_in(browser)
    browser.get("/me")
    token = value(browser, "access_token_cookie")
    assert token is not None
    assert said(change(browser, "/logout")) == (200, {"msg": "logged out"})
    assert value(browser, "access_token_cookie") is None
    assert browser.get("/me").status_code == 401
    browser.set_cookie("access_token_cookie", token)
    assert said(browser.get("/me")) == (401, {"msg": "Token has been revoked"})


def test_the_next_user_of_a_browser_is_themself(browser: FlaskClient) -> None:
    log_in(browser, "ann")
    assert browser.get("/me").get_json()["name"] == "ann"
    assert change(browser, "/logout").status_code == 200
    log_in(browser, "bob")
    for _ in range(2):
        assert browser.get("/me").get_json()["name"] == "bob"
    assert change(browser, "/notes", json={"text": "bread"}).status_code == 201
