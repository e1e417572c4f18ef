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
from migrator.core import legacy
from migrator.core.app import AsyncSessions, Sessions
from migrator.core.bridge import Minter, Shape, Style
from migrator.core.bridging import AsyncBridge, BlockingBridge, Bridging
from migrator.core.clock import DatabaseClock
from migrator.core.errors import BadSettings, Unavailable
from migrator.core.flow import Flow, Node, SubjectState, SwapKey, Terms
from migrator.core.gate import AsyncGate, Gate
from migrator.core.ids import uuid7
from migrator.core.meters import Meters
from migrator.core.recent import Recent
from migrator.core.sessions import Limits
from migrator.core.tokens import SECRET_BYTES
from migrator.core.usage import Usage
from migrator.pulse import NoHints, Pulse, Rhythm
from migrator.settings import Settings, no_swap_key
from migrator.stores.drivers import AsyncDriver, BlockingDriver, conninfo
from migrator.stores.feed import Carrying, Feed
from migrator.stores.hints import Hints
from migrator.stores.keys import KeySource, key_ring
from migrator.stores.memory_cache import NoCache
from migrator.stores.metered import MeteredCache, MeteredDriver
from migrator.stores.postgres import Postgres
from migrator.stores.redis import AsyncRedis, BlockingRedis, namespace_of
from migrator.stores.signers import signer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from datetime import timedelta

    from migrator.control.ledgers.callback import Asked
    from migrator.core.interfaces import Cache
    from migrator.pulse import HintsMaker
    from migrator.settings import Bridge, Issuer, Key

__all__ = [
    "SubjectState",
    "async_bridge",
    "async_gate",
    "async_sessions",
    "blocking_bridge",
    "blocklist",
    "gate",
    "operator",
    "sessions",
    "settings_of",
    "stop",
    "vitals",
]

Resolver: TypeAlias = "Callable[[str, str], SubjectState | Awaitable[SubjectState | None] | None]"
_F = TypeVar("_F", bound=Flow)

# The pulse's own connection: a poll must neither wait for requests nor outlive the trust it
# renews.
_PULSE_BUDGET_S = 0.8


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
        self._drivers: list[BlockingDriver | AsyncDriver] = []
        self.ledgers = LedgersOfNode(
            settings, self.node, partial(_cache_of, settings, blocks=True)
        )
        self.pulse = _pulse_of(settings, self.node, self.ledgers) if pulse else None
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
            self._drivers.append(driver)
            metered = MeteredDriver(driver, self.meters.store)
            store = Postgres(metered, settings.database.schema)
            cache = _cache_of(settings, blocks=blocks)
            if settings.redis is not None:
                cache = MeteredCache(cache, self.meters.cache)
            self._stores[blocks] = store, cache
        return self._stores[blocks]

    def stop(self) -> None:
        if self.pulse is not None:
            self.pulse.stop()
        for driver in self._drivers:
            driver.close()


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


def terms_of(settings: Settings) -> Terms:
    """The settings that the flow needs, in its own types."""
    return Terms(
        session_prefix=settings.tokens.session_prefix,
        api_prefix=settings.tokens.api_prefix,
        swap_keys=tuple(
            SwapKey(key.id, key.secret.get_secret_value()) for key in settings.swap.keys
        ),
        min_remaining=settings.swap.min_remaining,
        limits=Limits(idle=settings.sessions.idle, absolute=settings.sessions.absolute),
        refuses_foreign=settings.http.foreign == "refuse",
        per_subject=settings.sessions.per_subject,
        rolling_by_realm=rolling_of(settings),
        login_realm=settings.sessions.realm,
        store_ip=settings.sessions.store_ip,
    )


def rolling_of(settings: Settings) -> dict[str, timedelta]:
    """The lifetime of each new refresh token, of the realms all of whose issuers rotate them.

    A session does not name its issuer, so one that does not rotate speaks for its whole realm:
    else its sessions would outlive its refresh tokens (P3).
    """
    lifetimes: dict[str, list[timedelta | None]] = {}
    for issuer in settings.issuers:
        if issuer.refresh_lifetime is None and not issuer.purpose.refresh:
            continue  # it has no refresh tokens
        rolling = issuer.refresh_lifetime if issuer.rotates_refresh else None
        lifetimes.setdefault(issuer.realm, []).append(rolling)
    all_rolling = {
        realm: [one for one in of if one is not None]
        for realm, of in lifetimes.items()
        if None not in of
    }
    return {realm: min(of) for realm, of in all_rolling.items()}


