"""A reverse proxy as an ASGI app: what `migrator serve --upstream` puts the middleware around.

nginx cannot rewrite bodies; the middleware can, and this carries requests on to the app behind it.
Streams the request, then the answer; buffers nothing, follows nothing, keeps no cookie. No
WebSockets, and no answer that begins before its request has ended.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from typing import Final, TypeAlias
from urllib.parse import quote

import httpx

from shims.messages import Receive, Scope, Send

RawHeaders: TypeAlias = list[tuple[bytes, bytes]]

# RFC 9110 section 7.6.1, with the two that only concern a proxy (11.7) and trailers (6.6.2).
_HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_ANSWERED_HERE: Final = frozenset({b"expect"})  # the server in front of us has said 100 Continue
_CONNECT_SECONDS: Final = 5.0
_SILENT_SECONDS: Final = 300.0  # between two bytes of an answer: server-sent events may be slow
# Less than servers keep idle connections (gunicorn: 2 s), or the next request meets a closed one.
_IDLE_SECONDS: Final = 1.0
_CONNECTIONS: Final = 512


class Upstream:
    """An ASGI app that passes every request on to the server at `url`, and its answer back.

    Args:
        url: scheme, host and port; the path and query of each request are kept byte for byte.
    """

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._transport = httpx.AsyncHTTPTransport(
            trust_env=False,
            limits=httpx.Limits(
                max_connections=_CONNECTIONS,
                max_keepalive_connections=_CONNECTIONS,
                keepalive_expiry=_IDLE_SECONDS,
            ),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Carry one request there and back; 502 where nobody answers."""
        if scope["type"] != "http":
            await receive()
            await send({"type": "websocket.close", "code": 1003, "reason": ""})
            return
        sent = asyncio.Event()
        request = httpx.Request(
            scope["method"],
            self._url,
            headers=_request_headers(scope),
            content=_body(receive, sent) if _has_body(scope) else None,
            extensions={
                "target": _target(scope),
                "timeout": {
                    "connect": _CONNECT_SECONDS,
                    "read": _SILENT_SECONDS,
                    "write": _SILENT_SECONDS,
                    "pool": _CONNECT_SECONDS,
                },
            },
        )
        if not _has_body(scope):
            await receive()  # the empty body
            sent.set()
        exchange = asyncio.ensure_future(self._exchange(request, send))
        gone = asyncio.ensure_future(_gone(receive, sent))
        try:
            await asyncio.wait({exchange, gone}, return_when=asyncio.FIRST_COMPLETED)
            if exchange.done():
                exchange.result()
        finally:
            for task in (exchange, gone):
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task

    async def _exchange(self, request: httpx.Request, send: Send) -> None:
        try:
            response = await self._transport.handle_async_request(request)
        except httpx.TransportError:
            await _bad_gateway(send)
            return
        stream = response.stream
        assert isinstance(stream, httpx.AsyncByteStream)
        async with aclosing(response):
            headers = _kept(response.headers.raw)
            await send(
                {
                    "type": "http.response.start",
                    "status": response.status_code,
                    "headers": [(name.lower(), value) for name, value in headers],
                }
            )
            async for chunk in stream:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def aclose(self) -> None:
        """Let go of every connection."""
        await self._transport.aclose()


def _request_headers(scope: Scope) -> RawHeaders:
    headers = [
        (name, value) for name, value in _kept(scope["headers"]) if name not in _ANSWERED_HERE
    ]
    known = {name for name, _ in headers}
    peer = scope.get("client")
    told = {
        b"x-forwarded-for": peer[0].encode() if peer else None,
        b"x-forwarded-proto": scope.get("scheme", "http").encode(),
        b"x-forwarded-host": dict(headers).get(b"host"),
    }
    added = [(name, value) for name, value in told.items() if value and name not in known]
    return [*headers, *added]


def _kept(headers: RawHeaders) -> RawHeaders:
    """The headers that are for the other end, and not for this connection."""
    named = {
        member.strip().lower()
        for name, value in headers
        if name.lower() == b"connection"
        for member in value.split(b",")
    }
    gone = _HOP_BY_HOP | named
    return [(name, value) for name, value in headers if name.lower() not in gone]


def _has_body(scope: Scope) -> bool:
    names = {name.lower() for name, _ in scope["headers"]}
    return not names.isdisjoint({b"content-length", b"transfer-encoding"})


def _target(scope: Scope) -> bytes:
    raw: bytes | None = scope.get("raw_path")
    path = quote(scope["path"]).encode() if raw is None else raw.partition(b"?")[0]
    query: bytes = scope.get("query_string", b"")
    return path + b"?" + query if query else path


async def _body(receive: Receive, sent: asyncio.Event) -> AsyncIterator[bytes]:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise httpx.ReadError("the client is gone")
        if message.get("body"):
            yield message["body"]
        if not message.get("more_body"):
            sent.set()
            return


async def _gone(receive: Receive, sent: asyncio.Event) -> None:
    """Wait until the client has hung up: nobody reads what a stream would go on saying."""
    await sent.wait()
    while (await receive())["type"] != "http.disconnect":
        pass


async def _bad_gateway(send: Send) -> None:
    body = json.dumps({"error": "bad_gateway"}, separators=(",", ":")).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": 502, "headers": headers})
    await send({"type": "http.response.body", "body": body})
