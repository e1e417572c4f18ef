from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from migrator import wiring
from migrator.settings import Settings
from shims.asgi import DualAcceptMiddleware as Asgi
from shims.wsgi import DualAcceptMiddleware as Wsgi
from tests.bridge.app import LegacyApp
from tests.rig import ISSUER, Rig

BRIDGED = {
    **ISSUER,
    "transport": [{"header": "Authorization", "scheme": "Bearer"}, {"cookie": "jwt"}],
}
ACCESS = {"token_type": "access"}


class Deployment:
    """A legacy app behind the shim, and a way to ask it."""

    def __init__(self, rig: Rig, colour: str, tables: dict[str, Any]) -> None:
        self.rig = rig
        self.app = LegacyApp()
        self.colour = colour
        self._settings = rig.settings(**{"issuers": [BRIDGED], "bridge": {}, **tables})
        self.client = self._started()

    def _started(self) -> Any:
        if self.colour == "asgi":
            return TestClient(Asgi(self.app.asgi, self._settings), base_url="http://app")
        transport = httpx.WSGITransport(app=Wsgi(self.app.wsgi, self._settings))
        return httpx.Client(transport=transport, base_url="http://app")

    def stop(self) -> None:
        """End the process, as far as the shim can tell: what it counted is written."""
        self.client.close()
        wiring.stop()

    def move(self, phase: str, percent: int = 100) -> None:
        """Move the rollout, and begin a new process in it."""
        self.rig.move(phase, percent=percent)
        self.stop()
        self.client = self._started()

    def ask(self, method: str, path: str, token: str | None = None, **more: Any) -> Any:
        headers = {**({"Authorization": f"Bearer {token}"} if token else {})}
        headers |= more.pop("headers", {})
        return self.client.request(method, path, headers=headers, **more)

    def login(self, user: str = "ada") -> dict[str, str]:
        answer = self.ask("POST", "/login", json={"user": user})
        assert answer.status_code == 200, answer.text
        pair: dict[str, str] = answer.json()
        return pair


Deploy = Callable[..., Deployment]


def bridge_jwt(there: Deployment) -> str:
    """The JWT that the app is shown, as it might have leaked from its log."""
    there.ask("GET", "/me", there.login()["access"])
    return there.app.seen[-1].bearer


def handed(settings: Settings) -> str:
    """A session token, as the bridge hands it out."""
    client = TestClient(Asgi(LegacyApp().asgi, settings))
    token: str = client.post("/login", json={"user": "ada"}).json()["access"]
    return token


@pytest.fixture
def settings(migrated: str) -> Iterator[Settings]:
    rig = Rig(migrated)
    rig.move("drain")
    yield rig.settings(issuers=[BRIDGED], bridge={}, routes={"login": ["/login", "/stream-login"]})
    wiring.stop()


@pytest.fixture(params=["asgi", "wsgi"])
def deploy(request: pytest.FixtureRequest, migrated: str) -> Iterator[Callable[..., Deployment]]:
    """Makes deployments of both colours; each is forgotten at the end of its test."""
    made: list[Deployment] = []

    def deployed(phase: str = "drain", **tables: Any) -> Deployment:
        rig = Rig(migrated)
        rig.move(phase)
        made.append(Deployment(rig, request.param, tables))
        return made[-1]

    yield deployed
    for each in made:
        each.stop()
