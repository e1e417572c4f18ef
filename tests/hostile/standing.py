"""Five servers over one database and one Redis, all of whose calls can be counted or cut.

The profile is that of the public list: four issuers, one for each family of algorithms, and
`http.foreign = "refuse"`. The stores are reached through proxies, so that they can be taken away.
"""

from __future__ import annotations

import base64
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import redis

from tests.apps.deployment import Deployment
from tests.core.signers import IDP, SIGNERS
from tests.faults.proxy import Proxy
from tests.hostile.tokens import Forge
from tests.http.servers import Answer, Line, Server, serving
from tests.serve.served import serving as serving_auth

_ROOM: Final = ("--limit-request-field_size", "16384", "-b", "127.0.0.1:{port}")
_UVICORN: Final = ("uvicorn", "--factory", "tests.hostile.sites:asgi", "--no-access-log")
# Threads, since only those keep a connection: one process, so that what it remembers is known.
_GUNICORN: Final = ("-w", "1", "-k", "gthread", "--threads", "4", *_ROOM)
ARGUMENTS: Final[dict[str, tuple[str, ...]]] = {
    "uvicorn h11": (*_UVICORN, "--http", "h11", "--port", "{port}"),
    "uvicorn httptools": (*_UVICORN, "--http", "httptools", "--port", "{port}"),
    "gunicorn": ("gunicorn", "tests.hostile.sites:wsgi()", *_GUNICORN),
    "django": ("gunicorn", "tests.hostile.sites:django()", *_GUNICORN),
}
FORWARD_AUTH: Final = "forward-auth"
_SERVE: Final = "serve"  # what the server that has it is called
SERVERS: Final = (*ARGUMENTS, FORWARD_AUTH)
_BEARER: Final = '{ header = "Authorization", scheme = "Bearer" }'
_COOKIE: Final = '{ cookie = "access_token" }'
TABLES: Final = ("sessions", "legacy_tokens", "denials", "cutoffs", "feed")
# What a pulse says to Redis by itself; all else is said for a request.
_BACKGROUND: Final = ("ping", "hello", "client", "info", "subscribe", "config", "select", "auth")


def iss_of(family: str) -> str:
    """The `iss` of a family's issuer."""
    return f"{IDP}/{family.lower()}"


@dataclass(frozen=True)
class Place(Deployment):
    """The settings of the profile."""

    keys: dict[str, str] = field(default_factory=dict)  # family: URL of its key set, if it has one

    def environ(self) -> dict[str, str]:
        lines = ['environment = "test"', 'app = "corpus"', "expected_nodes = 5"]
        lines += ["[database]", f"url = {json.dumps(self.database)}"]
        if self.redis is not None:
            lines += ["[redis]", f"url = {json.dumps(self.redis)}", "budget_ms = 1000"]
        lines += ["[memory]", "poll_ms = 100", "[swap]"]
        lines += ['keys = [{ id = "k1", secret = "env:SWAP_KEY" }]']
        lines += ["[routes]", 'login = ["/login"]', 'logout = ["/logout"]']
        lines += ["[http]", 'foreign = "refuse"']
        for family in SIGNERS:
            lines += self._issuer(family)
        file = self.folder / "migrator.toml"
        file.write_text("\n".join(lines) + "\n")
        return {"MIGRATOR_CONFIG": str(file), "SWAP_KEY": self.swap_key}

    def _issuer(self, family: str) -> list[str]:
        signer, url = SIGNERS[family], self.keys.get(family)
        key = self.folder / f"{family}.key"
        secret = isinstance(signer.public, bytes)
        key.write_bytes(base64.b64encode(signer.public) if secret else signer.pem())
        pinned = f'{{ key = "file:{key}", kid = "k1", alg = "{signer.alg}" }}'
        return [
            "[[issuers]]",
            f'id = "i-{family.lower()}"',
            f'name = "{family.lower()}"',
            f'realm = "{family.lower()}"',
            f'algorithms = ["{signer.alg}"]',
            f'jwks_url = "{url}"' if url else f"keys = [{pinned}]",
            *(['encoding = "base64"'] if secret else []),
            f'issuer = "{iss_of(family)}"',
            'audience = ["api"]',
            'lifetime = "1h"',
            f"transport = [{_BEARER}, {_COOKIE}]",
        ]


