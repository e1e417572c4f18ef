"""Redis and Postgres die under real servers, and come back: an outage is not a logout (P4)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pytest

from migrator import wiring
from migrator.cli.demo.servers import Postgres, Redis, embedded_postgres, embedded_redis
from migrator.control import schema
from migrator.settings import Settings
from tests.apps.deployment import Deployment, sign
from tests.http.servers import Answer, Server, bearer, serving

pytestmark = pytest.mark.xdist_group("outages")

BACK_S = 10.0
TRUSTED_S = 1.0  # no longer than this does memory answer alone (design section 8)
WORKERS = {"uvicorn h11": 1, "gunicorn": 2}


@dataclass(frozen=True)
class House:
    """A shop with a Postgres and a Redis that may be hurt."""

    postgres: Postgres
    redis: Redis
    server: Server

    def me(self, token: str) -> Answer:
        return self.server.get("/seen", bearer(token))

    def everywhere(self, token: str, *, times: int = 12) -> list[Answer]:
        """Ask so often that every process of the server has answered."""
        return [self.me(token) for _ in range(times)]


@pytest.fixture(scope="module", params=["uvicorn h11", "gunicorn"])
def house(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    with embedded_postgres() as postgres, embedded_redis() as redis:
        schema.upgrade(postgres.url)
        # A busy machine must not look like a Redis that is away.
        patient = {"redis": {"budget_ms": 1000}}
        folder = tmp_path_factory.mktemp("outage")
        deployment = Deployment(folder, postgres.url, redis.url, patient)
        deployment.rig.move("swap")
        with serving(request.param, deployment) as server:
            yield House(postgres, redis, server)


def in_time(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + BACK_S
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def workers(answers: list[Answer]) -> set[str | None]:
    assert is_ann(answers)
    return {answer.get("x-worker") for answer in answers}


def recovered(house: House, token: str) -> bool:
    return is_ann(house.everywhere(token))


def token_of(answer: Answer) -> str:
    token = answer.get("session-token")
    assert token is not None
    return token


def logged_in(deployment: Deployment) -> str:
    """A session made by another process: no server remembers it."""
    environ = deployment.environ()
    operator = wiring.operator(Settings.load(environ["MIGRATOR_CONFIG"], environ=environ))
    return str(operator.create_api_token("ann", label="made elsewhere").token)


def is_ann(answers: list[Answer]) -> bool:
    return all(answer.status == 200 and answer.json["subject"] == "ann" for answer in answers)


def test_postgres_killed_is_no_logout(house: House) -> None:
    # The first of these tests: a process leaves Redis alone for up to 2 s after it met it dead.
    known, unknown = logged_in(house.server.deployment), logged_in(house.server.deployment)
    # Read from Postgres, so it is in Redis now. A worker that never reached Postgres could not
    # answer at all, and one of two may take every request for a while.
    met: set[str | None] = set()
    while len(met) < WORKERS[house.server.name]:
        met |= workers(house.everywhere(known))
    fresh = sign("ann")
    house.postgres.kill()
    try:
        time.sleep(TRUSTED_S)
        assert is_ann(house.everywhere(known))
        for held in (unknown, fresh):
            for answer in house.everywhere(held, times=4):
                assert answer.status == 503
                assert answer.get("retry-after") is not None
                assert answer.json == {"error": "temporarily_unavailable"}
                assert answer.get("set-cookie") is None
        pair = {"username": "ann", "password": "ann's password"}
        assert house.server.post("/login", pair).status == 503
        assert house.server.get("/seen").status == 200, "nobody asked, so no store is"
    finally:
        house.postgres.start()
    for held in (known, unknown, fresh):
        assert in_time(partial(recovered, house, held))


def test_redis_killed_costs_nobody_anything(house: House) -> None:
    token, jwt = token_of(house.me(sign("ann"))), sign("ann")
    assert is_ann(house.everywhere(token))
    house.redis.kill()
    try:
        assert is_ann(house.everywhere(token))
        assert is_ann(house.everywhere(jwt))
        swapped = token_of(house.me(sign("ann")))
        assert is_ann(house.everywhere(swapped))
        assert house.server.send("POST", "/logout", bearer(swapped)).status == 204
        time.sleep(TRUSTED_S)
        assert {answer.status for answer in house.everywhere(swapped)} == {401}
    finally:
        house.redis.start()
    assert is_ann(house.everywhere(token))
    assert {answer.status for answer in house.everywhere(swapped)} == {401}


def test_both_killed_is_an_outage_that_ends_by_itself(house: House) -> None:
    token, jwt = token_of(house.me(sign("ann"))), sign("ann")
    assert is_ann(house.everywhere(token))
    house.redis.kill()
    house.postgres.kill()
    try:
        time.sleep(TRUSTED_S)
        assert {answer.status for answer in house.everywhere(token)} == {503}
        assert {answer.status for answer in house.everywhere(jwt, times=4)} == {503}
        cookie = house.server.get("/seen", ("Cookie", f"__Host-session={token}"))
        assert (cookie.status, cookie.get("set-cookie")) == (503, None)
    finally:
        house.redis.start()
        house.postgres.start()
    for held in (token, jwt):
        assert in_time(partial(recovered, house, held))
