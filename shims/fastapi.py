"""Typed dependencies over what the ASGI middleware found out: who is asking, and by which session.

    app.add_middleware(DualAcceptMiddleware)

    @app.get("/me")
    async def me(principal: CurrentPrincipal) -> str:
        return principal.subject

    Writer = Annotated[Principal, Security(current_principal, scopes=["write"])]

They read the scope and ask nothing: no store, no await. Each works in HTTP routes and in WebSocket
routes, where a refusal closes the handshake. In the OpenAPI document they are two alternative
schemes, the bearer and the cookie, with the scopes asked for.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Final, TypeAlias

from fastapi import Depends, FastAPI, HTTPException, Request, Response, Security
from fastapi.openapi.models import APIKey, APIKeyIn, HTTPBearer
from fastapi.openapi.models import SecurityBase as Model
from fastapi.security import SecurityScopes
from fastapi.security.base import SecurityBase
from starlette.exceptions import WebSocketException
from starlette.requests import HTTPConnection

from migrator import wiring
from migrator.core.sessions import Session
from migrator.core.verdicts import Principal, Reason
from migrator.settings import Settings
from shims.answers import Answers

_POLICY_VIOLATION: Final = 1008  # RFC 6455 section 7.4.1
_DEFAULT_COOKIE: Final = "__Host-session"


class NotLoggedIn(HTTPException):
    """Nobody is logged in here, or not by a session where one is asked for (401)."""

    def __init__(self) -> None:
        super().__init__(
            401,
            {"error": "invalid_token", "reason": "invalid"},
            {"WWW-Authenticate": "Bearer", "Cache-Control": "no-store"},
        )


class InsufficientScope(HTTPException):
    """The principal may come in, but not do this (403, RFC 6750 section 3.1).

    Args:
        wanted: the scopes that the route asks for.
    """

    def __init__(self, wanted: tuple[str, ...]) -> None:
        scope = " ".join(wanted)
        super().__init__(
            403,
            {"error": "insufficient_scope"},
            {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'},
        )
        self.wanted = wanted


class _Scheme(SecurityBase):
    """An entry of the OpenAPI document; who is asking was found out before."""

    def __init__(self, name: str, model: Model) -> None:
        self.scheme_name = name
        self.model = model

    def __call__(self) -> None:
        """Read nothing: the middleware has."""


@dataclass(frozen=True, slots=True)
class Dependencies:
    """The three dependencies, with the schemes that the document shows for them.

    `optional_principal` is None for the anonymous; the other two refuse them. A JWT has no session
    in `observe` and outside the cohort: ask for `current_principal` until `drain`.
    """

    optional_principal: Callable[..., Principal | None]
    current_principal: Callable[..., Principal]
    current_session: Callable[..., Session]


def dependencies(settings: Settings | None = None) -> Dependencies:
    """Dependencies whose OpenAPI schemes say what `settings` do: their cookie's name.

    Without settings they name `__Host-session`, and nothing is read from any file.
    """
    cookie = _DEFAULT_COOKIE if settings is None else settings.cookie.effective_name
    bearer = _Scheme(
        "SessionToken",
        HTTPBearer(
            description="A session token; up to the cutover also a token of the old login."
        ),
    )
    key = APIKey.model_validate(
        {"in": APIKeyIn.cookie, "name": cookie, "description": "The same token in a cookie."}
    )
    in_cookie = _Scheme("SessionCookie", key)

    def optional_principal(
        connection: HTTPConnection,
        _bearer: Annotated[None, Security(bearer)],
        _cookie: Annotated[None, Security(in_cookie)],
    ) -> Principal | None:
        return principal_of(connection)

    def current_principal(
        connection: HTTPConnection,
        scopes: SecurityScopes,
        principal: Annotated[Principal | None, Depends(optional_principal)],
    ) -> Principal:
        if principal is None:
            raise _on(connection, NotLoggedIn())
        if not principal.scopes.issuperset(scopes.scopes):
            raise _on(connection, InsufficientScope(tuple(scopes.scopes)))
        return principal

    def current_session(
        connection: HTTPConnection,
        principal: Annotated[Principal, Depends(current_principal)],
    ) -> Session:
        if principal.session is None:
            raise _on(connection, NotLoggedIn())
        return principal.session

    return Dependencies(optional_principal, current_principal, current_session)


def principal_of(connection: HTTPConnection) -> Principal | None:
    """Who is asking; None for the anonymous.

    Raises:
        RuntimeError: no DualAcceptMiddleware is around the app.
    """
    state: Mapping[str, object] = connection.scope.get("state", {})
    if "principal" not in state:
        raise RuntimeError("app.add_middleware(DualAcceptMiddleware) is missing")
    principal = state["principal"]
    return principal if isinstance(principal, Principal) else None


def answer_as_configured(app: FastAPI, settings: Settings | None = None) -> None:
    """Answer the anonymous exactly as the middleware does: `http.refusal` of the settings.

    Without this line FastAPI's own handler answers, or the app's, with our words as `detail`.
    """
    answers = Answers.of(wiring.settings_of(settings))
    refusal = answers.refuse(Reason.UNKNOWN_TOKEN)
    headers = {name.decode(): value.decode() for name, value in refusal.headers}
    # RFC 6750 section 3.1: no error code where no credential was presented.
    headers["WWW-Authenticate"] = answers.scheme.decode()

    async def refused(_: Request, __: Exception) -> Response:
        return Response(refusal.body, refusal.status, headers)

    app.add_exception_handler(NotLoggedIn, refused)


def _on(connection: HTTPConnection, error: HTTPException) -> Exception:
    if connection.scope["type"] == "websocket":
        return WebSocketException(_POLICY_VIOLATION)
    return error


_DEFAULT: Final = dependencies()
optional_principal: Final = _DEFAULT.optional_principal
current_principal: Final = _DEFAULT.current_principal
current_session: Final = _DEFAULT.current_session

OptionalPrincipal: TypeAlias = Annotated[Principal | None, Depends(optional_principal)]
CurrentPrincipal: TypeAlias = Annotated[Principal, Depends(current_principal)]
CurrentSession: TypeAlias = Annotated[Session, Depends(current_session)]
