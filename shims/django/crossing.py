"""The bridge's crossing, for Django: the request's body is read and the answer's is judged.

What is decided is in shims/bridging.py. Django has a request's body and an answer's content whole
unless an answer streams; a stream goes out part by part, as the view gives it.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from io import BytesIO
from typing import Any, Final, cast

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, StreamingHttpResponse
from django.http.request import RawPostDataException
from django.http.response import HttpResponseBase

from migrator.core.errors import Refused
from migrator.core.presented import Outcome, Presented
from migrator.core.verdicts import Reason
from shims.bridging import REQUEST_ROOM_BYTES, Bridge, Crossing, Inbound
from shims.credentials import route_of
from shims.django.responses import lines_of, rewrite
from shims.environ_bridging import EnvironBridge

# What Django computes of META, or of the body, and keeps.
_OF_META: Final = ("headers", "COOKIES", "GET")
_OF_BODY: Final = ("_post", "_files")


class Over:
    """The bridge before a project that verifies JWTs. Its coroutines suspend as the flow does."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._environs = EnvironBridge.of(bridge)

    def crossing(
        self,
        request: HttpRequest,
        presented: Presented | None,
        outcome: Outcome | None,
        body: bytes,
    ) -> Crossing:
        """One request's crossing; `body` as it was looked into for a credential."""
        asking = self._environs.asking(
            request.META,
            presented=presented,
            outcome=outcome,
            body=body,
            path=request.path,
            route=route_of(self._bridge.places, request.path, mount_of(request)),
        )
        return Crossing(self._bridge, asking)

    async def enter(self, crossing: Crossing, request: HttpRequest) -> None:
        """Make of `request` what the views are to get.

        Raises:
            Refused, Unavailable: see `Crossing.enter`.
        """
        inbound = await crossing.enter(body_of(request) if crossing.reads else b"")
        self._environs.write(request.META, inbound)
        if inbound.body is not None:
            _give(request, inbound.body)
        self._write_scope(request, inbound)
        recompute(request)

    async def leave(self, crossing: Crossing, response: HttpResponseBase) -> None:
        """Make of `response` what the client is to get.

        Raises:
            Unavailable: see `Crossing.leave`; nothing of it may go out.
        """
        code, before = response.status_code, lines_of(response)
        if isinstance(response, StreamingHttpResponse):
            answered = await crossing.leave(code, before)
            rewrite(response, before, answered.headers)
            if crossing.is_watching:
                _watch(crossing, response)
            return
        whole: Any = response
        size = b"%d" % len(whole.content)
        sized = [line for line in before if line[0].lower() != b"content-length"]
        sized.append((b"Content-Length", size))  # as whatever sends it will say
        body = whole.content if crossing.holds(code, sized) else None
        answered = await crossing.leave(code, sized, body)
        if answered.body is not None:
            whole.content = answered.body
        elif crossing.is_watching:
            whole.content = crossing.passing(whole.content, last=True)
        rewrite(response, before, _unsized(answered.headers, before))

    def _write_scope(self, request: HttpRequest, inbound: Inbound) -> None:
        scope = getattr(request, "scope", None)
        if scope is None:
            return
        ours = {name for _, name in self._environs.keys} | {name for name, _ in inbound.headers}
        kept = [line for line in scope["headers"] if line[0].lower() not in ours]
        headers = [*kept, *((name.lower(), value) for name, value in inbound.headers)]
        set_scope(request, headers=headers, query_string=inbound.query)


def mount_of(request: HttpRequest) -> str:
    """How much of the path leads to the app."""
    return request.path.removesuffix(request.path_info.removeprefix("/")).rstrip("/")


def recompute(request: HttpRequest) -> None:
    """Have what Django computed of META computed again."""
    for name in _OF_META:
        request.__dict__.pop(name, None)


def set_scope(request: HttpRequest, **changes: object) -> None:
    """Change the scope of an ASGI request, for views that read it; the server keeps its own."""
    scope = getattr(request, "scope", None)
    if scope is not None:
        cast("Any", request).scope = {**scope, **changes}


def body_of(request: HttpRequest) -> bytes:
    """The request's body; views read it as if nobody had.

    Raises:
        Refused: it is longer than there is room for, or somebody in front has consumed it.
    """
    length = request.META.get("CONTENT_LENGTH") or "0"
    if length.isdigit() and int(length) > REQUEST_ROOM_BYTES:
        raise Refused(Reason.MALFORMED_REQUEST)
    try:
        body = request.body
    except (RequestDataTooBig, RawPostDataException) as error:
        raise Refused(Reason.MALFORMED_REQUEST) from error
    if len(body) > REQUEST_ROOM_BYTES:
        raise Refused(Reason.MALFORMED_REQUEST)
    return body


def _give(request: HttpRequest, body: bytes) -> None:
    """Make `body` the request's, for whoever parses it."""
    known = cast("Any", request)
    known._body, known._stream = body, BytesIO(body)  # noqa: SLF001 - where Django keeps them
    known._read_started = False  # noqa: SLF001 - as above
    for name in _OF_BODY:
        request.__dict__.pop(name, None)
    request.META["CONTENT_LENGTH"] = str(len(body))


def _unsized(
    after: list[tuple[bytes, bytes]], before: list[tuple[bytes, bytes]]
) -> list[tuple[bytes, bytes]]:
    """Without a length where the view gave none: CommonMiddleware says it at the end."""
    if any(name.lower() == b"content-length" for name, _ in before):
        return after
    return [line for line in after if line[0].lower() != b"content-length"]


def _watch(crossing: Crossing, response: StreamingHttpResponse) -> None:
    """Search a stream as it passes."""
    parts = response.streaming_content
    if response.is_async:
        response.streaming_content = _apassing(crossing, cast("AsyncIterable[bytes]", parts))
    else:
        response.streaming_content = _passing(crossing, cast("Iterable[bytes]", parts))


def _passing(crossing: Crossing, parts: Iterable[bytes]) -> Iterator[bytes]:
    for part in parts:
        yield crossing.passing(part, last=False)
    yield crossing.passing(b"", last=True)


async def _apassing(crossing: Crossing, parts: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    async for part in parts:
        yield crossing.passing(part, last=False)
    yield crossing.passing(b"", last=True)
