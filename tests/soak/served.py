"""The app that a soak's servers run: one route for each thing an app calls, in both colours.

Its settings come as JSON in one variable, since each run has its own; a subject logs in by saying
who it is, since what is tested begins after the password.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import jwt
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import shims.asgi
import shims.wsgi
from migrator import wiring
from migrator.core.errors import Refused, Unavailable
from migrator.core.reasons import word
from migrator.core.verdicts import Principal
from migrator.settings import Settings

VARIABLE: Final = "SOAK_SETTINGS"
PID: Final = "X-Worker"
_LASTS_S: Final = 3600
_Answer = tuple[int, dict[str, Any]]


def settings() -> Settings:
    """Those of this run."""
    return Settings.build(json.loads(os.environ[VARIABLE]))


def signed(subject: str) -> str:
    """A JWT as the app has always issued it."""
    key = json.loads(os.environ[VARIABLE])["issuers"][0]["keys"][0]
    now = int(time.time())
    claims = {"sub": subject, "iat": now, "exp": now + _LASTS_S, "sid": uuid.uuid4().hex}
    return jwt.encode({**claims, "jti": uuid.uuid4().hex}, key, algorithm="HS256")


def seen(principal: Principal | None) -> _Answer:
    """Who came in."""
    if principal is None:
        return 200, {"subject": None}
    return 200, {"subject": principal.subject, "via": principal.via}


def bearer(header: str) -> str:
    """What was presented."""
    return header.partition(" ")[2]


def failed(error: Exception) -> _Answer:
    """As an app answers what `Sessions` raises."""
    if isinstance(error, Refused):
        return 401, {"reason": word(error.reason)}
    return 503, {}


def asgi() -> Any:
    """The async app, for uvicorn."""
    chosen = settings()
    sessions = wiring.async_sessions(chosen)

    async def show(request: Request) -> Response:
        return _response(seen(request.scope["state"]["principal"]))

    def route(path: str, act: Callable[[Mapping[str, str], str], Any]) -> Route:
        async def called(request: Request) -> Response:
            body = await request.json()
            try:
                result = await act(body, bearer(request.headers.get("Authorization", "")))
            except (Refused, Unavailable) as error:
                return _response(failed(error))
            return _response((200, _said(result)))

        return Route(path, called, methods=["POST"])

    async def login(body: Mapping[str, str], _: str) -> Any:
        return await sessions.login(body["subject"], legacy=lambda: signed(body["subject"]))

    app = Starlette(
        routes=[
            Route("/seen", show),
            route("/login", login),
            route("/refresh", lambda body, _: sessions.exchange(body["token"], legacy=_legacy)),
            route("/logout", lambda _, token: sessions.end(token)),
            route("/others", lambda _, token: sessions.end_others(token)),
            route("/all", lambda body, _: sessions.end_all(body["subject"])),
        ]
    )
    return shims.asgi.DualAcceptMiddleware(app, chosen)


def wsgi() -> Any:
    """The blocking app, for gunicorn."""
    chosen = settings()
    sessions = wiring.sessions(chosen)
    acts: dict[str, Callable[[Mapping[str, str], str], Any]] = {
        "/login": lambda body, _: sessions.login(
            body["subject"], legacy=lambda: signed(body["subject"])
        ),
        "/refresh": lambda body, _: sessions.exchange(body["token"], legacy=_legacy),
        "/logout": lambda _, token: sessions.end(token),
        "/others": lambda _, token: sessions.end_others(token),
        "/all": lambda body, _: sessions.end_all(body["subject"]),
    }

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        act = acts.get(environ["PATH_INFO"])
        if act is None:
            status, body = seen(environ["migrator.principal"])
        else:
            length = int(environ.get("CONTENT_LENGTH") or 0)
            asked = json.loads(environ["wsgi.input"].read(length) or b"{}")
            try:
                result = act(asked, bearer(environ.get("HTTP_AUTHORIZATION", "")))
                status, body = 200, _said(result)
            except (Refused, Unavailable) as error:
                status, body = failed(error)
        content = json.dumps(body).encode()
        start_response(
            f"{status} {'OK' if status == 200 else 'No'}",
            [
                ("Content-Type", "application/json"),
                ("Content-Length", str(len(content))),
                (PID, str(os.getpid())),
            ],
        )
        return [content]

    return shims.wsgi.DualAcceptMiddleware(app, chosen)


def _legacy() -> dict[str, str]:
    return {}  # the old refresh route goes on by itself: no concern of ours


def _said(result: Any) -> dict[str, Any]:
    if isinstance(result, int):
        return {"ended": result}
    return {"kind": result.kind, "token": result.token}


def _response(answer: _Answer) -> Response:
    status, body = answer
    return JSONResponse(body, status, {PID: str(os.getpid())})
