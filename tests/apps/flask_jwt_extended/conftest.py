"""The notebook at each stage of its migration, and how one talks to it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from migrator import wiring
from tests.apps.flask_jwt_extended.deployment import COOKIES, STAGES, Notebook
from tests.conftest import CacheServer, DatabaseServer
from tests.rig import Rig

Opens = Callable[[dict[str, Any]], Iterator[Notebook]]


@pytest.fixture(scope="module", params=STAGES, ids=lambda stage: str(stage[0]))
def stage(request: pytest.FixtureRequest) -> tuple[str, str | None, int]:
    found: tuple[str, str | None, int] = request.param
    return found


@pytest.fixture(scope="module")
def database_url(postgres: DatabaseServer, migrated_template: str) -> Iterator[str]:
    name = f"notebook_{uuid.uuid4().hex}"
    yield postgres.create_database(name, migrated_template)
    postgres.drop_database(name)


@pytest.fixture(scope="module")
def notebook(
    request: pytest.FixtureRequest,
    stage: tuple[str, str | None, int],
    database_url: str,
    redis_server: CacheServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[], FlaskClient]]:
    """Opens browsers and programs that talk to the notebook; the module says where tokens are."""
    in_cookies = getattr(request.module, "IN_COOKIES", False)
    installed = Notebook(
        tmp_path_factory.mktemp("notebook"),
        Rig(database_url),
        redis_server.url,
        COOKIES if in_cookies else {},
    )
    _, phase, percent = stage
    app = installed.app(phase, percent)
    yield lambda: app.test_client(use_cookies=in_cookies)
    wiring.stop()
