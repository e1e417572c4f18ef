"""`/session` and `/sessions`: what a front end may know of its login, and may end of its own.

Mounted into an ASGI app, or served by `migrator serve` behind the proxy of any other:

    app.mount("/auth", session_endpoints())      # GET /auth/session

Each request is judged here by its own credential, whether a middleware stands around or not. No
body ever holds a token.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from migrator import wiring
from migrator.core.errors import Refused as NotHeld
from migrator.core.errors import Unavailable
from migrator.core.introspecting import introspect
from migrator.core.presented import Outcome, Presented
from migrator.core.sessions import Session
from migrator.core.verdicts import Admitted, Passed, Principal, Reason, Refused
from migrator.settings import Settings
from shims.answers import Answer, Answers, Asked, navigates
from shims.credentials import Places, find, value_of

_NO_STORE: Final = {"Cache-Control": "no-store", "Vary": "Authorization, Cookie"}
_PREFLIGHT_SECONDS: Final = 600


@dataclass(frozen=True, slots=True)
class _Caller:
    """Who asks, and by what."""

    principal: Principal
    presented: Presented
    outcome: Outcome

    @property
    def token(self) -> bytes | None:
        """The session token that the caller has, or gets with this answer."""
        verdict = self.outcome.verdict
        if self.principal.via == "legacy":
            return verdict.hand_out if isinstance(verdict, Admitted) else None
        presented = self.presented
        decided = presented.header or presented.session_cookie
        return None if decided is None else decided.value


_Verb = Callable[[Request, _Caller], Awaitable[Response]]


def session_endpoints(
    settings: Settings | None = None, *, resolve_subject: wiring.Resolver | None = None
) -> Starlette:
    """An app that answers `GET /session`, `GET|DELETE /sessions` and `DELETE /sessions/ID`.

    Origins of `http.allowed_origins` may ask with credentials; where none is set no CORS header is
    sent, and an app's own CORS middleware may send its own.

    Args:
        settings: those of `migrator.toml` and `MIGRATOR_*` unless given.
        resolve_subject: see `shims.asgi.DualAcceptMiddleware`.
    """
    settings = wiring.settings_of(settings)
    desk = _Desk(settings, resolve_subject)
    origins = settings.http.allowed_origins
    cors = Middleware(
        CORSMiddleware,
        allow_origins=list(origins),
        allow_credentials=True,
        allow_methods=["GET", "DELETE"],
        allow_headers=[name.decode() for name in desk.places.headers],
        expose_headers=[settings.swap.header],
        max_age=_PREFLIGHT_SECONDS,
    )
    return Starlette(
        routes=[
            Route("/session", desk.judged(desk.show), methods=["GET"]),
            Route("/sessions", desk.judged(desk.listed), methods=["GET"]),
            Route("/sessions", desk.judged(desk.end_others), methods=["DELETE"]),
            Route("/sessions/{id}", desk.judged(desk.end), methods=["DELETE"]),
        ],
        middleware=[cors] if origins else [],
    )


class _Left(Response):
    """The answer to a caller who ended the session it came with: its cookie goes."""


class _Desk:
    """The verbs, and how a caller is judged before any of them."""

    def __init__(self, settings: Settings, resolve: wiring.Resolver | None) -> None:
        self.places = Places.of(settings)
        self._answers = Answers.of(settings)
        self._scheme = settings.http.refusal.scheme
        self._gate = wiring.async_gate(settings, resolve_subject=resolve)
        self._sessions = wiring.async_sessions(settings)

    def judged(self, verb: _Verb) -> Callable[[Request], Awaitable[Response]]:
        """`verb` for whoever may ask; an answer of ours for whoever may not."""

        async def answer(request: Request) -> Response:
            try:
                presented, outcome = await self._judge(request)
                verdict = outcome.verdict
                if isinstance(verdict, Admitted):
                    caller = _Caller(verdict.principal, presented, outcome)
                    response = await verb(request, caller)
                else:
                    response = self._refuse(verdict, presented)
            except Unavailable:
                return _response(self._answers.unavailable())
            return self._amended(response, request, presented, outcome)

        return answer

    async def _judge(self, request: Request) -> tuple[Presented, Outcome]:
        scope = request.scope
        presented, _ = find(
            self.places,
            scope["headers"],
            method=request.method,
            path=scope["path"],
            mount=scope.get("root_path", ""),
            query=scope.get("query_string", b""),
            ip=request.client.host if request.client else None,
        )
        self._gate.wake()
        if presented is None:
            return Presented(path=scope["path"]), Outcome(Passed())
        return presented, self._gate.peek(presented) or await self._gate.admit(presented)

    def _refuse(self, verdict: Refused | Passed, presented: Presented) -> Response:
        reason = verdict.reason
        if reason is None or (reason is Reason.FOREIGN and presented.header is None):
            challenge = {"WWW-Authenticate": self._scheme, **_NO_STORE}
            return Response(status_code=401, headers=challenge)
        return _response(self._answers.refuse(reason))

    def _amended(
        self, response: Response, request: Request, presented: Presented, outcome: Outcome
    ) -> Response:
        headers, left = request.scope["headers"], isinstance(response, _Left)
        asked = Asked(
            method=request.method,
            host=value_of(headers, b"host"),
            navigates=navigates(
                method=request.method,
                sec_fetch_mode=value_of(headers, b"sec-fetch-mode"),
                accept=value_of(headers, b"accept"),
            ),
            route="logout" if left else presented.route,
        )
        if left and outcome.place == "cookie":
            outcome = replace(outcome, dead_cookie=True)
        amended = self._answers.amend(
            response.raw_headers, code=response.status_code, outcome=outcome, asked=asked
        )
        response.raw_headers = [(name.lower(), value) for name, value in amended]
        return response

    # The verbs.

    async def show(self, _: Request, caller: _Caller) -> Response:
        """The claims echo: what a front end used to decode from its JWT."""
        who = caller.principal
        session = who.session
        auth_time, amr, ends_at = (
            (session.auth_time, session.amr, session.expires_at)
            if session is not None
            else await self._of_legacy(caller.presented)
        )
        said = {
            "subject": who.subject,
            "realm": who.realm,
            "scopes": sorted(who.scopes),
            "client": who.client,
            "claims": dict(who.claims),
            "auth_time": _rfc3339(auth_time),
            "amr": list(amr),
            "expires_at": _rfc3339(ends_at),
            "via": who.via,
            "session": None if session is None else str(session.id),
        }
        return JSONResponse(said, headers=_NO_STORE)

    async def _of_legacy(
        self, presented: Presented
    ) -> tuple[datetime | None, tuple[str, ...], datetime | None]:
        credential = presented.header or presented.legacy
        told = None if credential is None else await introspect(self._gate, credential.value)
        return (None, (), None) if told is None else (told.auth_time, told.amr, told.expires_at)

    async def listed(self, _: Request, caller: _Caller) -> Response:
        """The living sessions of the caller's subject, newest first."""
        if _is_program(caller):
            return _insufficient(self._scheme)
        mine = await self._own(caller)
        current = caller.principal.session
        said = [
            {**_row(one), "current": current is not None and one.id == current.id} for one in mine
        ]
        return JSONResponse({"sessions": said}, headers=_NO_STORE)

    async def end(self, request: Request, caller: _Caller) -> Response:
        """End one session of the caller's subject; nobody else's can be told from none."""
        if _is_program(caller):
            return _insufficient(self._scheme)
        named = _uuid(request.path_params["id"])
        if named is None or named not in {one.id for one in await self._own(caller)}:
            return JSONResponse({"error": "not_found"}, 404, headers=_NO_STORE)
        await self._sessions.end(named)
        current = caller.principal.session
        is_own = current is not None and current.id == named
        return (_Left if is_own else Response)(status_code=204, headers=_NO_STORE)

    async def end_others(self, _: Request, caller: _Caller) -> Response:
        """Log out everywhere else; a JWT without a session would be cut off with the rest."""
        if _is_program(caller):
            return _insufficient(self._scheme)
        if caller.token is None:
            return JSONResponse({"error": "session_required"}, 403, headers=_NO_STORE)
        try:
            ended = await self._sessions.end_others(caller.token)
        except NotHeld as refused:  # it ended in the meantime
            return _response(self._answers.refuse(refused.reason))
        return JSONResponse({"ended": ended}, headers=_NO_STORE)

    async def _own(self, caller: _Caller) -> list[Session]:
        who = caller.principal
        return list(await self._sessions.list(who.subject, realm=who.realm))


def _is_program(caller: _Caller) -> bool:
    """Whether an API token asks: it does what it was made for, and ends nobody's login."""
    session = caller.principal.session
    return session is not None and session.kind == "api"


def _insufficient(scheme: str) -> Response:
    challenge = {"WWW-Authenticate": f'{scheme} error="insufficient_scope"', **_NO_STORE}
    return JSONResponse({"error": "insufficient_scope"}, 403, headers=challenge)


def _row(session: Session) -> dict[str, Any]:
    return {
        "id": str(session.id),
        "kind": session.kind,
        "client": session.client,
        "label": session.label,
        "created_at": _rfc3339(session.created_at),
        "last_seen_at": _rfc3339(session.last_seen_at),
        "expires_at": _rfc3339(session.expires_at),
        "user_agent": session.user_agent,
        "ip": session.ip,
    }


def _response(answer: Answer) -> Response:
    response = Response(answer.body, answer.status)
    response.raw_headers = [(name.lower(), value) for name, value in answer.headers]
    return response


def _rfc3339(at: datetime | None) -> str | None:
    if at is None:
        return None
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
