"""What HTTP asks of whoever rewrites requests and answers: lengths, encodings, streams, ends."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
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
from shims.wsgi import DualAcceptMiddleware as Wsgi
from tests.apps.deployment import JWT_SECRET
from tests.apps.deployment import Deployment as Shop
from tests.bridge.app import Answer, LegacyApp, said
from tests.bridge.conftest import BRIDGED, Deployment
from tests.http.servers import Server, bearer, serving
from tests.rig import SECRET, Rig, sign

Deploy = Callable[..., Deployment]
ACCESS = {"token_type": "access"}


# Answers: their lengths, validators and encodings.


def test_head_says_nothing_that_get_would_not(deploy: Deploy) -> None:
    there = deploy()
    token = there.login()["access"]
    there.app.says["/file"] = lambda _: (
        200,
        [("Content-Type", "application/pdf"), ("Content-Length", "5")],
        [b"%PDF-"],
    )
    assert there.ask("HEAD", "/file", token).headers["content-length"] == "5"
    for path in ("/echo", "/me"):  # what it would be is not known: RFC 9110 lets it be left out
        answer = there.ask("HEAD", path, token)
        assert answer.status_code == 200
        assert "content-length" not in answer.headers
    assert there.ask("HEAD", "/echo-header", token).headers["x-token"] == token
    assert "content-length" in there.ask("HEAD", "/echo", sign("ada", claims=ACCESS)).headers


@pytest.mark.parametrize("code", [204, 205, 304])
def test_an_answer_without_a_body_stays_one(deploy: Deploy, code: int) -> None:
    there = deploy()
    token = there.login()["access"]
    there.app.says["/none"] = lambda _: (code, [("ETag", '"1"'), ("X-A", "b")], [])
    for path in ("/none", "/refresh", "/login"):
        there.app.says[path] = there.app.says["/none"]
        answer = there.ask("POST" if path != "/none" else "GET", path, token)
        assert (answer.status_code, answer.content) == (code, b"")
        assert (answer.headers["etag"], answer.headers["x-a"]) == ('"1"', "b")


def test_a_part_of_a_text_keeps_its_length_and_place(deploy: Deploy) -> None:
    there = deploy()
    token = there.login()["access"]
    lines = [("Content-Type", "text/csv"), ("Content-Length", "4"), ("ETag", '"1"')]
    there.app.says["/part"] = lambda _: (
        206,
        [*lines, ("Content-Range", "bytes 4-7/9")],
        [b"a,b,"],
    )
    answer = there.ask("GET", "/part", token, headers={"Range": "bytes=4-7"})
    assert (answer.status_code, answer.content) == (206, b"a,b,")
    assert answer.headers["content-length"] == "4"
    assert answer.headers["content-range"] == "bytes 4-7/9"
    assert there.app.seen[-1].headers["range"] == "bytes=4-7"


def test_no_part_of_an_answer_is_asked_for_where_all_of_it_is_judged(deploy: Deploy) -> None:
    there = deploy(bridge={"echoes": ["/echo"]})
    token = there.login()["access"]
    there.ask("GET", "/echo", token, headers={"Range": "bytes=0-9", "If-Range": '"1"'})
    there.ask("POST", "/refresh", json={"refresh": token}, headers={"Range": "bytes=0-9"})
    for asked in there.app.seen[-2:]:
        assert "range" not in asked.headers
        assert "if-range" not in asked.headers
        assert asked.headers["accept-encoding"] == "identity"


def test_an_answer_that_needs_no_change_keeps_all_that_it_says_of_itself(deploy: Deploy) -> None:
    there = deploy()
    token = there.login()["access"]
    headers = {"If-None-Match": '"7"', "If-Modified-Since": "x"}
    there.app.says["/same"] = lambda _: said(
        200, {"a": 1}, ("ETag", '"7"'), ("Cache-Control", "max-age=60"), ("Digest", "x")
    )
    answer = there.ask("GET", "/same", token, headers=headers)
    assert (answer.headers["etag"], answer.headers["digest"]) == ('"7"', "x")
    assert answer.headers["cache-control"] == "max-age=60"
    assert answer.headers["content-length"] == str(len(answer.content))
    assert there.app.seen[-1].headers["if-none-match"] == '"7"'


ENCODERS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}


@pytest.mark.parametrize("coding", ENCODERS)
def test_a_token_is_found_in_what_the_app_compressed_unasked(deploy: Deploy, coding: str) -> None:
    there = deploy()
    app, encode = there.app, ENCODERS[coding]

    def compressed(answer: Answer) -> Answer:
        code, _, body = answer
        whole = encode(b"".join(body))
        lines = [("Content-Type", "application/json"), ("Content-Encoding", coding)]
        return code, [*lines, ("Content-Length", str(len(whole))), ("ETag", '"1"')], [whole]

    login, echo, me = app.login, app.echo, app.me
    app.says["/login"] = lambda asked: compressed(login(asked))
    app.says["/echo"] = lambda asked: compressed(echo(asked))
    app.says["/me"] = lambda asked: compressed(me(asked))
    token = there.login()["access"]
    assert token.startswith("sess_")
    answer = there.ask("GET", "/echo", token)
    assert answer.json() == {"user": {"token": token}}
    assert "content-encoding" not in answer.headers
    assert "etag" not in answer.headers
    assert answer.headers["content-length"] == str(len(answer.content))
    answer = there.ask("GET", "/me", token)
    assert answer.json()["sub"] == "ada"
    assert answer.headers["content-encoding"] == coding  # as the app sent it
    assert answer.headers["etag"] == '"1"'


def test_what_is_compressed_in_a_way_we_do_not_know_passes_as_it_is(deploy: Deploy) -> None:
    there = deploy()
    there.app.says["/login"] = lambda _: (
        200,
        [("Content-Type", "application/json"), ("Content-Encoding", "br")],
        [b"\x0b\x00\x80\x03"],
    )
    answer = there.client.build_request("POST", "/login")
    sent = there.client.send(answer, stream=True)
    assert b"".join(sent.iter_raw()) == b"\x0b\x00\x80\x03"
    sent.close()


def test_a_gzipped_refresh_request_is_read_like_any_other(deploy: Deploy) -> None:
    there = deploy()
    token = there.login()["refresh"]
    body = gzip.compress(json.dumps({"refresh": token}).encode())
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    answer = there.ask("POST", "/refresh", content=body, headers=headers)
    assert answer.json()["access"] == token
    seen = there.app.seen[-1]
    assert "content-encoding" not in seen.headers
    assert token.encode() not in seen.body


def test_several_cookies_and_repeated_headers_stay_several(deploy: Deploy) -> None:
    there = deploy()
    pair = there.app.pair("ada")
    lines = [
        ("Set-Cookie", f"jwt={pair['access']}; Path=/; HttpOnly; SameSite=Strict; Max-Age=300"),
        ("Set-Cookie", f"rt={pair['refresh']}; Path=/refresh; Secure; Partitioned"),
        ("Set-Cookie", "theme=dark; Expires=Wed, 21 Oct 2099 07:28:00 GMT"),
        ("Link", "</a>; rel=next"),
        ("Link", "</b>; rel=prev"),
    ]
    there.app.says["/login"] = lambda _: (302, [*lines, ("Location", "/")], [])
    there.client.follow_redirects = False
    answer = there.ask("POST", "/login")
    cookies = answer.headers.get_list("set-cookie")
    token = cookies[0].partition("=")[2].partition(";")[0]
    assert token.startswith("sess_")
    assert cookies[:3] == [
        f"jwt={token}; Path=/; HttpOnly; SameSite=Strict; Max-Age=300",
        f"rt={token}; Path=/refresh; Secure; Partitioned",
        "theme=dark; Expires=Wed, 21 Oct 2099 07:28:00 GMT",
    ]
    assert answer.headers.get_list("link") == ["</a>; rel=next", "</b>; rel=prev"]
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("kind", ["", "application/jwt", "application/problem+json", "TEXT/PLAIN"])
def test_a_login_is_judged_whatever_it_calls_its_answer(deploy: Deploy, kind: str) -> None:
    there = deploy()
    lines = [("Content-Type", kind)] if kind else []
    there.app.says["/login"] = lambda _: (
        200,
        lines,
        [there.app.pair("ada")["access"].encode()],
    )
    token = there.ask("POST", "/login").text
    assert token.startswith("sess_")
    there.app.says["/raw-echo"] = lambda asked: (200, lines, [asked.bearer.encode()])
    assert there.ask("GET", "/raw-echo", token).text == token


# Forms of refresh requests.


@pytest.mark.parametrize("form", ["form", "multipart", "exact"])
def test_a_session_is_refreshed_in_any_usual_form(deploy: Deploy, form: str) -> None:
    there = deploy()
    token = there.login()["refresh"]
    there.app.says["/refresh"] = lambda _: said(200, there.app.pair("ada"))
    if form == "form":
        answer = there.ask("POST", "/refresh", data={"grant": "a b&c", "refresh": token})
    elif form == "multipart":
        files = {"refresh": (None, token), "file": ("a.bin", bytes(range(256)))}
        answer = there.ask("POST", "/refresh", files=files)
    else:
        body = json.dumps({"refresh": token})
        answer = there.ask("POST", "/refresh", content=body + " " * (65_536 - len(body)))
    assert answer.json()["access"] == token
    seen = there.app.seen[-1]
    assert token.encode() not in seen.body
    assert b"eyJ" in seen.body
    assert seen.headers.get("content-length", str(len(seen.body))) == str(len(seen.body))


# Streams, and what servers and apps do besides.


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


@pytest.fixture
def settings(migrated: str) -> Iterator[Settings]:
    rig = Rig(migrated)
    rig.move("drain")
    yield rig.settings(issuers=[BRIDGED], bridge={}, routes={"login": ["/login", "/stream-login"]})
    wiring.stop()


def _login(settings: Settings) -> str:
    """A session token, as the bridge hands it out."""
    client = TestClient(Asgi(LegacyApp().asgi, settings))
    token: str = client.post("/login", json={"user": "ada"}).json()["access"]
    return token


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
    token = _login(settings)
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
    token = _login(settings)
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
    token = _login(settings)
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
    token = _login(settings)

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
    token = _login(settings)
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


# WSGI as PEP 3333 has it.


class Parts:
    """An iterable that a server would close."""

    def __init__(self, *parts: bytes | Exception) -> None:
        self._parts = iter(parts)
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        part = next(self._parts)
        if isinstance(part, Exception):
            raise part
        return part

    def close(self) -> None:
        self.closed += 1


class Line:
    """One request to a WSGI app, as a server makes it."""

    def __init__(self, app: Any, settings: Settings) -> None:
        self._app = Wsgi(app, settings)
        self.said: list[Any] = []
        self.written: list[bytes] = []

    def ask(self, path: str, token: str | None = None, method: str = "GET") -> bytes:
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "SCRIPT_NAME": "",
            "QUERY_STRING": "",
            "wsgi.input": BytesIO(),
        }
        if token is not None:
            environ["HTTP_AUTHORIZATION"] = f"Bearer {token}"
        parts = self._app(environ, self._start)
        try:
            self.written.extend(parts)
        finally:
            if hasattr(parts, "close"):
                parts.close()
        return b"".join(self.written)

    def _start(self, status: str, headers: Any, exc_info: Any = None, /) -> Any:
        self.said.append((status, dict(headers), exc_info))
        return self.written.append


def _json(length: int | None = None) -> list[tuple[str, str]]:
    lines = [("Content-Type", "application/json")]
    return lines if length is None else [*lines, ("Content-Length", str(length))]


@pytest.mark.parametrize("path", ["/login", "/me", "/file"])
@pytest.mark.parametrize("fails", [False, True])
def test_the_apps_iterable_is_closed_once(settings: Settings, path: str, *, fails: bool) -> None:
    token = _login(settings)
    parts = Parts(b"{", LookupError("app") if fails else b"}")

    def app(_environ: Any, start_response: Any) -> Any:
        start_response("200 OK", _json(None if path == "/file" else 2))
        return parts

    line = Line(app, settings)
    if fails:
        with pytest.raises(LookupError):
            line.ask(path, token)
    else:
        assert line.ask(path, token) == b"{}"
    assert parts.closed == 1


def test_what_an_app_writes_goes_out_as_it_is_written(settings: Settings) -> None:
    token = _login(settings)
    seen: list[int] = []
    line: Line

    def app(environ: Any, start_response: Any) -> Any:
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        shown = environ["HTTP_AUTHORIZATION"].partition(" ")[2].encode()
        for part in (b"one ", shown[:50], shown[50:], b" two"):
            write(part)
            seen.append(len(b"".join(line.written)))
        return [b" three"]

    line = Line(app, settings)
    assert line.ask("/me", token) == b"one %b two three" % token.encode()
    assert seen == [4, 4, 4 + len(token), 8 + len(token)]


def test_what_an_app_writes_at_a_login_is_judged_first(settings: Settings) -> None:
    pair = json.dumps(LegacyApp().pair("ada")).encode()

    def app(_environ: Any, start_response: Any) -> Any:
        write = start_response("200 OK", _json())
        write(pair[:90])
        write(pair[90:])
        return []

    body = Line(app, settings).ask("/login", method="POST")
    assert json.loads(body)["access"].startswith("sess_")


def test_an_error_takes_the_place_of_what_was_held(settings: Settings) -> None:
    def app(_environ: Any, start_response: Any) -> Any:
        write = start_response("200 OK", _json())
        write(b"half")
        error = LookupError("app")
        start_response("500 Oh", [("Content-Type", "text/plain")], (LookupError, error, None))
        return [b"sorry"]

    line = Line(app, settings)
    assert line.ask("/login", method="POST") == b"sorry"
    assert [(status, why is not None) for status, _, why in line.said] == [("500 Oh", True)]


def test_a_generator_may_say_its_status_late(settings: Settings) -> None:
    def app(_environ: Any, start_response: Any) -> Any:
        start_response("200 OK", _json())
        yield json.dumps(LegacyApp().pair("ada")).encode()

    body = Line(app, settings).ask("/login", method="POST")
    assert json.loads(body)["access"].startswith("sess_")


# Real servers.


@pytest.fixture(scope="module", params=["uvicorn bridged", "gunicorn bridged"])
def server(
    request: pytest.FixtureRequest,
    postgres: Any,
    migrated_template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Server]:
    name = f"bridge_http_{request.param.partition(' ')[0]}"
    url = postgres.create_database(name, migrated_template)
    shop = Shop(tmp_path_factory.mktemp("bridge"), url, None, {"bridge": {"lifetime": "60s"}})
    shop.rig.move("drain")
    with serving(request.param, shop) as running:
        yield running
    postgres.drop_database(name)


def _raw(server: Server, request: bytes) -> tuple[bytes, bytes]:
    """Head and body of what a server answers to these very bytes, until it closes."""
    with server.connect() as wire:
        wire.sendall(request)
        answer = b""
        while part := wire.recv(65_536):
            answer += part
    head, _, body = answer.rpartition(b"\r\n\r\n")
    return head, body


def test_a_chunked_refresh_is_read_whole(server: Server) -> None:
    token = server.post("/login", {"user": "ada"}).json["refresh"]
    body = json.dumps({"refresh": token}).encode()
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:30], body[30:]))
    head = (
        b"POST /refresh HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    head, answer = _raw(server, head + chunks + b"0\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert json.loads(answer)["access"] == token
    assert b"content-length: %d" % len(answer) in head.lower()


def test_a_client_that_expects_to_be_asked_for_its_body_is_asked(server: Server) -> None:
    token = server.post("/login", {"user": "ada"}).json["refresh"]
    body = json.dumps({"refresh": token}).encode()
    with server.connect() as wire:
        wire.sendall(
            b"POST /refresh HTTP/1.1\r\nHost: a\r\nConnection: close\r\nExpect: 100-continue\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        )
        assert wire.recv(4096).startswith(b"HTTP/1.1 100")
        wire.sendall(body)
        answer = b""
        while part := wire.recv(65_536):
            answer += part
    assert token.encode() in answer


def test_a_client_of_the_last_century_is_served(server: Server) -> None:
    token = server.post("/login", {"user": "ada"}).json["access"]
    head = b"GET /echo HTTP/1.0\r\nAuthorization: Bearer %b\r\n\r\n" % token.encode()
    said_, body = _raw(server, head)
    assert b" 200 " in said_.partition(b"\r\n")[0]
    assert json.loads(body) == {"user": {"token": token}}


def test_a_second_authorization_line_brings_nobody_past_a_bridge_jwt(server: Server) -> None:
    claims = {"urn:migrator:bridge": True, "token_type": "access", "sub": "eve", "jti": "1"}
    bridge = jwt.encode({**claims, "exp": 4_000_000_000}, JWT_SECRET, algorithm="HS256")
    good = sign("ada", claims=ACCESS, secret=JWT_SECRET)
    for phase in ("observe", "drain"):
        server.deployment.rig.move(phase)
        for lines in (
            (bearer(good), bearer(bridge)),
            (bearer(bridge), bearer(good)),
            (bearer(good), ("X-Another", f"Bearer {bridge}"), ("Cookie", f"a={bridge}")),
        ):
            assert server.get("/me", *lines).status in {400, 401}, (phase, lines)


def test_head_and_nothing_keep_the_connection_in_step(server: Server) -> None:
    token = server.post("/login", {"user": "ada"}).json["access"]
    line = f"Authorization: Bearer {token}\r\n"
    head = f"HEAD /echo HTTP/1.1\r\nHost: a\r\n{line}\r\n"
    last = f"GET /me HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{line}\r\n"
    with server.connect() as wire:
        wire.sendall((head + last).encode())
        answer = b""
        while part := wire.recv(65_536):
            answer += part
    first, _, rest = answer.partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 200")
    if b"connection: close" in first.lower():  # gunicorn's sync worker: one request a connection
        assert rest == b""
        return
    assert rest.startswith(b"HTTP/1.1 200")
    assert json.loads(rest.rpartition(b"\r\n\r\n")[2])["sub"] == "ada"
