"""The five servers, each started when its first test asks."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import redis

from migrator.cli.demo.servers import embedded_redis
from tests.conftest import DatabaseServer
from tests.faults.proxy import Proxy
from tests.hostile.standing import SERVERS, House, Listener, Place, Wire, standing


@pytest.fixture(scope="session")
def listener() -> Iterator[Listener]:
    """Whom a reader that follows addresses in tokens would call."""
    listening = Listener()
    yield listening
    listening.close()


@pytest.fixture(scope="session", params=SERVERS)
def house(
    request: pytest.FixtureRequest,
    postgres: DatabaseServer,
    migrated_template: str,
    listener: Listener,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[House]:
    """A server in `swap`, for everybody, with a Redis whose commands nobody else gives."""
    name = f"corpus_{uuid.uuid4().hex}"
    url = postgres.create_database(name, migrated_template)
    at = urlsplit(url)
    database = Proxy(at.hostname or "127.0.0.1", at.port or 5432)
    with embedded_redis() as own:
        where = urlsplit(own.url)
        cache = Proxy(where.hostname or "127.0.0.1", where.port or 6379)
        place = Place(
            tmp_path_factory.mktemp("corpus"), database.url_of(url), cache.url_of(own.url)
        )
        place.rig.move("swap")
        with standing(request.param, place) as server, redis.Redis.from_url(own.url) as client:
            wire = Wire(server)
            number = SERVERS.index(request.param)
            yield House(server, wire, listener, database, cache, client, number)
            wire.close()
        cache.close()
    database.close()
    postgres.drop_database(name)
