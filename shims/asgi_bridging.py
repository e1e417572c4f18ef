"""The bridge's crossing, for ASGI: the request's body is read and the answer's is held, if at all.

What is decided is in shims/bridging.py. A start message is sent when its body has been judged, so
an answer that must not go out never began; streams go out part by part, as the app sends them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from migrator.core.errors import Refused, Unavailable
from migrator.core.verdicts import Reason
from shims.answers import Answer, Answers
from shims.bridging import (
    ANSWER_ROOM_BYTES,
    REQUEST_ROOM_BYTES,
    Answered,
    Asking,
    Bridge,
    Crossing,
)
from shims.messages import App, Message, Receive, Scope, Send

Says: TypeAlias = Callable[[Answer, Scope, Receive, Send], Awaitable[None]]

_START: Final = "http.response.start"
_BODY: Final = "http.response.body"
_FILES: Final = {"http.response.pathsend", "http.response.zerocopysend"}


class Disconnected(Exception):
    """The client went away before its request was whole."""


class Over:
    """The bridge before an app that verifies JWTs.

    Args:
        says: sends an answer of ours in the way a scope allows.
    """

    def __init__(self, bridge: Bridge, answers: Answers, says: Says) -> None:
        self._bridge = bridge
        self._answers = answers
        self._says = says

    async def take(
        self, app: App, scope: Scope, receive: Receive, send: Send, asking: Asking
    ) -> None:
        """Take a request to the app and its answer back. `scope` is the app's own copy."""
        crossing = Crossing(self._bridge, asking)
        try:
            body = await read_body(receive) if crossing.reads else b""
            inbound = await crossing.enter(body)
        except Refused as refused:
            await self._says(self._answers.refuse(refused.reason), scope, receive, send)
            return
        except Unavailable:
            await self._says(self._answers.unavailable(), scope, receive, send)
            return
        except Disconnected:
            return
        if inbound.body is not None and not crossing.reads:
            await read_body(receive)  # it was looked into already, and is not to come twice
        if inbound.body is not None or crossing.reads:
            receive = replaying(body if inbound.body is None else inbound.body, receive)
        scope["headers"] = [(name.lower(), value) for name, value in inbound.headers]
        scope["query_string"] = inbound.query
        if scope["type"] != "http":
            await app(scope, receive, send)
            return

        async def instead(why: Refused | Unavailable) -> None:
            answer = self._answers.unavailable()
            if isinstance(why, Refused):
                answer = self._answers.refuse(why.reason)
            await self._says(answer, scope, receive, send)

        back = _Back(crossing, send, instead)
        try:
            await app(scope, receive, back.send)
            await back.finish()
        except (Refused, Unavailable) as error:  # an app may ask our stores by itself
            if back.is_begun:
                raise
            await instead(error)
        except Exception:
            if not back.is_replaced:
                raise


class _Back:
    """The way back of one answer.

    Args:
        instead: answers in the app's place where its answer must not go out. It is not told: what
            frameworks do with an exception of `send` is theirs, and the rest of it goes nowhere.
    """

    def __init__(
        self,
        crossing: Crossing,
        send: Send,
        instead: Callable[[Refused | Unavailable], Awaitable[None]],
    ) -> None:
        self._crossing = crossing
        self._send = send
        self._instead = instead
        self._start: Message | None = None
        self._held: list[bytes] | None = None
        self._size = 0
        self.is_begun = self.is_replaced = False

    async def send(self, message: Message) -> None:
        """What the app sends."""
        if self.is_replaced:
            return
        try:
            await self._sends(message)
        except (Refused, Unavailable) as error:
            if self.is_begun:
                raise
            await self._replace(error)

    async def finish(self) -> None:
        """The app has returned: what is held without an end is all there will be."""
        if self._held is None or self.is_replaced:
            return
        try:
            await self._judged(more=True)
        except (Refused, Unavailable) as error:
            await self._replace(error)

    async def _replace(self, why: Refused | Unavailable) -> None:
        self._start = self._held = None
        self.is_begun = self.is_replaced = True
        await self._instead(why)

    async def _sends(self, message: Message) -> None:
        if message["type"] == _START:
            await self._starts(message)
        elif message["type"] == _BODY:
            await self._goes_on(message)
        else:  # trailers, early hints, a path to a file: nothing of ours is in them
            if message["type"] in _FILES:
                await self._let_go(is_file=True)
            await self._send(message)

    async def _starts(self, message: Message) -> None:
        headers = _raw(message)
        if self._crossing.holds(message["status"], headers):
            self._start, self._held = message, []
            return
        await self._begin(message, await self._crossing.leave(message["status"], headers))

    async def _goes_on(self, message: Message) -> None:
        part, more = bytes(message.get("body", b"")), bool(message.get("more_body", False))
        if self._held is None or self._start is None:
            body = self._crossing.passing(part, last=not more)
            await self._send({**message, "body": body})
            return
        self._held.append(part)
        self._size += len(part)
        if self._size > ANSWER_ROOM_BYTES:
            await self._let_go(more=more)
        elif not more:
            await self._judged()

    async def _judged(self, *, more: bool = False) -> None:
        """Send what was held, as a whole."""
        assert self._start is not None
        start, whole = self._start, b"".join(self._held or ())
        self._start = self._held = None
        answered = await self._crossing.leave(start["status"], _raw(start), whole)
        await self._begin(start, answered)
        message: Message = {"type": _BODY, "body": answered.body or b""}
        await self._send({**message, "more_body": True} if more else message)

    async def _let_go(self, *, more: bool = True, is_file: bool = False) -> None:
        """Send what was held after all: it is too long, or a file of its own length follows."""
        if self._start is None or self._held is None:
            return
        start, parts = self._start, b"".join(self._held)
        self._start = self._held = None
        answered = await self._crossing.leave(start["status"], _raw(start))
        if is_file and not parts:
            sized = [line for line in _raw(start) if line[0].lower() == b"content-length"]
            rest = [line for line in answered.headers if line[0].lower() != b"content-length"]
            await self._begin(start, Answered([*rest, *sized]))
            return
        await self._begin(start, answered)
        body = self._crossing.passing(parts, last=not more)
        await self._send({"type": _BODY, "body": body, "more_body": more})

    async def _begin(self, start: Message, answered: Answered) -> None:
        self.is_begun = True
        headers = [(name.lower(), value) for name, value in answered.headers]
        await self._send({**start, "headers": headers})


def _raw(message: Message) -> list[tuple[bytes, bytes]]:
    return [(bytes(name), bytes(value)) for name, value in message.get("headers", ())]


async def read_body(receive: Receive) -> bytes:
    """The request's body.

    Raises:
        Refused: it is longer than there is room for.
        Disconnected: its client went away.
    """
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise Disconnected
        part = bytes(message.get("body", b""))
        parts.append(part)
        size += len(part)
        if size > REQUEST_ROOM_BYTES:
            raise Refused(Reason.MALFORMED_REQUEST)
        if not message.get("more_body", False):
            return b"".join(parts)


def replaying(body: bytes, receive: Receive) -> Receive:
    """A `receive` that begins with `body`, whole; what comes after it is the client's."""
    message: Message | None = {"type": "http.request", "body": body, "more_body": False}

    async def next_message() -> Message:
        nonlocal message
        if message is None:
            return await receive()
        first, message = message, None
        return first

    return next_message
