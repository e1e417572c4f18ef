"""P2: how soon a revocation made in one process binds in another, in each situation of design 8.

The node asks through proxies; who revokes is another process, as the CLI is. A bound counts from
the moment the revocation was acknowledged to the start of the last request still admitted.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from migrator import wiring
from migrator.stores.drivers import conninfo
from tests.faults.deployment import Deployment, deployment
from tests.faults.nodes import nodes, present
from tests.rig import Rig, sign

pytestmark = pytest.mark.xdist_group("faults-bounds")

FEED_BOUND_S = 1.0
ENTRY_S = 3
# Of the processes' own turns on a busy machine; the bounds themselves are clocks, not luck.
SLACK_S = 0.1


@pytest.fixture(scope="module")
def shared() -> Iterator[Deployment]:
    with deployment(redis={"entry_seconds": ENTRY_S}) as up:
        yield up


@pytest.fixture
def up(shared: Deployment) -> Iterator[Deployment]:
    """Everything up, before and after."""
    yield shared
    shared.heal()
    shared.node.ask("ready")
    deadline = time.monotonic() + 20
    while shared.node.show(sign("anybody").encode()).kind != "admitted":
        assert time.monotonic() < deadline, "it does not recover"
        time.sleep(0.1)
    time.sleep(0.5)  # a poll, so that the next test begins with a memory that is trusted


def ending(up: Deployment, token: bytes, rig: Rig | None = None) -> Callable[[], float]:
    def end() -> float:
        assert up.operator(rig).end(token) == 1
        return time.monotonic()

    return end


def test_p2_same_process_nothing_is_admitted_after_the_call_returned(
    migrated: str, redis_url: str
) -> None:
    rig = Rig(migrated, redis_url)
    rig.move("drain")
    settings = rig.settings()
    gate, sessions = wiring.gate(settings), wiring.sessions(settings)
    try:
        for number in range(20):
            legacy = sign(f"user-{number}").encode()
            token = present(gate, legacy).token
            assert token is not None
            assert {present(gate, one).kind for one in (legacy, token)} == {"admitted"}
            if number % 2:
                sessions.end(token)
            else:
                sessions.end_all(f"user-{number}")
            assert {present(gate, one).kind for one in (legacy, token)} == {"refused"}
    finally:
        wiring.stop()


def test_p2_everything_up_binds_in_tens_of_milliseconds(up: Deployment) -> None:
    took: list[float] = []
    for number in range(12):
        _, token = up.swapped(f"up-{number}")
        bound = up.watched(token, ending(up, token))
        assert bound.refused
        took.append(bound.admitted_for_s)
    assert max(took) <= FEED_BOUND_S
    assert statistics.median(took) <= 0.05


@pytest.mark.parametrize("state", ["killed", "frozen", "flushed", "cut off"])
def test_p2_without_redis_the_feed_binds_within_a_second(up: Deployment, state: str) -> None:
    _, token = up.swapped(f"redis-{state}")
    hurt: dict[str, Callable[[], None]] = {
        "killed": up.redis.kill,
        "frozen": up.redis.pause,
        "flushed": lambda: None,
        "cut off": up.to_redis.refuse,
    }
    hurt[state]()

    def revoke() -> float:
        acknowledged = ending(up, token)()
        if state == "flushed":
            up.redis.flush()
        return acknowledged

    bound = up.watched(token, revoke)
    assert bound.refused
    assert bound.admitted_for_s <= FEED_BOUND_S


def test_p2_lost_hints_cost_at_most_a_second(up: Deployment) -> None:
    _, token = up.swapped("hints")
    with nodes(up.rig.settings()) as (revoker,):
        bound = up.watched(token, lambda: float(revoker.ask("end", token=token, hinting=False)))
    assert bound.refused
    assert bound.admitted_for_s <= FEED_BOUND_S


def test_p2_a_revoker_killed_right_after_its_commit_has_revoked(up: Deployment) -> None:
    _, token = up.swapped("killed")
    with nodes(up.rig.settings()) as (revoker,):

        def revoke() -> float:
            revoker.tell("end_and_die", token=token)
            assert revoker.join() == -9
            return time.monotonic()

        bound = up.watched(token, revoke)
    assert bound.refused
    assert bound.admitted_for_s <= FEED_BOUND_S


def test_p2_a_node_frozen_over_the_revocation_wakes_up_refusing(up: Deployment) -> None:
    legacy, token = up.swapped("asleep")
    up.node.freeze()
    ending(up, token)()
    time.sleep(1.2)
    up.node.thaw()
    assert up.node.show(token).kind == "refused"
    assert up.node.show(legacy).kind == "refused"


@contextmanager
def unread_feed(up: Deployment) -> Iterator[None]:
    """Hold every poll of the feed, for less than a poll would wait."""
    with psycopg.connect(**conninfo(up.rig.url)) as hand:
        hand.execute("LOCK TABLE migrator.feed IN ACCESS EXCLUSIVE MODE")
        yield
        hand.rollback()


def test_p2_a_frozen_node_does_not_believe_a_cache_it_slept_through(up: Deployment) -> None:
    """The tombstone was never written: only the feed knows, and the node has not read it yet."""
    _, token = up.swapped("asleep")
    up.cache(token)
    up.node.freeze()
    up.revoke_behind_redis(token)
    time.sleep(FEED_BOUND_S)
    with unread_feed(up):
        up.node.thaw()
        assert up.node.show(token).kind == "refused"


def test_p2_a_node_that_has_just_started_does_not_believe_the_cache_yet(up: Deployment) -> None:
    """As above: it cannot know what was revoked before it began to listen."""
    _, token = up.swapped("newcomer")
    up.cache(token)
    up.revoke_behind_redis(token)
    time.sleep(FEED_BOUND_S)
    with unread_feed(up):
        gate = wiring.gate(up.rig.settings())
        answer = present(gate, token)
    wiring.stop()
    assert answer.kind == "refused"


def test_p2_cut_off_from_postgres_a_tombstone_still_binds(up: Deployment) -> None:
    legacy, token = up.swapped("cut-off")
    up.to_postgres.refuse()
    bound = up.watched(token, ending(up, token), seconds=2.0)
    assert bound.admitted_for_s <= FEED_BOUND_S
    assert bound.watched.others == {"unavailable"}, "not known, so not refused either"
    assert up.node.show(legacy).kind == "unavailable"
    up.to_postgres.heal()
    assert up.node.show(token).kind == "refused"


def test_p2_cut_off_from_postgres_without_a_tombstone_an_entry_binds_by_its_age(
    up: Deployment,
) -> None:
    """The law is the entry's life: 60 s as shipped, 3 s here."""
    _, token = up.swapped("untold")
    up.cache(token)
    up.to_postgres.refuse()
    bound = up.watched(token, lambda: up.revoke_behind_redis(token), seconds=ENTRY_S + 2.0)
    assert FEED_BOUND_S < bound.admitted_for_s <= ENTRY_S + SLACK_S
    assert bound.watched.others == {"unavailable"}


@pytest.mark.parametrize("how", ["refused", "silent"])
def test_p2_cut_off_from_both_it_is_unavailable_within_a_second(up: Deployment, how: str) -> None:
    _, token = up.swapped(f"alone-{how}")

    def cut() -> float:
        for proxy in (up.to_postgres, up.to_redis):
            if how == "refused":
                proxy.refuse()
            else:
                proxy.black_hole()
        return time.monotonic()

    bound = up.watched(token, cut, seconds=2.5)
    assert bound.admitted_for_s <= FEED_BOUND_S
    assert bound.watched.others == {"unavailable"}
    assert not bound.refused
