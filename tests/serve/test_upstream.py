"""`serve --upstream`: the app behind it gets each request, and its client each answer, as sent."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.apps import fastapi_bare
from tests.apps.deployment import JWT_SECRET, sign
from tests.conftest import CacheServer, DatabaseServer
from tests.http.servers import Server, bearer
from tests.serve.conftest import deployed
from tests.serve.served import Serve, behind, serving

pytestmark = pytest.mark.xdist_group("serve")


class Echo:
    """An app that shows what it got, streams, and notices when its client is gone."""

    def __init__(self) -> None:
        self.gone = threading.Event()
        self.first = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        if path == "/read":
            await self._read(receive, send)
        elif path == "/for-ever":
            await self._for_ever(receive, send)
        elif path == "/hops":
            lines = [(b"connection", b"x-mine"), (b"x-mine", b"1"), (b"keep-alive", b"timeout=9")]
            lines += [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"content-length", b"0")]
            await send({"type": "http.response.start", "status": 207, "headers": lines})
            await send({"type": "http.response.body"})
        else:
            await self._show(scope, receive, send)

    async def _show(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        said = {
            "method": scope["method"],
            "target": (scope["raw_path"] + b"?" + scope["query_string"]).decode("latin-1"),
            "headers": [[k.decode(), v.decode("latin-1")] for k, v in scope["headers"]],
            "bytes": len(body),
        }
        answer = json.dumps(said).encode()
        lines = [(b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": lines})
        await send({"type": "http.response.body", "body": answer})

    async def _read(self, receive: Any, send: Any) -> None:
        """Tells the test of the first part of the request before it sends another."""
        while (await receive()).get("more_body"):
            self.first.set()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def _for_ever(self, receive: Any, send: Any) -> None:
        kind = [(b"content-type", b"text/event-stream")]
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": kind})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        assert (await receive())["type"] == "http.disconnect"
        self.gone.set()


ECHO = Echo()


@pytest.fixture(scope="module")
def fronted(
    postgres: DatabaseServer,
    migrated_template: str,
    redis_server: CacheServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Serve]:
    made = deployed(postgres, migrated_template, redis_server, tmp_path_factory)
    with (
        made as deployment,
        behind(ECHO) as url,
        serving(deployment, "--upstream", url) as running,
    ):
        yield running


def test_the_target_arrives_byte_for_byte(fronted: Server) -> None:
    target = "/a%2fb//c/../d;e/%C3%BC?q=%20a+b&x=%zz"
    assert fronted.get(target).json["target"] == target


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_every_method_and_its_body_arrive(fronted: Server, method: str) -> None:
    body = b"x" * 100_000
    said = fronted.send(method, "/x", body=body).json
    assert (said["method"], said["bytes"]) == (method, len(body))
    assert ["content-length", "100000"] in said["headers"]
    bare = fronted.send(method, "/x").json
    assert bare["bytes"] == 0
    assert "transfer-encoding" not in dict(bare["headers"])


def test_head_says_what_get_would(fronted: Server) -> None:
    answer = fronted.send("HEAD", "/x")
    assert answer.status == 200
    assert int(answer.get("content-length") or 0) > 0
    assert answer.body == b""


def test_headers_of_one_hop_stay_there(fronted: Server) -> None:
    """RFC 9110 section 7.6.1."""
    lines = [
        ("X-Kept", "1"),
        ("X-Kept", "2"),
        ("X-Mine", "3"),
        ("TE", "trailers"),
        ("Proxy-Authorization", "Basic x"),
        ("Keep-Alive", "timeout=5"),
        ("Upgrade", "h2c"),
        ("Expect", "100-continue"),
    ]
    request = fronted.request("GET", "/x", *lines).replace(
        b"Connection: close", b"Connection: close, X-Mine"
    )
    with fronted.connect() as wire:
        wire.sendall(request)
        answer = b""
        while chunk := wire.recv(65_536):
            answer += chunk
    got = json.loads(answer[answer.rindex(b'{"method"') :])["headers"]
    names = [name for name, _ in got]
    assert [value for name, value in got if name == "x-kept"] == ["1", "2"]
    gone = {"x-mine", "te", "proxy-authorization", "keep-alive", "upgrade", "expect"}
    assert gone.isdisjoint(names)
    assert dict(got)["host"] == "shop.example"
    assert names.count("host") == 1
    assert dict(got)["x-forwarded-host"] == "shop.example"
    assert {"accept", "accept-encoding", "user-agent"}.isdisjoint(names), "nothing of our own"


def test_answers_keep_their_headers_but_those_of_the_hop(fronted: Server) -> None:
    answer = fronted.get("/hops")
    assert answer.status == 207
    assert answer.all("set-cookie") == ["a=1", "b=2"]
    assert answer.get("x-mine") is None
    assert answer.get("keep-alive") is None


def test_the_app_reads_a_body_while_it_is_still_being_sent(fronted: Server) -> None:
    ECHO.first.clear()
    with fronted.connect() as wire:
        wire.sendall(fronted.request("POST", "/read", ("Transfer-Encoding", "chunked")))
        wire.sendall(b"3\r\none\r\n")
        assert ECHO.first.wait(5)
        wire.sendall(b"3\r\ntwo\r\n0\r\n\r\n")
        assert wire.recv(4096).startswith(b"HTTP/1.1 204 ")


def test_a_client_reads_a_stream_that_never_ends_and_the_app_learns_when_it_left(
    fronted: Server,
) -> None:
    ECHO.gone.clear()
    with fronted.connect() as wire:
        wire.sendall(fronted.request("GET", "/for-ever"))
        answer = b""
        while b"data: 1" not in answer:
            answer += wire.recv(4096)
        wire.shutdown(socket.SHUT_RDWR)
    assert ECHO.gone.wait(5)


def test_the_shim_stands_around_it(fronted: Server) -> None:
    jwt = sign("ann")
    answer = fronted.get("/x", bearer(jwt), ("Remote-User", "admin"), ("X-User_Id", "admin"))
    assert (answer.get("session-token") or "").startswith("sess_")
    got = dict(answer.json["headers"])
    assert got["authorization"] == f"Bearer {jwt}"
    assert "admin" not in got.values()
    assert fronted.get("/x", bearer("sess_" + "0" * 49)).status == 401


def test_an_app_that_cannot_be_reached_is_502(moved: Serve) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with serving(moved.deployment, "--upstream", nobody) as running:
        answer = running.get("/x")
        assert (answer.status, answer.json) == (502, {"error": "bad_gateway"})
        assert running.get("/healthz").status == 200


def test_an_unchanged_app_logs_in_by_sessions_over_the_bridge(
    postgres: DatabaseServer,
    migrated_template: str,
    redis_server: CacheServer,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JWT_SECRET", JWT_SECRET)
    made = deployed(postgres, migrated_template, redis_server, tmp_path_factory, bridge={})
    with (
        made as deployment,
        behind(fastapi_bare.create_app()) as url,
        serving(deployment, "--upstream", url) as running,
    ):
        login = {"username": "ann", "password": "ann's password"}
        pair = running.post("/login", login).json
        assert pair["access"].startswith("sess_")
        assert running.get("/me", bearer(pair["access"])).json == {"user": "ann"}
        shown = running.auth(bearer(pair["access"])).get("authorization") or ""
        assert shown.startswith("Bearer eyJ")
        assert running.post("/refresh", {"refresh": pair["refresh"]}).status == 200
        assert running.send("POST", "/logout", bearer(pair["access"])).status == 204
        deadline = time.monotonic() + 2
        while running.get("/me", bearer(pair["access"])).status != 401:
            assert time.monotonic() < deadline
