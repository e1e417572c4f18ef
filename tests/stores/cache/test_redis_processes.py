"""The cache in threads, forks and loops."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import threading
import time
import warnings
from collections.abc import Callable

import redis

from migrator.core.flow import run
from migrator.core.interfaces import TOMBSTONE, Found
from migrator.stores.redis import AsyncRedis, BlockingRedis
from tests.stores.cache.rig import Make, a_found


def test_threads_share_one_cache(redis_url: str) -> None:
    cache = BlockingRedis(redis_url, namespace="t", budget_s=5, connections=4)
    finds = [a_found() for _ in range(16)]
    wrong: list[object] = []

    def work(found: Found) -> None:
        run(cache.fill(found))
        wrong.extend(got for _ in range(50) if (got := run(cache.get(found.digest))) != found)

    threads = [threading.Thread(target=work, args=(found,)) for found in finds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert cache.faults == {}
    cache.close()


def _in_a_fork(act: Callable[[], bool]) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12: forking with threads about
        pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            os._exit(0 if act() else 1)
        os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_forked_child_has_connections_of_its_own(redis_url: str) -> None:
    """Two processes that speak on one socket read each other's replies."""
    cache = BlockingRedis(redis_url, namespace="t", budget_s=5)
    finds = [a_found() for _ in range(5)]
    for found in finds:
        run(cache.fill(found))

    def read_all() -> bool:
        return all(run(cache.get(found.digest)) == found for found in finds * 20)

    assert _in_a_fork(read_all)
    assert read_all()
    assert cache.faults == {}
    cache.close()


def test_a_child_forked_from_a_running_loop_has_connections_of_its_own(redis_url: str) -> None:
    cache, found = AsyncRedis(redis_url, namespace="t", budget_s=5), a_found()

    async def ask() -> bool:
        await cache.fill(found)
        return await cache.get(found.digest) == found

    with asyncio.Runner() as runner:
        assert runner.run(ask())

        def in_child() -> bool:
            with asyncio.Runner() as own:
                return own.run(ask())

        assert _in_a_fork(in_child)
        assert runner.run(ask())
    assert cache.faults == {}


def test_a_lock_held_while_forking_does_not_stop_the_child(redis_url: str) -> None:
    """gunicorn forks its workers from a process that may have served already."""
    cache = BlockingRedis(redis_url, namespace="t", budget_s=5)
    digest = a_found().digest
    run(cache.bury([digest]))
    with cache._health._lock, cache._health.breaker._lock:

        def in_child() -> bool:
            cache._health.count("crossed")
            cache._health.breaker.failed()
            return bool(run(cache.get(digest)) == TOMBSTONE)

        assert _in_a_fork(in_child)
    cache.close()


def test_a_url_that_no_client_can_be_made_of_fails_no_request(make: Make) -> None:
    """`doctor` names it; the app goes on without a cache."""
    rig = make("redis://127.0.0.1:1/0?no_such_option=1")
    assert rig.get(bytes(32)) is None
    assert rig.cache.faults == {"unexpected": 1}


def test_a_loop_for_each_request_works_and_leaves_nothing_behind(redis_url: str) -> None:
    """Apps' test clients do this; a warning about an unclosed socket would fail their tests."""
    cache, found = AsyncRedis(redis_url, namespace="t", budget_s=5), a_found()
    asyncio.run(cache.fill(found))
    with redis.Redis.from_url(redis_url) as raw:
        before = len(raw.client_list())
        for _ in range(20):
            assert asyncio.run(cache.get(found.digest)) == found
        gc.collect()  # pytest turns the warnings of finalizers into failures
        for _ in range(100):
            if len(raw.client_list()) <= before:
                break
            time.sleep(0.02)
        assert len(raw.client_list()) <= before
    assert cache._clients == {}
    assert cache.faults == {}


def test_a_loop_closed_without_ceremony_is_forgotten_by_the_next(redis_url: str) -> None:
    cache, found = AsyncRedis(redis_url, namespace="t", budget_s=5), a_found()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it did not finish its generators
        loop = asyncio.new_event_loop()
        loop.run_until_complete(cache.fill(found))
        loop.close()
        with asyncio.Runner() as runner:
            assert runner.run(cache.get(found.digest)) == found
            assert loop not in cache._clients
        del loop
        gc.collect()


def test_loops_in_several_threads_share_one_cache(redis_url: str) -> None:
    cache = AsyncRedis(redis_url, namespace="t", budget_s=5)
    finds, right = [a_found() for _ in range(4)], []

    def work(found: Found) -> None:
        async def ask() -> None:
            await cache.fill(found)
            right.extend([await cache.get(found.digest) == found for _ in range(20)])

        asyncio.run(ask())

    threads = [threading.Thread(target=work, args=(found,)) for found in finds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 80