class Wire:
    """A connection that is kept: requests written byte by byte, one after another."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._socket: socket.socket | None = None

    def ask(self, *lines: tuple[str, str | bytes], **request: Any) -> Answer | None:
        """The answer to a request with these lines; None: the server hung up on it."""
        return self.say(request_bytes(self._server, *lines, **request))

    def say(self, request: bytes, method: str = "GET") -> Answer | None:
        """The answer to a request exactly as given."""
        for fresh in (self._socket is None, True):  # an idle connection may have been closed
            if fresh or self._socket is None:
                self.close()
                self._socket = self._server.connect()
            try:
                self._socket.sendall(request)
                response = http.client.HTTPResponse(self._socket, method=method)
                response.begin()
                answer = Answer(response.status, tuple(response.getheaders()), response.read())
            except (OSError, http.client.HTTPException):
                self.close()
                if fresh:
                    return None
                continue
            if response.will_close:
                self.close()
            return answer
        return None

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def request_bytes(
    server: Server,
    *lines: tuple[str, str | bytes],
    method: str = "GET",
    path: str = "/seen",
    body: bytes = b"",
    version: str = "1.1",
) -> bytes:
    """A request; to `/forward-auth` as nginx would ask about it."""
    head: list[tuple[str, str | bytes]] = [("Host", "shop.example")]
    if server.name == _SERVE:
        head += [("X-Original-Method", method), ("X-Original-URI", path)]
        head += [("X-Forwarded-Host", "shop.example")]
        method, path, body = "GET", "/forward-auth", b""
    head += lines
    if body or method in {"POST", "PUT", "PATCH", "DELETE"}:
        head.append(("Content-Length", str(len(body))))
    said = b"".join(
        name.encode("latin-1")
        + b": "
        + (value if isinstance(value, bytes) else value.encode("latin-1"))
        + b"\r\n"
        for name, value in head
    )
    return f"{method} {path} HTTP/{version}\r\n".encode("latin-1") + said + b"\r\n" + body


def described(answer: Answer | None) -> str:
    """What an answer comes to: a user, `anonymous`, a reason, or who else would not have it.

    `server`: the HTTP server itself refused what is no HTTP, before anything of ours saw it.
    """
    if answer is None:
        return "server"
    told = answer.get("www-authenticate")
    if answer.status == 200:
        if answer.body:
            return str(answer.json["subject"] or "anonymous")
        return answer.get("remote-user") or "anonymous"
    if answer.status == 401 and told == "Bearer":
        return "anonymous"
    try:
        said = answer.json
    except ValueError:
        return "server" if answer.status in {400, 431} else f"{answer.status} {answer.body!r}"
    if answer.status == 401 and told == 'Bearer error="invalid_token"':
        assert answer.get("cache-control") == "no-store"
        assert said.keys() == {"error", "reason"}
        assert said["error"] == "invalid_token"
        return str(said["reason"])
    known = {400: "invalid_request", 403: "csrf", 503: "temporarily_unavailable"}
    assert said == {"error": known.get(answer.status)}, (answer.status, said)
    return str(said["error"])


class Listener:
    """A port that counts who connects to it."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self.connections = 0
        self._thread = threading.Thread(target=self._count, daemon=True)
        self._thread.start()

    def _count(self) -> None:
        while True:
            try:
                self._server.accept()[0].close()
            except OSError:
                return
            self.connections += 1

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(5)


@dataclass(frozen=True)
class House:
    """A server, its stores and whoever might be called by what a token says."""

    server: Server
    wire: Wire
    listener: Listener
    postgres: Proxy
    cache: Proxy
    redis: redis.Redis
    number: int  # among SERVERS

    def forge(self, family: str) -> Forge:
        """Makes this moment's tokens of a family's issuer."""
        now_s = int(time.time())
        return Forge(SIGNERS[family], now_s, iss_of(family), self.listener.url)

    def ask(self, *lines: tuple[str, str | bytes], **request: Any) -> str:
        return described(self.wire.ask(*lines, **request))

    def present(self, token: bytes) -> str:
        if not token.isascii() or not token.decode().isprintable():
            self.wire.close()  # what is left of a broken request is the beginning of the next
        found = self.ask(("Authorization", b"Bearer " + token))
        if found == "server":
            self.wire.close()
        return found

    def rows(self) -> dict[str, int]:
        return {table: self.server.deployment.rig.count(table) for table in TABLES}

    def commands(self) -> dict[str, int]:
        """How often Redis was asked what only a request asks."""
        said: Any = self.redis.info("commandstats")
        return {
            name: each["calls"]
            for name, each in said.items()
            if not name.removeprefix("cmdstat_").startswith(_BACKGROUND)
        }

    @contextmanager
    def unmoved(self) -> Iterator[None]:
        """Nothing is written, asked of Redis or called for while this lasts."""
        before = self.rows(), self.commands(), self.listener.connections
        yield
        assert (self.rows(), self.commands(), self.listener.connections) == before

    @contextmanager
    def without_stores(self) -> Iterator[None]:
        """Neither store can be reached while this lasts: who needs one has to say 503."""
        self.postgres.refuse()
        self.cache.refuse()
        try:
            yield
        finally:
            self.postgres.heal()
            self.cache.heal()

    def said(self) -> str:
        """All that the server has logged."""
        return self.server.log.read_text("utf-8", "replace")


def until(true: Callable[[], object], seconds: float = 20) -> None:
    """Wait for a condition."""
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends, "it did not come true"
        time.sleep(0.05)


@contextmanager
def standing(name: str, place: Place) -> Iterator[Server]:
    """The server of that name."""
    if name == FORWARD_AUTH:
        with serving_auth(place) as serve:
            yield serve
        return
    with serving(name, place, ARGUMENTS[name]) as server:
        yield server


def cookie(value: str) -> Line:
    return ("Cookie", f"__Host-session={value}")
