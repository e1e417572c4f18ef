"""The desk at every stage of its migration; between them only its settings differ."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Literal

import pytest

from migrator import wiring
from migrator.control import schema
from tests.apps.django_simplejwt.running import Deploy, configure, dropped_in, running, tables
from tests.apps.django_simplejwt.running import desk_template as desk_template
from tests.conftest import CacheServer, DatabaseServer
from tests.rig import Rig

configure()


@dataclass(frozen=True)
class Stage:
    """Where the migration stands; without a phase nothing of ours is there.

    Args:
        clients: what they hold after a login at this stage.
        is_bridged: the desk's own views go on knowing nothing but JWTs.
        jwt: what of SIMPLE_JWT differs from the desk's usual.
    """

    name: str
    phase: str | None = None
    percent: int = 100
    clients: Literal["jwt", "session"] = "jwt"
    is_bridged: bool = False
    jwt: Mapping[str, object] = field(default_factory=dict)


CHECKED = {"CHECK_REVOKE_TOKEN": True}
STAGES = (
    Stage("bare"),
    Stage("observe", "observe"),
    Stage("swap", "swap"),
    Stage("bare, checking passwords", jwt=CHECKED),
    Stage("swap, checking passwords", "swap", jwt=CHECKED),
    Stage("bridge before anybody moves", "swap", 0, is_bridged=True),
    Stage("bridge on the way out", "observe", is_bridged=True),
    Stage("bridge", "drain", clients="session", is_bridged=True),
    Stage("bridge, checking passwords", "drain", 100, "session", is_bridged=True, jwt=CHECKED),
    Stage("cutover", "cutover", clients="session", is_bridged=True),
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each module at every stage; one that is about JWTs themselves, where clients hold them."""
    if "stage" in metafunc.fixturenames:
        holds_jwts = getattr(metafunc.module, "HOLDS_JWTS", False)
        stages = [each for each in STAGES if each.clients == "jwt" or not holds_jwts]
        names = [each.name for each in stages]
        metafunc.parametrize("stage", stages, ids=names, indirect=True, scope="module")


@pytest.fixture(scope="module")
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
    changes = {}
    if here.phase is not None:
        Rig(url).move(here.phase, percent=here.percent)
        changes = dropped_in(SETTINGS=tables(redis_server), BRIDGE=here.is_bridged)
    with pytest.MonkeyPatch.context() as patch:
        from rest_framework_simplejwt.settings import api_settings  # noqa: PLC0415 - after configure()

        for key, value in here.jwt.items():
            patch.setattr(api_settings, key, value, raising=False)
        with running(url, **changes):
            yield here
    wiring.stop()
    postgres.drop_database(name)


@pytest.fixture
def rig(postgres: DatabaseServer, desk_template: str) -> Iterator[Rig]:
    """A database for the desk and for us."""
    name = f"desk_{uuid.uuid4().hex}"
    yield Rig(postgres.create_database(name, desk_template))
    postgres.drop_database(name)


@pytest.fixture
def deploy(rig: Rig, redis_server: CacheServer) -> Iterator[Deploy]:
    """Starts the desk anew in a phase, over the bridge, or bare."""
    with ExitStack() as stack:

        def deployed(phase: str | None) -> None:
            stack.close()
            wiring.stop()
            if phase is not None:
                rig.move(phase)
            if phase == "retired":
                rig.execute("UPDATE migrator.rollout SET legacy_removed_at = now()")
                schema.contract(rig.url)
            often = {"every": "100ms"}
            ours = dropped_in(SETTINGS=tables(redis_server), BRIDGE=True, LEDGER=often)
            stack.enter_context(running(rig.url, **({} if phase is None else ours)))

        yield deployed
    wiring.stop()
