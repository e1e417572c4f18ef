"""The notebook at each stage of its migration, and how one talks to it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from migrator import wiring
from tests.apps.flask_jwt_extended.deployment import COOKIES, STAGES, Notebook, Stage
from tests.apps.flask_jwt_extended.guest_book import guest_book
from tests.conftest import CacheServer, DatabaseServer
from tests.rig import Rig


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each module at every stage; one that is about JWTs themselves, where clients hold them."""
    if "stage" in metafunc.fixturenames:
        holds_jwts = getattr(metafunc.module, "HOLDS_JWTS", False)
        stages = [stage for stage in STAGES if stage.clients == "jwt" or not holds_jwts]
        names = [stage.name for stage in stages]
        metafunc.parametrize("stage", stages, ids=names, scope="module")


@pytest.fixture(scope="module")
def database_url(postgres: DatabaseServer, migrated_template: str) -> Iterator[str]:
    name = f"notebook_{uuid.uuid4().hex}"
    yield postgres.create_database(name, migrated_template)
    postgres.drop_database(name)


@pytest.fixture(scope="module")
def notebook(
    request: pytest.FixtureRequest,
    stage: Stage,
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
    tables: dict[str, Any] = {"bridge": {}} if stage.is_bridged else {}
    app = installed.app(stage.phase, stage.percent, **tables)
    yield lambda: app.test_client(use_cookies=in_cookies)
    wiring.stop()


@pytest.fixture
def client(notebook: Callable[[], FlaskClient]) -> FlaskClient:
    return notebook()


@pytest.fixture
def browser(notebook: Callable[[], FlaskClient]) -> FlaskClient:
    return notebook()


@pytest.fixture
def app(client: FlaskClient) -> Flask:
    return client.application


@pytest.fixture
def rig(migrated: str) -> Iterator[Rig]:
    yield Rig(migrated)
    wiring.stop()


@pytest.fixture
def opened(rig: Rig) -> Callable[..., FlaskClient]:
    """Opens a guest book configured as given, in `swap` or as told."""

    def open_(phase: str = "swap", **config: Any) -> FlaskClient:
        rig.move(phase)
        return guest_book(rig, **config).test_client(use_cookies=False)

    return open_
