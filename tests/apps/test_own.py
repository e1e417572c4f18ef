"""The shops' own tests: they know the routes of the app, and nothing of any migration."""

from __future__ import annotations

import time
import uuid

import jwt
import pytest

from tests.apps.conftest import Shop
from tests.apps.deployment import JWT_SECRET

pytestmark = pytest.mark.xdist_group("shops")  # each worker would open every shop


def minted(user: str, kind: str, *, secret: str = JWT_SECRET, lasts_s: int = 600) -> str:
    now = int(time.time())
    claims = {"sub": user, "sid": uuid.uuid4().hex, "token_type": kind, "iat": now - 3600}
    return jwt.encode({**claims, "exp": now + lasts_s}, secret, algorithm="HS256")


def test_front_page_is_public(shop: Shop) -> None:
    assert shop.ask("GET", "/").status == 200


@pytest.mark.parametrize("user", ["ann", "bob", "cem", "dia"])
def test_logging_in_lets_in_as_oneself(shop: Shop, user: str) -> None:
    pair = shop.log_in(user)
    assert pair.keys() == {"access", "refresh"}
    assert shop.ask("GET", "/me", token=pair["access"]).body == {"user": user}


@pytest.mark.parametrize(("user", "password"), [("ann", "bob's password"), ("eve", "anything")])
def test_wrong_password_is_refused(shop: Shop, user: str, password: str) -> None:
    body = {"username": user, "password": password}
    assert shop.ask("POST", "/login", json=body).status == 401


def test_strangers_are_asked_to_log_in(shop: Shop) -> None:
    assert shop.ask("GET", "/me").status == 401
    assert shop.ask("GET", "/items").status == 401
    assert shop.ask("POST", "/logout").status == 401


def test_refreshing_lets_in_as_before(shop: Shop) -> None:
    pair = shop.log_in("bob")
    for _ in range(3):
        answered = shop.ask("POST", "/refresh", json={"refresh": pair["refresh"]})
        assert answered.status == 200
        pair = answered.body
        assert shop.ask("GET", "/me", token=pair["access"]).body == {"user": "bob"}


def test_old_login_goes_on_beside_a_refreshed_one(shop: Shop) -> None:
    pair = shop.log_in()
    shop.ask("POST", "/refresh", json={"refresh": pair["refresh"]})
    assert shop.ask("GET", "/me", token=pair["access"]).status == 200


@pytest.mark.parametrize(
    "token",
    [
        "",
        "nothing",
        minted("ann", "refresh", secret="the secret of somebody else entirely"),
        minted("ann", "refresh", lasts_s=-120),
        minted("ann", "access"),
    ],
    ids=["empty", "garbage", "forged", "expired", "access token"],
)
def test_refresh_route_refuses(shop: Shop, token: str) -> None:
    assert shop.ask("POST", "/refresh", json={"refresh": token}).status == 401


@pytest.mark.parametrize(
    "token",
    [
        "nothing",
        minted("ann", "access", secret="the secret of somebody else entirely"),
        minted("ann", "access", lasts_s=-120),
        minted("ann", "refresh"),
    ],
    ids=["garbage", "forged", "expired", "refresh token"],
)
def test_bad_token_is_refused(shop: Shop, token: str) -> None:
    assert shop.ask("GET", "/me", token=token).status == 401


def test_expired_token_sent_along_does_not_hinder_login_and_refresh(shop: Shop) -> None:
    expired = minted("ann", "access", lasts_s=-120)
    body = {"username": "ann", "password": "ann's password"}
    pair = shop.ask("POST", "/login", json=body, token=expired)
    assert pair.status == 200
    again = shop.ask("POST", "/refresh", json={"refresh": pair.body["refresh"]}, token=expired)
    assert again.status == 200


def test_after_logout_nothing_of_that_login_is_accepted(shop: Shop) -> None:
    pair, other = shop.log_in(), shop.log_in()
    assert shop.ask("GET", "/me", token=pair["access"]).status == 200
    assert shop.ask("POST", "/logout", token=pair["access"]).status == 204
    assert shop.ask("GET", "/me", token=pair["access"]).status == 401
    assert shop.ask("POST", "/refresh", json={"refresh": pair["refresh"]}).status == 401
    assert shop.ask("POST", "/logout", token=pair["access"]).status == 401
    assert shop.ask("GET", "/me", token=other["access"]).status == 200
    assert shop.ask("POST", "/refresh", json={"refresh": other["refresh"]}).status == 200


def test_items_are_made_changed_and_deleted_by_their_owner(shop: Shop) -> None:
    ann, bob = shop.log_in("ann")["access"], shop.log_in("bob")["access"]
    made = shop.ask("POST", "/items", json={"name": "lamp"}, token=ann)
    assert made.status == 201
    path = f"/items/{made.body['id']}"
    assert shop.ask("GET", path, token=ann).body["name"] == "lamp"
    assert shop.ask("PUT", path, json={"name": "torch"}, token=ann).body["name"] == "torch"
    assert made.body["id"] in {item["id"] for item in shop.ask("GET", "/items", token=ann).body}
    assert shop.ask("GET", path, token=bob).status == 403
    assert shop.ask("DELETE", path, token=bob).status == 403
    assert shop.ask("GET", path).status == 401
    assert shop.ask("DELETE", path, token=ann).status == 204
    assert shop.ask("GET", path, token=ann).status == 404
