"""P2: no fill, of memory or of the cache, outruns an eviction: every interleaving is stepped.

The real flows run over the shipped memory store and cache, which pause where another process may
come between: before each question to either, and after the last answer. The last tests are tests
of these tests: three broken ways of filling, each of which was a real one, must show their hole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from migrator import prepared
from migrator.core.clock import DatabaseClock
from migrator.core.flow import Node, run
from migrator.core.gate import Gate
from migrator.core.ids import uuid7
from migrator.core.interfaces import Ended, Found
from migrator.core.issuing import Issuing
from migrator.core.phases import Phase, Rollout
from migrator.core.presented import Credential, Presented
from migrator.core.recent import FOREVER, Entry, Mark, Recent
from migrator.core.tokens import digest as digest_of
from migrator.core.usage import Usage
from migrator.core.verdicts import Admitted
from migrator.pulse import SEPARATOR, NoHints, Pulse, Rhythm
from migrator.stores.feed import Carrying, Event, Reading
from migrator.stores.memory import MemoryCache, MemoryStore
from tests.counts import counted
from tests.rig import Rig, sign
from tests.schedules.interleave import Tried, Work, every_schedule, pause, step_through

SETTINGS = Rig("postgresql://nowhere").settings()
TERMS, VERIFIER = prepared.terms_of(SETTINGS), prepared.verifier_of(SETTINGS)
NOW = datetime.now(UTC)
TICK = 10**9
ISSUERS = frozenset({"a1"})
LEAST = 50  # schedules of the smallest scenario: fewer, and something was not stepped
JWT = sign("ann", headers={"kid": "k1"}).encode()


class Store:
    """The shipped memory store, with a feed written by each commit, and pauses."""

    blocks = True

    def __init__(self) -> None:
        self.inner = MemoryStore(lambda: NOW)
        self.feed: list[Event] = []
        self.steps = self.steps_after_fill = False

    async def rollout(self, *, deaf: str | None = None) -> Rollout:
        return await self.inner.rollout(deaf=deaf)

    async def now(self) -> datetime:
        return NOW

    async def family_of(self, *given: Any, **named: Any) -> Sequence[Found]:
        return await self.inner.family_of(*given, **named)

    async def digests_of(self, *given: Any, **named: Any) -> Sequence[bytes]:
        return await self.inner.digests_of(*given, **named)

    async def find(self, digest: bytes) -> Found | None:
        await self.between()
        return await self.inner.find(digest)

    async def swap(self, *given: Any) -> Any:
        await self.between()
        standing = await self.inner.swap(*given)
        await self.between()
        return standing

    async def check(self, *given: Any) -> Any:
        await self.between()
        standing = await self.inner.check(*given)
        await self.between()
        return standing

    async def deny(self, *given: Any, **named: Any) -> Ended:
        await self.between()
        ended = await self.inner.deny(*given, **named)
        self.tell("legacy", "a1")
        return self.fed(ended)

    async def end(self, *given: Any, **named: Any) -> Ended:
        await self.between()
        return self.fed(await self.inner.end(*given, **named))

    async def end_subject(self, subject: str, *, realm: str, **named: Any) -> Ended:
        await self.between()
        ended = await self.inner.end_subject(subject, realm=realm, **named)
        self.tell("subject", f"{realm}{SEPARATOR}{subject}")
        self.tell("legacy", "")
        return self.fed(ended)

    def fed(self, ended: Ended) -> Ended:
        for digest in ended.digests:
            self.tell("session", digest.hex())
        return ended

    def tell(self, kind: str, key: str) -> None:
        self.feed.append(Event(len(self.feed) + 1, kind, key))

    async def between(self) -> None:
        if self.steps:
            await pause()

    async def after_fill(self) -> None:
        if self.steps_after_fill:
            await pause()


class Cache(MemoryCache):
    """The shipped cache, with pauses."""

    def __init__(self, store: Store) -> None:
        super().__init__(lambda: NOW)
        self._between, self._after = store.between, store.after_fill

    async def get(self, digest: bytes) -> Any:
        await self._between()
        return await super().get(digest)

    async def fill(self, found: Found) -> None:
        await self._between()
        await super().fill(found)
        await self._after()

    async def bury(self, digests: Sequence[bytes]) -> None:
        await self._between()
        await super().bury(digests)


class World:
    """A store, a cache, and processes that know each other only through them."""

    def __init__(self, cache: type[Cache] = Cache, recent: type[Recent] = Recent) -> None:
        self.store = Store()
        self.store.inner.set_rollout(
            Rollout(phase=Phase.DRAIN, epoch=1, percent=100, since=NOW, drain_since=NOW)
        )
        self.cache = cache(self.store)
        self._recent = recent

    def node(self) -> Node:
        node = Node(
            recent=self._recent(100, lambda: TICK),
            usage=Usage(),
            clock=DatabaseClock(lambda: TICK),
        )
        node.recent.trusted_until = node.recent.informed_until = FOREVER
        node.rollout = run(self.store.rollout())
        return node

    def flow(self, kind: type[Any], node: Node) -> Any:
        return kind(
            terms=TERMS,
            verifier=VERIFIER,
            store=self.store,
            cache=self.cache,
            node=node,
            new_id=uuid7,
            secret=lambda: bytes(32),
        )

    def swapped(self) -> bytes:
        """The token of a session that no process remembers and no cache holds."""
        verdict = show(self.flow(Gate, self.node()), JWT)
        assert isinstance(verdict, Admitted)
        assert verdict.hand_out is not None
        self.cache._kept.clear()
        return verdict.hand_out

    def begin(self, *, memory: bool = True) -> None:
        """Pause from now on; also between a fill of the cache and that of `memory`."""
        self.store.steps, self.store.steps_after_fill = True, memory

    def cached(self) -> list[str]:
        """What the cache would admit: entries, not tombstones."""
        kept = [value for value, _ in self.cache._kept.values() if isinstance(value, Found)]
        return ["a cached entry" for _ in kept]

    def end(self) -> None:
        self.store.steps = self.store.steps_after_fill = False


def show(gate: Gate, token: bytes) -> object:
    return gate.admit(presenting(token)).verdict


def presenting(token: bytes) -> Presented:
    return Presented(header=Credential(token, "header", ISSUERS))


class Listener:
    """A node's pulse: the real one's way of applying what the feed says."""

    def __init__(self, world: World, node: Node) -> None:
        self._world = world
        self._node = node
        self._pulse = Pulse(
            node,
            None,  # type: ignore[arg-type] # its reading is handed to it below
            rhythm=Rhythm(poll_s=1, trust_s=1),
            make_hints=NoHints,
            key_ids=(),
            carrying=Carrying({}, 0),
        )

    async def poll(self) -> None:
        reading = self._read()
        await self._world.store.between()
        self._pulse._apply(reading)

    def _read(self) -> Reading:
        rollout = run(self._world.store.rollout())
        return Reading(NOW, "0", "one", rollout, True, tuple(self._world.store.feed))


def started(actor: Work) -> Work:
    """An actor at its first pause: nothing it did until there can be seen by another."""
    actor.send(None)
    return actor


Scenario = Callable[[World], tuple[Sequence[Work], Callable[[], Sequence[str]]]]


def holes(
    scenario: Scenario, make: Callable[[], World] = World, *, enough: int = 2**63
) -> tuple[int, list[str]]:
    """How many schedules were stepped, and what came back to life in any; `enough` ends it."""
    found: list[str] = []

    def one(choices: Sequence[int]) -> Tried:
        world = make()
        actors, alive = scenario(world)
        tried = step_through(actors, choices)
        world.end()
        found.extend(f"{what} after {tried.choices}" for what in alive())
        return tried

    stepped = 0
    for _ in every_schedule(one):
        stepped += 1
        if len(found) >= enough:
            break
    return stepped, found


def alive_at(gate: Gate, *tokens: bytes) -> list[str]:
    return [
        f"token {number}"
        for number, token in enumerate(tokens)
        if isinstance(show(gate, token), Admitted)
    ]


# ---- the scenarios -----------------------------------------------------------------------------


def two_readers_fill_the_cache(world: World) -> tuple[Sequence[Work], Callable[[], Sequence[str]]]:
    token = world.swapped()
    readers = [world.flow(Gate, world.node()) for _ in range(2)]
    revoker = world.flow(Issuing, world.node())
    world.begin(memory=False)
    actors = [
        *(started(reader.find(digest_of(token))) for reader in readers),
        started(revoker._end(token, reason="logout", by="test")),
    ]

    return actors, world.cached


def a_reader_fills_memory(world: World) -> tuple[Sequence[Work], Callable[[], Sequence[str]]]:
    token = world.swapped()
    node = world.node()
    reader, listener = world.flow(Gate, node), Listener(world, node)
    revoker = world.flow(Issuing, world.node())
    world.begin()
    actors = [
        reader._admit(presenting(token)),
        listener.poll(),
        started(revoker._end(token, reason="logout", by="test")),
    ]

    def alive() -> list[str]:
        run(listener.poll())
        return alive_at(reader, token, JWT)

    return actors, alive


def a_reader_fills_the_memory_of_the_revoker(
    world: World,
) -> tuple[Sequence[Work], Callable[[], Sequence[str]]]:
    token = world.swapped()
    node = world.node()
    reader, revoker = world.flow(Gate, node), world.flow(Issuing, node)
    world.begin()
    actors = [
        reader._admit(presenting(token)),
        revoker._end(token, reason="logout", by="test"),
    ]
    return actors, lambda: alive_at(reader, token, JWT)


def a_swap_fills_memory(world: World) -> tuple[Sequence[Work], Callable[[], Sequence[str]]]:
    """The legacy token was never seen; its subject is cut off meanwhile."""
    node = world.node()
    reader, listener = world.flow(Gate, node), Listener(world, node)
    revoker = world.flow(Issuing, world.node())
    world.begin()
    actors = [
        reader._admit(presenting(JWT)),
        listener.poll(),
        started(revoker._end_all("ann", realm=None, reason="end_all", by="test")),
    ]
    return actors, lambda: _dead_after_poll(world, reader, listener)


def a_swap_fills_memory_while_its_key_is_cut_off(
    world: World,
) -> tuple[Sequence[Work], Callable[[], Sequence[str]]]:
    node = world.node()
    reader, listener = world.flow(Gate, node), Listener(world, node)

    async def cut_off() -> None:
        await world.store.between()
        ended = world.store.inner.cut_off("a1", kid="k1")
        world.store.tell("legacy", "a1")
        world.store.fed(ended)
        await world.cache.bury(ended.digests)

    world.begin()
    actors = [reader._admit(presenting(JWT)), listener.poll(), started(cut_off())]
    return actors, lambda: _dead_after_poll(world, reader, listener)


def _dead_after_poll(world: World, reader: Gate, listener: Listener) -> list[str]:
    run(listener.poll())
    alive = alive_at(reader, JWT)
    living = run(world.store.inner.list("ann", realm="users"))
    return [*alive, *world.cached(), *(f"session {one.origin}" for one in living)]


SCENARIOS = [
    two_readers_fill_the_cache,
    a_reader_fills_memory,
    a_reader_fills_the_memory_of_the_revoker,
    a_swap_fills_memory,
    a_swap_fills_memory_while_its_key_is_cut_off,
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_p2_nothing_comes_back_in_any_interleaving(scenario: Scenario) -> None:
    schedules, found = holes(scenario)
    assert found == []
    assert schedules >= LEAST
    counted("G7", "schedules stepped", schedules)


# ---- tests of the tests ------------------------------------------------------------------------


class DeletingCache(Cache):
    """Revokes by a plain DEL, as most do."""

    async def bury(self, digests: Sequence[bytes]) -> None:
        await self._between()
        for digest in digests:
            self._kept.pop(digest, None)


class OverwritingCache(Cache):
    """Fills with a plain SET."""

    async def fill(self, found: Found) -> None:
        await self._between()
        self._kept[found.digest] = (found, found.read_at + timedelta(seconds=60))


class Forgetful(Recent):
    """Fills without asking what was evicted since the store was read."""

    def fill(self, digest: bytes, entry: Entry, mark: Mark, *, used: bool = True) -> bool:
        del mark
        return super().fill(digest, entry, self.mark(), used=used)


@pytest.mark.parametrize(
    ("scenario", "make"),
    [
        pytest.param(two_readers_fill_the_cache, lambda: World(DeletingCache), id="plain DEL"),
        pytest.param(two_readers_fill_the_cache, lambda: World(OverwritingCache), id="plain SET"),
        pytest.param(
            a_reader_fills_memory, lambda: World(recent=Forgetful), id="no generation: pulse"
        ),
        pytest.param(
            a_reader_fills_the_memory_of_the_revoker,
            lambda: World(recent=Forgetful),
            id="no generation: same process",
        ),
    ],
)
def test_a_broken_fill_shows_its_hole(scenario: Scenario, make: Callable[[], World]) -> None:
    _, found = holes(scenario, make, enough=1)
    assert found != []
