"""The app that migrates: a login, a refresh, a logout and two pages, on Starlette.

Without the shim (`DEMO_SHIM` unset) it is the app as it was. With it three things differ, and
nothing else: the middleware around it, the line that reads who a request comes from, and the lines
that issue at login and refresh. `grep -n sessions` finds them.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from migrator import wiring
from migrator.cli.demo.before import Before, Device
from migrator.cli.demo.ledger import Ledger
from migrator.core.app import AsyncSessions, Issued
from migrator.core.errors import Refused, Unavailable
from migrator.settings import Settings
from shims.asgi import DualAcceptMiddleware

Scope: TypeAlias = MutableMapping[str, Any]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Any, Send], Awaitable[None]]

LEGACY_COOKIE = "access_token"
WORKER_HEADER = "x-worker"
SECRET_VARIABLE = "DEMO_JWT_SECRET"  # noqa: S105 - the name of a variable
LEDGER_VARIABLE = "DEMO_LEDGER_URL"
SHIM_VARIABLE = "DEMO_SHIM"


def make() -> App:
    """The app of one worker, as uvicorn's `--factory` wants it."""
    before = Before(os.environ[SECRET_VARIABLE])
    ledger = Ledger(os.environ[LEDGER_VARIABLE])
    if not os.environ.get(SHIM_VARIABLE):
        return _Signed(_starlette(_Acme(before, ledger), ledger))
    settings = Settings.load()
    sessions = wiring.async_sessions(settings)
    acme = _Migrating(before, ledger, sessions, settings.cookie.effective_name)
    return _Signed(DualAcceptMiddleware(_starlette(acme, ledger), settings))


class _Acme:
    """The routes, as they were."""

    def __init__(self, before: Before, ledger: Ledger) -> None:
        self.before = before
        self.ledger = ledger

    def who(self, request: Request) -> str | None:
        """The user a request comes from."""
        return self.before.read(_presented(request), "access")

    async def me(self, request: Request) -> Response:
        """What programs ask for."""
        user = self.who(request)
        if user is None:
            return JSONResponse({"code": "token_not_valid"}, 401)
        return JSONResponse({"user": user})

    async def page(self, request: Request) -> Response:
        """What browsers ask for."""
        user = self.who(request)
        if user is None:
            return RedirectResponse("/login", 303)
        return JSONResponse({"user": user})

    async def login_screen(self, _: Request) -> Response:
        """The last thing a logged-in user wants to see."""
        return JSONResponse({"screen": "login"})

    async def log_in(self, request: Request) -> Response:
        """Check the password and issue."""
        said = await request.json()
        user, device = str(said["user"]), said["device"]
        if said["password"] != f"password of {user}":
            return JSONResponse({"code": "no_active_account"}, 401)
        return self.answer(await self.issue(request, user, device), device)

    async def issue(self, request: Request, user: str, device: Device) -> dict[str, object]:  # noqa: ARG002 - see below
        """What a login gives the client."""
        return await self.legacy_login(user, device)

    async def legacy_login(self, user: str, device: Device) -> dict[str, object]:
        """The pair, with the refresh token noted in the ledger."""
        jwts = self.before.log_in(user, device)
        if "refresh" in jwts:
            await self.ledger.write(jwts["refresh"], user)
        return dict(jwts)

    async def refresh(self, request: Request) -> Response:
        """A new access token for a refresh token."""
        return JSONResponse(await self.legacy_refresh(str((await request.json())["refresh"])))

    async def legacy_refresh(self, refresh: str) -> dict[str, object]:
        """The old route's answer. Raises HTTPException 401."""
        user = self.before.read(refresh, "refresh")
        if user is None or await self.ledger.is_blacklisted(refresh):
            raise HTTPException(401)
        return {"access": self.before.log_in(user, "script")["access"]}

    async def blacklist(self, request: Request) -> Response:
        """Log out as simplejwt does: the refresh token is not taken any more."""
        await self.ledger.blacklist(str((await request.json())["refresh"]))
        return JSONResponse({})

    def answer(self, issued: dict[str, object], device: Device) -> Response:
        """A login's response: browsers get a cookie, everybody else JSON."""
        if device != "browser":
            return JSONResponse(issued)
        response = JSONResponse({})
        self.set_cookie(response, issued)
        return response

    def set_cookie(self, response: Response, issued: dict[str, object]) -> None:
        """The JWT as a cookie."""
        response.set_cookie(LEGACY_COOKIE, str(issued["access"]), httponly=True, samesite="lax")

    def routes(self) -> list[Route]:
        """Every route."""
        return [
            Route("/me", self.me),
            Route("/page", self.page),
            Route("/login", self.login_screen),
            Route("/login", self.log_in, methods=["POST"]),
            Route("/refresh", self.refresh, methods=["POST"]),
            Route("/blacklist", self.blacklist, methods=["POST"]),
        ]


