"""The cookies of a browser whose app still sets and reads JWT cookies, behind the bridge."""

from __future__ import annotations

from collections.abc import Iterator

import jwt
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from shims.asgi import DualAcceptMiddleware
from tests.rig import ISSUER, SECRET, Rig, sign

HOST = "api.shop.example"


async def _login(request: Request) -> Response:
    response = Response()
    response.set_cookie("jwt", sign(request.query_params["user"]))
    return response


async def _logout(_: Request) -> Response:
    response = Response()
    response.delete_cookie("jwt")
    return response


async def _me(request: Request) -> Response:
    token = request.cookies.get("jwt")
    claims = jwt.decode(token, SECRET, algorithms=["HS256"]) if token else {}
    return JSONResponse({"user": claims.get("sub")})


@pytest.fixture
def rig(migrated: str) -> Rig:
    cookie = {"hint": "hint", "clear": [{"name": "jwt"}]}
    issuers = [{**ISSUER, "transport": [{"cookie": "jwt"}]}]
    rig = Rig(migrated, issuers=issuers, bridge={}, cookie=cookie)
    rig.move("swap")
    return rig


@pytest.fixture
def client(rig: Rig) -> Iterator[TestClient]:
    app = Starlette(
        routes=[
            Route("/login", _login, methods=["POST"]),
            Route("/logout", _logout, methods=["POST"]),
            Route("/me", _me),
        ]
    )
    app.add_middleware(DualAcceptMiddleware, rig.settings())
    with TestClient(app, base_url=f"http://{HOST}") as client:
        client.cookies.set("jwt", sign("ann"), domain=HOST)
        yield client


def jar(client: TestClient) -> dict[str, str]:
    return {cookie.name: str(cookie.value) for cookie in client.cookies.jar}


def user(client: TestClient) -> str | None:
    said: str | None = client.get("/me").json()["user"]
    return said


def test_who_logs_in_as_another_is_not_the_one_before(client: TestClient) -> None:
    assert [user(client), user(client)] == ["ann", "ann"]
    assert set(jar(client)) == {"jwt", "session", "hint"}
    client.post("/login?user=bob")
    assert user(client) == "bob"
    assert jar(client)["jwt"].startswith("sess_")


def test_logging_out_of_the_app_leaves_an_empty_jar(client: TestClient) -> None:
    assert [user(client), user(client)] == ["ann", "ann"]
    client.post("/logout")
    assert jar(client) == {}
    assert user(client) is None


def test_a_session_token_in_the_apps_own_cookie_is_no_leftover(
    client: TestClient, rig: Rig
) -> None:
    """An app that nobody changes keeps the name of its cookie, and so does its browser."""
    client.cookies.clear()
    client.post("/login?user=ann")
    rig.move("cutover")
    behind = "epoch IS DISTINCT FROM (SELECT epoch FROM migrator.rollout)"
    while rig.count("nodes", f"lease_until > now() AND {behind}"):
        assert user(client) == "ann"
    assert [user(client), user(client)] == ["ann", "ann"]
    assert set(jar(client)) == {"jwt"}
