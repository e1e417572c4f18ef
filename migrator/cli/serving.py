"""The app that `serve` runs, and how it is run. Needs the extra `server`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from migrator import wiring
from migrator.cli.readiness import Readiness
from shims.asgi import DualAcceptMiddleware
from shims.endpoints import session_endpoints
from shims.forward_auth import ForwardAuth
from shims.metrics import collector
from shims.oauth import oauth_endpoints
from shims.upstream import Upstream

if TYPE_CHECKING:
    import socket

    from migrator.settings import Settings

_HEAD_BYTES: Final = 65_536  # a JWT and cookies, and once more what the proxy says of them
_CLOSE_S: Final = 10  # how long an answer under way may still take
_NO_STORE: Final = {"Cache-Control": "no-store"}


def application(settings: Settings, upstream: str | None = None) -> Starlette:
    """The app that answers every endpoint, and passes the rest on to `upstream`.

    Raises:
        BadSettings: it cannot be run with.
    """
    gate = wiring.async_gate(settings)
    registry = CollectorRegistry()
    registry.register(collector(settings))
    forward_auth, sessions = ForwardAuth(settings), session_endpoints(settings)
    proxy = None if upstream is None else Upstream(upstream)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        gate.wake()  # a node counts before its first request
        yield
        await gate.aclose()
        if proxy is not None:
            await proxy.aclose()

    routes: list[BaseRoute] = [
        Route("/forward-auth", forward_auth),
        Route("/forward-auth/refusal", forward_auth),
        *oauth_endpoints(settings).routes,
        Route("/session", sessions),
        Route("/sessions", sessions),
        Route("/sessions/{id}", sessions),
        Route("/healthz", _healthz),
        Route("/readyz", _readyz(Readiness(settings, gate))),
        Route("/metrics", _metrics(registry)),
    ]
    if proxy is not None:
        routes.append(Mount("/", DualAcceptMiddleware(proxy, settings)))
    app = Starlette(routes=routes, lifespan=lifespan)
    app.router.redirect_slashes = False
    return app


def run(app: Starlette, bound: socket.socket) -> None:
    """Serve `app` on a socket that listens, until told to stop."""
    config = uvicorn.Config(
        app,
        access_log=False,  # a URL may hold a credential
        log_level="warning",
        server_header=False,
        h11_max_incomplete_event_size=_HEAD_BYTES,
        timeout_graceful_shutdown=_CLOSE_S,
    )
    uvicorn.Server(config).run(sockets=[bound])


async def _healthz(_: Request) -> Response:
    return JSONResponse({"healthy": True}, headers=_NO_STORE)


def _readyz(readiness: Readiness) -> Callable[[Request], Awaitable[Response]]:
    async def readyz(_: Request) -> Response:
        missing = await readiness.missing()
        said = {"ready": not missing, "missing": missing}
        return JSONResponse(said, 503 if missing else 200, headers=_NO_STORE)

    return readyz


def _metrics(registry: CollectorRegistry) -> Callable[[Request], Awaitable[Response]]:
    async def metrics(_: Request) -> Response:
        headers = {"Content-Type": CONTENT_TYPE_LATEST, **_NO_STORE}
        return Response(generate_latest(registry), headers=headers)

    return metrics
