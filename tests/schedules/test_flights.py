"""P2: whoever waits for another's question gets no answer that a revocation has overtaken.

The real gate and the real flights, on an event loop whose tasks are let on one at a time: readers
of one session, and a revoker in another process that this one has not heard of. Memory is not
trusted (strict, or before the feed was read), so that only what is asked for counts. The last test
is the test of these: flights that hand their answer to whoever came meanwhile show their hole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from migrator import prepared
from migrator.core.clock import DatabaseClock
from migrator.core.flow import Node, run
from migrator.core.gate import AsyncGate
from migrator.core.ids import uuid7
from migrator.core.interfaces import Found
from migrator.core.phases import Phase, Rollout
from migrator.core.presented import Credential, Presented
from migrator.core.recent import FOREVER, Recent
from migrator.core.usage import Usage
from migrator.core.verdicts import Admitted
from migrator.stores.flights import AsyncFlights
from migrator.stores.memory import MemoryStore
from migrator.stores.memory_cache import NoCache
from tests.counts import counted
from tests.rig import Rig, sign
from tests.schedules.interleave import Tried, every_schedule

SETTINGS = Rig("postgresql://nowhere").settings()
TERMS, VERIFIER = prepared.terms_of(SETTINGS), prepared.verifier_of(SETTINGS)
NOW = datetime.now(UTC)
TICK = 10**9
ISSUERS = frozenset({"a1"})
JWT = sign("ann", headers={"kid": "k1"}).encode()
SETTLES = 12  # turns of the loop in which everybody who can go on has come to a stop


@dataclass
class Stage:
    """Who stands where, and who may go on."""

    steps: bool = False
    waiting: list[asyncio.Future[None]] = field(default_factory=list)

    async def pause(self) -> None:
        """Stand until the schedule says go."""
        if self.steps:
            here: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.waiting.append(here)
            await here

    async def play(self, actors: Sequence[Coroutine[Any, Any, None]], to: Sequence[int]) -> Tried:
        """Follow one schedule to the end of all actors; those who wait for another have no say."""
        tried = Tried([], [])
        tasks = [asyncio.create_task(actor) for actor in actors]
        await self._settle()
        while self.waiting:
            position = len(tried.choices)
            chosen = to[position] if position < len(to) else 0
            tried.choices.append(chosen)
            tried.ways.append(len(self.waiting))
            self.waiting.pop(chosen).set_result(None)
            await self._settle()
        async with asyncio.timeout(20):
            await asyncio.gather(*tasks)
        return tried

    async def _settle(self) -> None:
        for _ in range(SETTLES):
            await asyncio.sleep(0)


class Store(MemoryStore):
    """The shipped store, with a pause before each question and before each answer arrives."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(lambda: NOW, blocks=False)
        self.stage, self.finds, self.takes_s = stage, 0, 0.0

    async def find(self, digest: bytes) -> Found | None:
        self.finds += 1
        await asyncio.sleep(self.takes_s)
        await self.stage.pause()
        found = await super().find(digest)
        await self.stage.pause()
        return found

    async def swap(self, *given: Any) -> Any:
        await self.stage.pause()
        standing = await super().swap(*given)
        await self.stage.pause()
        return standing


class World:
    """One process that asks, and a store that others change."""

    def __init__(self, flights: AsyncFlights, *, trusted: bool) -> None:
        self.stage = Stage()
        self.store = Store(self.stage)
        self.store.set_rollout(Rollout(phase=Phase.SWAP, epoch=1, percent=100, since=NOW))
        node = Node(
            recent=Recent(100, lambda: TICK), usage=Usage(), clock=DatabaseClock(lambda: TICK)
        )
        if trusted:
            node.recent.trusted_until = node.recent.informed_until = FOREVER
        node.rollout = run(self.store.rollout())
        node.clock.learn(NOW)
        self.gate = AsyncGate(
            terms=TERMS,
            verifier=VERIFIER,
            store=self.store,
            cache=NoCache(blocks=False),
            node=node,
            new_id=uuid7,
            secret=lambda: bytes(32),
            flights=flights,
        )
        self.revoked = False
        self.wrong: list[str] = []
        self.answers = 0

    async def show(self, credential: bytes) -> Admitted | None:
        presented = Presented(header=Credential(credential, "header", ISSUERS))
        verdict = (await self.gate.admit(presented)).verdict
        return verdict if isinstance(verdict, Admitted) else None

    async def read(self, credential: bytes) -> None:
        """Come at any moment; nobody who came after the revocation returned may get in."""
        await self.stage.pause()
        came_after = self.revoked
        admitted = await self.show(credential)
        self.answers += 1
        if came_after and admitted is not None:
            self.wrong.append("admitted, although the revocation had returned before it came")

    async def revoke(self, subject: str = "ann") -> None:
        """In another process: this one hears nothing of it."""
        await self.stage.pause()
        await self.store.end_subject(subject, realm="users", reason="x", by="x", legacy=True)
        self.revoked = True


