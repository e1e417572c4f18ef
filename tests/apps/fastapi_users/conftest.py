"""The diary at each stage of its migration, and how one talks to it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import pytest
from fastapi.testclient import TestClient

from migrator import wiring
from tests.apps.fastapi_users.app import Settings
from tests.apps.fastapi_users.deployment import STAGES, Diary
from tests.conftest import CacheServer, DatabaseServer
from tests.rig import Rig


@pytest.fixture(scope="module")
def migrated_database(postgres: DatabaseServer, migrated_template: str) -> Iterator[str]:
    name = f"diary_{uuid.uuid4().hex}"
    yield postgres.create_database(name, migrated_template)
    postgres.drop_database(name)


@pytest.fixture(scope="module")
def installed(
    migrated_database: str, redis_server: CacheServer, tmp_path_factory: pytest.TempPathFactory
) -> Diary:
    return Diary(tmp_path_factory.mktemp("diary"), Rig(migrated_database), redis_server.url)


@pytest.fixture(scope="module", params=STAGES, ids=lambda stage: str(stage[0]))
def client(request: pytest.FixtureRequest, installed: Diary) -> Iterator[TestClient]:
    _, phase, tables = request.param
    # Its cookie is Secure, as the library has it.
    with TestClient(installed.app(phase, **tables), base_url="https://testserver") as client:
        yield client
    wiring.stop()


@pytest.fixture
def settings(installed: Diary) -> Settings:
    return installed.own


@pytest.fixture
def block(installed: Diary) -> Callable[[str], None]:
    return installed.block
