"""What the memory store promises alone."""

from __future__ import annotations

from datetime import timedelta

from migrator.core.flow import run
from migrator.core.phases import Phase, Rollout
from migrator.stores.memory import MemoryStore
from tests.contracts.worlds import NOW, InMemory, World, a_claims


def test_memory_stands_where_it_was_set() -> None:
    store = MemoryStore(lambda: NOW)
    rollout = Rollout(phase=Phase.SWAP, epoch=2, percent=10, since=NOW)
    store.set_rollout(rollout)
    assert run(store.rollout()) == rollout


def test_memory_cuts_off_what_was_issued_within_the_second_of_the_cutoff() -> None:
    """Where iat has a fraction too; its clock and ours do not agree to the millisecond."""
    memory = MemoryStore()
    world = World(memory, InMemory(memory), run)
    world.end_subject(before=NOW + timedelta(milliseconds=500))
    assert world.check(a_claims(effective_iat=NOW + timedelta(milliseconds=900))).bar == "cut_off"


def test_memory_ends_what_a_denied_key_and_a_cut_off_one_became() -> None:
    memory = MemoryStore()
    world = World(memory, InMemory(memory), run)
    by_jti, by_family = world.swap(a_claims(jti="j")), world.swap(a_claims(family="f"))
    by_kid, other = world.swap(a_claims(kid="k9")), world.swap(a_claims())
    assert memory.deny_key("a1", jti="j").digests == (by_jti.digest,)
    assert memory.deny_key("a1", family="f").digests == (by_family.digest,)
    assert memory.cut_off("a1", kid="k9").digests == (by_kid.digest,)
    assert not world.is_over(other.digest)
