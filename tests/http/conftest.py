"""Servers that every test of the HTTP contract asks; they stand in `swap`, for everybody."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.apps.deployment import Deployment
from tests.conftest import CacheServer, DatabaseServer
from tests.http.servers import Server, serving

SERVERS = ("uvicorn h11", "uvicorn httptools", "gunicorn")


@contextmanager
def deployed(
    postgres: DatabaseServer,
    template: str,
    redis: CacheServer,
    factory: pytest.TempPathFactory,
    **tables: Any,
) -> Iterator[Deployment]:
    name = f"http_{uuid.uuid4().hex}"
    url = postgres.create_database(name, template)
    deployment = Deployment(factory.mktemp("http"), url, redis.url, tables)
    deployment.rig.move("swap")
    yield deployment
    postgres.drop_database(name)


@pytest.fixture(scope="session")
def deployment(
    postgres: DatabaseServer,
    migrated_template: str,
    redis_server: CacheServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Deployment]:
    with deployed(postgres, migrated_template, redis_server, tmp_path_factory) as made:
        yield made


@pytest.fixture(scope="session", params=SERVERS)
def server(request: pytest.FixtureRequest, deployment: Deployment) -> Iterator[Server]:
    with serving(request.param, deployment) as running:
        yield running


@pytest.fixture(scope="session", params=["uvicorn h11", "gunicorn"])
def strict(
    request: pytest.FixtureRequest,
    postgres: DatabaseServer,
    migrated_template: str,
    redis_server: CacheServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Server]:
    """A server that refuses whatever is nobody's (`http.foreign = "refuse"`)."""
    with (
        deployed(
            postgres,
            migrated_template,
            redis_server,
            tmp_path_factory,
            http={"foreign": "refuse"},
        ) as deployment,
        serving(request.param, deployment) as running,
    ):
        yield running
