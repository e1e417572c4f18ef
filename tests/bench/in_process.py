"""The hit path: memory against a hand-written floor and PyJWT; what the middlewares add."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from hashlib import sha256
from itertools import cycle
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from migrator.core.gate import AsyncGate, Gate
from migrator.core.recent import Entry
from migrator.core.verdicts import Admitted, Principal
from migrator.settings import Settings
from migrator.stores.memory import MemoryStore
from migrator.stores.memory_cache import NoCache
from shims import asgi, wsgi
from shims.credentials import Places, find, lone
from shims.messages import App, Message, Scope
from tests.bench import parts
from tests.bench.timing import Case, Group, computing

KNOWN = 1024  # tokens in rotation
_SECRET = b"a legacy signing secret of the tests, long enough"


def groups() -> Iterator[Group]:
    """The groups that need no server."""
    settings = parts.settings()
    logins = parts.logins(KNOWN)
    gate = remembering(Gate, settings, logins, blocks=True)
    yield _memory(settings, gate, logins)
    yield _jwt(settings, gate, logins)
    yield _asgi(settings, remembering(AsyncGate, settings, logins, blocks=False), logins)
    yield _wsgi(settings, gate, logins)


def remembering(
    kind: Any, settings: Settings, logins: Sequence[parts.Login], *, blocks: bool
) -> Any:
    """A gate of `kind` whose memory has every login."""
    node = parts.node(remembers=True)
    for login in logins:
        session, digest = login.found.session, login.found.digest
        principal = Principal(
            session.subject,
            session.realm,
            session.scopes,
            session.claims,
            session.client,
            session=session,
        )
        entry = Entry(
            Admitted(principal),
            until=parts.TRUSTED,
            tally=node.usage.tally(None, session.client, "session"),
            about=(digest, ("subject", session.realm, session.subject)),
        )
        node.recent.fill(digest, entry, node.recent.mark())
    store = MemoryStore(blocks=blocks)
    return parts.flow(kind, settings, store=store, cache=NoCache(blocks=blocks), node=node)


def _memory(settings: Settings, gate: Gate, logins: Sequence[parts.Login]) -> Group:
    lines = [b"Bearer " + login.token for login in logins]
    values = [login.token for login in logins]
    return Group(
        "memory",
        "A remembered token, in memory",
        [
            Case("floor: slice, sha256, dict, expiry", computing(_floor(logins), cycle(lines))),
            Case(
                "Gate.peek_header",
                computing(lambda value: gate.peek_header(value, parts.ISSUERS), cycle(values)),
                "<= 1.5",
            ),
            Case("headers searched, then peek_header", _found_at_once(settings, gate, values)),
            Case("headers read with a cookie, then peek", _found(settings, gate, values)),
        ],
    )


def _floor(logins: Sequence[parts.Login]) -> Callable[[bytes], object]:
    far = time.monotonic() + 1e9
    known = {login.found.digest: (login.found.session, far) for login in logins}
    get, clock = known.get, time.monotonic

    def floor(line: bytes) -> object:
        entry = get(sha256(line[7:]).digest())
        if entry is None or clock() >= entry[1]:
            return None
        return entry[0]

    return floor


def _found_at_once(settings: Settings, gate: Gate, values: Sequence[bytes]) -> Any:
    places = _used(settings)

    def act(scope: dict[str, Any]) -> object:
        only = lone(places, scope["headers"], scope["query_string"])
        return gate.peek_header(*only) if only else None

    return computing(act, parts.scopes(_bearers(values)))


def _found(settings: Settings, gate: Gate, values: Sequence[bytes]) -> Any:
    places = _used(settings)

    def act(scope: dict[str, Any]) -> object:
        presented, _ = find(places, scope["headers"], method="GET", path=scope["path"])
        return gate.peek(presented) if presented else None

    return computing(act, parts.scopes(_cookies(settings, values)))


def _used(settings: Settings) -> Places:
    places = Places.of(settings)
    scope = next(parts.scopes([("Authorization", "Bearer x")]))
    find(places, scope["headers"], method="GET", path="/")
    return places


def _bearers(values: Iterable[bytes]) -> list[tuple[str, str]]:
    return [("Authorization", f"Bearer {value.decode()}") for value in values]


def _cookies(settings: Settings, values: Iterable[bytes]) -> list[tuple[str, str]]:
    name = settings.cookie.effective_name
    return [("Cookie", f"theme=dark; {name}={value.decode()}") for value in values]


# ---- PyJWT -------------------------------------------------------------------------------------


def _jwt(settings: Settings, gate: Gate, logins: Sequence[parts.Login]) -> Group:
    keys: dict[str, tuple[Any, Any]] = {"HS256": (_SECRET, _SECRET)}
    rsa_key, ec_key = (
        rsa.generate_private_key(65537, 2048),
        ec.generate_private_key(ec.SECP256R1()),
    )
    keys["RS256"] = rsa_key, rsa_key.public_key()
    keys["ES256"] = ec_key, ec_key.public_key()
    values = [login.token for login in logins]
    peeked = computing(lambda value: gate.peek_header(value, parts.ISSUERS), cycle(values))
    decoded = [
        Case(
            f"PyJWT decode {name}, key object",
            computing(_decoding(name, public), cycle(_signed(name, private, 64))),
            ">= 20" if name == "HS256" else "",
        )
        for name, (private, public) in keys.items()
    ]
    return Group(
        "jwt", "What it replaces: verifying a JWT", [Case("Gate.peek_header", peeked), *decoded]
    )


def _decoding(algorithm: str, key: Any) -> Callable[[str], object]:
    algorithms = [algorithm]
    return lambda token: jwt.decode(token, key, algorithms=algorithms)


def _signed(algorithm: str, key: Any, number: int) -> list[str]:
    at = parts.now()
    claims = {
        "iss": "https://idp.example",
        "iat": at,
        "exp": at + timedelta(days=1),
        "scope": "orders:read orders:write",
        "name": "Ada",
        "tenant": 7,
    }
    return [jwt.encode({**claims, "sub": f"user-{n}"}, key, algorithm) for n in range(number)]


# ---- the middlewares ---------------------------------------------------------------------------


async def _asgi_app(_scope: Scope, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


async def _no_message() -> Message:
    return {"type": "http.request"}


async def _nowhere(_message: Message) -> None:
    return None


def _driven(app: App) -> Callable[[dict[str, Any]], object]:
    """One request: nothing in it suspends, so no loop is needed to run it."""

    def drive(scope: dict[str, Any]) -> None:
        flow: Any = app(scope, _no_message, _nowhere)
        try:
            flow.send(None)
        except StopIteration:
            return
        raise AssertionError("a remembered credential awaited something")

    return drive


def _asgi(settings: Settings, gate: AsyncGate, logins: Sequence[parts.Login]) -> Group:
    shim = asgi.DualAcceptMiddleware(_asgi_app, settings, gate=gate)
    values = [login.token for login in logins]
    tokens = _signed("HS256", _SECRET, 64)
    bearers = _bearers(values)

    async def by_hand(scope: Scope, receive: Any, send: Any) -> None:
        line = next(value for name, value in scope["headers"] if name == b"authorization")
        token = line.partition(b" ")[2].decode()
        user = jwt.decode(token, _SECRET, algorithms=["HS256"])
        await _asgi_app({**scope, "user": user}, receive, send)

    return Group(
        "asgi",
        "A whole ASGI request in process (the app answers at once)",
        [
            Case("app alone", computing(_driven(_asgi_app), parts.scopes(bearers))),
            Case("shim, token in a header", computing(_driven(shim), parts.scopes(bearers))),
            Case(
                "shim, token in a cookie",
                computing(_driven(shim), parts.scopes(_cookies(settings, values))),
            ),
            Case(
                "shim, no credential",
                computing(_driven(shim), parts.scopes([("Accept-Charset", "utf-8")])),
            ),
            Case(
                "PyJWT HS256 by hand",
                computing(_driven(by_hand), parts.scopes(_bearers(t.encode() for t in tokens))),
            ),
        ],
    )


def _wsgi_app(_environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [b"{}"]


def _started(_status: str, _headers: Any, _error: Any = None) -> Callable[[bytes], object]:
    return len


def _served(app: Any) -> Callable[[dict[str, Any]], object]:
    return lambda environ: app(environ, _started)


def _wsgi(settings: Settings, gate: Gate, logins: Sequence[parts.Login]) -> Group:
    shim = wsgi.DualAcceptMiddleware(_wsgi_app, settings, gate=gate)
    values = [login.token for login in logins]
    tokens = _signed("HS256", _SECRET, 64)
    bearers = _bearers(values)

    def by_hand(environ: Any, start_response: Any) -> list[bytes]:
        token = environ["HTTP_AUTHORIZATION"].partition(" ")[2]
        environ["user"] = jwt.decode(token, _SECRET, algorithms=["HS256"])
        return _wsgi_app(environ, start_response)

    return Group(
        "wsgi",
        "A whole WSGI request in process (the app answers at once)",
        [
            Case("app alone", computing(_served(_wsgi_app), parts.environs(bearers))),
            Case("shim, token in a header", computing(_served(shim), parts.environs(bearers))),
            Case(
                "shim, token in a cookie",
                computing(_served(shim), parts.environs(_cookies(settings, values))),
            ),
            Case(
                "shim, no credential",
                computing(_served(shim), parts.environs([("Accept-Charset", "utf-8")])),
            ),
            Case(
                "PyJWT HS256 by hand",
                computing(_served(by_hand), parts.environs(_bearers(t.encode() for t in tokens))),
            ),
        ],
    )
