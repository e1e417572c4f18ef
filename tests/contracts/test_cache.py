"""What every cache promises, over each that ships."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from migrator.core.flow import run
from migrator.core.interfaces import TOMBSTONE, Cache, Found
from migrator.core.sessions import Session
from migrator.stores.memory import MemoryCache, NoCache
from migrator.stores.redis import AsyncRedis, BlockingRedis


@dataclass(frozen=True, slots=True)
class Rig:
    """A cache, how to run it, and another one as a second process has it."""

    cache: Cache
    peer: Cache
    run: Callable[[Coroutine[Any, Any, Any]], Any]

    def get(self, digest: bytes) -> object:
        return self.run(self.cache.get(digest))

    def fill(self, found: Found) -> None:
        self.run(self.cache.fill(found))

    def bury(self, *digests: bytes) -> None:
        self.run(self.cache.bury(digests))


@pytest.fixture(params=["blocking redis", "async redis", "memory"])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    if request.param == "memory":
        cache = MemoryCache()
        yield Rig(cache, cache, run)
        return
    url = request.getfixturevalue("redis_url")
    # A budget for a busy machine: what is claimed here is not how fast it is.
    if request.param == "blocking redis":
        one, two = (BlockingRedis(url, namespace="t", budget_s=2) for _ in range(2))
        yield Rig(one, two, run)
        one.close()
        two.close()
        return
    with asyncio.Runner() as runner:
        three, four = (AsyncRedis(url, namespace="t", budget_s=2) for _ in range(2))
        yield Rig(three, four, runner.run)


def a_found(digest: bytes | None = None, *, age_s: float = 0) -> Found:
    now = datetime.now(UTC)
    session = Session(
        id=uuid.uuid4(),
        kind="session",
        realm="users",
        subject="1",
        created_at=now,
        expires_at=now + timedelta(days=1),
        origin="login",
        scopes=frozenset({"read"}),
        claims={"name": "Zoë"},
    )
    read_at = now - timedelta(seconds=age_s)
    return Found(digest=digest or uuid.uuid4().bytes * 2, session=session, read_at=read_at)


def test_what_was_filled_is_got_whole_by_every_process(rig: Rig) -> None:
    found = a_found()
    rig.fill(found)
    assert rig.get(found.digest) == found
    assert rig.run(rig.peer.get(found.digest)) == found


def test_what_was_never_filled_is_nothing(rig: Rig) -> None:
    assert rig.get(bytes(32)) is None


def test_a_fill_over_an_entry_changes_nothing(rig: Rig) -> None:
    first = a_found()
    rig.fill(first)
    rig.fill(replace(first, session=replace(first.session, subject="2")))
    assert rig.get(first.digest) == first


def test_a_tombstone_covers_what_was_there(rig: Rig) -> None:
    found = a_found()
    rig.fill(found)
    rig.bury(found.digest)
    assert rig.get(found.digest) == TOMBSTONE
    assert rig.run(rig.peer.get(found.digest)) == TOMBSTONE


def test_a_fill_that_raced_a_revocation_does_not_land(rig: Rig) -> None:
    """P2: the reader held the row before the revocation, and fills after it."""
    found = a_found()
    rig.bury(found.digest)
    rig.fill(found)
    rig.run(rig.peer.fill(found))
    assert rig.get(found.digest) == TOMBSTONE


def test_every_digest_of_many_is_buried(rig: Rig) -> None:
    digests = [number.to_bytes(32, "big") for number in range(1, 1302)]
    rig.bury(*digests)
    assert {rig.get(digest) for digest in digests} == {TOMBSTONE}


def test_burying_nothing_is_nothing(rig: Rig) -> None:
    rig.bury()


def test_an_entry_lives_from_its_reading_and_not_from_its_filling(rig: Rig) -> None:
    late = a_found(age_s=61)
    rig.fill(late)
    assert rig.get(late.digest) is None


def test_a_hint_is_taken_in(rig: Rig) -> None:
    rig.run(rig.cache.hint([("session", "00" * 32)] * 500))
    rig.run(rig.cache.hint([]))


def test_of_fills_at_once_one_stands_and_readers_see_only_it(rig: Rig) -> None:
    digest = uuid.uuid4().bytes * 2
    finds = [a_found(digest) for _ in range(8)]
    if rig.cache.blocks:
        threads = [threading.Thread(target=rig.fill, args=(found,)) for found in finds]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    else:

        async def all_at_once() -> None:
            await asyncio.gather(*(rig.cache.fill(found) for found in finds))

        rig.run(all_at_once())
    seen = [rig.get(digest) for _ in range(5)]
    assert seen[0] in finds
    assert seen == [seen[0]] * 5


def test_no_cache_holds_nothing_in_either_colour() -> None:
    found = a_found()
    for blocks in (True, False):
        cache: Cache = NoCache(blocks=blocks)
        run(cache.fill(found))
        run(cache.bury([found.digest]))
        run(cache.hint([("session", "")]))
        assert run(cache.get(found.digest)) is None
        assert cache.blocks is blocks
