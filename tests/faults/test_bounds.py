"""P2: how soon a revocation made in one process binds in another, in each situation of design 8.

The nodes ask through proxies; who revokes is another process, as the CLI is. A bound counts from
the moment the revocation was acknowledged to the start of the last request still admitted; what is
promised where is the table of bounds.py. `python -m tests.bench.bounds` prints what it measures.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from migrator import wiring
from migrator.stores.drivers import conninfo
from tests.counts import counted
from tests.faults.bounds import (
    FEED_S,
    SITUATIONS,
    Measured,
    Situation,
    Stand,
    measure,
    standing,
)
from tests.faults.deployment import Deployment
from tests.faults.hammering import revoke_among_readers
from tests.faults.nodes import present

pytestmark = pytest.mark.xdist_group("faults-bounds")

REVOCATIONS = 200
FULL = 2_000
READERS = 3


@pytest.fixture(scope="module")
def shared() -> Iterator[Stand]:
    with standing() as stand:
        yield stand


@pytest.fixture
def stand(shared: Stand) -> Iterator[Stand]:
    """Everything up, before and after."""
    shared.recover()
    yield shared
    shared.up.heal()


@pytest.fixture
def up(stand: Stand) -> Deployment:
    return stand.up


def judged(usual: Measured, strict: Measured) -> None:
    """Hold what was measured against the table."""
    situation = usual.situation
    print(f"{situation.name}: p50 p99 max {usual} ms")  # noqa: T201 - shown where it fails
    assert max(usual.bounds_s) <= situation.bound_s
    assert (usual.hammered.alive, strict.hammered.alive) == (0, 0)
    assert strict.accepts == 0
    if not situation.asked:
        refused = [one.refused_at is not None for one in strict.hammered.fates]
        assert not any(refused), "not known, so not refused either"
        assert strict.hammered.others == {"unavailable"}
    if situation.refused:
        assert all(one.refused_at is not None for one in usual.hammered.fates)
    else:
        assert usual.hammered.others == {"unavailable"}
    counted("G9", "revocations", len(usual.bounds_s))
    counted("G9", "requests beside them", usual.hammered.presented + strict.hammered.presented)
    counted("G9", "admitted after the acknowledgement on strict routes", strict.accepts)


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda one: one.name)
def test_p2_every_revocation_binds_within_its_bound_and_on_strict_routes_at_once(
    stand: Stand, situation: Situation
) -> None:
    judged(*measure(stand, situation, REVOCATIONS))


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda one: one.name)
def test_p2_thousands_of_revocations_keep_the_bounds(stand: Stand, situation: Situation) -> None:
    bounds: list[float] = []
    for _ in range(0, FULL, REVOCATIONS):
        usual, strict = measure(stand, situation, REVOCATIONS)
        judged(usual, strict)
        bounds += usual.bounds_s
        stand.recover()
    if situation.name == "everything up":
        assert sorted(bounds)[int(0.99 * len(bounds))] <= 0.05


def test_p2_a_key_or_an_issuer_cut_off_ends_all_that_came_from_it(stand: Stand) -> None:
    whole = Situation(name="issuer cut off", verbs=("issuer",))
    judged(*measure(stand, whole, 20))
    stand.up.rig.execute("DELETE FROM migrator.cutoffs WHERE issuer = 'a2' AND kid IS NULL")


@pytest.mark.parametrize("rounds", [1, pytest.param(10, marks=pytest.mark.full)])
def test_p2_same_process_nothing_is_admitted_after_the_call_returned(
    stand: Stand, rounds: int
) -> None:
    settings = stand.up.rig.settings()
    gate, sessions = wiring.gate(settings), wiring.sessions(settings)
    try:
        for _ in range(rounds):
            targets = stand.targets(REVOCATIONS, ("token", "jwt", "id", "denial", "end_all"))
            presented, late = revoke_among_readers(gate, sessions, settings, targets, READERS)
            assert late == 0
            counted("G9", "revocations in the same process", len(targets))
            counted("G9", "requests beside them", presented)
    finally:
        wiring.stop()


def test_p2_strict_everywhere_believes_no_entry_of_redis(stand: Stand) -> None:
    """`memory.trust_ms = 0`: a row ended by hand, of which no feed, tombstone or hint tells."""
    settings = stand.up.rig.settings(memory={"trust_ms": 0})
    targets = stand.targets(20, ("token",))
    stand.warm(targets, cached=True)
    gate = wiring.gate(settings)
    try:
        for target in targets:
            assert target.token is not None
            assert present(gate, target.token).kind == "admitted"
            assert stand.up.is_cached(target.token)
            stand.up.rig.execute(
                "UPDATE migrator.sessions SET revoked_at = now(), revoked_reason = 'by hand'"
                " WHERE subject = %s",
                target.subject,
            )
            assert {present(gate, one).kind for one in target.credentials} == {"refused"}
        counted("G9", "revocations", len(targets))
    finally:
        wiring.stop()


def ending(up: Deployment, token: bytes) -> Callable[[], float]:
    def end() -> float:
        assert up.operator().end(token) == 1
        return time.monotonic()

    return end


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
    time.sleep(FEED_S)
    with unread_feed(up):
        up.node.thaw()
        assert up.node.show(token).kind == "refused"


def test_p2_a_node_that_has_just_started_does_not_believe_the_cache_yet(up: Deployment) -> None:
    """As above: it cannot know what was revoked before it began to listen."""
    _, token = up.swapped("newcomer")
    up.cache(token)
    up.revoke_behind_redis(token)
    time.sleep(FEED_S)
    with unread_feed(up):
        gate = wiring.gate(up.rig.settings())
        answer = present(gate, token)
    wiring.stop()
    assert answer.kind == "refused"


@pytest.mark.parametrize("how", ["refuse", "black_hole"])
def test_p2_cut_off_from_both_it_is_unavailable_within_a_second(up: Deployment, how: str) -> None:
    _, token = up.swapped(f"alone-{how}")

    def cut() -> float:
        for proxy in (up.to_postgres, up.to_redis):
            getattr(proxy, how)()
        return time.monotonic()

    bound = up.watched(token, cut, seconds=2.5)
    assert bound.admitted_for_s <= FEED_S
    assert bound.watched.others == {"unavailable"}
    assert not bound.refused


def test_p2_cut_off_from_postgres_it_refuses_again_once_it_is_back(up: Deployment) -> None:
    legacy, token = up.swapped("cut-off")
    up.to_postgres.refuse()
    ending(up, token)()
    up.to_postgres.heal()
    deadline = time.monotonic() + 20
    while {up.node.show(one).kind for one in (token, legacy)} != {"refused"}:
        assert time.monotonic() < deadline
        time.sleep(0.05)