class _Migrating(_Acme):
    """The same routes with the lines that the migration changes, and those it makes possible."""

    def __init__(
        self, before: Before, ledger: Ledger, sessions: AsyncSessions, cookie: str
    ) -> None:
        super().__init__(before, ledger)
        self.sessions = sessions
        self.cookie = cookie

    def who(self, request: Request) -> str | None:
        principal = request.state.principal
        return principal.subject if principal else None

    async def issue(self, request: Request, user: str, device: Device) -> dict[str, object]:
        issued = await self.sessions.login(
            user, client=_program(request), legacy=lambda: self.legacy_login(user, device)
        )
        return _body(issued)

    async def refresh(self, request: Request) -> Response:
        refresh = str((await request.json())["refresh"])
        issued = await self.sessions.exchange(refresh, legacy=lambda: self.legacy_refresh(refresh))
        return JSONResponse(_body(issued))

    async def log_out(self, request: Request) -> Response:
        """End the session, and what it came from."""
        token = _presented(request, self.cookie)
        if token is not None:
            await self.sessions.end(token)
        response = JSONResponse({})
        response.delete_cookie(self.cookie)
        response.delete_cookie(LEGACY_COOKIE)
        return response

    async def log_out_everywhere(self, request: Request) -> Response:
        """End whatever the user has, on every device."""
        return JSONResponse(
            {"ended": await self.sessions.end_all(self._principal(request).subject)}
        )

    async def partner_login(self, request: Request) -> Response:
        """A partner's program trades the JWT its own company signed for a session of ours."""
        principal = self._principal(request)
        presented = _presented(request) or ""
        issued = await self.sessions.login(
            principal.subject,
            realm=principal.realm,
            client=_program(request),
            legacy=lambda: {"access": presented},
        )
        return JSONResponse(_body(issued))

    async def api_token(self, request: Request) -> Response:
        """The settings page where a user makes a token for a program."""
        principal = self._principal(request)
        label = str((await request.json())["label"])
        issued = await self.sessions.create_api_token(principal.subject, label=label)
        return JSONResponse({"token": issued.token})

    def set_cookie(self, response: Response, issued: dict[str, object]) -> None:
        if "expires_at" not in issued:
            super().set_cookie(response, issued)
            return
        response.set_cookie(self.cookie, str(issued["access"]), httponly=True, samesite="lax")
        response.delete_cookie(LEGACY_COOKIE)

    def routes(self) -> list[Route]:
        return [
            *super().routes(),
            Route("/logout", self.log_out, methods=["POST"]),
            Route("/logout-everywhere", self.log_out_everywhere, methods=["POST"]),
            Route("/partner/session", self.partner_login, methods=["POST"]),
            Route("/api-tokens", self.api_token, methods=["POST"]),
        ]

    def _principal(self, request: Request) -> Any:
        if request.state.principal is None:
            raise HTTPException(401)
        return request.state.principal


def _body(issued: Issued) -> dict[str, object]:
    """A session goes where the JWTs went: old clients store what stands there."""
    if not isinstance(issued.token, str):
        return dict(issued.token)
    ends_at = issued.expires_at.timestamp() if issued.expires_at else None
    return {"access": issued.token, "refresh": issued.token, "expires_at": ends_at}


def _presented(request: Request, cookie: str | None = None) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return request.cookies.get(cookie or LEGACY_COOKIE) or request.cookies.get(LEGACY_COOKIE)


def _program(request: Request) -> str | None:
    words = request.headers.get("user-agent", "").split(maxsplit=1)
    return words[0] if words else None


def _starlette(acme: _Acme, ledger: Ledger) -> Starlette:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await ledger.open()
        try:
            yield
        finally:
            await ledger.close()

    return Starlette(
        routes=acme.routes(),
        lifespan=lifespan,
        exception_handlers={
            HTTPException: _plainly,
            Refused: _refused,
            Unavailable: _not_now,
        },
    )


async def _plainly(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return JSONResponse({"code": "token_not_valid"}, status)


async def _refused(_: Request, error: Exception) -> Response:
    return JSONResponse({"code": "token_not_valid", "detail": str(error)}, 401)


async def _not_now(_: Request, __: Exception) -> Response:
    return JSONResponse({"code": "try_again"}, 503, headers={"Retry-After": "1"})


class _Signed:
    """Has every response say which worker it comes from, so that the rehearsal can tell them."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._line = (WORKER_HEADER.encode(), str(os.getpid()).encode())

    async def __call__(self, scope: Scope, receive: Any, send: Send) -> None:
        async def signed(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), self._line]}
            await send(message)

        await self._app(scope, receive, signed)
