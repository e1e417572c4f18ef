"""The shops, bare and with the migration dropped in, in every phase, behind one kind of client."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from fastapi.testclient import TestClient

from migrator import wiring
from migrator.control import schema
from tests.apps import fastapi_bare, fastapi_dropped_in, flask_bare, flask_dropped_in
from tests.apps.deployment import Deployment
from tests.conftest import CacheServer, DatabaseServer

# (name, phase, percent); without a phase the app is bare: nothing of ours is there.
STAGES: tuple[tuple[str, str | None, int], ...] = (
    ("bare", None, 0),
    ("observe", "observe", 0),
    ("swap 0", "swap", 0),
    ("swap 50", "swap", 50),
    ("swap 100", "swap", 100),
    ("drain", "drain", 100),
    ("cutover", "cutover", 100),
    ("retired", "retired", 100),
)
KINDS = ("fastapi", "fastapi without lifespan", "flask")


@dataclass(frozen=True)
class Answered:
    """What a shop answered."""

    status: int
    body: Any
    token: str | None


# (method, path, json, token presented)
Call = Callable[[str, str, Any, str | None], Answered]


@dataclass(frozen=True)
class Shop:
    """A running shop and how one talks to it."""

    call: Call

    def ask(
        self, method: str, path: str, *, json: Any = None, token: str | None = None
    ) -> Answered:
        """Send one request, the token as its bearer."""
        return self.call(method, path, json, token)

    def log_in(self, user: str = "ann") -> dict[str, str]:
        """Log in through the app's own route; what it answered."""
        answered = self.ask(
            "POST", "/login", json={"username": user, "password": f"{user}'s password"}
        )
        assert answered.status == 200
        pair: dict[str, str] = answered.body
        return pair


def reach(deployment: Deployment, phase: str, percent: int = 100) -> None:
    """Bring the rollout where a committed move would have left it; `retired` for good."""
    deployment.rig.move(phase, percent=percent)
    if phase == "retired":
        deployment.rig.execute("UPDATE migrator.rollout SET legacy_removed_at = now()")
        schema.contract(deployment.database)


def open_shop(kind: str, *, bare: bool, closing: ExitStack) -> Shop:
    """A new instance of the app, as a deploy would start it."""
    if kind == "flask":
        return Shop(_flask(bare=bare))
    client = TestClient((fastapi_bare if bare else fastapi_dropped_in).create_app())
    if kind == "fastapi":
        closing.enter_context(client)  # with lifespan, and one event loop for all requests
    return Shop(_fastapi(client))


def _fastapi(client: TestClient) -> Call:
    def call(method: str, path: str, json: Any, token: str | None) -> Answered:
        answer = client.request(method, path, json=json, headers=_bearer(token))
        body = answer.json() if answer.content else None
        return Answered(answer.status_code, body, answer.headers.get("session-token"))

    return call


def _flask(*, bare: bool) -> Call:
    client = (flask_bare if bare else flask_dropped_in).create_app().test_client()

    def call(method: str, path: str, json: Any, token: str | None) -> Answered:
        answer = client.open(path, method=method, json=json, headers=_bearer(token))
        return Answered(answer.status_code, answer.json, answer.headers.get("session-token"))

    return call


def _bearer(token: str | None) -> dict[str, str]:
    return {} if token is None else {"Authorization": f"Bearer {token}"}


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=STAGES, ids=lambda stage: str(stage[0]))
def shop(
    request: pytest.FixtureRequest,
    kind: str,
    postgres: DatabaseServer,
    migrated_template: str,
    redis_server: CacheServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Shop]:
    """The shop of one kind, at one stage of its migration."""
    _, phase, percent = request.param
    database = f"shop_{uuid.uuid4().hex}"
    deployment = Deployment(
        tmp_path_factory.mktemp("shop"),
        postgres.create_database(database, migrated_template),
        redis_server.url,
    )
    if phase is not None:
        reach(deployment, phase, percent)
    with pytest.MonkeyPatch.context() as patch, ExitStack() as closing:
        for variable, value in deployment.environ().items():
            patch.setenv(variable, value)
        yield open_shop(kind, bare=phase is None, closing=closing)
    wiring.stop()
    postgres.drop_database(database)
