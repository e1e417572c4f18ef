"""A client that nobody can update lives through every phase without a login screen.

It logged in before there was a proxy, and behind nginx and Caddy it never notices what became of
its JWTs: as cookies, or as the strings that login answered with.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.system.proxies.clients import Client
from tests.system.proxies.conftest import Ground, reach
from tests.system.proxies.standing import Site

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

WHILE_JWTS_COUNT = [("observe", 0), ("swap", 0), ("swap", 50), ("swap", 100), ("drain", 100)]
WHEN_THEY_DO_NOT = ["cutover", "retired"]
TABS = 2


@pytest.fixture
def brief(kind: str, transport: str, ground: Ground) -> Iterator[Site]:
    """A site whose access tokens live for two seconds."""
    with ground.whole(kind, transport, ACCESS_SECONDS="2") as made:
        yield made


@pytest.fixture
def lasting(kind: str, transport: str, ground: Ground) -> Iterator[Site]:
    """A site whose access tokens live for an hour: worth a session each."""
    with ground.whole(kind, transport, ACCESS_SECONDS="3600") as made:
        yield made


def test_a_client_that_only_refreshes_sees_no_login_screen(brief: Site, transport: str) -> None:
    """Alone, with two tabs that refresh at once, and when the answer to a refresh is lost."""
    alone, tabbed, lossy = clients = [Client(brief, transport) for _ in range(3)]
    for client, name in zip(clients, ("ann", "bob", "root"), strict=True):
        client.log_in(name, past=True)
    for phase, percent in WHILE_JWTS_COUNT:
        reach(brief, phase, percent)
        for client in clients:
            client.outlive_access_token()
        with ThreadPoolExecutor(TABS) as tabs:
            answers = list(tabs.map(lambda _: tabbed.refresh(lost=True), range(TABS)))
        assert {answer.status for answer in answers} <= {200, 204}, phase
        assert lossy.refresh(lost=True).status in {200, 204}, phase
        assert [client.me().status for client in clients] == [200] * 3, phase
    assert all(client.access.startswith("sess_") for client in clients)
    for phase in WHEN_THEY_DO_NOT:
        reach(brief, phase)
        assert [client.me().status for client in clients] == [200] * 3, phase
    assert [client.login_screens for client in clients] == [0] * 3
    assert alone.log_out().status == 204
    assert alone.me().status == 401


def test_a_login_made_on_the_way_refreshes_ever_after_and_back(
    brief: Site, transport: str
) -> None:
    reach(brief, "drain")
    client = Client(brief, transport)
    client.log_in()
    assert client.access.startswith("sess_")
    for phase, percent in [("swap", 100), ("swap", 0), ("observe", 0), ("drain", 100)]:
        reach(brief, phase, percent)
        assert client.refresh().status in {200, 204}, phase
        assert client.me().status == 200, phase
    for phase in WHEN_THEY_DO_NOT:
        reach(brief, phase)
        with ThreadPoolExecutor(TABS) as tabs:
            answers = list(tabs.map(lambda _: client.refresh(), range(TABS)))
        assert {answer.status for answer in answers} <= {200, 204}, phase
        assert client.me().status == 200, phase
    assert client.login_screens == 0


def test_the_session_token_reaches_the_client_as_its_jwt_was_sent(
    lasting: Site, transport: str
) -> None:
    """A browser adopts the cookie by itself; a header client of ours would read the header."""
    client = Client(lasting, transport)
    client.log_in(past=True)
    reach(lasting, "swap")
    answer = client.me()
    own = [line.partition("=")[0] for line in answer.all("set-cookie")]
    assert {"seen", "locale"} <= set(own), "the app's own cookies are kept"
    assert "no-store" in ", ".join(answer.all("cache-control"))
    assert {"Authorization", "Cookie"} <= {
        member.strip() for line in answer.all("vary") for member in line.split(",")
    }
    if transport == "cookie":
        assert client.jar["session"][0].startswith("sess_")
        assert answer.get("session-token") is None
    else:
        token = answer.get("session-token")
        assert token is not None
        assert "Session-Token" in ", ".join(answer.all("access-control-expose-headers"))
        client.kept["accessToken"] = token
    assert client.me().get("session-token") is None, "adopted"
    for phase in ("drain", "cutover", "retired"):
        reach(lasting, phase)
        assert client.me().status == 200, phase
    assert client.login_screens == 0


def test_in_drain_a_jwt_is_told_to_go(lasting: Site, transport: str) -> None:
    client = Client(lasting, transport)
    client.log_in(past=True)
    reach(lasting, "drain")
    assert (client.me().get("deprecation") or "").startswith("@")


def test_a_logout_ends_what_the_login_became(lasting: Site, transport: str) -> None:
    client = Client(lasting, transport)
    client.log_in(past=True)
    before = Client(lasting, transport, dict(client.kept), dict(client.jar))
    reach(lasting, "swap")
    assert client.me().status == 200
    after = Client(lasting, transport, dict(client.kept), dict(client.jar))
    assert client.log_out().status == 204
    assert before.me().status == 401, "the JWT it came from"
    assert after.me().status == 401, "the session"
