"""One `migrator serve` that all tests of its endpoints ask; it stands in `swap`, for everybody."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.apps.deployment import Deployment
from tests.conftest import CacheServer, DatabaseServer
from tests.serve.served import CLIENT, ORIGIN, Serve, serving

TABLES: dict[str, dict[str, Any]] = {
    "serve": {"clients": [{"id": CLIENT, "secret": "env:SERVE_CLIENT_SECRET"}]},
    "http": {"allowed_origins": [ORIGIN]},
    "routes": {
        "login": ["/login"],
        "refresh": ["/refresh"],
        "logout": ["/logout"],
        "public": ["/public/**"],
    },
}


@contextmanager
def deployed(
    postgres: DatabaseServer,
    template: str,
    redis: CacheServer,
    factory: pytest.TempPathFactory,
    **tables: Any,
) -> Iterator[Deployment]:
    name = f"serve_{uuid.uuid4().hex}"
    url = postgres.create_database(name, template)
    deployment = Deployment(factory.mktemp("serve"), url, redis.url, {**TABLES, **tables})
    deployment.rig.move("swap")
    yield deployment
    postgres.drop_database(name)


@pytest.fixture(scope="session")
def serve(
    postgres: DatabaseServer,
    migrated_template: str,
    redis_server: CacheServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Serve]:
    made = deployed(postgres, migrated_template, redis_server, tmp_path_factory)
    with made as deployment, serving(deployment) as running:
        yield running


@pytest.fixture
def moved(
    postgres: DatabaseServer,
    migrated_template: str,
    redis_server: CacheServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Serve]:
    """One of its own, whose phase a test may change."""
    made = deployed(postgres, migrated_template, redis_server, tmp_path_factory)
    with made as deployment, serving(deployment) as running:
        yield running
