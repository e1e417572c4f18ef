"""The Redis cache where things go wrong: frozen, dead, slow, lying, forked, in short loops."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from migrator.cli.demo.servers import Redis
from migrator.core.interfaces import TOMBSTONE, Found
from migrator.core.sessions import Session
from migrator.stores import entries
from migrator.stores.redis import AsyncRedis, BlockingRedis, namespace_of

COLOURS = ["blocking", "async"]
BUDGET_S = 0.05
# What a test allows beside the budget on a machine that is busy with others. Where a claim is "it
# does not wait at all", hundreds of operations together must fit in it.
SLACK_S = 1.0


def drive(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that must not suspend."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    work.close()
    raise AssertionError("it suspended")


class Clock:
    """Real time, and what a test adds to it."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead_s


@dataclass(slots=True)
class Rig:
    cache: BlockingRedis | AsyncRedis
    run: Callable[[Coroutine[Any, Any, Any]], Any]
    clock: Clock = field(default_factory=Clock)

    def get(self, digest: bytes) -> object:
        return self.run(self.cache.get(digest))

    def fill(self, found: Found) -> None:
        self.run(self.cache.fill(found))

    def bury(self, digests: Sequence[bytes]) -> None:
        self.run(self.cache.bury(digests))

    def timed_get(self, digest: bytes) -> float:
        start = time.monotonic()
        assert self.get(digest) is None
        return time.monotonic() - start


Make = Callable[..., Rig]


@pytest.fixture(params=COLOURS)
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Builds a cache of either colour for a URL."""
    with contextlib.ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner()) if request.param == "async" else None

        def build(url: str, *, budget_s: float = BUDGET_S, **more: Any) -> Rig:
            clock = Clock()
            more = {"namespace": "t", "budget_s": budget_s, "clock": clock, **more}
            if runner is not None:
                return Rig(AsyncRedis(url, **more), runner.run, clock)
            cache = BlockingRedis(url, **more)
            stack.callback(cache.close)
            return Rig(cache, drive, clock)

        yield build


def a_found(digest: bytes | None = None) -> Found:
    now = datetime.now(UTC)
    session = Session(
        id=uuid.uuid4(),
        kind="session",
        realm="users",
        subject="1",
        created_at=now,
        expires_at=now + timedelta(days=1),
        origin="login",
    )
    return Found(digest=digest or uuid.uuid4().bytes * 2, session=session, read_at=now)


def key_of(digest: bytes, namespace: str = "t") -> str:
    return f"{namespace}:s1:{digest.hex()}"


# ---- what is written --------------------------------------------------------------------------


def test_an_entry_ends_when_its_reading_is_a_minute_old(make: Make, redis_url: str) -> None:
    rig, found = make(redis_url, budget_s=2), a_found()
    rig.fill(found)
    with redis.Redis.from_url(redis_url) as raw:
        left_ms = raw.pexpiretime(key_of(found.digest))
    assert left_ms == int(found.read_at.timestamp() * 1000) + 60_000


def test_a_tombstone_outlives_every_entry(make: Make, redis_url: str) -> None:
    rig, digest = make(redis_url, budget_s=2), bytes(32)
    rig.bury([digest])
    with redis.Redis.from_url(redis_url) as raw:
        assert 110_000 < raw.pttl(key_of(digest)) <= 120_000


def test_two_deployments_on_one_redis_never_share_a_key(make: Make, redis_url: str) -> None:
    one, two = (make(redis_url, budget_s=2, namespace=name) for name in ("a", "b"))
    found = a_found()
    one.fill(found)
    assert two.get(found.digest) is None
    two.bury([found.digest])
    assert one.get(found.digest) == found


def test_names_with_separators_in_them_make_different_namespaces() -> None:
    named = {
        namespace_of(environment=environment, app=app, database=database, schema=schema)
        for environment, app, database, schema in [
            ("a:b", "c", "d", "e"),
            ("a", "b:c", "d", "e"),
            ("a", "b", "c:d", "e"),
            ("a", "b", "c", "d:e"),
            ("a%3Ab", "c", "d", "e"),
            ("{a}", "b", "c", "d"),
        ]
    }
    assert len(named) == 6
    assert not any("{" in name for name in named)  # a hash tag would put all keys on one node


# ---- what is believed -------------------------------------------------------------------------


def test_a_value_of_another_digest_is_not_believed_and_its_connection_is_dropped(
    make: Make, redis_url: str
) -> None:
    """CVE-2023-28858: one reply too many on a connection gave one user another's session."""
    rig, mine, theirs = make(redis_url, budget_s=2), a_found(), a_found()
    value = entries.encode(theirs)
    assert value is not None
    with redis.Redis.from_url(redis_url) as raw:
        rig.get(mine.digest)
        before = {client["id"] for client in raw.client_list()}
        raw.set(key_of(mine.digest), value)
        assert rig.get(mine.digest) is None
        raw.delete(key_of(mine.digest))
        rig.fill(mine)
        after = {client["id"] for client in raw.client_list()}
    assert rig.cache.faults == {"crossed": 1}
    assert rig.get(mine.digest) == mine
    assert after - before


