"""The notebook's own tests, tokens in headers: they know its routes, and nothing of us."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_jwt_extended import create_access_token, create_refresh_token, decode_token
from werkzeug.test import TestResponse

pytestmark = pytest.mark.xdist_group("notebook in headers")


@pytest.fixture
def client(notebook: Callable[[], FlaskClient]) -> FlaskClient:
    return notebook()


@pytest.fixture
def app(client: FlaskClient) -> Flask:
    return client.application


def log_in(client: FlaskClient, name: str = "ann") -> dict[str, str]:
    answer = client.post("/login", json={"name": name, "password": f"{name}'s password"})
    assert answer.status_code == 200
    pair: dict[str, str] = answer.get_json()
    assert pair.keys() == {"access_token", "refresh_token"}
    return pair


def ask(
    client: FlaskClient, token: str, path: str = "/me", method: str = "GET", **more: Any
) -> TestResponse:
    return client.open(path, method=method, headers={"Authorization": f"Bearer {token}"}, **more)


def forged(app: Flask, **claims: Any) -> str:
    """A token like the app's own, changed, and signed by somebody else."""
    now = int(time.time())
    payload = {"sub": "1", "type": "access", "fresh": True, "jti": "x", "iat": now, "nbf": now}
    secret = "the secret of somebody else entirely"
    return jwt.encode({**payload, "exp": now + 600, **claims}, secret, algorithm="HS256")


def made(app: Flask, **claims: Any) -> str:
    """A token that the app itself could have signed."""
    now = int(time.time())
    payload = {"sub": "1", "type": "access", "fresh": True, "jti": "x", "iat": now - 3600}
    secret = app.config["JWT_SECRET_KEY"]
    return jwt.encode({**payload, "exp": now + 600, **claims}, secret, algorithm="HS256")


def said(answer: TestResponse) -> tuple[int, Any]:
    return answer.status_code, answer.json


@pytest.mark.parametrize(("name", "id_", "role"), [("ann", "1", "admin"), ("bob", "2", "writer")])
def test_logging_in_lets_in_as_oneself(
    client: FlaskClient, name: str, id_: str, role: str
) -> None:
    token = log_in(client, name)["access_token"]
    for _ in range(3):
        assert said(ask(client, token)) == (200, {"id": id_, "name": name, "role": role})


def test_wrong_password_is_refused(client: FlaskClient) -> None:
    answer = client.post("/login", json={"name": "ann", "password": "bob's password"})
    assert said(answer) == (401, {"msg": "Bad name or password"})


def test_tokens_say_who_logged_in(client: FlaskClient, app: Flask) -> None:
    pair = log_in(client, "bob")
    with app.app_context():
        access = decode_token(pair["access_token"])
        refresh = decode_token(pair["refresh_token"])
    assert (access["sub"], access["type"], access["fresh"]) == ("2", "access", True)
    assert (access["role"], access["name"]) == ("writer", "bob")
    assert (refresh["sub"], refresh["type"]) == ("2", "refresh")


def test_strangers_are_told_what_is_missing(client: FlaskClient) -> None:
    missing = {"msg": "Missing Authorization Header"}
    assert said(client.get("/me")) == (401, missing)
    assert said(client.post("/refresh")) == (401, missing)
    assert said(client.delete("/logout")) == (401, missing)


def test_another_scheme_is_told_which_is_expected(client: FlaskClient) -> None:
    answer = client.get("/me", headers={"Authorization": "Basic YW5uOmFubg=="})
    msg = "Missing 'Bearer' type in 'Authorization' header. Expected 'Authorization: Bearer <JWT>'"
    assert said(answer) == (401, {"msg": msg})


def test_strangers_and_users_are_greeted(client: FlaskClient) -> None:
    assert client.get("/").json == {"hello": "stranger"}
    assert ask(client, log_in(client)["access_token"], "/").json == {"hello": "ann"}


def test_an_expired_token_is_told_so_with_its_code(client: FlaskClient, app: Flask) -> None:
    token = made(app, exp=int(time.time()) - 120)
    expired = {"msg": "Token has expired", "code": "token_expired", "type": "access"}
    assert said(ask(client, token)) == (401, expired)


def test_an_expired_refresh_token_is_told_so(client: FlaskClient, app: Flask) -> None:
    token = made(app, type="refresh", exp=int(time.time()) - 120)
    expired = {"msg": "Token has expired", "code": "token_expired", "type": "refresh"}
    assert said(ask(client, token, "/refresh", "POST")) == (401, expired)


def test_a_forged_token_is_unprocessable(client: FlaskClient, app: Flask) -> None:
    assert said(ask(client, forged(app))) == (422, {"msg": "Signature verification failed"})


def test_what_is_no_token_is_unprocessable(client: FlaskClient) -> None:
    assert said(ask(client, "nothing")) == (422, {"msg": "Not enough segments"})


def test_a_refresh_token_is_no_access_token(client: FlaskClient) -> None:
    token = log_in(client)["refresh_token"]
    assert said(ask(client, token)) == (422, {"msg": "Only non-refresh tokens are allowed"})


def test_an_access_token_is_no_refresh_token(client: FlaskClient) -> None:
    answer = ask(client, log_in(client)["access_token"], "/refresh", "POST")
    assert said(answer) == (422, {"msg": "Only refresh tokens are allowed"})


def test_a_token_of_nobody_known_is_refused(client: FlaskClient, app: Flask) -> None:
    answer = ask(client, made(app, sub="77", role="writer"))
    assert said(answer) == (401, {"msg": "Error loading the user 77"})


def test_refreshing_lets_in_as_before(client: FlaskClient) -> None:
    pair = log_in(client, "bob")
    for _ in range(3):
        answer = ask(client, pair["refresh_token"], "/refresh", "POST")
        assert answer.status_code == 200
        assert answer.get_json().keys() == {"access_token"}
        assert ask(client, answer.get_json()["access_token"]).get_json()["name"] == "bob"
    assert ask(client, pair["access_token"]).status_code == 200


def test_passwords_are_changed_with_a_fresh_token_only(client: FlaskClient) -> None:
    pair = log_in(client, "cem")
    refreshed = ask(client, pair["refresh_token"], "/refresh", "POST").get_json()["access_token"]
    body = {"password": "cem's password"}
    answer = ask(client, refreshed, "/password", "PUT", json=body)
    assert said(answer) == (401, {"msg": "Fresh token required"})
    assert ask(client, pair["access_token"], "/password", "PUT", json=body).status_code == 200


def test_roles_decide_who_sees_the_users(client: FlaskClient) -> None:
    assert ask(client, log_in(client, "ann")["access_token"], "/users").get_json()[0] == "ann"
    answer = ask(client, log_in(client, "bob")["access_token"], "/users")
    assert said(answer) == (403, {"msg": "Admins only"})


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


def test_notes_are_written_and_forgotten_by_their_owner(client: FlaskClient) -> None:
    ann, bob = log_in(client, "ann")["access_token"], log_in(client, "bob")["access_token"]
    made_ = ask(client, ann, "/notes", "POST", json={"text": "milk"})
    assert made_.status_code == 201
    path = f"/notes/{made_.get_json()['id']}"
    assert "milk" in {note["text"] for note in ask(client, ann, "/notes").get_json()}
    assert said(ask(client, bob, path, "DELETE")) == (404, {"msg": "No such note"})
    assert client.delete(path).status_code == 401
    assert ask(client, ann, path, "DELETE").status_code == 204
    assert ask(client, ann, path, "DELETE").status_code == 404
