"""The Redis cache: what is written, what of it is believed, and which servers it speaks to."""

from __future__ import annotations

import asyncio

import pytest
import redis

from migrator.cli.demo.servers import Redis
from migrator.core.interfaces import Found
from migrator.stores import entries
from migrator.stores.redis import AsyncRedis, namespace_of
from tests.stores.cache.rig import Make, a_found, key_of

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
