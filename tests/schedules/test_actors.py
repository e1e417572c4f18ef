"""P2: exchanges, denials, cutoffs and moves of the rollout beside fills: every interleaving.

The world is that of test_fills.py: the real flows and the real way of applying the feed, over the
shipped memory store and cache. Three actors each, four at length; all orders of their steps. What
a swap, login and cutoff do to each other within Postgres is stepped in test_swaps.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from migrator.core.errors import Refused
from migrator.core.flow import run
from migrator.core.gate import Gate
from migrator.core.interfaces import Ended
from migrator.core.issuing import Issuing
from migrator.core.phases import Phase, Rollout
from migrator.core.presented import Credential, Presented
from migrator.core.swapping import Swapping
from migrator.core.verdicts import Admitted
from tests.counts import counted
from tests.rig import sign_refresh
from tests.schedules.interleave import Work
from tests.schedules.test_fills import (
    ISSUERS,
    JWT,
    LEAST,
    NOW,
    Listener,
    Scenario,
    World,
    alive_at,
    holes,
    presenting,
    started,
)

REFRESH = sign_refresh("ann").encode()
CUT_OVER = Rollout(phase=Phase.CUTOVER, epoch=2, percent=100, since=NOW, drain_since=NOW)
Played = tuple[Sequence[Work], Callable[[], Sequence[str]]]


def in_query(token: bytes) -> Presented:
    return Presented(legacy=Credential(token, "query", ISSUERS))


async def exchange(issuing: Issuing) -> None:
    """At the refresh route; a refusal is an answer."""
    try:
        await issuing._exchanged(REFRESH)
    except Refused:
        return


def living(world: World) -> list[str]:
    return [f"session {one.origin}" for one in run(world.store.inner.list("ann", realm="users"))]


def remembered(world: World, reader: Gate, listener: Listener) -> Callable[[], Sequence[str]]:
    """What lives in the store, the cache, or the reader's memory once it has polled."""

    def alive() -> list[str]:
        run(listener.poll())
        query = reader.admit(in_query(JWT)).verdict
        found = ["the JWT in a query"] if isinstance(query, Admitted) else []
        return [*found, *alive_at(reader, JWT), *world.cached(), *living(world)]

    return alive


def two_exchanges_and_the_end_of_their_subject(world: World) -> Played:
    exchanges = [exchange(world.flow(Issuing, world.node())) for _ in range(2)]
    revoker = world.flow(Issuing, world.node())
    world.begin()
    ending = revoker._end_all("ann", realm=None, reason="end_all", by="test")
    return [*exchanges, started(ending)], lambda: [*living(world), *world.cached()]


def an_exchange_a_logout_by_its_token_and_a_poll(world: World) -> Played:
    node = world.node()
    reader, listener = world.flow(Gate, node), Listener(world, node)
    revoker = world.flow(Issuing, world.node())
    world.begin()
    actors = [
        exchange(world.flow(Issuing, node)),
        started(revoker._end(REFRESH, reason="logout", by="test")),
        listener.poll(),
    ]
    return actors, lambda: [*living(world), *world.cached(), *alive_at(reader, REFRESH)]


def a_swap_a_denial_and_a_poll(world: World) -> Played:
    node = world.node()
    reader, listener = world.flow(Gate, node), Listener(world, node)
    revoker = world.flow(Issuing, world.node())
    world.begin()
    actors = [
        reader._admit(presenting(JWT)),
        listener.poll(),
        started(revoker._end(JWT, reason="logout", by="test")),
    ]
    return actors, remembered(world, reader, listener)


def an_exchange_a_swap_and_a_cutoff_of_their_issuer(world: World) -> Played:
    node = world.node()
    reader, listener = world.flow(Gate, node), Listener(world, node)

    async def cut_off() -> Ended:
        await world.store.between()
        ended = world.store.inner.cut_off("a1")
        world.store.tell("legacy", "a1")
        world.store.fed(ended)
        await world.cache.bury(ended.digests)
        return ended

    exchanging = world.flow(Issuing, world.node())
    world.begin(memory=False)
    actors = [reader._admit(presenting(JWT)), exchange(exchanging), started(cut_off())]
    return actors, remembered(world, reader, listener)


def a_reader_without_a_swap_and_one_who_swaps_and_logs_out(world: World) -> Played:
    node = world.node()
    reader, listener = world.flow(Gate, node), Listener(world, node)
    other = world.node()
    gate, revoker = world.flow(Gate, other), world.flow(Issuing, other)

    async def swap_and_log_out() -> None:
        verdict = (await gate._admit(presenting(JWT))).verdict
        assert isinstance(verdict, Admitted)
        assert verdict.hand_out is not None
        await revoker._end(verdict.hand_out, reason="logout", by="test")

    world.begin(memory=False)
    actors = [reader._admit(in_query(JWT)), listener.poll(), started(swap_and_log_out())]
    return actors, remembered(world, reader, listener)


def a_reader_a_poll_and_a_cutover(world: World) -> Played:
    node = world.node()
    reader, listener = world.flow(Gate, node), Listener(world, node)

    async def move() -> None:
        await world.store.between()
        world.store.inner.set_rollout(CUT_OVER)
        await world.store.between()

    world.begin()
    actors = [reader._admit(presenting(JWT)), listener.poll(), move()]

    def alive() -> list[str]:
        run(listener.poll())
        return alive_at(reader, JWT)

    return actors, alive


SCENARIOS: list[Scenario] = [
    two_exchanges_and_the_end_of_their_subject,
    an_exchange_a_logout_by_its_token_and_a_poll,
    a_swap_a_denial_and_a_poll,
    an_exchange_a_swap_and_a_cutoff_of_their_issuer,
    a_reader_without_a_swap_and_one_who_swaps_and_logs_out,
    a_reader_a_poll_and_a_cutover,
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_p2_nothing_comes_back_whichever_of_three_goes_on(scenario: Scenario) -> None:
    schedules, found = holes(scenario)
    assert found == []
    assert schedules >= LEAST // 2
    counted("G7", "schedules stepped", schedules)


# Whose ending concerns the JWT that a fourth actor presents.
OF_FOUR = [two_exchanges_and_the_end_of_their_subject, a_swap_a_denial_and_a_poll]


def with_another_reader(scenario: Scenario) -> Scenario:
    """The same with a fourth actor, on a node of its own."""

    def played(world: World) -> Played:
        actors, alive = scenario(world)
        world.end()
        fourth = world.flow(Gate, world.node())
        world.begin(memory=False)
        return [*actors, fourth._admit(presenting(JWT))], alive

    return played


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("scenario", OF_FOUR, ids=lambda scenario: scenario.__name__)
def test_p2_nothing_comes_back_whichever_of_four_goes_on(scenario: Scenario) -> None:
    schedules, found = holes(with_another_reader(scenario))
    assert found == []
    counted("G7", "schedules stepped", schedules)


# ---- tests of the tests ------------------------------------------------------------------------


def test_a_memory_that_foresees_no_session_shows_its_hole(monkeypatch: pytest.MonkeyPatch) -> None:
    def unforeseen(*_: Any) -> None:
        """Remember an unswapped token without the session it may get."""

    monkeypatch.setattr(Swapping, "_foreseen", unforeseen)
    _, found = holes(a_reader_without_a_swap_and_one_who_swaps_and_logs_out, enough=1)
    assert found != []


def test_a_node_that_follows_a_move_and_trusts_its_memory_shows_its_hole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("migrator.core.recent.Recent.distrust_legacy", lambda _: None)
    _, found = holes(a_reader_a_poll_and_a_cutover, enough=1)
    assert found != []
