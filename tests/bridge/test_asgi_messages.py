"""Streams, files and failures of an ASGI app behind the bridge, message by message."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import jwt
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

from migrator import wiring
from migrator.settings import Settings
from shims.asgi import DualAcceptMiddleware as Asgi
from tests.bridge.app import LegacyApp
from tests.bridge.conftest import BRIDGED, handed
from tests.rig import SECRET, Rig


class Wire:
    """One request to an ASGI app, and the messages that it sends; each waits to be taken."""

    def __init__(self, app: Any, path: str, token: str | None = None, method: str = "GET") -> None:
        self.headers = [(b"host", b"app")]
        if token is not None:
            self.headers.append((b"authorization", f"Bearer {token}".encode()))
        self.scope = {
            "type": "http",
            "method": method,
            "path": path,
            "root_path": "",
            "query_string": b"",
            "headers": self.headers,
            "extensions": {"http.response.pathsend": {}, "http.response.trailers": {}},
        }
        self.sent: list[Any] = []
        self._app = app
        self.bodies: list[Any] = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive(self) -> Any:
        if self.bodies:
            return self.bodies.pop(0)
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    async def go(self) -> list[Any]:
        await self._app(self.scope, self.receive, self.send)
        return self.sent


async def _steps(messages: Iterable[Any], send: Any) -> None:
    for message in messages:
        await send(message)


def _starting(*lines: tuple[bytes, bytes], code: int = 200, **more: Any) -> dict[str, Any]:
    return {"type": "http.response.start", "status": code, "headers": [*lines], **more}


def _body(part: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": part, "more_body": more}


def run(app: Any, settings: Settings, path: str, token: str | None = None, **more: Any) -> Wire:
    """Ask an ASGI app behind the bridge, whose pool belongs to the loop of this one request."""
    wire = Wire(Asgi(app, settings), path, token, **more)
    asyncio.run(wire.go())
    return wire


EVENTS = (b"content-type", b"text/event-stream")


@pytest.mark.parametrize("path", ["/events", "/stream-login"])
def test_an_event_is_delivered_before_the_next_one_is_made(settings: Settings, path: str) -> None:
    token = handed(settings)
    seen: list[list[bytes]] = []
    wire: Wire

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send(_starting(EVENTS))
        for at in range(3):
            seen.append([each.get("body", b"") for each in wire.sent])
            await send(_body(b"data: %d\n\n" % at))
        await send(_body(b"", more=False))

    wire = Wire(Asgi(app, settings), path, token)
    asyncio.run(wire.go())
    assert [len(each) for each in seen] == [1, 2, 3]
    assert seen[2][1:] == [b"data: 0\n\n", b"data: 1\n\n"]


def test_a_download_passes_part_by_part_and_nothing_of_it_is_kept(settings: Settings) -> None:
    token = handed(settings)
    part, passed = b"x" * 65_536, 0
    wire: Wire

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        nonlocal passed
        kind = (b"content-type", b"application/octet-stream")
        await send(_starting(kind, (b"content-length", b"%d" % (64 * len(part)))))
        for at in range(64):
            await send(_body(part, more=at < 63))
            assert wire.sent[-1]["body"] is part  # the very bytes, at once
            passed += 1

    wire = Wire(Asgi(app, settings), "/file", token)
    asyncio.run(wire.go())
    assert passed == 64
    assert (b"content-length", b"4194304") in wire.sent[0]["headers"]


def test_files_trailers_and_hints_go_their_way(settings: Settings) -> None:
    token = handed(settings)
    kind = (b"content-type", b"text/plain")
    trailers = {"type": "http.response.trailers", "headers": [(b"x-sum", b"1")]}
    hint = {"type": "http.response.early_hint", "links": [b"</a>"]}
    path = {"type": "http.response.pathsend", "path": "/tmp/a"}

    async def sends_a_file(_scope: Any, _receive: Any, send: Any) -> None:
        await _steps([hint, _starting(kind, (b"content-length", b"5")), path], send)

    sent = run(sends_a_file, settings, "/file", token).sent
    assert [each["type"].rpartition(".")[2] for each in sent] == [
        "early_hint",
        "start",
        "pathsend",
    ]

    async def sends_trailers(_scope: Any, _receive: Any, send: Any) -> None:
        start = _starting(kind, trailers=True)
        await _steps([start, _body(b"a", more=False), trailers], send)

    sent = run(sends_trailers, settings, "/login").sent
    assert sent[0]["trailers"] is True
    assert sent[-1] is trailers


@pytest.mark.parametrize("length", [(), ((b"content-length", b"999"),)])
def test_an_answer_that_never_ends_is_judged_with_what_there_is(
    settings: Settings, length: tuple[tuple[bytes, bytes], ...]
) -> None:
    pair = LegacyApp().pair("ada")

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        kind = (b"content-type", b"application/json")
        await _steps([_starting(kind, *length), _body(pair["access"].encode())], send)

    sent = run(app, settings, "/login").sent
    assert b"eyJ" not in b"".join(each.get("body", b"") for each in sent)
    assert sent[-1]["more_body"] is True  # the server may say what it says of such apps


def test_an_app_that_fails_before_or_after_it_began_fails_as_it_always_did(
    settings: Settings,
) -> None:
    token = handed(settings)

    async def early(_scope: Any, _receive: Any, _send: Any) -> None:
        raise LookupError("app")

    async def late(_scope: Any, _receive: Any, send: Any) -> None:
        await _steps([_starting(EVENTS), _body(b"a")], send)
        raise LookupError("app")

    for app, sent in ((early, 0), (late, 2)):
        wire = Wire(Asgi(app, settings), "/x", token)
        with pytest.raises(LookupError):
            asyncio.run(wire.go())
        assert len(wire.sent) == sent


def _desk(*middleware: Middleware) -> Starlette:
    """An app of Starlette's, which answers exceptions by itself."""
    legacy = LegacyApp()

    async def login(_: Request) -> Response:
        return JSONResponse(legacy.pair("ada"))

    async def streamed(_: Request) -> Response:
        return StreamingResponse(iter([json.dumps(legacy.pair("ada")).encode()]))

    async def by_cookie(_: Request) -> Response:
        response = Response()
        response.set_cookie("jwt", legacy.pair("ada")["access"])
        return response

    async def any_error(_: Request, __: Exception) -> Response:
        return JSONResponse({"detail": "an error"}, 500)

    async def echo(request: Request) -> Response:
        return JSONResponse({"token": request.headers["authorization"], "pad": "x" * 2000})

    async def socket(ws: WebSocket) -> None:
        await ws.accept()
        shown = {"header": ws.headers.get("authorization"), "cookie": ws.headers.get("cookie")}
        await ws.send_json(shown)
        await ws.close()

    return Starlette(
        routes=[
            Route("/login", login, methods=["POST"]),
            Route("/stream-login", streamed, methods=["POST"]),
            Route("/cookie", by_cookie, methods=["POST"]),
            Route("/echo", echo),
            WebSocketRoute("/ws", socket),
        ],
        middleware=list(middleware),
        exception_handlers={Exception: any_error},
    )


