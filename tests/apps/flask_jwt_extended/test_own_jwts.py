"""The notebook's own tests of its JWTs, in headers: what only who holds JWTs can tell."""

from __future__ import annotations

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_jwt_extended import create_access_token, create_refresh_token, decode_token

from tests.apps.flask_jwt_extended.clients import ask, log_in, said

pytestmark = pytest.mark.xdist_group("notebook in headers")
HOLDS_JWTS = True


def test_tokens_say_who_logged_in(client: FlaskClient, app: Flask) -> None:
    pair = log_in(client, "bob")
    with app.app_context():
        access = decode_token(pair["access_token"])
        refresh = decode_token(pair["refresh_token"])
    assert (access["sub"], access["type"], access["fresh"]) == ("2", "access", True)
    assert (access["role"], access["name"]) == ("writer", "bob")
    assert (refresh["sub"], refresh["type"]) == ("2", "refresh")


def test_a_refresh_token_is_no_access_token(client: FlaskClient) -> None:
    token = log_in(client)["refresh_token"]
    assert said(ask(client, token)) == (422, {"msg": "Only non-refresh tokens are allowed"})


def test_an_access_token_is_no_refresh_token(client: FlaskClient) -> None:
    answer = ask(client, log_in(client)["access_token"], "/refresh", "POST")
    assert said(answer) == (422, {"msg": "Only refresh tokens are allowed"})


def test_passwords_are_changed_with_a_fresh_token_only(client: FlaskClient) -> None:
    pair = log_in(client, "cem")
    refreshed = ask(client, pair["refresh_token"], "/refresh", "POST").get_json()["access_token"]
    body = {"password": "cem's password"}
    answer = ask(client, refreshed, "/password", "PUT", json=body)
    assert said(answer) == (401, {"msg": "Fresh token required"})
    assert ask(client, pair["access_token"], "/password", "PUT", json=body).status_code == 200


def test_a_revoked_access_token_is_told_so(client: FlaskClient) -> None:
    pair, other = log_in(client), log_in(client)
    assert ask(client, pair["access_token"]).status_code == 200
    answer = ask(client, pair["access_token"], "/logout", "DELETE")
    assert said(answer) == (200, {"msg": "Access token revoked"})
    for _ in range(2):
        assert said(ask(client, pair["access_token"])) == (401, {"msg": "Token has been revoked"})
    assert ask(client, pair["refresh_token"], "/refresh", "POST").status_code == 200
    assert ask(client, other["access_token"]).status_code == 200


def test_a_revoked_refresh_token_is_told_so(client: FlaskClient) -> None:
    token = log_in(client)["refresh_token"]
    answer = ask(client, token, "/logout", "DELETE")
    assert said(answer) == (200, {"msg": "Refresh token revoked"})
    answer = ask(client, token, "/refresh", "POST")
    assert said(answer) == (401, {"msg": "Token has been revoked"})


def test_tokens_made_outside_a_login_are_good_too(client: FlaskClient, app: Flask) -> None:
    user = {"id": 2, "name": "bob", "role": "writer"}
    with app.app_context():
        access, refresh = create_access_token(user), create_refresh_token(user)
    assert ask(client, access).get_json()["name"] == "bob"
    assert ask(client, refresh, "/refresh", "POST").status_code == 200
