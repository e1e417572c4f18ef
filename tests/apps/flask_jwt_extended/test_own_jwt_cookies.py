"""The notebook's own tests of its JWTs, in cookies: what only who holds JWTs can tell."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from tests.apps.flask_jwt_extended.clients import age, change, said, sign_in, value

pytestmark = pytest.mark.xdist_group("notebook in cookies")
IN_COOKIES = HOLDS_JWTS = True


def test_refreshing_needs_the_refresh_tokens_double_submit(browser: FlaskClient) -> None:
    sign_in(browser)
    browser.get("/me")
    assert change(browser, "/refresh").status_code == 401
    csrf = value(browser, "csrf_refresh_token")
    before = value(browser, "access_token_cookie")
    assert said(change(browser, "/refresh", csrf=csrf)) == (200, {"msg": "refreshed"})
    assert value(browser, "access_token_cookie") != before
    assert browser.get("/me").get_json()["name"] == "ann"


def test_a_refreshed_token_is_not_fresh(browser: FlaskClient) -> None:
    sign_in(browser, "cem")
    body = {"password": "cem's password"}
    assert change(browser, "/password", "PUT", json=body).status_code == 200
    change(browser, "/refresh", csrf=value(browser, "csrf_refresh_token"))
    answer = change(browser, "/password", "PUT", json=body)
    assert said(answer) == (401, {"msg": "Fresh token required"})


def test_a_token_that_is_nearly_over_is_renewed_on_the_way_out(browser: FlaskClient) -> None:
    sign_in(browser)
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
    sign_in(browser, "bob")
    age(browser, left_s=-120)
    expired = {"msg": "Token has expired", "code": "token_expired", "type": "access"}
    assert said(browser.get("/me")) == (401, expired)
    csrf = value(browser, "csrf_refresh_token")
    assert change(browser, "/refresh", csrf=csrf).status_code == 200
    assert browser.get("/me").get_json()["name"] == "bob"
