"""P2 on strict routes, over the wire: what Postgres knows binds before anybody was told.

A row is ended by hand, with no feed row, no tombstone and no hint: nothing but asking Postgres
can find that out, so there is nothing here to wait for.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.apps.deployment import sign
from tests.conftest import CacheServer, DatabaseServer
from tests.counts import counted
from tests.http.conftest import deployed
from tests.http.servers import Server, bearer, serving
from tests.serve.conftest import deployed as serve_deployed
from tests.serve.served import Serve
from tests.serve.served import serving as serve_serving

pytestmark = pytest.mark.xdist_group("http")

MEMORY = {"poll_ms": 100, "strict_routes": ["/seen"]}
TRIES = 10  # gunicorn has two workers, and each has to be met


@pytest.fixture(scope="module", params=["uvicorn h11", "gunicorn"])
def shop(
    request: pytest.FixtureRequest,
    postgres: DatabaseServer,
    migrated_template: str,
    redis_server: CacheServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Server]:
    made = deployed(postgres, migrated_template, redis_server, tmp_path_factory, memory=MEMORY)
    with made as deployment, serving(request.param, deployment) as running:
        yield running


@pytest.fixture(scope="module")
def auth(
    postgres: DatabaseServer,
    migrated_template: str,
    redis_server: CacheServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Serve]:
    made = serve_deployed(
        postgres, migrated_template, redis_server, tmp_path_factory, memory=MEMORY
    )
    with made as deployment, serve_serving(deployment) as running:
        yield running


def end_by_hand(server: Server, user: str) -> None:
    server.deployment.rig.execute(
        "UPDATE migrator.sessions SET revoked_at = now(), revoked_reason = 'by hand'"
        " WHERE subject = %s",
        user,
    )


def test_p2_a_strict_route_refuses_what_only_postgres_knows_to_be_over(shop: Server) -> None:
    jwt = sign("ann")
    token = shop.get("/seen", bearer(jwt)).get("session-token")
    assert token is not None
    shown = [("Cookie", f"__Host-session={token}"), bearer(token), bearer(jwt)]
    for one in shown:
        for path in ("/me", "/seen") * TRIES:
            assert shop.get(path, one).status == 200
    end_by_hand(shop, "ann")
    assert {shop.get("/me", bearer(token)).status for _ in range(TRIES)} == {200}, "remembered"
    for _ in range(TRIES):
        assert [shop.get("/seen", one).status for one in shown[1:]] == [401, 401]
        assert shop.get("/seen", shown[0]).json["subject"] is None
    counted("G9", "strict answers over HTTP", 3 * TRIES)


def test_p2_forward_auth_is_strict_where_the_original_path_is(auth: Serve) -> None:
    token = auth.auth(bearer(sign("bob"))).get("session-token")
    assert token is not None
    for uri in ("/me", "/seen", "/other"):
        assert auth.auth(bearer(token), uri=uri).status == 200
    end_by_hand(auth, "bob")
    assert auth.auth(bearer(token), uri="/me").status == 200, "remembered"
    for uri in ("/seen", "/seen/", "/SEEN", "/seen?a=b", "//seen", "/x/../seen", "/x%2Fy"):
        assert auth.auth(bearer(token), uri=uri).status == 401
    counted("G9", "strict answers over HTTP", 7)
