"""Whatever bytes and claims come: an answer that was planned, and no secret in a log or table."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import random
import time
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
import redis

from migrator import wiring
from shims.asgi import DualAcceptMiddleware as AsgiMiddleware
from shims.wsgi import DualAcceptMiddleware as WsgiMiddleware
from tests.rig import ISSUER, SECRET, Rig, sign

PLANNED = {200, 400, 401, 403}
ISSUERS = [
    {
        **ISSUER,
        "integer_subject": True,
        "claims": {
            "subject": "sub",
            "client": "app",
            "scopes": "realm.roles",
            "family": "sid",
            "keep": ["name", "data"],
        },
        "transport": [
            {"header": "Authorization", "scheme": "Bearer"},
            {"header": "X-Token"},
            {"cookie": "access_token"},
            {"query": "token"},
        ],
    }
]
ODD: list[Any] = [
    *(None, True, -1, 0, 2**53, 2**63, 1e300, -1e300, 1.5, "", " ", "\0", "\ud800", "\x1f", "%s"),
    *("a" * 256, "é" * 200, [], ["a"], [["a"]], {}, {"roles": {"a": 1}}, {"roles": ["a", 5]}),
    *({"roles": "a b"}, {"a": {"\0": 1}}, {"a" * 3000: "b" * 2000}, list(range(900)), "'; --"),
]
CLAIMS = ["sub", "iat", "exp", "nbf", "jti", "sid", "app", "realm", "name", "data", "amr"]
CLAIMS += ["auth_time", "iss", "aud", "token_type", "typ", "scope"]


@pytest.fixture
def rig(migrated: str, redis_url: str) -> Iterator[Rig]:
    rig = Rig(migrated, redis_url, issuers=ISSUERS)
    rig.move("swap")
    yield rig
    wiring.stop()


class Wsgi:
    def __init__(self, rig: Rig) -> None:
        self.middleware = WsgiMiddleware(self.app, rig.settings())

    def app(self, _environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b""]

    def ask(self, headers: list[tuple[bytes, bytes]], path: bytes, query: bytes) -> int:
        environ: dict[str, Any] = {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": path.decode("latin-1"),
            "QUERY_STRING": query.decode("latin-1"),
            "REMOTE_ADDR": "not an address",
        }
        for name, value in headers:
            key = "HTTP_" + name.decode().upper().replace("-", "_")
            text = value.decode("latin-1")
            environ[key] = f"{environ[key]},{text}" if key in environ else text
        seen: list[int] = []

        def start(status: str, _headers: object, _exc_info: object = None, /) -> Any:
            seen.append(int(status[:3]))

        list(self.middleware(environ, start))
        return seen[0]

    def close(self) -> None:
        wiring.stop()


class Asgi:
    def __init__(self, rig: Rig) -> None:
        self.middleware = AsgiMiddleware(self.app, rig.settings())
        self.runner = asyncio.Runner()

    async def app(self, _scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    def ask(self, headers: list[tuple[bytes, bytes]], path: bytes, query: bytes) -> int:
        seen: list[int] = []

        async def receive() -> Any:
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if "status" in message:
                seen.append(message["status"])

        scope = {
            "type": "http",
            "method": "POST",
            "path": path.decode("utf-8", "surrogateescape"),
            "query_string": query,
            "headers": headers,
            "client": (None, 0),
        }
        self.runner.run(self.middleware(scope, receive, send))
        return seen[0]

    def close(self) -> None:
        wiring.stop()  # its connections belong to this loop
        self.runner.close()


@pytest.fixture(params=[Asgi, Wsgi])
def asked(rig: Rig, request: pytest.FixtureRequest) -> Iterator[Asgi | Wsgi]:
    made = request.param(rig)
    yield made
    made.close()


def test_p10_no_bytes_anywhere_are_an_error_or_an_outage(asked: Asgi | Wsgi) -> None:
    dice = random.Random(7)
    good = sign("ann").encode()
    pool = [good, b"Bearer ", b"sess_", b"pat_", b"access_token=", b"session=", b"\0", b"\xff"]
    pool += [b"%", b"%00", b",", b";", b" ", b"\t", b".", b"{", b"\\101", b'"', b"a" * 9000]
    places = [b"authorization", b"cookie", b"user-agent", b"origin", b"host", b"x-token"]
    places += [b"sec-fetch-site", b"accept", b"remote-user", b"x_auth_user"]
    for _ in range(400):
        headers = [
            (dice.choice(places), b"".join(dice.choices(pool, k=dice.randrange(1, 6))))
            for _ in range(dice.randrange(1, 4))
        ]
        query = b"token=" + dice.choice(pool) if dice.random() < 0.3 else b""
        path = dice.choice(
            [b"/", b"/login", b"/refresh", b"/\xff\xfe", b"/\0", b"/" + b"a" * 9000]
        )
        assert asked.ask(headers, path, query) in PLANNED, (headers, path, query)


def signed(**claims: object) -> bytes:
    """A token that no decent signer writes."""
    now = int(time.time())
    payload = {"sub": "ann", "iat": now, "exp": now + 3600, **claims}
    return jwt.api_jws.encode(json.dumps(payload).encode(), SECRET, "HS256").encode()


def test_p10_no_claim_is_an_error_or_an_outage(asked: Asgi | Wsgi) -> None:
    for claim, value in itertools.product(CLAIMS, ODD):
        token = signed(**{claim: value})
        headers = [(b"authorization", b"Bearer " + token), (b"user-agent", b"\xff\x01/1 \xe9")]
        assert asked.ask(headers, b"/", b"") in PLANNED, (claim, value)


def test_p6_no_token_is_in_a_log_a_table_or_the_cache(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    asked, sessions = Wsgi(rig), wiring.sessions(rig.settings())
    legacy = sign("ann", claims={"sid": "family"})
    token = str(sessions.login("ann", legacy=lambda: "").token)
    for canary in (legacy, token):
        for spelt in (canary, canary + "=", canary[:-1], canary + " x"):
            asked.ask([(b"authorization", b"Bearer " + spelt.encode())], b"/", b"")
            asked.ask([(b"cookie", b"access_token=" + spelt.encode())], b"/", b"token=x")
    sessions.end(legacy)
    wiring.stop()  # flushes
    tables = rig.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'migrator'")
    kept = "\n".join(str(rig.execute(f"SELECT * FROM migrator.{name}")) for (name,) in tables)
    assert "ann" in kept
    client = redis.Redis.from_url(str(rig.redis_url))
    cached = [client.dump(key) for key in client.scan_iter()]
    client.close()
    said = kept + caplog.text + repr(cached) + repr([vars(one) for one in caplog.records])
    for secret in (legacy, *legacy.split(".")[1:], token, token[5:40]):
        assert secret not in said
