"""The middleware is constructed with nothing but the app: the settings are found."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.responses import JSONResponse
from starlette.testclient import TestClient

from migrator import wiring
from migrator.core.errors import BadSettings
from shims.asgi import DualAcceptMiddleware as AsgiMiddleware
from shims.wsgi import DualAcceptMiddleware as WsgiMiddleware
from tests.apps.deployment import ISSUER, Deployment, sign

# Asks an app of one line behind the shim who we are; the subject it was told.
Ask = Callable[[dict[str, str]], Any]


def asgi() -> Ask:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        principal = scope["state"]["principal"]
        await JSONResponse(principal and principal.subject)(scope, receive, send)

    client = TestClient(AsgiMiddleware(app))
    return lambda headers: client.get("/", headers=headers).json()


def wsgi() -> Ask:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "application/json")])
        principal = environ["migrator.principal"]
        return [json.dumps(principal and principal.subject).encode()]

    client = httpx.Client(
        transport=httpx.WSGITransport(app=WsgiMiddleware(app)), base_url="http://shop"
    )
    return lambda headers: client.get("/", headers=headers).json()


@pytest.fixture
def deployment(
    migrated: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Deployment]:
    nowhere = tmp_path / "nowhere"
    nowhere.mkdir()
    monkeypatch.chdir(nowhere)
    yield Deployment(tmp_path, migrated)
    wiring.stop()


def named_by_variable(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in deployment.environ().items():
        monkeypatch.setenv(variable, value)


def lying_here(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    named_by_variable(deployment, monkeypatch)
    monkeypatch.delenv("MIGRATOR_CONFIG")
    monkeypatch.chdir(deployment.folder)


def said_by_variables(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    named_by_variable(deployment, monkeypatch)
    monkeypatch.delenv("MIGRATOR_CONFIG")
    keys = [{"id": "k1", "secret": "env:SHOP_SWAP_KEY"}]
    monkeypatch.setenv("MIGRATOR_ENVIRONMENT", "test")
    monkeypatch.setenv("MIGRATOR_APP", "shop")
    monkeypatch.setenv("MIGRATOR_DATABASE_URL", deployment.database)
    monkeypatch.setenv("MIGRATOR_MEMORY__POLL_MS", "100")
    monkeypatch.setenv("MIGRATOR_SWAP__KEYS", json.dumps(keys))
    monkeypatch.setenv("MIGRATOR_ISSUERS", json.dumps([ISSUER]))


SOURCES = [named_by_variable, lying_here, said_by_variables]


@pytest.mark.parametrize("shim", [asgi, wsgi])
@pytest.mark.parametrize("source", SOURCES)
def test_settings_are_found(
    deployment: Deployment,
    monkeypatch: pytest.MonkeyPatch,
    source: Callable[[Deployment, pytest.MonkeyPatch], None],
    shim: Callable[[], Ask],
) -> None:
    source(deployment, monkeypatch)
    ask = shim()
    assert ask({}) is None
    assert ask({"Authorization": f"Bearer {sign('ann')}"}) == "ann"
    assert ask({"Cookie": f"access_token={sign('bob')}"}) == "bob"


@pytest.mark.parametrize("shim", [asgi, wsgi])
def test_without_settings_the_app_does_not_start(
    deployment: Deployment, shim: Callable[[], Ask]
) -> None:
    """Better no deploy than an app that lets nobody in."""
    with pytest.raises(BadSettings):
        shim()