async def _through(request: Request, call_next: Any) -> Response:
    response: Response = await call_next(request)
    return response


@pytest.mark.parametrize("middleware", [[], [Middleware(BaseHTTPMiddleware, dispatch=_through)]])
@pytest.mark.parametrize("path", ["/login", "/stream-login", "/cookie"])
def test_an_outage_is_503_whatever_the_app_does_with_exceptions(
    migrated: str, middleware: list[Middleware], path: str
) -> None:
    rig = Rig(migrated)
    rig.move("drain")
    settings = rig.settings(issuers=[BRIDGED], bridge={}, routes={"login": ["/login"]})
    with TestClient(Asgi(_desk(*middleware), settings)) as client:
        assert client.post(path).status_code == 200
        rig.execute("ALTER TABLE migrator.sessions RENAME TO gone")
        answer = client.post(path)
        rig.execute("ALTER TABLE migrator.gone RENAME TO sessions")
    wiring.stop()
    if path == "/stream-login":  # under no route of the settings: the app's own
        assert answer.status_code == 200
        return
    assert (answer.status_code, answer.json()) == (503, {"error": "temporarily_unavailable"})
    assert "eyJ" not in str(answer.headers)


@pytest.mark.parametrize("held", [True, False])
def test_an_outage_is_503_and_all_there_is_though_the_app_swallows_it(
    migrated: str, *, held: bool
) -> None:
    rig = Rig(migrated)
    rig.move("drain")
    settings = rig.settings(issuers=[BRIDGED], bridge={}, memory={"poll_ms": 200})
    access = LegacyApp().pair("ada")["access"].encode()
    heard: list[Exception] = []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        try:
            kind = (b"content-type", b"application/json" if held else b"text/event-stream")
            await send(_starting(kind, (b"set-cookie", b"jwt=" + access)))
            await send(_body(access, more=False))
        except Exception as error:  # noqa: BLE001 - as frameworks do
            heard.append(error)
            await _steps([_starting(code=500), _body(access, more=False)], send)

    assert b"sess_" in run(app, settings, "/login").sent[0]["headers"][1][1]
    wiring.stop()
    rig.execute("ALTER TABLE migrator.sessions RENAME TO gone")
    sent = run(app, settings, "/login").sent
    wiring.stop()
    assert not heard
    assert [each["type"] for each in sent] == ["http.response.start", "http.response.body"]
    assert sent[0]["status"] == 503
    assert b"eyJ" not in str(sent).encode()