@pytest.mark.parametrize(
    "rest", [b"", b"\x02", b"\x02[]", b"\x01{}", b"\x80\x04N.", b"\x02" + b"[" * 9000]
)
def test_a_poisoned_value_is_nothing(make: Make, redis_url: str, rest: bytes) -> None:
    rig, digest = make(redis_url, budget_s=2), bytes(range(32))
    with redis.Redis.from_url(redis_url) as raw:
        raw.set(key_of(digest), digest + rest)
    assert rig.get(digest) is None
    assert rig.cache.faults == {"unreadable": 1}


def test_a_key_of_another_kind_is_nothing(make: Make, redis_url: str) -> None:
    rig, digest = make(redis_url, budget_s=2), bytes(32)
    with redis.Redis.from_url(redis_url) as raw:
        raw.lpush(key_of(digest), "x")
    assert rig.get(digest) is None
    assert rig.cache.faults == {"answered_error": 1}


def test_what_cannot_be_cached_is_counted_and_left_out(make: Make, redis_url: str) -> None:
    rig, found = make(redis_url, budget_s=2), a_found(b"short")
    rig.fill(found)
    assert rig.cache.faults == {"uncachable": 1}


def test_cancelled_requests_leave_no_reply_to_be_read_by_others(redis_url: str) -> None:
    """redis/redis-py 2665: every second request is cancelled at a random moment."""
    finds = [a_found() for _ in range(40)]

    async def main() -> list[object]:
        cache = AsyncRedis(redis_url, namespace="t", budget_s=5, connections=4)
        for found in finds:
            await cache.fill(found)
        wrong: list[object] = []

        async def ask(found: Found) -> None:
            got = await cache.get(found.digest)
            if got != found:
                wrong.append(got)

        for turn in range(20):
            tasks = [asyncio.create_task(ask(found)) for found in finds]
            for number, task in enumerate(tasks[::2]):
                asyncio.get_running_loop().call_later(number * turn / 20_000, task.cancel)
            await asyncio.gather(*tasks, return_exceptions=True)
        assert "crossed" not in cache.faults
        return wrong

    assert asyncio.run(main()) == []


# ---- outages ----------------------------------------------------------------------------------


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
        assert drive(cache.get(bytes(32))) is None
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


# ---- threads, forks and loops -----------------------------------------------------------------


def test_threads_share_one_cache(redis_url: str) -> None:
    cache = BlockingRedis(redis_url, namespace="t", budget_s=5, connections=4)
    finds = [a_found() for _ in range(16)]
    wrong: list[object] = []

    def work(found: Found) -> None:
        drive(cache.fill(found))
        wrong.extend(got for _ in range(50) if (got := drive(cache.get(found.digest))) != found)

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
        drive(cache.fill(found))

    def read_all() -> bool:
        return all(drive(cache.get(found.digest)) == found for found in finds * 20)

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
    drive(cache.bury([digest]))
    with cache._health._lock, cache._health.breaker._lock:

        def in_child() -> bool:
            cache._health.count("crossed")
            cache._health.breaker.failed()
            return bool(drive(cache.get(digest)) == TOMBSTONE)

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


# ---- other servers ----------------------------------------------------------------------------


def test_a_server_that_refuses_our_set_caches_nothing_and_fails_nothing(
    make: Make, own_redis: Redis
) -> None:
    """Redis before 6.2 does not know PXAT."""
    with redis.Redis.from_url(own_redis.url) as raw:
        raw.execute_command("ACL", "SETUSER", "default", "-set")
    rig, found = make(own_redis.url, budget_s=5), a_found()
    for _ in range(5):
        rig.fill(found)
        rig.bury([found.digest])
    assert rig.get(found.digest) is None
    assert rig.cache.faults.keys() == {"answered_error"}
