"""What the cases are made of: settings, gates over whatever store, sessions, requests."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import cycle
from typing import Any, TypeVar

from migrator import prepared
from migrator.core import tokens
from migrator.core.clock import DatabaseClock
from migrator.core.flow import Flow, Node
from migrator.core.ids import uuid7
from migrator.core.interfaces import Cache, Found, Store
from migrator.core.phases import Phase, Rollout
from migrator.core.presented import Credential, Presented
from migrator.core.recent import Recent
from migrator.core.sessions import Session
from migrator.core.usage import Usage
from migrator.settings import Settings
from tests.rig import Rig

_F = TypeVar("_F", bound=Flow)

ISSUERS = frozenset({"a1"})
TRUSTED = 10**30  # ticks: for as long as anything here runs
PATH = "/api/orders"
AGENT = "acme-ios/4.2 (iPhone; iOS 19.1)"
# What a JSON API gets from a browser's fetch through a proxy.
HEADERS = (
    ("Host", "api.example"),
    ("User-Agent", AGENT),
    ("Accept", "application/json"),
    ("Accept-Encoding", "gzip, deflate, br"),
    ("Accept-Language", "en-GB,en;q=0.9"),
    ("X-Forwarded-For", "203.0.113.9"),
    ("X-Request-Id", "6e1f2b9c"),
)


def settings(url: str = "postgresql+psycopg://nobody@127.0.0.1:1/none") -> Settings:
    """The settings of the tests' small app."""
    return Rig(url).settings(cookie={"secure": True})


def node(*, phase: Phase = Phase.SWAP, remembers: bool = False) -> Node:
    """A process that knows the time and the phase; without `remembers` memory is never trusted."""
    clock = DatabaseClock()
    clock.learn(now())
    made = Node(recent=Recent(100_000), usage=Usage(), clock=clock)
    made.rollout = Rollout(phase=phase, epoch=1, percent=100, since=now())
    made.recent.trusted_until = TRUSTED if remembers else 0
    return made


def flow(kind: type[_F], settings: Settings, *, store: Store, cache: Cache, node: Node) -> _F:
    """A gate of either colour over these parts, joined as wiring does."""
    return kind(
        terms=prepared.terms_of(settings),
        verifier=prepared.verifier_of(settings),
        store=store,
        cache=cache,
        node=node,
        new_id=uuid7,
        secret=partial(secrets.token_bytes, tokens.SECRET_BYTES),
    )


@dataclass(frozen=True, slots=True)
class Login:
    """A token and what the store knows of it."""

    token: bytes
    found: Found

    @property
    def presented(self) -> Presented:
        """A request with it."""
        return presented(self.token)


def logins(number: int) -> list[Login]:
    """Sessions as a login makes them, read just now."""
    return [_login(f"user-{n}") for n in range(number)]


def presented(value: bytes) -> Presented:
    """A request with one header."""
    header = Credential(value, "header", ISSUERS)
    return Presented(header=header, path=PATH, user_agent=AGENT, ip="203.0.113.9")


def now() -> datetime:
    """The time, where no database is asked."""
    return datetime.now(UTC)


def scopes(lines: Sequence[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    """ASGI scopes, each with one of these lines, made of new objects as a server makes them."""
    for name, value in cycle(lines):
        headers = [(_fresh(key.lower()), _fresh(text)) for key, text in (*HEADERS, (name, value))]
        yield {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "https",
            "path": PATH,
            "raw_path": PATH.encode(),
            "query_string": b"page=2",
            "root_path": "",
            "headers": headers,
            "client": ("203.0.113.9", 50_123),
            "server": ("10.0.0.5", 8000),
            "state": {},
            "extensions": {},
        }


def environs(lines: Sequence[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    """WSGI environs, each with one of these lines."""
    for name, value in cycle(lines):
        headers = {
            "HTTP_" + key.upper().replace("-", "_"): _fresh(text).decode()
            for key, text in (*HEADERS, (name, value))
        }
        yield {
            "REQUEST_METHOD": "GET",
            "SCRIPT_NAME": "",
            "PATH_INFO": PATH,
            "QUERY_STRING": "page=2",
            "REMOTE_ADDR": "203.0.113.9",
            "SERVER_NAME": "10.0.0.5",
            "SERVER_PORT": "8000",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "https",
            **headers,
        }


def _fresh(text: str) -> bytes:
    return bytes(bytearray(text.encode()))  # a new object: nobody has hashed it yet


def _login(subject: str) -> Login:
    token = tokens.mint("sess", secrets.token_bytes(32))
    at = now()
    session = Session(
        id=uuid7(),
        kind="session",
        realm="users",
        subject=subject,
        client="acme-ios",
        scopes=frozenset({"orders:read", "orders:write"}),
        claims={"name": "Ada", "tenant": 7},
        created_at=at,
        expires_at=at + timedelta(days=30),
        last_seen_at=at,
        user_agent=AGENT,
        ip="203.0.113.9",
        origin="login",
    )
    return Login(token, Found(digest=tokens.digest(token), session=session, read_at=at))