def test_gzip_in_the_app_hides_no_token(settings: Settings) -> None:
    gzipped = Middleware(GZipMiddleware, minimum_size=10)
    with TestClient(Asgi(_desk(gzipped), settings)) as client:
        answer = client.post("/login")
        token = answer.json()["access"]
        assert token.startswith("sess_")
        answer = client.get("/echo", headers={"Authorization": f"Bearer {token}"})
        assert answer.json()["token"] == f"Bearer {token}"
        assert answer.headers["vary"] == "Accept-Encoding"


@pytest.mark.parametrize("by", ["header", "cookie"])
def test_a_handshake_shows_the_app_a_jwt(settings: Settings, by: str) -> None:
    with TestClient(Asgi(_desk(), settings)) as client:
        token = client.post("/login").json()["access"]
        sent = {"Authorization": f"Bearer {token}"}
        if by == "cookie":
            sent = {"Cookie": f"theme=dark; {settings.cookie.effective_name}={token}"}
        with client.websocket_connect("/ws", headers=sent) as ws:
            shown = ws.receive_json()
    assert token not in str(shown)
    value = shown["header"].partition(" ")[2] if by == "header" else shown["cookie"]
    if by == "cookie":
        assert value.startswith("theme=dark; jwt=")
        value = value.partition("jwt=")[2]
    assert jwt.decode(value, SECRET, algorithms=["HS256"])["sub"] == "ada"


def test_a_body_that_was_looked_into_comes_once(migrated: str) -> None:
    rig = Rig(migrated)
    rig.move("drain")
    places = [{"json": "access_token"}, {"header": "Authorization", "scheme": "Bearer"}]
    settings = rig.settings(issuers=[{**BRIDGED, "transport": places}], bridge={})
    token = handed(settings)
    taken: list[Any] = []

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        taken.extend([await receive(), await receive()])
        await _steps([_starting(), _body(b"", more=False)], send)

    wire = Wire(Asgi(app, settings), "/x", method="POST")
    body = json.dumps({"access_token": token}).encode()
    wire.headers.append((b"content-type", b"application/json"))
    wire.bodies = [
        {"type": "http.request", "body": body[:9], "more_body": True},
        {"type": "http.request", "body": body[9:], "more_body": False},
    ]
    asyncio.run(wire.go())
    wiring.stop()
    assert [each["type"] for each in taken] == ["http.request", "http.disconnect"]
    assert token.encode() not in taken[0]["body"]
