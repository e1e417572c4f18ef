"""Stampedes: one asks for many, and nobody is worse off for having waited. Both colours."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from migrator.core.errors import Unavailable
from migrator.core.flow import run
from migrator.stores.flights import AsyncFlights, BlockingFlights

KEY = ("session", b"one")
MANY = 64


class Threads:
    """Askers that are threads."""

    def __init__(self, within_s: float = 20) -> None:
        self.flights = BlockingFlights(within_s=within_s)

    def together(self, *askers: Callable[[], Coroutine[Any, None, Any]]) -> list[Any]:
        """What each came to, an exception as itself; they begin in this order."""
        results: list[Any] = [None] * len(askers)

        def work(at: int) -> None:
            try:
                results[at] = run(askers[at]())
            except Exception as error:  # noqa: BLE001 - handed to whoever asserts
                results[at] = error

        threads = [threading.Thread(target=work, args=(at,)) for at in range(len(askers))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
        return results

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251 - a thread's colour


class Tasks:
    """Askers that are tasks of one loop."""

    def __init__(self, within_s: float = 20) -> None:
        self.flights = AsyncFlights(within_s=within_s)

    def together(self, *askers: Callable[[], Coroutine[Any, None, Any]]) -> list[Any]:
        async def gathered() -> list[Any]:
            async with asyncio.timeout(30):
                return await asyncio.gather(*(each() for each in askers), return_exceptions=True)

        return asyncio.run(gathered())

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


World = Threads | Tasks


@pytest.fixture(params=[Threads, Tasks])
def kind(request: pytest.FixtureRequest) -> Callable[..., World]:
    made: Callable[..., World] = request.param
    return made


class Store:
    """A slow store that numbers its answers, and the memory in front of it.

    Its first question lasts until `late` others came, its second until they looked into memory:
    however slowly threads start and wake, the first is under way when they come.
    """

    def __init__(
        self, world: World, *, remembers: bool = True, takes_s: float = 0.2, late: int = 0
    ) -> None:
        self.world, self.remembers, self.takes_s, self.late = world, remembers, takes_s, late
        self.asked = 0
        self.memory: int | None = None
        self.fails: list[Exception] = []
        self.came: list[None] = []
        self.looked: list[None] = []

    async def ask(self) -> int:
        self.asked += 1
        mine = self.asked
        await self.wait(lambda: len(self.came if mine == 1 else self.looked) >= self.late)
        await self.world.sleep(self.takes_s)
        if self.fails:
            raise self.fails.pop(0)
        if self.remembers:
            self.memory = mine
        return mine

    async def share(self) -> Any:
        return await self.world.flights.share(KEY, self.ask, lambda: self.memory)

    async def share_late(self) -> Any:
        """Come while the first is asking."""
        await self.wait(lambda: self.asked > 0)
        self.came.append(None)
        return await self.world.flights.share(KEY, self.ask, self.look)

    def look(self) -> int | None:
        self.looked.append(None)
        return self.memory

    async def wait(self, so: Callable[[], bool]) -> None:
        given_up = time.monotonic() + 10
        while not so() and time.monotonic() < given_up:
            await self.world.sleep(0.01)


def test_p11_many_at_once_ask_once_and_find_the_rest_in_memory(
    kind: Callable[..., World],
) -> None:
    store = Store(kind())
    answers = store.world.together(*[store.share] * MANY)
    assert store.asked == 1
    assert sorted(map(repr, answers)) == ["(1, True)", *["1"] * (MANY - 1)]
    assert store.world.flights.flying() == 0


def test_p2_nobody_takes_an_answer_that_was_asked_for_before_it_came(
    kind: Callable[..., World],
) -> None:
    """Where memory may not speak, all who waited share one question that began after them."""
    store = Store(kind(), remembers=False, late=MANY)
    first, *late = store.world.together(store.share, *[store.share_late] * MANY)
    assert first == (1, True)
    assert {answer for answer, _ in late} == {2}
    assert [is_own for _, is_own in late].count(True) == 1
    assert store.asked == 2


def test_p4_an_outage_that_others_waited_for_is_theirs_too_within_the_budget(
    kind: Callable[..., World],
) -> None:
    store = Store(kind(), takes_s=0.6, late=8)
    store.fails = [Unavailable("postgres", "frozen")] * 9
    began = time.monotonic()
    answers = store.world.together(store.share, *[store.share_late] * 8)
    assert all(isinstance(each, Unavailable) for each in answers)
    assert store.asked == 1
    assert time.monotonic() - began < 2 * store.takes_s


def test_whoever_waited_for_one_that_broke_asks_again(kind: Callable[..., World]) -> None:
    store = Store(kind(), late=8)
    store.fails = [RuntimeError("a fault of the leader's own")]
    first, *late = store.world.together(store.share, *[store.share_late] * 8)
    assert isinstance(first, RuntimeError)
    assert store.asked == 2
    assert {each[0] if isinstance(each, tuple) else each for each in late} == {2}


def test_whoever_waited_long_enough_asks_alone(kind: Callable[..., World]) -> None:
    store = Store(kind(within_s=0.1), takes_s=1.0)
    began = time.monotonic()

    async def impatient() -> Any:
        await store.world.sleep(0.1)
        store.takes_s = 0.0
        answer = await store.share()
        return answer, time.monotonic() - began

    _, (answer, took_s) = store.world.together(store.share, impatient)
    assert answer == (2, True)
    assert took_s < 0.9, "it waited for the first one's end"


def test_others_keys_wait_for_nobody(kind: Callable[..., World]) -> None:
    world = kind()
    stores = [Store(world, takes_s=0.3) for _ in range(20)]
    began = time.monotonic()

    def asker(at: int) -> Callable[[], Coroutine[Any, None, Any]]:
        store = stores[at]
        return lambda: world.flights.share(("session", b"%d" % at), store.ask, lambda: None)

    answers = world.together(*map(asker, range(20)))
    assert answers == [(1, True)] * 20
    assert time.monotonic() - began < 20 * 0.3 / 2


def test_a_cancelled_leader_frees_its_followers() -> None:
    world = Tasks()
    store = Store(world, takes_s=0.3)

    async def scene() -> list[Any]:
        leader = asyncio.create_task(store.share())
        await asyncio.sleep(0)
        followers = [asyncio.create_task(store.share()) for _ in range(8)]
        await asyncio.sleep(0.1)
        leader.cancel()
        return await asyncio.gather(*followers)

    answers = asyncio.run(scene())
    assert store.asked == 2
    assert sorted(answers) == [*[(2, False)] * 7, (2, True)]
    assert world.flights.flying() == 0


def test_a_cancelled_follower_harms_nobody() -> None:
    store = Store(Tasks(), takes_s=0.2)

    async def scene() -> list[Any]:
        leader = asyncio.create_task(store.share())
        await asyncio.sleep(0)
        followers = [asyncio.create_task(store.share()) for _ in range(8)]
        await asyncio.sleep(0.05)
        followers[0].cancel()
        return await asyncio.gather(leader, *followers, return_exceptions=True)

    leader, gone, *others = asyncio.run(scene())
    assert leader == (1, True)
    assert isinstance(gone, asyncio.CancelledError)
    assert others == [1] * 7


def test_loops_of_their_own_do_not_wait_for_each_other() -> None:
    store = Store(Tasks(), takes_s=0.3)
    results: list[Any] = []

    def in_a_loop() -> None:
        results.append(asyncio.run(store.share()))

    threads = [threading.Thread(target=in_a_loop) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert [is_own for _, is_own in results] == [True] * 3


def test_a_child_waits_for_nobody_of_its_parent() -> None:
    flights = BlockingFlights(within_s=20)
    asking, done = threading.Event(), threading.Event()

    async def ask() -> int:
        asking.set()
        done.wait(20)
        return 1

    leader = threading.Thread(target=lambda: run(flights.share(KEY, ask, lambda: None)))
    leader.start()
    assert asking.wait(20)

    async def at_once() -> int:
        return 7

    child = os.fork()
    if child == 0:
        began = time.monotonic()
        answer = run(flights.share(KEY, at_once, lambda: None))
        os._exit(0 if answer == (7, True) and time.monotonic() - began < 10 else 1)
    _, status = os.waitpid(child, 0)
    done.set()
    leader.join(20)
    assert os.waitstatus_to_exitcode(status) == 0
