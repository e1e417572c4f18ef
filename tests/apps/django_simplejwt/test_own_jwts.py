"""The desk's own tests of its JWTs themselves, where its clients hold them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken

from tests.apps.django_simplejwt.clients import as_, log_in, refreshed, someone

pytestmark = [pytest.mark.usefixtures("stage"), pytest.mark.xdist_group("desk")]

HOLDS_JWTS = True
INVALID: dict[str, Any] = {
    "detail": "Given token not valid for any token type",
    "code": "token_not_valid",
    "messages": [
        {"token_class": "AccessToken", "token_type": "access", "message": "Token is invalid"}
    ],
}


def test_forged_token_is_told_as_invalid() -> None:
    head, payload, signature = log_in(someone())["access"].split(".")
    answer = as_(f"{head}.{payload}.{signature[::-1]}").get("/api/me/")
    assert (answer.status_code, answer.json()) == (401, INVALID)


def test_expired_token_is_told_as_expired() -> None:
    token = AccessToken.for_user(someone())
    token.set_exp(lifetime=-timedelta(minutes=5))
    answer = as_(token).get("/api/me/")
    assert answer.status_code == 401
    assert answer.json()["code"] == "token_not_valid"
    assert answer.json()["messages"][0]["message"] == "Token is expired"


def test_refresh_token_is_no_access_token() -> None:
    answer = as_(log_in(someone())["refresh"]).get("/api/me/")
    tried = {**INVALID["messages"][0], "message": "Token has wrong type"}
    assert (answer.status_code, answer.json()) == (401, {**INVALID, "messages": [tried]})


@pytest.mark.parametrize(
    ("token", "detail"),
    [("nothing", "Token is invalid"), (None, "Token has wrong type")],
    ids=["garbage", "access token"],
)
def test_refresh_route_refuses(token: str | None, detail: str) -> None:
    answer = refreshed(token or AccessToken.for_user(someone()))
    assert answer.status_code == 401
    assert answer.json() == {"detail": detail, "code": "token_not_valid"}


def test_expired_refresh_token_is_told() -> None:
    token = RefreshToken.for_user(someone())
    token.set_exp(lifetime=-timedelta(minutes=5))
    answer = refreshed(token)
    assert answer.status_code == 401
    assert answer.json() == {"detail": "Token is expired", "code": "token_not_valid"}
