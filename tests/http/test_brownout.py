"""A brownout over real HTTP: the answer of the cutover for a while, and sessions untouched."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.apps.deployment import Deployment, sign
from tests.conftest import CacheServer, DatabaseServer
from tests.http.conftest import deployed
from tests.http.servers import Answer, Server, bearer, serving
from tests.test_brownout_nodes import open_window

pytestmark = pytest.mark.xdist_group("http")

DOCS = "https://shop.example/sessions"


@pytest.fixture
def draining(
    postgres: DatabaseServer,
    migrated_template: str,
    redis_server: CacheServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Deployment]:
    told = {"deprecation_link": DOCS}
    with deployed(
        postgres, migrated_template, redis_server, tmp_path_factory, http=told
    ) as deployment:
        deployment.rig.move("drain")
        yield deployment


@pytest.fixture
def server(draining: Deployment) -> Iterator[Server]:
    with serving("uvicorn h11", draining) as running:
        yield running


def soon(server: Server, jwt: str, status: int) -> Answer:
    deadline = time.monotonic() + 8
    while (answer := server.get("/seen", bearer(jwt))).status != status:
        assert time.monotonic() < deadline, answer
        time.sleep(0.02)
    return answer


def test_a_window_answers_as_after_the_cutover_and_then_as_before(
    server: Server, draining: Deployment
) -> None:
    jwt, rig = sign("ann"), draining.rig
    before = soon(server, jwt, 200)
    token = before.get("session-token")
    assert token is not None
    assert (before.get("deprecation") or "").startswith("@")
    assert before.get("sunset") is None
    number = open_window(rig)
    during = soon(server, jwt, 401)
    rig.execute("UPDATE migrator.rollout SET epoch = epoch + 1, brownouts = '[]'")
    after = soon(server, jwt, 200)
    rig.move("cutover")
    final = soon(server, jwt, 401)
    for refused in (during, final):
        assert refused.json == {"error": "invalid_token", "reason": "legacy_retired"}
        assert refused.get("www-authenticate") == (
            'Bearer error="invalid_token", error_description="legacy token retired", '
            f'error_uri="{DOCS}"'
        )
        assert refused.get("deprecation") is None
        assert refused.get("retry-after") is None, "who is told to retry learns nothing"
    assert set(map(str.lower, dict(during.lines))) == set(map(str.lower, dict(final.lines)))
    assert after.get("session-token") == token
    deadline = time.monotonic() + 8
    while not rig.count("brownout_hits", f"brownout = {number} AND subject = 'ann'"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    adopted = server.get("/seen", bearer(token))
    assert (adopted.status, adopted.json["via"]) == (200, "session")
    assert adopted.get("deprecation") is None
