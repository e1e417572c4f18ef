"""The cache beside a Redis that is dead, frozen, slow or lying."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import redis

from migrator.cli.demo.servers import Redis
from migrator.core.flow import run
from migrator.core.interfaces import TOMBSTONE
from migrator.stores.redis import AsyncRedis, BlockingRedis
from tests.stores.cache.rig import BUDGET_S, SLACK_S, Make, a_found, key_of


def test_a_frozen_redis_costs_three_budgets_and_then_nothing(make: Make, own_redis: Redis) -> None:
    rig, found = make(own_redis.url), a_found()
    rig.fill(found)
    assert rig.get(found.digest) == found
    own_redis.pause()
    for _ in range(3):
        assert rig.timed_get(found.digest) < BUDGET_S + SLACK_S
    assert rig.cache.faults["timeout"] == 3
    start = time.monotonic()
    for _ in range(500):
        rig.get(found.digest)
        rig.fill(found)
    assert time.monotonic() - start < SLACK_S
    assert rig.cache.faults["skipped"] == 1000
    own_redis.resume()
    rig.clock.ahead_s += 1.1
    for _ in range(20):  # the thawed server first answers those that gave up
        rig.clock.ahead_s += 10
        if rig.get(found.digest) == found:
            break
    assert rig.get(found.digest) == found


def test_a_killed_redis_costs_nothing_and_comes_back_by_itself(
    make: Make, own_redis: Redis
) -> None:
    rig, found = make(own_redis.url, budget_s=5), a_found()
    rig.fill(found)
    own_redis.kill()
    start = time.monotonic()
    for _ in range(200):
        assert rig.get(found.digest) is None
    assert time.monotonic() - start < SLACK_S  # far below one budget
    assert rig.cache.faults.keys() == {"unreachable", "skipped"}
    own_redis.start()
    rig.clock.ahead_s += 10
    assert rig.get(found.digest) is None  # it forgot, and was asked
    rig.fill(found)
    assert rig.get(found.digest) == found


def test_a_redis_restarted_while_idle_is_not_noticed(make: Make, own_redis: Redis) -> None:
    rig, found = make(own_redis.url, budget_s=5), a_found()
    rig.fill(found)
    own_redis.stop()
    own_redis.start()
    if not rig.cache.blocks:
        rig.run(asyncio.sleep(0.1))  # a loop that runs sees the end of a connection
    rig.fill(found)
    assert rig.get(found.digest) == found
    assert rig.cache.faults == {}


def test_a_tombstone_is_tried_even_while_all_else_is_held_back(
    make: Make, own_redis: Redis
) -> None:
    """A node cut off from Postgres has nothing but tombstones to learn of a revocation by."""
    rig, found = make(own_redis.url, budget_s=5), a_found()
    rig.fill(found)
    own_redis.kill()
    for _ in range(3):
        rig.get(found.digest)
    own_redis.start()
    rig.bury([found.digest])
    with redis.Redis.from_url(own_redis.url) as raw:
        assert raw.exists(key_of(found.digest))
    assert rig.get(found.digest) == TOMBSTONE  # and it proved that Redis is back


def test_burying_many_in_a_dead_redis_gives_up_soon(make: Make, own_redis: Redis) -> None:
    rig = make(own_redis.url)
    own_redis.pause()
    start = time.monotonic()
    rig.bury([number.to_bytes(32, "big") for number in range(20_000)])
    assert time.monotonic() - start < 3 * BUDGET_S + SLACK_S
    own_redis.resume()


def test_a_redis_that_refuses_writes_is_still_read(make: Make, own_redis: Redis) -> None:
    rig, found = make(own_redis.url, budget_s=5), a_found()
    rig.fill(found)
    with redis.Redis.from_url(own_redis.url) as raw:
        raw.config_set("maxmemory", 1)
        raw.config_set("maxmemory-policy", "noeviction")
    for _ in range(5):
        rig.fill(a_found())
        rig.bury([bytes(32)])
    assert rig.get(found.digest) == found
    assert rig.cache.faults.keys() == {"answered_error"}


def test_a_wrong_password_is_said_and_shows_no_password(make: Make, own_redis: Redis) -> None:
    """P6."""
    with redis.Redis.from_url(own_redis.url) as raw:
        raw.config_set("requirepass", "right-one")
    rig = make(own_redis.url.replace("redis://", "redis://:wrong-one@"), budget_s=5)
    assert rig.get(bytes(32)) is None
    assert rig.cache.faults == {"not_allowed": 1}
    assert "wrong-one" not in repr(vars(rig.cache))
    right = make(own_redis.url.replace("redis://", "redis://:right-one@"), budget_s=5)
    found = a_found()
    right.fill(found)
    assert right.get(found.digest) == found


@contextlib.contextmanager
def a_server(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that does `answer` with each connection, until the end of the block."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        connections: list[socket.socket] = []

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    connections.append(connection)
                    threading.Thread(target=speak, args=(connection,), daemon=True).start()

        def speak(connection: socket.socket) -> None:
            with contextlib.suppress(OSError):
                answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in connections:
            connection.close()


def _drip(connection: socket.socket) -> None:
    connection.sendall(b"+OK\r\n" * 2)  # the handshake passes
    while b"GET" not in connection.recv(1000):
        pass
    for byte in b"$20000\r\n" + b"1" * 20_000:
        connection.sendall(bytes([byte]))
        time.sleep(BUDGET_S / 5)


def _silence(connection: socket.socket) -> None:
    while connection.recv(1000):
        pass


def _http(connection: socket.socket) -> None:
    connection.recv(1000)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    _silence(connection)


def _nonsense(connection: socket.socket) -> None:
    while connection.recv(1000):
        connection.sendall(b"*-7\r\n$99999999999999999999\r\n\x00\xff\r\n")


def _hang_up(connection: socket.socket) -> None:
    connection.recv(1000)
    connection.close()


@pytest.mark.parametrize("answer", [_drip, _silence, _http, _nonsense, _hang_up])
def test_no_behaviour_of_the_other_side_outlasts_the_budget_or_raises(
    make: Make, answer: Callable[[socket.socket], None]
) -> None:
    with a_server(answer) as url:
        rig = make(url)
        for _ in range(4):
            assert rig.timed_get(bytes(32)) < BUDGET_S + SLACK_S
        rig.fill(a_found())
        rig.bury([bytes(32)])
        rig.run(rig.cache.hint([("session", "x")]))
        assert rig.cache.faults


def test_a_reply_that_drips_in_is_cut_off_at_the_budget() -> None:
    """A socket timeout alone starts anew with every byte: 20,000 bytes were 200 s."""
    with a_server(_drip) as url:
        cache = BlockingRedis(url, namespace="t", budget_s=BUDGET_S)
        start = time.monotonic()
        assert run(cache.get(bytes(32))) is None
        assert time.monotonic() - start < BUDGET_S + SLACK_S
        assert cache.faults == {"timeout": 1}
        cache.close()


def test_a_crowd_is_not_taken_for_an_outage(make: Make, own_redis: Redis) -> None:
    """Who finds every connection taken asks the store, and the next one asks Redis again."""
    rig, found = make(own_redis.url, budget_s=0.5, connections=1), a_found()
    rig.fill(found)
    if isinstance(rig.cache, BlockingRedis):
        rig.cache._room.acquire()
        assert [rig.get(found.digest) for _ in range(4)] == [None] * 4
        rig.cache._room.release()
    else:
        (held,) = rig.cache._clients.values()
        rig.run(held.room.acquire())
        assert [rig.get(found.digest) for _ in range(4)] == [None] * 4
        held.room.release()
    assert rig.get(found.digest) == found
    assert rig.cache.faults == {"crowded": 4}


def test_a_burst_beyond_the_connections_waits_its_turn(own_redis: Redis) -> None:
    found = a_found()

    async def burst() -> tuple[list[object], dict[str, int]]:
        cache = AsyncRedis(own_redis.url, namespace="t", budget_s=20, connections=4)
        await cache.fill(found)
        got = await asyncio.gather(*(cache.get(found.digest) for _ in range(300)))
        return list(got), cache.faults

    assert asyncio.run(burst()) == ([found] * 300, {})
    with redis.Redis.from_url(own_redis.url) as raw:
        assert int(raw.info("stats")["total_connections_received"]) < 4 + 10
