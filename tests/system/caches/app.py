"""An app that lets caches keep its answers, each in another way; the body says whose it is."""

from __future__ import annotations

from hashlib import sha256

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from shims.asgi import DualAcceptMiddleware

# What the app itself says of an answer. Where it is one user's, it says so in one of these ways.
OWN: dict[str, dict[str, str]] = {
    "varied": {"Cache-Control": "public, max-age=10", "Vary": "Authorization, Cookie"},
    "private": {"Cache-Control": "private, max-age=10"},
    "stored-nowhere": {"Cache-Control": "no-store"},
}
# What is everybody's: the app knows no user there, and a token in it would be everybody's too.
SHARED: dict[str, dict[str, str]] = {
    "public": {"Cache-Control": "public, max-age=10"},
    "expires": {"Expires": "Thu, 31 Dec 2037 23:55:55 GMT"},
    "accelerated": {"X-Accel-Expires": "10"},
    "silent": {},
}


def _answer(request: Request, body: str, headers: dict[str, str]) -> Response:
    etag = f'"{sha256(body.encode()).hexdigest()[:16]}"'
    status = 304 if request.headers.get("if-none-match") == etag else 200
    return PlainTextResponse("" if status == 304 else body, status, {**headers, "ETag": etag})


async def own(request: Request) -> Response:
    principal = request.state.principal
    name = "nobody" if principal is None else principal.subject
    kind = request.path_params["kind"]
    return _answer(request, f"{kind} of {name}", OWN[kind])


async def shared(request: Request) -> Response:
    kind = request.path_params["kind"]
    return _answer(request, f"{kind} for all", SHARED[kind])


def create_app() -> Starlette:
    """The app, with the shim around it."""
    app = Starlette(routes=[Route("/own/{kind}/{n}", own), Route("/shared/{kind}/{n}", shared)])
    app.add_middleware(DualAcceptMiddleware)
    return app
