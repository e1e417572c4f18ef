"""Hints: heard at once while Redis is there, and no trouble to anybody when it is not."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Iterator

import pytest
import redis

from migrator.cli.demo.servers import Redis
from migrator.core.flow import run
from migrator.stores.redis import AsyncRedis, BlockingRedis, Hints

SLACK_S = 1.0


class Clock:
    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stop() -> threading.Event:
    return threading.Event()


@pytest.fixture
def hints(own_redis: Redis, stop: threading.Event, clock: Clock) -> Iterator[Hints]:
    """A listener that is subscribed."""
    hints = Hints(own_redis.url, namespace="t", stop=stop, budget_s=2, clock=clock)
    hints.wait(0.05)
    yield hints
    hints.close()


@pytest.mark.parametrize("colour", ["blocking", "async"])
def test_a_hint_of_either_colour_wakes_the_listener_early(
    own_redis: Redis, hints: Hints, colour: str
) -> None:
    def tell() -> None:
        if colour == "async":
            cache = AsyncRedis(own_redis.url, namespace="t", budget_s=2)
            asyncio.run(cache.hint([("session", "00")]))
        else:
            blocking = BlockingRedis(own_redis.url, namespace="t", budget_s=2)
            run(blocking.hint([("session", "00")]))
            blocking.close()

    thread = threading.Timer(0.05, tell)
    thread.start()
    start = time.monotonic()
    assert hints.wait(20)
    assert time.monotonic() - start < 10
    thread.join()


def test_without_a_hint_the_wait_is_as_long_as_asked(hints: Hints) -> None:
    start = time.monotonic()
    assert not hints.wait(0.2)
    assert 0.19 <= time.monotonic() - start < 0.2 + SLACK_S


def test_many_hints_are_taken_in_together(own_redis: Redis, hints: Hints) -> None:
    with redis.Redis.from_url(own_redis.url) as raw:
        for _ in range(50):
            raw.publish("t:feed", "[]")
    assert hints.wait(2)
    heard = sum(hints.wait(0.05) for _ in range(20))
    assert heard < 10, "those that came while it was reading may be a hint of their own"


def test_hints_of_another_deployment_are_not_heard(own_redis: Redis, hints: Hints) -> None:
    with redis.Redis.from_url(own_redis.url) as raw:
        raw.publish("other:feed", "[]")
    assert not hints.wait(0.1)


def test_what_a_hint_says_does_not_matter(own_redis: Redis, hints: Hints) -> None:
    with redis.Redis.from_url(own_redis.url) as raw:
        raw.publish("t:feed", b"\xff\x00 not JSON")
    assert hints.wait(2)


def test_a_dead_redis_costs_the_wait_and_no_more(own_redis: Redis, hints: Hints) -> None:
    own_redis.kill()
    for _ in range(4):
        start = time.monotonic()
        assert not hints.wait(0.1)
        assert 0.09 <= time.monotonic() - start < 0.1 + SLACK_S


def test_a_frozen_redis_costs_the_wait_and_no_more(own_redis: Redis, hints: Hints) -> None:
    own_redis.pause()
    start = time.monotonic()
    assert not hints.wait(0.1)
    hints.close()
    assert not hints.wait(0.1)  # now it tries to connect
    assert time.monotonic() - start < 4 * 2 + SLACK_S
    own_redis.resume()


def test_a_redis_that_came_back_is_heard_again(
    own_redis: Redis, hints: Hints, clock: Clock
) -> None:
    own_redis.kill()
    assert not hints.wait(0.05)
    own_redis.start()
    clock.ahead_s += 11
    assert not hints.wait(0.05)
    with redis.Redis.from_url(own_redis.url) as raw:
        raw.publish("t:feed", "[]")
    assert hints.wait(2)


def test_a_redis_that_stays_away_is_asked_less_and_less(stop: threading.Event) -> None:
    clock, tries = Clock(), []

    class Counted(Hints):
        def _give_up(self) -> None:
            tries.append(clock.ahead_s)
            super()._give_up()

    stop.set()  # so that no wait waits
    hints = Counted("redis://127.0.0.1:1/0", namespace="t", stop=stop, clock=clock)
    for _ in range(600):
        assert not hints.wait(0.1)
        clock.ahead_s += 0.1
    pauses = [round(after - before) for before, after in itertools.pairwise(tries)]
    assert pauses[:5] == [1, 2, 4, 8, 10]
    assert set(pauses[5:]) <= {10}


def test_stopping_ends_a_wait_on_a_dead_redis(stop: threading.Event) -> None:
    hints = Hints("redis://127.0.0.1:1/0", namespace="t", stop=stop)
    thread = threading.Thread(target=hints.wait, args=(60,))
    thread.start()
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
