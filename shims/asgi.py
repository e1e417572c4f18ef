"""The ASGI middleware: credentials in, principal on the scope, tokens and notices out.

    app = DualAcceptMiddleware(app)

On a remembered credential nothing is awaited before the app is called, and the app gets the
server's own `send`. The scope is copied, never changed: servers and outer middleware keep theirs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from migrator import wiring
from migrator.core import errors
from migrator.core.comparing import Shadow
from migrator.core.errors import Unavailable
from migrator.core.presented import Outcome, Presented
from migrator.core.verdicts import Admitted, Passed, Principal, Refused
from migrator.settings import Settings
from shims.answers import Answer, Answers, Asked, adds_nothing, navigates
from shims.asgi_bridging import Disconnected, Over, read_body, replaying
from shims.bodies import may_present
from shims.bridging import Asking, Bridge
from shims.comparing import Compares, pairing_of, pairing_of_hit
from shims.credentials import (
    Places,
    clean,
    clear,
    clear_query,
    find,
    lone,
    route_of,
    value_of,
)
from shims.messages import App, Message, Receive, Scope, Send
from shims.websockets import watching

_NO_COOKIES: Final[frozenset[bytes]] = frozenset()
_POLICY_VIOLATION: Final = 1008  # RFC 6455 section 7.4.1; servers answer the handshake with 403
_TRY_AGAIN_LATER: Final = 1013
_SWITCHING: Final = 101
_STARTS: Final = {
    "http.response.start",
    "websocket.accept",
    "websocket.http.response.start",
}
_ENDS: Final = {"lifespan.shutdown.complete", "lifespan.shutdown.failed"}


class AsyncAsks(Compares, Protocol):
    """What the middleware needs of a gate (`migrator.core.gate.AsyncGate`)."""

    def peek(self, presented: Presented) -> Outcome | None:
        """The remembered answer, without I/O, lock or await."""

    def peek_header(self, value: bytes, issuers: frozenset[str]) -> Admitted | None:
        """The same for a request that brings nothing but this one header."""

    def wake(self) -> None:
        """See that this process has a pulse."""

    async def admit(self, presented: Presented) -> Outcome:
        """The answer; raises Unavailable."""

    def observed(self, path: str, outcome: Outcome, answered: int) -> None:
        """Take in what the app answered where we would have refused."""


class User:
    """`request.user`: what Starlette's `SimpleUser` is, with the subject as identity."""

    __slots__ = ("identity",)

    is_authenticated: Final = True

    def __init__(self, subject: str) -> None:
        self.identity = subject

    @property
    def display_name(self) -> str:
        """The subject; there is no other name."""
        return self.identity


class Nobody:
    """`request.user` without a principal: what Starlette's `UnauthenticatedUser` is."""

    __slots__ = ()

    is_authenticated: Final = False
    display_name: Final = ""
    identity: Final = ""


class Grants(list[str]):
    """The scopes of a principal, as a list.

    Starlette's documentation has every backend grant `authenticated`, and apps ask for it with
    `@requires("authenticated")`. It is in this list without being listed.
    """

    __slots__ = ()

    def __contains__(self, scope: object) -> bool:
        return scope == "authenticated" or super().__contains__(scope)


class Auth:
    """`request.auth`: what Starlette's `AuthCredentials` is."""

    __slots__ = ("_granted",)

    def __init__(self, granted: frozenset[str]) -> None:
        self._granted = granted

    @property
    def scopes(self) -> list[str]:
        """What the principal may do, sorted."""
        return Grants(sorted(self._granted))


class NoAuth:
    """`request.auth` without a principal."""

    __slots__ = ()

    @property
    def scopes(self) -> list[str]:
        """Nothing."""
        return []


_NOBODY: Final = Nobody()
_NO_AUTH: Final = NoAuth()


