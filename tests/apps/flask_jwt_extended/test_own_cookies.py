"""The notebook's own tests, tokens in cookies: they know its routes, and nothing of us."""

from __future__ import annotations

import time
from collections.abc import Callable

import jwt
import pytest
from flask.testing import FlaskClient

from tests.apps.flask_jwt_extended.clients import change, said, sign_in, value

pytestmark = pytest.mark.xdist_group("notebook in cookies")
IN_COOKIES = True


def test_a_browser_is_let_in_by_its_cookies(browser: FlaskClient) -> None:
    sign_in(browser, "bob")
    for _ in range(3):
        answer = browser.get("/me")
        assert said(answer) == (200, {"id": "2", "name": "bob", "role": "writer"})


def test_two_browsers_are_two_people(
    browser: FlaskClient, notebook: Callable[[], FlaskClient]
) -> None:
    other = notebook()
    sign_in(browser, "ann")
    sign_in(other, "bob")
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
    sign_in(browser)
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


def test_refreshing_needs_its_own_double_submit(browser: FlaskClient) -> None:
    sign_in(browser, "bob")
    browser.get("/me")
    answer = change(browser, "/refresh", csrf=None)
    assert said(answer) == (401, {"msg": "Missing CSRF token"})
    csrf = value(browser, "csrf_refresh_token")
    assert said(change(browser, "/refresh", csrf=csrf)) == (200, {"msg": "refreshed"})
    assert browser.get("/me").get_json()["name"] == "bob"
    assert change(browser, "/notes", json={"text": "rice"}).status_code == 201


def test_a_forged_token_is_unprocessable(browser: FlaskClient) -> None:
    secret = "the secret of somebody else entirely"
    payload = {"sub": "1", "type": "access", "jti": "x", "exp": int(time.time()) + 600}
    browser.set_cookie("access_token_cookie", jwt.encode(payload, secret, algorithm="HS256"))
    assert said(browser.get("/me")) == (422, {"msg": "Signature verification failed"})


def test_after_logout_a_copy_of_the_cookie_is_worth_nothing(browser: FlaskClient) -> None:
    sign_in(browser)
    browser.get("/me")
    token = value(browser, "access_token_cookie")
    assert token is not None
    assert said(change(browser, "/logout")) == (200, {"msg": "logged out"})
    assert value(browser, "access_token_cookie") is None
    assert browser.get("/me").status_code == 401
    browser.set_cookie("access_token_cookie", token)
    assert said(browser.get("/me")) == (401, {"msg": "Token has been revoked"})


def test_the_next_user_of_a_browser_is_themself(browser: FlaskClient) -> None:
    sign_in(browser, "ann")
    assert browser.get("/me").get_json()["name"] == "ann"
    assert change(browser, "/logout").status_code == 200
    sign_in(browser, "bob")
    for _ in range(2):
        assert browser.get("/me").get_json()["name"] == "bob"
    assert change(browser, "/notes", json={"text": "bread"}).status_code == 201
