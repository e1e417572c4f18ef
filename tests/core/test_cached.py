"""Memory and cache before the store: what each may say of a session, and for how long."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from migrator.core import tokens
from migrator.core.errors import Unavailable
from migrator.core.flow import CACHE_LIFE, SEEN_GRAIN, run
from migrator.core.interfaces import TOMBSTONE, Found
from migrator.core.recent import LIFE_NS
from migrator.core.verdicts import Admitted, Reason, Refused
from migrator.stores.memory import MemoryStore
from tests.core.deployment import DAY, HOUR, Deployment, presented, token_of

SECOND = timedelta(seconds=1)


def cached(world: Deployment, token: bytes) -> object:
    return run(world.cache.get(tokens.digest(token)))


# ---- memory ------------------------------------------------------------------------------------


def test_p11_a_remembered_session_asks_nobody_for_its_minute() -> None:
    world = Deployment()
    token = world.login()
    world.admit(token)
    world.store.asked.clear()
    world.later(timedelta(microseconds=LIFE_NS // 1000 - 1))
    world.admit(token)
    assert world.store.asked == []
    world.later(timedelta(microseconds=1))
    world.admit(token)
    assert world.store.asked == ["find"]


def test_memory_ends_with_the_session() -> None:
    world = Deployment()
    ends = world.now + 10 * SECOND
    token = token_of_api(world, ends_in=10 * SECOND)
    world.admit(token)
    world.later(10 * SECOND)
    assert world.now == ends
    assert world.gate.peek(presented(token)) is None
    assert world.verdict(token) == Refused(Reason.SESSION_EXPIRED)


def test_memory_ends_where_the_session_has_lain_unused_too_long() -> None:
    world = Deployment()
    token = world.login()
    world.later(DAY + SEEN_GRAIN - 10 * SECOND)
    world.admit(token)
    world.later(9 * SECOND)
    assert world.gate.peek(presented(token)) is not None
    world.later(SECOND)
    assert world.gate.peek(presented(token)) is None


def test_a_hit_is_counted_as_its_first_time_was() -> None:
    world = Deployment()
    token = world.login(client="ios")
    world.counted()
    for _ in range(3):
        world.admit(token)
    assert world.counted() == {("", "ios", "session"): 3}


def test_p2_an_eviction_by_digest_or_subject_forgets_a_session() -> None:
    world = Deployment()
    token = world.login("ann", realm="staff")
    for about in (tokens.digest(token), ("subject", "staff", "ann")):
        world.admit(token)
        assert world.gate.peek(presented(token)) is not None
        world.recent.evict(about)
        assert world.gate.peek(presented(token)) is None


def token_of_api(world: Deployment, *, ends_in: timedelta | None = None) -> bytes:
    ends = None if ends_in is None else world.now + ends_in
    issued = world.sessions.create_api_token("user-1", label="x", expires_at=ends)
    return token_of(issued)


# ---- the cache ---------------------------------------------------------------------------------


def forget_memory_only(world: Deployment) -> None:
    entries = world.recent._entries
    entries.clear()


def test_the_cache_answers_before_the_store() -> None:
    world = Deployment()
    token = world.login()
    world.admit(token)
    forget_memory_only(world)
    world.store.asked.clear()
    assert isinstance(world.verdict(token), Admitted)
    assert world.store.asked == []


def test_a_cached_entry_is_believed_for_its_life_by_its_read_time() -> None:
    world = Deployment()
    token = world.login()
    found = run(MemoryStore.find(world.store, tokens.digest(token)))
    assert found is not None
    for age, asked in ((CACHE_LIFE - SECOND, []), (CACHE_LIFE, ["find"])):
        world.store.asked.clear()
        world.cache._kept[found.digest] = (
            replace(found, read_at=world.now - age),
            world.now + HOUR,
        )
        assert run(world.gate.find(found.digest)) is not None
        assert world.store.asked == asked


def test_a_cache_may_admit_and_never_say_that_a_session_is_over() -> None:
    world = Deployment()
    token = world.login()
    found = run(MemoryStore.find(world.store, tokens.digest(token)))
    assert found is not None
    stale = replace(found, session=replace(found.session, expires_at=world.now))
    run(world.cache.fill(stale))
    assert isinstance(world.verdict(token), Admitted)
    assert "find" in world.store.asked


def test_p2_a_tombstone_sends_to_the_store_and_is_not_filled_over() -> None:
    world = Deployment()
    token = world.login()
    run(world.cache.bury([tokens.digest(token)]))
    world.store.asked.clear()
    assert isinstance(world.verdict(token), Admitted)
    assert "find" in world.store.asked
    assert cached(world, token) is TOMBSTONE


def test_p2_no_cached_word_is_believed_of_what_was_just_evicted() -> None:
    world = Deployment()
    token = world.login("ann", realm="staff")
    for about in (tokens.digest(token), ("subject", "staff", "ann")):
        world.admit(token)
        world.recent.evict(about)
        world.store.asked.clear()
        world.admit(token)
        assert "find" in world.store.asked
        world.later(timedelta(minutes=3))


def test_a_cache_is_not_believed_by_a_node_that_is_not_informed() -> None:
    world = Deployment()
    token = world.login()
    world.admit(token)
    forget_memory_only(world)
    world.recent.informed_until = 0
    world.store.asked.clear()
    world.admit(token)
    assert "find" in world.store.asked


def test_p4_a_cached_session_serves_an_uninformed_node_while_the_store_is_away() -> None:
    world = Deployment()
    token = world.login()
    world.admit(token)
    forget_memory_only(world)
    world.recent.informed_until = 0
    world.store.go_away()
    assert isinstance(world.verdict(token), Admitted)
    run(world.cache.bury([tokens.digest(token)]))
    forget_memory_only(world)
    with pytest.raises(Unavailable):
        world.verdict(token)


def test_only_a_living_session_is_cached() -> None:
    world = Deployment()
    alive, dead = world.login(), world.login()
    world.sessions.end(dead)
    world.cache._kept.clear()
    world.admit(alive)
    world.admit(dead)
    assert isinstance(cached(world, alive), Found)
    assert cached(world, dead) is None
    assert cached(world, tokens.mint("sess", bytes(32))) is None
