"""The only place where objects are joined.

One `Node` (memory, counters, clock, rollout) and one pulse per process and settings, shared by
every middleware and every `Sessions` of either colour. Nothing connects until it is asked.
"""

from __future__ import annotations

import atexit
import inspect
import secrets
import threading
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from migrator.control.ledgers.of_node import LedgersOfNode
from migrator.core.app import AsyncSessions, Sessions
from migrator.core.bridging import AsyncBridge, BlockingBridge, Bridging
from migrator.core.clock import DatabaseClock
from migrator.core.errors import BadSettings, Unavailable
from migrator.core.flow import Flow, Node, SubjectState
from migrator.core.gate import AsyncGate, Gate
from migrator.core.ids import uuid7
from migrator.core.meters import Meters
from migrator.core.recent import Recent
from migrator.core.tokens import SECRET_BYTES
from migrator.core.usage import Usage
from migrator.core.vitals import Vitals
from migrator.prepared import issuer_of, minter_of, rolling_of, terms_of, verifier_of
from migrator.pulse import NoHints, Pulse, Rhythm
from migrator.settings import Settings, no_swap_key
from migrator.stores.drivers import AsyncDriver, BlockingDriver, conninfo
from migrator.stores.feed import Carrying, Feed
from migrator.stores.flights import AsyncFlights, BlockingFlights
from migrator.stores.hints import Hints
from migrator.stores.memory_cache import NoCache
from migrator.stores.metered import MeteredCache, MeteredDriver
from migrator.stores.postgres import Postgres
from migrator.stores.redis import AsyncRedis, BlockingRedis, namespace_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from migrator.control.ledgers.callback import Asked
    from migrator.core.interfaces import Cache
    from migrator.core.sharing import Flights
    from migrator.pulse import HintsMaker

__all__ = [
    "SubjectState",
    "async_bridge",
    "async_gate",
    "async_sessions",
    "blocking_bridge",
    "blocklist",
    "gate",
    "issuer_of",
    "operator",
    "sessions",
    "settings_of",
    "stop",
    "verifier_of",
    "vitals",
]

Resolver: TypeAlias = "Callable[[str, str], SubjectState | Awaitable[SubjectState | None] | None]"
_F = TypeVar("_F", bound=Flow)

# The pulse's own connection: a poll must neither wait for requests nor outlive the trust it
# renews.
_PULSE_BUDGET_S = 0.8
# Whoever waits for one that asks hears of its failure: the cache may take a little besides.
_FLIGHT_MARGIN_S = 0.25


def gate(settings: Settings | None = None, *, resolve_subject: Resolver | None = None) -> Gate:
    """The gate of a blocking app.

    Raises:
        BadSettings: it cannot be run with.
    """
    return _flow(Gate, settings, blocks=True, resolve=resolve_subject)


def async_gate(
    settings: Settings | None = None, *, resolve_subject: Resolver | None = None
) -> AsyncGate:
    """The gate of an async app.

    Raises:
        BadSettings: it cannot be run with.
    """
    return _flow(AsyncGate, settings, blocks=False, resolve=resolve_subject)


def blocking_bridge(settings: Settings) -> BlockingBridge | None:
    """The bridge to a blocking app; None where the settings have none."""
    if settings.bridge is None:
        return None
    return _flow(BlockingBridge, settings, blocks=True)


def async_bridge(settings: Settings) -> AsyncBridge | None:
    """The bridge to an async app; None where the settings have none."""
    if settings.bridge is None:
        return None
    return _flow(AsyncBridge, settings, blocks=False)


def sessions(settings: Settings | None = None) -> Sessions:
    """What a blocking app calls at its login, refresh and logout routes."""
    return _flow(Sessions, settings, blocks=True)


def async_sessions(settings: Settings | None = None) -> AsyncSessions:
    """What an async app calls at its login, refresh and logout routes."""
    return _flow(AsyncSessions, settings, blocks=False)


def operator(settings: Settings) -> Sessions:
    """`Sessions` for a command: no pulse, so this process is no node, and nothing outlives it."""
    house = _House(settings, pulse=False)
    return house.flow(Sessions, blocks=True, resolve=None)


def vitals(settings: Settings | None = None) -> tuple[Node, Meters]:
    """What this process remembers and counts, and how its stores do: what metrics are made of."""
    settings = settings_of(settings)
    with _joining:
        house = _house_of(settings)
    return house.node, house.meters


def blocklist(
    asked: Asked, *, issuer: str | None = None, settings: Settings | None = None
) -> None:
    """Give the ledger of kind `callback` the function that it asks, off the request path.

    Where the settings have no such ledger of the issuer, one with the usual rhythm begins.

    Args:
        asked: `(header, payload)` → whether the token was revoked; blocking, and called in a
            thread of ours: what it needs of the app (a context) it brings itself.
        issuer: id of the issuer whose tokens it knows; the only one unless given.

    Raises:
        BadSettings: it cannot be run with.
    """
    with _joining:
        _house_of(settings_of(settings)).ledgers.ask(asked, issuer)


def settings_of(settings: Settings | None) -> Settings:
    """The settings given, else those of `migrator.toml` and the environment."""
    return Settings.load() if settings is None else settings


def stop() -> None:
    """Flush and end every pulse of this process, and forget what was joined."""
    with _joining:
        houses, _houses[:] = list(_houses), []
    for house in houses:
        house.stop()


