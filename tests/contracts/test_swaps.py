"""What every store promises of a swap."""

from __future__ import annotations

import asyncio
import threading
import uuid
from dataclasses import replace

from migrator.core.interfaces import Standing
from tests.contracts.worlds import World, a_claims, a_session, a_ticket


def test_a_swap_opens_a_session_of_the_derived_digest(world: World) -> None:
    claims = a_claims(client="app", scopes=frozenset({"read"}))
    ticket = a_ticket(claims, client="app", scopes=frozenset({"read"}), claims={"name": "Zoë"})
    standing = world.swap(claims, ticket)
    assert standing.bar is None
    assert standing.known
    assert (standing.digest, standing.swap_key_id) == (ticket.digest, "s1")
    assert not standing.adopted
    found = world.find(ticket.digest)
    assert found is not None
    assert found.session == standing.session
    kept = ("id", "subject", "realm", "client", "scopes", "claims", "expires_at", "origin")
    assert {name: getattr(found.session, name) for name in kept} == {
        name: getattr(ticket.session, name) for name in kept
    }


def test_one_legacy_token_has_one_session_however_often_it_is_swapped(world: World) -> None:
    """P1: the loser's ticket names another session, and gets the winner's answer."""
    claims = a_claims()
    first, *others = [world.swap(claims) for _ in range(4)]
    assert first.session is not None
    assert [other.session for other in others] == [first.session] * 3
    assert world.living() == [first.session.id]


def test_a_node_with_another_swap_key_gets_the_first_ones_answer(world: World) -> None:
    """P1: it lacks the key that the row names, and so admits without handing out."""
    claims = a_claims()
    first = world.swap(claims)
    other = replace(a_ticket(claims), digest=uuid.uuid4().bytes * 2, swap_key_id="s2")
    second = world.swap(claims, other)
    assert (second.session, second.digest) == (first.session, first.digest)
    assert second.swap_key_id == "s1"
    assert world.find(other.digest) is None


def test_swaps_at_once_open_one_session(world: World) -> None:
    """P1."""
    claims = a_claims()
    standings: list[Standing] = []
    if world.store.blocks:

        def swap() -> None:
            standings.append(world.swap(claims))

        threads = [threading.Thread(target=swap) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    else:

        async def all_at_once() -> list[Standing]:
            tickets = [a_ticket(claims) for _ in range(8)]
            return await asyncio.gather(*(world.store.swap(claims, one) for one in tickets))

        standings = world.run(all_at_once())
    assert len(standings) == 8
    assert len({standing.session.id for standing in standings if standing.session}) == 1
    assert len(world.living()) == 1


def test_checking_a_legacy_token_changes_nothing(world: World) -> None:
    claims = a_claims()
    standing = world.check(claims)
    assert (standing.known, standing.session, standing.bar) == (False, None, None)
    assert world.living() == []
    swapped = world.swap(claims)
    assert replace(world.check(claims), read_at=swapped.read_at) == swapped


def test_an_adopted_swap_says_so(world: World) -> None:
    claims = a_claims()
    session = world.swap(claims).session
    assert session is not None
    world.operator.adopt(session.id)
    assert world.swap(claims).adopted
    assert world.check(claims).adopted


def test_a_backfilled_session_gets_its_token_at_the_first_swap(world: World) -> None:
    """P1: the row that the ledger brought stays the only one."""
    claims, session = a_claims(), a_session(origin="backfill")
    world.operator.backfill(session, claims)
    before = world.check(claims)
    assert (before.known, before.digest, before.swap_key_id) == (True, None, None)
    assert before.session is not None
    assert before.session.id == session.id
    after = world.swap(claims)
    assert after.session is not None
    assert after.session.id == session.id
    assert (after.digest, after.swap_key_id) == (a_ticket(claims).digest, "s1")
    assert world.living() == [session.id]
    assert world.swap(claims).digest == after.digest


def test_a_backfilled_session_that_ended_gets_no_token(world: World) -> None:
    """P2: whoever was revoked in the ledger, or since, is not let in by the swap."""
    claims, session = a_claims(), a_session(origin="backfill")
    world.operator.backfill(session, claims)
    assert world.end(session.id).ids == (session.id,)
    standing = world.swap(claims)
    assert standing.known
    assert standing.digest is None
    assert standing.session is not None
    assert standing.session.revoked_at is not None
