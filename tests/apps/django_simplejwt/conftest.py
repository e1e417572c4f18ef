"""The desk at every stage of its migration; between them only its settings differ."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import pytest

from migrator import wiring
from tests.apps.django_simplejwt.running import configure, dropped_in, make_tables, running
from tests.conftest import CacheServer, DatabaseServer
from tests.rig import Rig

configure()


@dataclass(frozen=True)
class Stage:
    """Where the migration stands; without a phase nothing of ours is there.

    `jwt` is what of SIMPLE_JWT differs from the desk's usual.
    """

    name: str
    phase: str | None = None
    jwt: Mapping[str, object] = field(default_factory=dict)


CHECKED = {"CHECK_REVOKE_TOKEN": True}
STAGES = (
    Stage("bare"),
    Stage("observe", "observe"),
    Stage("swap", "swap"),
    Stage("bare, checking passwords", jwt=CHECKED),
    Stage("swap, checking passwords", "swap", CHECKED),
)


@pytest.fixture(scope="session")
def desk_template(postgres: DatabaseServer, migrated_template: str) -> Iterator[str]:
    """The name of a database with the desk's tables and ours."""
    name = f"desk_{uuid.uuid4().hex}"
    with running(postgres.create_database(name, migrated_template)):
        make_tables()
    yield name
    postgres.drop_database(name)


@pytest.fixture(scope="module", params=STAGES, ids=lambda stage: str(stage.name))
def stage(
    request: pytest.FixtureRequest,
    postgres: DatabaseServer,
    desk_template: str,
    redis_server: CacheServer,
) -> Iterator[Stage]:
    """The desk, running at one stage, over a database of its own."""
    here: Stage = request.param
    name = f"desk_{uuid.uuid4().hex}"
    url = postgres.create_database(name, desk_template)
    changes = {} if here.phase is None else dropped_in(SETTINGS=_tables(redis_server))
    if here.phase is not None:
        Rig(url).move(here.phase)
    with pytest.MonkeyPatch.context() as patch:
        from rest_framework_simplejwt.settings import api_settings  # noqa: PLC0415 - after configure()

        for key, value in here.jwt.items():
            patch.setattr(api_settings, key, value, raising=False)
        with running(url, **changes):
            yield here
    wiring.stop()
    postgres.drop_database(name)


def _tables(redis: CacheServer) -> dict[str, object]:
    """All that the desk's operator writes; the rest follows from the desk's own settings."""
    return {
        "environment": "test",
        "app": "desk",
        "expected_nodes": 1,
        "redis": {"url": redis.url},
        "memory": {"poll_ms": 100},
        "swap": {"keys": [{"id": "k1", "secret": secrets.token_urlsafe(32)}]},
        "routes": {
            "login": ["/api/token/"],
            "refresh": ["/api/token/refresh/"],
            "logout": ["/api/token/blacklist/"],
        },
    }