def minter_of(settings: Settings, bridge: Bridge) -> Minter:
    """What mints the JWTs that the app behind the bridge understands.

    Raises:
        BadSettings: a key signs nothing.
    """
    issuer = next(each for each in settings.issuers if each.id == bridge.issuer)
    own = next((key for key in issuer.keys if key.form == "secret"), None)
    key = bridge.key or own
    assert key is not None  # settings.bridge-key
    refresh_key = bridge.refresh_key or next(
        (each for each in issuer.refresh_keys if each.form == "secret"), key
    )
    typ = next(iter(issuer.typ), None)
    audience = next(iter(issuer.audience), None)
    integers = bridge.integer_subject
    return Minter(
        Shape(
            issuer=issuer.id,
            realm=issuer.realm,
            styles={
                "access": Style(
                    signer=signer(_source(key), issuer.algorithms),
                    purpose=_told(issuer.purpose.require),
                    constants=bridge.constants,
                    mirrors=bridge.mirrors,
                ),
                "refresh": Style(
                    signer=signer(_source(refresh_key), issuer.algorithms),
                    purpose=_told(issuer.purpose.refresh or {}),
                    constants=bridge.refresh_constants,
                    mirrors=bridge.refresh_mirrors,
                ),
            },
            lifetime=bridge.lifetime,
            iss=_unless_any(issuer.issuer),
            audience=_unless_any(audience),
            typ=_unless_any(typ),
            claims=_claim_names(issuer, keep=()),
            integer_subject=issuer.integer_subject if integers is None else integers,
            expiring=bridge.expiring,
            access_lifetime=issuer.lifetime,
        )
    )


def _told(rule: Mapping[str, object]) -> dict[str, object]:
    """The claims by which a purpose rule is kept; what it wants absent or takes any of, is not."""
    told = {}
    for name, wanted in rule.items():
        values = wanted if isinstance(wanted, list | tuple) else (wanted,)
        value = next((each for each in values if each is not None), None)
        if value is not None and value != "*":
            told[name] = value
    return told


def _unless_any(value: str | None) -> str | None:
    return None if value == "*" else value


def _claim_names(issuer: Issuer, *, keep: tuple[str, ...]) -> legacy.ClaimNames:
    return legacy.ClaimNames(
        subject=issuer.claims.subject,
        client=issuer.claims.client,
        scopes=issuer.claims.scopes,
        family=issuer.claims.family,
        keep=keep,
    )


def verifier_of(settings: Settings) -> legacy.Verifier:
    """The verifier of every configured issuer.

    Raises:
        BadSettings: a key cannot be used.
    """
    return legacy.Verifier(
        [
            issuer_of(
                issuer,
                bridge=settings.bridge
                if settings.bridge is not None and settings.bridge.issuer == issuer.id
                else None,
            )
            for issuer in settings.issuers
        ],
        foreign=[
            legacy.ForeignRule(iss=rule.iss, claims=rule.claims, path=rule.path)
            for rule in settings.foreign
        ],
        max_bytes=settings.http.max_credential_bytes,
    )


def issuer_of(issuer: Issuer, *, bridge: Bridge | None = None) -> legacy.Issuer:
    """One issuer with its keys prepared.

    Args:
        bridge: the bridge to an app that reads JWTs of this shape: it is to find its claims there.

    Raises:
        BadSettings: a key cannot be used.
    """
    return legacy.Issuer(
        id=issuer.id,
        name=issuer.name,
        realm=issuer.realm,
        algorithms=issuer.algorithms,
        keys=key_ring(
            _sources(issuer.keys),
            issuer.algorithms,
            jwks_url=issuer.jwks_url,
            allow_http_loopback=True,
        ),
        refresh_keys=(
            key_ring(_sources(issuer.refresh_keys), issuer.algorithms)
            if issuer.refresh_keys
            else None
        ),
        iss=issuer.issuer,
        audience=issuer.audience,
        typ=issuer.typ,
        accept_padding=issuer.accept_padding,
        integer_subject=issuer.integer_subject,
        rotates_refresh=issuer.rotates_refresh,
        leeway=issuer.leeway,
        skew=issuer.skew,
        lifetime=issuer.lifetime,
        refresh_lifetime=issuer.refresh_lifetime,
        max_age=issuer.max_age,
        claims=_claim_names(issuer, keep=_kept(issuer, bridge)),
        require=issuer.purpose.require,
        refresh=issuer.purpose.refresh,
    )


def _kept(issuer: Issuer, bridge: Bridge | None) -> tuple[str, ...]:
    keep = issuer.claims.keep
    if bridge is None:
        return keep
    # The app's own lists and not-before dates go by these two.
    return (*keep, "jti", "iat", *(("*",) if bridge.claims == "all" else ()))


def _sources(keys: Sequence[Key]) -> list[KeySource]:
    return [_source(key) for key in keys]


def _source(key: Key) -> KeySource:
    return KeySource(
        value=key.value.get_secret_value(),
        origin=key.origin,
        form=key.form,
        kid=key.kid,
        alg=key.alg,
    )


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


def _pulse_of(settings: Settings, node: Node, ledgers: LedgersOfNode) -> Pulse:
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
        Feed(driver, settings.database.schema),
        rhythm=Rhythm(
            poll_s=settings.memory.poll_ms / 1000, trust_s=settings.memory.trust_ms / 1000
        ),
        make_hints=make_hints,
        key_ids=tuple(key.id for key in settings.swap.keys),
        carrying=Carrying(
            {realm: by.total_seconds() for realm, by in rolling_of(settings).items()},
            settings.sessions.absolute.total_seconds(),
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
