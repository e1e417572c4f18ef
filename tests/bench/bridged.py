"""What the bridge adds to an app that verifies JWTs: a request of a session, and a mint."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from typing import Any

import jwt

from migrator import prepared
from migrator.core.bridge import Minter
from migrator.core.bridging import BlockingBridge
from migrator.core.gate import Gate
from migrator.settings import Settings
from migrator.stores.memory import MemoryStore
from migrator.stores.memory_cache import NoCache
from shims import wsgi
from shims.bridging import Bridge
from shims.credentials import Places
from shims.wsgi_bridging import Over
from tests.bench import parts
from tests.bench.in_process import KNOWN, remembering
from tests.bench.timing import Case, Group, computing
from tests.rig import SECRET, Rig, sign


def groups() -> Iterator[Group]:
    """The group of the bridge; needs no server."""
    settings = Rig("postgresql+psycopg://nobody@127.0.0.1:1/none").settings(bridge={})
    logins = parts.logins(KNOWN)
    values = [login.token for login in logins]
    legacy = [sign(f"user-{n}", lasts_s=86_400).encode() for n in range(64)]
    shim = _bridged(settings, remembering(Gate, settings, logins, blocks=True))
    yield Group(
        "bridge",
        "A whole WSGI request to an app that verifies an HS256 JWT with PyJWT",
        [
            Case("app alone, JWT", computing(_served(_app), parts.environs(_bearers(legacy)))),
            Case(
                "behind the bridge, session",
                computing(_served(shim), parts.environs(_bearers(values))),
            ),
            Case("a bridge JWT minted", computing(_minting(settings), cycle(logins))),
        ],
    )


def _app(environ: Any, start_response: Any) -> list[bytes]:
    token = environ["HTTP_AUTHORIZATION"].partition(" ")[2]
    environ["user"] = jwt.decode(token, SECRET, algorithms=["HS256"])
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", "2")])
    return [b"{}"]


def _bridged(settings: Settings, gate: Gate) -> Any:
    shim = wsgi.DualAcceptMiddleware(_app, settings, gate=gate)
    store, cache = MemoryStore(blocks=True), NoCache(blocks=True)
    flow = parts.flow(BlockingBridge, settings, store=store, cache=cache, node=gate.node)
    flow.minter = _minter(settings)
    bridge = Bridge.of(settings, Places.of(settings), flow)
    shim._over = Over(bridge, shim._answers, wsgi._answer)  # over the memory of the gate
    return shim


def _minter(settings: Settings) -> Minter:
    assert settings.bridge is not None
    return prepared.minter_of(settings, settings.bridge)


def _minting(settings: Settings) -> Callable[[parts.Login], object]:
    minter, now = _minter(settings), parts.now()

    def mint(login: parts.Login) -> object:
        session = login.found.session
        return minter.mint(session, "refresh", scopes=session.scopes, cookies={}, now=now)

    return mint


def _served(app: Any) -> Callable[[dict[str, Any]], object]:
    def started(_status: str, _headers: Any, _error: Any = None) -> Callable[[bytes], object]:
        return len

    return lambda environ: list(app(environ, started))


def _bearers(values: Sequence[bytes]) -> list[tuple[str, str]]:
    return [("Authorization", f"Bearer {value.decode()}") for value in values]
