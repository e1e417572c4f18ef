"""The to-do list at each stage of its migration, and how one talks to it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from migrator import wiring
from tests.apps.fastapi_tutorial.app import Database
from tests.apps.fastapi_tutorial.deployment import STAGES, TodoList
from tests.conftest import CacheServer, DatabaseServer
from tests.rig import Rig


@pytest.fixture(scope="module")
def migrated_database(postgres: DatabaseServer, migrated_template: str) -> Iterator[str]:
    name = f"todo_{uuid.uuid4().hex}"
    yield postgres.create_database(name, migrated_template)
    postgres.drop_database(name)


@pytest.fixture(scope="module")
def installed(migrated_database: str, redis_server: CacheServer) -> TodoList:
    return TodoList(Rig(migrated_database), redis_server.url)


@pytest.fixture(scope="module", params=STAGES, ids=lambda stage: str(stage[0]))
def client(request: pytest.FixtureRequest, installed: TodoList) -> Iterator[TestClient]:
    _, phase, tables = request.param
    with TestClient(installed.app(phase, **tables)) as client:
        yield client
    wiring.stop()


@pytest.fixture
def database(installed: TodoList) -> Database:
    return installed.database


@pytest.fixture
def secret_key(installed: TodoList) -> str:
    return installed.secret_key
