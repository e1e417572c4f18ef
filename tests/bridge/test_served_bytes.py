"""What real servers with the bridge answer to these very bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jwt
import pytest

from tests.apps.deployment import JWT_SECRET
from tests.apps.deployment import Deployment as Shop
from tests.bridge.conftest import ACCESS
from tests.http.servers import Server, bearer, serving
from tests.rig import sign


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
