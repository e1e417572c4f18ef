"""The notebook's own tests, tokens in headers: they know its routes, and nothing of us."""

from __future__ import annotations

import time

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.apps.flask_jwt_extended.clients import ask, log_in, made, said

pytestmark = pytest.mark.xdist_group("notebook in headers")
SOMEBODY_ELSES = "the secret of somebody else entirely"


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
    assert said(ask(client, made(app, secret=SOMEBODY_ELSES))) == (
        422,
        {"msg": "Signature verification failed"},
    )


def test_what_is_no_token_is_unprocessable(client: FlaskClient) -> None:
    assert said(ask(client, "nothing")) == (422, {"msg": "Not enough segments"})


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


def test_roles_decide_who_sees_the_users(client: FlaskClient) -> None:
    assert ask(client, log_in(client, "ann")["access_token"], "/users").get_json()[0] == "ann"
    answer = ask(client, log_in(client, "bob")["access_token"], "/users")
    assert said(answer) == (403, {"msg": "Admins only"})


def test_whoever_logged_out_is_told_so(client: FlaskClient) -> None:
    token, other = log_in(client)["access_token"], log_in(client)["access_token"]
    assert ask(client, token).status_code == 200
    answer = ask(client, token, "/logout", "DELETE")
    assert said(answer) == (200, {"msg": "Access token revoked"})
    for _ in range(2):
        assert said(ask(client, token)) == (401, {"msg": "Token has been revoked"})
    assert ask(client, other).status_code == 200


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
