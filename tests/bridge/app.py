"""A legacy app that knows nothing of us, as one function under both ASGI and WSGI.

It rotates refresh tokens and lists the old ones, as libraries do, repeats the token it was given,
and keeps what it saw for the tests to look at.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import jwt

from tests.rig import SECRET

Answer: TypeAlias = tuple[int, list[tuple[str, str]], Iterable[bytes]]
Route: TypeAlias = Callable[["Asked"], Answer]


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    query: str = ""

    @property
    def bearer(self) -> str:
        return self.headers.get("authorization", "").partition(" ")[2]

    def json(self) -> dict[str, Any]:
        found = json.loads(self.body or b"{}")
        return found if isinstance(found, dict) else {}


@dataclass
class LegacyApp:
    """The app. `roles` are what its next token says; `blocked` are jtis that it takes no more;
    `issued` is every pair that it made.

    `says` answers a path otherwise than the app would.
    """

    seen: list[Asked] = field(default_factory=list)
    blocked: set[str] = field(default_factory=set)
    roles: dict[str, str] = field(default_factory=dict)
    refreshes: int = 0
    says: dict[str, Route] = field(default_factory=dict)
    secret: str = SECRET
    issued: list[dict[str, str]] = field(default_factory=list)

    def __call__(self, asked: Asked) -> Answer:
        self.seen.append(asked)
        routes: dict[str, Route] = {
            "/login": self.login,
            "/refresh": self.refresh,
            "/logout": self.logout,
            "/me": self.me,
            "/echo": self.echo,
            "/echo-header": self.echo_header,
            "/stream": self.stream,
            "/other-login": self.login,
            "/slide": self.slide,
            "/file-link": self.file_link,
            "/large": self.large,
            "/in-body": self.in_body,
            **self.says,
        }
        try:
            return routes[asked.path](asked)
        except (jwt.PyJWTError, KeyError, ValueError) as error:
            return said(401, {"detail": "token_not_valid", "why": type(error).__name__})

    def login(self, asked: Asked) -> Answer:
        return said(200, self.pair(asked.json()["user"]))

    def refresh(self, asked: Asked) -> Answer:
        self.refreshes += 1
        claims = self.read(asked.json()["refresh"], "refresh")
        self.blocked.add(claims["jti"])
        return said(200, self.pair(claims["sub"]))

    def logout(self, asked: Asked) -> Answer:
        self.read(asked.bearer, "access")
        with_refresh = asked.json().get("refresh")
        if with_refresh:
            self.blocked.add(self.read(with_refresh, "refresh")["jti"])
        return 204, [], []

    def me(self, asked: Asked) -> Answer:
        return said(200, self.read(asked.bearer, "access"))

    def echo(self, asked: Asked) -> Answer:
        self.read(asked.bearer, "access")
        return said(200, {"user": {"token": asked.bearer}}, ("ETag", '"1"'))

    def echo_header(self, asked: Asked) -> Answer:
        self.read(asked.bearer, "access")
        return said(200, {}, ("X-Token", asked.bearer))

    def stream(self, asked: Asked) -> Answer:
        self.read(asked.bearer, "access")
        token = asked.bearer.encode()
        parts = (b"data: ", token[:20], token[20:90], token[90:] + b" e", b"yJ end", b"e")
        return 200, [("Content-Type", "text/event-stream")], _stepped(parts)

    def large(self, asked: Asked) -> Answer:
        self.read(asked.bearer, "access")
        body = b" " * 1_100_000 + asked.bearer.encode()
        length = ("Content-Length", str(len(body)))
        return 200, [("Content-Type", "text/plain"), length], [body]

    def slide(self, asked: Asked) -> Answer:
        user = self.read(asked.bearer, "access")["sub"]
        return said(200, {}, ("Authorization", f"Bearer {self.pair(user)['access']}"))

    def in_body(self, asked: Asked) -> Answer:
        user = self.read(asked.json()["access_token"], "access")["sub"]
        return said(200, {"sub": user, "note": asked.json()["note"]})

    def file_link(self, asked: Asked) -> Answer:
        jwt.decode(asked.bearer, self.secret, algorithms=["HS256"])
        return said(200, {"file": True})

    def pair(self, user: str) -> dict[str, str]:
        now = int(time.time())
        role = self.roles.get(user, "reader")
        made = {
            kind: jwt.encode(
                {
                    "token_type": kind,
                    "sub": user,
                    "role": role,
                    "iat": now,
                    "exp": now + lasts_s,
                    "jti": secrets.token_hex(16),
                },
                self.secret,
                algorithm="HS256",
            )
            for kind, lasts_s in (("access", 300), ("refresh", 86_400))
        }
        self.issued.append(made)
        return made

    def read(self, token: str, kind: str) -> dict[str, Any]:
        claims: dict[str, Any] = jwt.decode(token, self.secret, algorithms=["HS256"])
        if claims["token_type"] != kind or claims["jti"] in self.blocked:
            raise ValueError(kind)
        return claims

    async def asgi(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        parts, more = [], True
        while more:
            message = await receive()
            parts.append(message.get("body", b""))
            more = message.get("more_body", False)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        query = scope["query_string"].decode()
        asked = Asked(scope["method"], scope["path"], headers, b"".join(parts), query)
        code, lines, body = self(asked)
        raw = [(name.encode(), value.encode()) for name, value in lines]
        await send({"type": "http.response.start", "status": code, "headers": raw})
        for part in body:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    def wsgi(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        headers = {
            name.removeprefix("HTTP_").lower().replace("_", "-"): value
            for name, value in environ.items()
            if name.startswith("HTTP_")
        }
        size = -1 if environ.get("wsgi.input_terminated") else 0
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or size))
        query = environ.get("QUERY_STRING", "")
        asked = Asked(environ["REQUEST_METHOD"], environ["PATH_INFO"], headers, body, query)
        code, lines, parts = self(asked)
        start_response(f"{code} Said", lines)
        return parts


def said(code: int, body: object, *headers: tuple[str, str]) -> Answer:
    text = json.dumps(body).encode()
    lines = [("Content-Type", "application/json"), ("Content-Length", str(len(text)))]
    return code, [*lines, *headers], [text]


def _stepped(parts: Iterable[bytes]) -> Iterator[bytes]:
    yield from parts