class DualAcceptMiddleware:
    """Accepts legacy tokens and sessions on the same routes, as the phase of the rollout says.

    Sets `scope["user"]`, `scope["auth"]` and `scope["state"]["principal"]` (None: there is none).

    Args:
        app: the ASGI app.
        settings: those of `migrator.toml` and `MIGRATOR_*` unless given.
        resolve_subject: `(subject, realm) -> SubjectState | None`, may be async; asked on a memory
            miss whether the subject is active and what it may do now.
        gate: what is asked instead of the process's own gate.
        answers: how refusals are worded instead of as the settings say.
    """

    def __init__(
        self,
        app: App,
        settings: Settings | None = None,
        *,
        resolve_subject: wiring.Resolver | None = None,
        gate: AsyncAsks | None = None,
        answers: Answers | None = None,
    ) -> None:
        self.app = app
        settings = wiring.settings_of(settings)
        if gate is None:
            gate = wiring.async_gate(settings, resolve_subject=resolve_subject)
        self._places = Places.of(settings)
        self._strict = self._places.routes.strict
        self._answers = Answers.of(settings) if answers is None else answers
        self._gate: AsyncAsks = gate
        self._watched = watching(gate, self._places)
        flow = wiring.async_bridge(settings)
        bridge = None if flow is None else Bridge.of(settings, self._places, flow)
        self._over = None if bridge is None else Over(bridge, self._answers, _refusing)
        self._close: Callable[[], Awaitable[None]] = getattr(gate, "aclose", _nothing)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it to the app with its principal."""
        kind, app = scope["type"], self.app
        if kind == "http":
            method = scope["method"]
        elif kind == "websocket":
            method = "WEBSOCKET"  # a page of another site may open one: not a safe method
            app = self._watched(scope, app)
        else:
            if kind == "lifespan":
                self._gate.wake()  # a node counts before its first request
                send = self._closing(send)
            await self.app(scope, receive, send)
            return

        gate, places, headers = self._gate, self._places, scope["headers"]
        gate.wake()
        query = scope.get("query_string", b"")
        path, mount, strict = scope["path"], scope.get("root_path", ""), self._strict
        quick = self._over is None and (strict is None or not strict.covers(path, mount))
        only = lone(places, headers, query) if quick else None
        remembered = None if only is None else gate.peek_header(*only)
        if remembered is not None and remembered.hand_out is None and remembered.notice is None:
            if remembered.shadow is not None:  # in `observe` alone
                app = self._heard(app, scope, remembered.shadow)
            await app(_scoped(scope, remembered.principal), receive, send)
            return

        body = b""
        if places.members and kind == "http":
            content_type = value_of(headers, b"content-type")
            if may_present(places.members, method=method, content_type=content_type):
                try:
                    body = await read_body(receive)
                except errors.Refused as refused:
                    await _refusing(self._answers.refuse(refused.reason), scope, receive, send)
                    return
                except Disconnected:
                    return
                receive = replaying(body, receive)
        peer = scope.get("client")
        presented, lies = find(
            places,
            headers,
            method=method,
            path=path,
            mount=mount,
            query=query,
            body=body,
            ip=peer[0] if peer else None,
        )
        if lies:
            scope = {**scope, "headers": clean(places, headers)}
        if presented is None:
            await self._onward(app, _scoped(scope, None), receive, send, body)
            return

        outcome = gate.peek(presented) if remembered is None else Outcome(remembered, "header")
        if outcome is None:
            try:
                outcome = await gate.admit(presented)
            except Unavailable:
                await _answer(self._answers.unavailable(), _TRY_AGAIN_LATER, scope, receive, send)
                return
        verdict = outcome.verdict
        if isinstance(verdict, Admitted):
            inner = _scoped(scope, verdict.principal)
        elif isinstance(verdict, Refused):
            answer = self._answers.refuse(verdict.reason)
            asked = _asked(scope, presented)
            amended = self._answers.amend(
                answer.headers, code=answer.status, outcome=outcome, asked=asked
            )
            answer = Answer(answer.status, tuple(amended), answer.body)
            await _answer(answer, _POLICY_VIOLATION, scope, receive, send)
            return
        else:
            inner = _scoped(scope, None)
        if not adds_nothing(outcome):
            self._hide(inner, outcome)
            send = self._amending(scope, presented, outcome, send)
        pairing = pairing_of(gate, places, outcome, presented, method=method)
        if pairing is not None and kind == "http":
            app = pairing.asgi(app)
        await self._onward(app, inner, receive, send, body, presented, outcome)

    def _heard(self, app: App, scope: Scope, shadow: Shadow) -> App:
        """The app, with its answer compared."""
        pairing = None
        if scope["type"] == "http":
            path, mount = scope["path"], scope.get("root_path", "")
            pairing = pairing_of_hit(
                *(self._gate, self._places, shadow), method=scope["method"], path=path, mount=mount
            )
        return app if pairing is None else pairing.asgi(app)

    async def _onward(
        self,
        app: App,
        scope: Scope,
        receive: Receive,
        send: Send,
        body: bytes,
        presented: Presented | None = None,
        outcome: Outcome | None = None,
    ) -> None:
        """To the app, over the bridge where there is one. `scope` is the app's own copy."""
        if self._over is None:
            await app(scope, receive, send)
            return
        path, peer = scope["path"], scope.get("client")
        asking = Asking(
            method=scope.get("method", "GET"),
            path=path,
            headers=scope["headers"],
            query=scope.get("query_string", b""),
            route=route_of(self._places, path, scope.get("root_path", "")),
            body=body,
            presented=presented,
            outcome=outcome,
            ip=peer[0] if peer else None,
        )
        await self._over.take(app, scope, receive, send, asking)

    def _hide(self, scope: Scope, outcome: Outcome) -> None:
        """Take dead credentials of ours out of the app's own copy of the scope."""
        strips = isinstance(outcome.verdict, Passed) and outcome.verdict.strip
        hides = strips or outcome.dead_legacy
        cookies = frozenset(self._places.cookies) if hides else _NO_COOKIES
        if outcome.dead_cookie:
            cookies |= {self._places.session_cookie}
        if not cookies and not hides:
            return
        scope["headers"] = clear(self._places, scope["headers"], cookies=cookies, explicit=strips)
        if hides and self._places.queries:
            scope["query_string"] = clear_query(self._places, scope.get("query_string", b""))

    def _amending(self, scope: Scope, presented: Presented, outcome: Outcome, send: Send) -> Send:
        asked = _asked(scope, presented)

        async def amending(message: Message) -> None:
            if message["type"] in _STARTS:
                code = message.get("status", _SWITCHING)
                amended = self._answers.amend(
                    [(bytes(name), bytes(value)) for name, value in message.get("headers", ())],
                    code=code,
                    outcome=outcome,
                    asked=asked,
                )
                message = {**message, "headers": _lowered(amended)}
                self._gate.observed(presented.path, outcome, code)
            await send(message)

        return amending

    def _closing(self, send: Send) -> Send:
        async def closing(message: Message) -> None:
            if message["type"] in _ENDS:
                await self._close()
            await send(message)

        return closing