@dataclass
class Shown:
    schedules: int = 0
    answers: int = 0
    wrong: list[str] = field(default_factory=list)
    most_finds: int = 0


def stepped(
    flights: Callable[[], AsyncFlights], cast: Callable[[World, bytes], Sequence[Any]]
) -> Shown:
    """Every schedule of a cast, each in a world made anew; begins with one living session."""
    shown = Shown()
    worlds: list[World] = []

    async def once(choices: Sequence[int]) -> Tried:
        world = World(flights(), trusted=False)
        worlds.append(world)
        first = await world.show(JWT)
        assert first is not None
        assert first.hand_out is not None
        world.stage.steps = True
        world.store.finds = 0
        return await world.stage.play(cast(world, first.hand_out), choices)

    with asyncio.Runner() as runner:
        for _ in every_schedule(lambda choices: runner.run(once(choices))):
            world = worlds.pop()
            shown.schedules += 1
            shown.answers += world.answers
            shown.wrong += world.wrong
            shown.most_finds = max(shown.most_finds, world.store.finds)
    counted("G7", "interleavings of shared questions", shown.schedules)
    return shown


def real() -> AsyncFlights:
    return AsyncFlights(within_s=60)


CASTS: dict[str, Callable[[World, bytes], Sequence[Any]]] = {
    "two of a token": lambda world, token: [
        world.read(token),
        world.read(token),
        world.revoke(),
    ],
    "three of a token": lambda world, token: [
        *(world.read(token) for _ in range(3)),
        world.revoke(),
    ],
    "two of a legacy token": lambda world, _: [
        world.read(JWT),
        world.read(JWT),
        world.revoke(),
    ],
    "a token and its legacy token": lambda world, token: [
        world.read(token),
        world.read(JWT),
        world.read(JWT),
        world.revoke(),
    ],
}


_LONG = (pytest.mark.full, pytest.mark.timeout(900))


@pytest.mark.parametrize(
    "cast",
    [
        "two of a token",
        "two of a legacy token",
        pytest.param("three of a token", marks=_LONG),
        pytest.param("a token and its legacy token", marks=_LONG),
    ],
)
def test_p2_nobody_who_came_after_a_revocation_shares_an_answer_from_before_it(cast: str) -> None:
    shown = stepped(real, CASTS[cast])
    assert shown.wrong == []
    assert shown.schedules > 20
    assert shown.answers >= 2 * shown.schedules


def test_many_who_come_together_ask_twice_at_the_most() -> None:
    """Once where memory is trusted, as tests/stores/test_flights.py shows."""
    shown = stepped(real, lambda world, token: [world.read(token) for _ in range(3)])
    assert shown.most_finds <= 3
    many = World(real(), trusted=False)

    async def crowd() -> None:
        first = await many.show(JWT)
        assert first is not None
        assert first.hand_out is not None
        many.store.finds, many.store.takes_s = 0, 0.01
        await asyncio.gather(*(many.show(first.hand_out) for _ in range(64)))

    asyncio.run(crowd())
    assert many.store.finds <= 2


class Joining(AsyncFlights):
    """The usual single flight: whoever comes meanwhile gets the answer that is on its way."""

    async def share(
        self, key: Any, ask: Callable[[], Awaitable[Any]], again: Callable[[], Any]
    ) -> Any:
        del again
        loop = asyncio.get_running_loop()
        flying: dict[Any, asyncio.Task[Any]] = self.__dict__.setdefault("joined", {})
        if key in flying:
            return await asyncio.shield(flying[key]), False
        task = flying[key] = loop.create_task(ask())  # type: ignore[arg-type]
        try:
            return await task, True
        finally:
            del flying[key]


@pytest.mark.parametrize("cast", ["two of a token", "two of a legacy token"])
def test_flights_that_are_joined_on_the_way_would_be_caught(cast: str) -> None:
    assert stepped(lambda: Joining(within_s=60), CASTS[cast]).wrong
