"""Taking it out again before the end, by the steps of playbooks/35-rollback.

Nobody is logged out by it: whoever sees a login screen sees it when a twin does, who logged in
with him and never met us.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest

from tests.system.proxies.clients import Client
from tests.system.proxies.conftest import Ground, reach
from tests.system.proxies.standing import Site

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

BACK = {"swap": 1, "drain": 2}
DONE = {200, 204}
# What differs between the proxies is tested elsewhere: Caddy once.
CASES = [
    pytest.param((kind, transport, start), marks=pytest.mark.xdist_group(kind))
    for kind, transport, start in (
        ("nginx", "header", "swap"),
        ("nginx", "header", "drain"),
        ("nginx", "cookie", "swap"),
        ("nginx", "cookie", "drain"),
        ("caddy", "header", "drain"),
    )
]


@dataclass(frozen=True)
class Stage:
    """A site, the app alone without anything of ours, and the phase it is taken out from."""

    site: Site
    bare: Site
    transport: str
    start: str

    def client(self, *, bare: bool = False) -> Client:
        """A client of the site, or of the app alone."""
        return Client(self.bare if bare else self.site, self.transport)

    def ends(self) -> list[datetime]:
        """When the sessions end, the oldest first."""
        query = "SELECT expires_at FROM migrator.sessions ORDER BY created_at"
        return [end for (end,) in self.site.settings.rig.execute(query)]

    def status(self) -> dict[str, Any]:
        """What `migrator status` says."""
        said: dict[str, Any] = json.loads(self.site.migrator("status", "--json"))
        return said

    def month(self) -> None:
        """Let every session be over, as its row says; a new process knows of it."""
        self.site.stop_serving()
        self.site.settings.rig.execute("UPDATE migrator.sessions SET expires_at = now()")
        self.site.serve()


@pytest.fixture(params=CASES, ids=" ".join)
def stage(request: pytest.FixtureRequest, ground: Ground) -> Iterator[Stage]:
    """A site whose access tokens live for two seconds, and its refresh tokens for 30 days."""
    kind, transport, start = request.param
    with ground.whole(kind, transport, ACCESS_SECONDS="2") as made:
        yield Stage(made, replace(made, port=made.app_port), transport, start)


def test_nobody_is_logged_out_by_taking_out_what_stands_at_the_proxy(stage: Stage) -> None:
    site = stage.site
    twin, away = stage.client(bare=True), stage.client()
    moved, begun, late = stage.client(), stage.client(), stage.client()
    for client in (twin, away, moved):
        client.log_in(past=True)
    promised = _end_of(moved.refreshing)
    reach(site, stage.start)
    assert moved.refresh().status in DONE
    begun.log_in()
    assert all(each.access.startswith("sess_") for each in (moved, begun))

    for _ in range(BACK[stage.start]):
        assert "in effect on every living node" in site.migrator("rollback", "--reason", "out")
    late.log_in()
    everybody = (away, moved, begun, late)
    for client in everybody:
        assert client.me().status == 200
        assert client.refresh().status in DONE
        assert client.access.startswith("eyJ"), "a JWT again"
    for client in everybody:
        client.outlive_access_token()
        assert client.me().status == 200
    of_moved, of_begun = stage.ends()
    assert of_moved == promised, "when the refresh token that it came from would have ended"
    assert abs(of_begun - _end_of(late.refreshing)) < timedelta(minutes=1)
    assert datetime.fromisoformat(stage.status()["removal_horizon"]) == of_begun
    assert _without_us(begun, stage).refresh().status == 401, "not before the horizon"

    stage.month()
    users = (twin, away, moved, begun)
    for client in users:
        client.outlive_login()
        if client.me().status == 401:
            client.log_in()
    assert [client.login_screens for client in users] == [1, 1, 1, 1]
    assert "the shim may go now" in stage.status()["unknown"]["removal_horizon"]

    site.stop_serving()
    site.settings.rig.execute("DROP SCHEMA migrator CASCADE")
    for client in everybody:
        client.site = stage.bare
        client.outlive_access_token()
        assert client.me().status == 200
        assert client.refresh().status in DONE
    assert [client.login_screens for client in everybody] == [1, 1, 1, 0]


@pytest.mark.xdist_group("nginx")
def test_a_browser_that_was_swapped_refreshes_by_its_jwt_once_the_rollout_is_back(
    ground: Ground,
) -> None:
    with ground.whole("nginx", "cookie", ACCESS_SECONDS="3600") as site:
        client = Client(site, "cookie")
        client.log_in(past=True)
        reach(site, "swap")
        assert client.me().status == 200
        assert client.jar["session"][0].startswith("sess_")
        reach(site, "observe")
        assert client.refresh().status in DONE
        assert client.access.startswith("eyJ")


def _end_of(token: str) -> datetime:
    claims = jwt.decode(token, options={"verify_signature": False})
    return datetime.fromtimestamp(claims["exp"], UTC)


def _without_us(client: Client, stage: Stage) -> Client:
    """The same installation, if the app were alone from now on."""
    return Client(stage.bare, client.transport, dict(client.kept), dict(client.jar))