class _House:
    """Everything of one process that belongs to one set of settings."""

    def __init__(self, settings: Settings, *, pulse: bool = True) -> None:
        self.settings = settings
        self.terms = terms_of(settings)
        self.verifier = verifier_of(settings)
        self.minter = None if settings.bridge is None else minter_of(settings, settings.bridge)
        self.node = Node(
            recent=Recent(settings.memory.entries), usage=Usage(), clock=DatabaseClock()
        )
        self.meters = Meters()
        self._stores: dict[bool, tuple[Postgres, Cache]] = {}
        self._held: list[BlockingDriver | AsyncDriver | BlockingRedis] = []
        within_s = settings.database.budget_ms / 1000 + _FLIGHT_MARGIN_S
        self._flights: dict[bool, Flights] = {
            True: BlockingFlights(within_s=within_s),
            False: AsyncFlights(within_s=within_s),
        }
        self.ledgers = LedgersOfNode(
            settings, self.node, partial(_cache_of, settings, blocks=True)
        )
        self.pulse = _pulse_of(settings, self.node, self.meters, self.ledgers) if pulse else None
        if self.pulse is not None:
            self.node.wake, self.node.sleep = self.pulse.ensure, self.pulse.stop

    def flow(self, kind: type[_F], *, blocks: bool, resolve: Resolver | None) -> _F:
        store, cache = self._stores_of(blocks=blocks)
        joined = kind(
            terms=self.terms,
            verifier=self.verifier,
            store=store,
            cache=cache,
            node=self.node,
            new_id=uuid7,
            secret=partial(secrets.token_bytes, SECRET_BYTES),
            resolve=None if resolve is None else _either_colour(resolve),
            flights=self._flights[blocks],
        )
        if isinstance(joined, Bridging) and self.minter is not None:
            joined.minter = self.minter
        return joined

    def _stores_of(self, *, blocks: bool) -> tuple[Postgres, Cache]:
        if blocks not in self._stores:
            settings = self.settings
            make = BlockingDriver if blocks else AsyncDriver
            driver = make(
                settings.database.url.get_secret_value(),
                budget_s=settings.database.budget_ms / 1000,
            )
            self._held.append(driver)
            metered = MeteredDriver(driver, self.meters.store)
            store = Postgres(metered, settings.database.schema)
            cache = _cache_of(settings, blocks=blocks)
            if isinstance(cache, BlockingRedis):  # an async one closes with its event loop
                self._held.append(cache)
            if settings.redis is not None:
                cache = MeteredCache(cache, self.meters.cache)
            self._stores[blocks] = store, cache
        return self._stores[blocks]

    def stop(self) -> None:
        if self.pulse is not None:
            self.pulse.stop()
        for each in self._held:
            each.close()


_houses: list[_House] = []
_joining = threading.Lock()
atexit.register(stop)


def _flow(
    kind: type[_F],
    settings: Settings | None,
    *,
    blocks: bool,
    resolve: Resolver | None = None,
) -> _F:
    settings = settings_of(settings)
    if settings.issuers and not settings.swap.keys:  # without issuers nothing is swapped
        raise BadSettings((no_swap_key(),))
    with _joining:
        return _house_of(settings).flow(kind, blocks=blocks, resolve=resolve)


def _house_of(settings: Settings) -> _House:
    for house in _houses:
        if house.settings is settings or house.settings == settings:
            return house
    house = _House(settings)
    _houses.append(house)
    return house


def _cache_of(settings: Settings, *, blocks: bool) -> Cache:
    redis = settings.redis
    if redis is None:
        return NoCache(blocks=blocks)
    make = BlockingRedis if blocks else AsyncRedis
    return make(
        redis.url.get_secret_value(),
        namespace=_namespace(settings),
        budget_s=redis.budget_ms / 1000,
        entry_seconds=redis.entry_seconds,
    )


def _pulse_of(settings: Settings, node: Node, meters: Meters, ledgers: LedgersOfNode) -> Pulse:
    driver = BlockingDriver(
        settings.database.url.get_secret_value(),
        budget_s=min(_PULSE_BUDGET_S, settings.database.budget_ms / 1000),
        room=1,
    )
    make_hints: HintsMaker = NoHints
    if settings.redis is not None:
        make_hints = partial(_hints, settings.redis.url.get_secret_value(), _namespace(settings))
    return Pulse(
        node,
        Feed(
            driver,
            settings.database.schema,
            vitals=Vitals(node, meters).read,
            learns_within_s=ledgers.learns_within_s,
        ),
        rhythm=Rhythm(
            poll_s=settings.memory.poll_ms / 1000, trust_s=settings.memory.trust_ms / 1000
        ),
        make_hints=make_hints,
        key_ids=tuple(key.id for key in settings.swap.keys),
        carrying=Carrying(
            {realm: by.total_seconds() for realm, by in rolling_of(settings).items()},
            settings.sessions.absolute.total_seconds(),
            in_observe=settings.bridge is None,
        ),
        companion=ledgers,
    )


def _hints(url: str, namespace: str, stop: threading.Event) -> Hints:
    return Hints(url, namespace=namespace, stop=stop)


def _namespace(settings: Settings) -> str:
    return namespace_of(
        environment=settings.environment,
        app=settings.app,
        database=str(conninfo(settings.database.url.get_secret_value()).get("dbname", "")),
        schema=settings.database.schema,
    )


def _either_colour(
    resolve: Resolver,
) -> Callable[[str, str], Awaitable[SubjectState | None]]:
    async def resolved(subject: str, realm: str) -> SubjectState | None:
        try:
            answer = resolve(subject, realm)
            return await answer if inspect.isawaitable(answer) else answer
        except Exception as error:  # whatever the app's hook raises: it could not be asked
            raise Unavailable("resolve_subject", type(error).__name__) from error

    return resolved
