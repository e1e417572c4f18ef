"""The desk under ASGI: the same views, the same middleware, the other colour."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.test import AsyncClient

from migrator import wiring
from tests.apps.django_simplejwt.clients import log_in, someone
from tests.apps.django_simplejwt.running import dropped_in, running, tables
from tests.conftest import CacheServer, DatabaseServer
from tests.rig import Rig

pytestmark = pytest.mark.xdist_group("desk")


@pytest.fixture
def desk(postgres: DatabaseServer, desk_template: str, redis_server: CacheServer) -> Iterator[str]:
    """The desk in swap, over the bridge; the URL of its database."""
    name = f"desk_{uuid.uuid4().hex}"
    url = postgres.create_database(name, desk_template)
    Rig(url).move("swap")
    with running(url, **dropped_in(SETTINGS=tables(redis_server), BRIDGE=True)):
        yield url
    wiring.stop()
    postgres.drop_database(name)


def test_a_whole_login_under_asgi(desk: str) -> None:
    user = someone()
    body = {"username": user.username, "password": f"{user.username}'s password"}

    @async_to_sync
    async def whole() -> None:
        client = AsyncClient()
        pair: Any = (await client.post("/api/token/", body)).json()
        assert pair["access"].startswith("sess_")
        bearer = {"Authorization": f"Bearer {pair['access']}"}
        said = (await client.get("/api/me/", headers=bearer)).json()
        assert said == {"username": user.username, "team": "south"}
        again = await client.post("/api/token/refresh/", {"refresh": pair["refresh"]})
        assert again.json()["refresh"] == pair["refresh"]
        out = {"refresh": pair["refresh"]}
        answer = await client.post("/api/token/blacklist/", out, headers=bearer)
        assert answer.status_code == 200
        assert (await client.get("/api/me/", headers=bearer)).status_code == 401

    whole()


def test_a_jwt_from_before_is_let_in_under_asgi(desk: str) -> None:
    user = someone()
    Rig(desk).move("observe")
    access = log_in(user)["access"]
    assert access.startswith("eyJ")

    @async_to_sync
    async def ask() -> int:
        bearer = {"Authorization": f"JWT {access}"}
        return int((await AsyncClient().get("/api/me/", headers=bearer)).status_code)

    assert ask() == 200