def _scoped(scope: Scope, principal: Principal | None) -> Scope:
    """A copy of `scope` that says who the request comes from."""
    inner = dict(scope)
    state = scope.get("state")
    inner["state"] = (
        {"principal": principal} if state is None else {**state, "principal": principal}
    )
    if principal is None:
        inner["user"], inner["auth"] = _NOBODY, _NO_AUTH
    else:
        inner["user"], inner["auth"] = User(principal.subject), Auth(principal.scopes)
    return inner


def _asked(scope: Scope, presented: Presented) -> Asked:
    headers = scope["headers"]
    method = scope.get("method", "GET")
    return Asked(
        method=method,
        host=value_of(headers, b"host"),
        navigates=scope["type"] == "http"
        and navigates(
            method=method,
            sec_fetch_mode=value_of(headers, b"sec-fetch-mode"),
            accept=value_of(headers, b"accept"),
        ),
        route=presented.route,
    )


def _lowered(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    # The ASGI specification wants names in lower case; HTTP/2 servers insist.
    return [(name.lower(), value) for name, value in headers]


async def _nothing() -> None:
    """What there is to close of a gate that has no end of its own."""


async def _refusing(answer: Answer, scope: Scope, receive: Receive, send: Send) -> None:
    code = _TRY_AGAIN_LATER if answer.status == 503 else _POLICY_VIOLATION
    await _answer(answer, code, scope, receive, send)


async def _answer(
    answer: Answer, close_code: int, scope: Scope, receive: Receive, send: Send
) -> None:
    """Send an answer of ours in the way the scope allows."""
    headers = _lowered(list(answer.headers))
    start: Message = {"status": answer.status, "headers": headers}
    if scope["type"] == "http":
        body = b"" if scope["method"] == "HEAD" else answer.body
        await send({"type": "http.response.start", **start})
        await send({"type": "http.response.body", "body": body})
        return
    await receive()  # websocket.connect comes first
    if "websocket.http.response" in (scope.get("extensions") or {}):
        await send({"type": "websocket.http.response.start", **start})
        await send({"type": "websocket.http.response.body", "body": answer.body})
    else:
        await send({"type": "websocket.close", "code": close_code, "reason": ""})
