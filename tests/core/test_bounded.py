"""P10: a process keeps no more, however many different things are sent to it.

Nothing is named here that grows: everything reachable from a process's parts is walked, and all
that dicts, sets, lists and deques hold is counted. Whatever is added later is measured with it.
"""

from __future__ import annotations

import secrets
import types
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from migrator import prepared
from migrator.core import openings
from migrator.core.clock import DatabaseClock, elapsed_ns
from migrator.core.comparing import Difference, Presence
from migrator.core.counting import MOST_KEYS
from migrator.core.flow import Node
from migrator.core.gate import Gate
from migrator.core.ids import uuid7
from migrator.core.openings import MINUTE_NS
from migrator.core.phases import Phase, Rollout
from migrator.core.presented import Credential, Presented
from migrator.core.recent import FOREVER, MOST_EVICTED, SUSPECT_NS, Recent
from migrator.core.tokens import mint
from migrator.core.usage import MOST_TALLIES, Usage
from migrator.core.verdicts import Admitted
from migrator.stores.flights import BlockingFlights
from migrator.stores.memory import MemoryStore
from migrator.stores.memory_cache import NoCache
from tests.counts import counted
from tests.rig import Rig, sign

ROOM = 1_000
NOW = datetime.now(UTC)
ISSUERS = frozenset({"a1"})
TERMS = prepared.terms_of(Rig("postgresql://nowhere").settings())
VERIFIER = prepared.verifier_of(Rig("postgresql://nowhere").settings())
# Per line of the census a tally, what was flushed of it, how long it is quiet; per bounded map its
# room; and the parts themselves.
MOST = 4 * (MOST_TALLIES + ROOM) + 4 * MOST_KEYS
SEEN = {"_sightings", "_hits"}  # bounded by 200,000 people, and taken by every flush


class Process:
    """The parts that live as long as a process does, over a store that keeps to itself."""

    def __init__(self, phase: Phase) -> None:
        self.ahead_ns = 0
        self.node = Node(
            recent=Recent(ROOM, self.ticks), usage=Usage(), clock=DatabaseClock(self.ticks)
        )
        self.node.recent.trusted_until = self.node.recent.informed_until = FOREVER
        store = MemoryStore()
        # Nobody is in the cohort: a legacy token is checked, and leaves no row in the store.
        store.set_rollout(Rollout(phase=phase, epoch=1, percent=0, since=NOW))
        self.flights = BlockingFlights(within_s=1)
        self.gate = Gate(
            terms=TERMS,
            verifier=VERIFIER,
            store=store,
            cache=NoCache(blocks=True),
            node=self.node,
            new_id=uuid7,
            secret=lambda: bytes(32),
            flights=self.flights,
        )

    def ticks(self) -> int:
        return elapsed_ns() + self.ahead_ns

    def show(self, credential: bytes, **more: Any) -> Any:
        presented = Presented(header=Credential(credential, "header", ISSUERS), **more)
        outcome = self.gate.admit(presented)
        self.gate.observed(presented.path, outcome, 200)
        verdict = outcome.verdict
        shadow = getattr(verdict, "shadow", None)
        if shadow is not None:
            self.gate.compared(presented.path, shadow, 401 if shadow.reason is None else 200)
        return verdict

    def holds(self) -> int:
        """How much all its containers hold together."""
        return sum(held(self.node)) + sum(held(self.flights)) + sum(held(self.gate.verifier))


def held(root: object) -> Iterator[int]:
    seen: set[int] = set()
    todo = [root]
    while todo:
        here = todo.pop()
        if id(here) in seen or isinstance(here, type | types.ModuleType | str | bytes):
            continue
        seen.add(id(here))
        if isinstance(here, dict):
            yield len(here)
            todo += [*here.keys(), *here.values()]
        elif isinstance(here, list | set | frozenset | deque):
            yield len(here)
            todo += here
        elif isinstance(here, tuple):
            todo += here
        elif type(here).__module__.startswith("migrator"):
            todo += attributes(here)


def attributes(thing: object) -> list[object]:
    slots = (name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ()))
    names = {*slots, *getattr(thing, "__dict__", {})} - SEEN
    return [getattr(thing, name) for name in names if hasattr(thing, name)]


Sends = Callable[[Process, int], None]


def rubbish(process: Process, number: int) -> None:
    process.show(b"%d.a.b" % number, path=f"/p{number}x", user_agent=f"agent{number}/1")


def unknown_tokens(process: Process, number: int) -> None:
    process.show(mint("sess", secrets.token_bytes(32)), user_agent=f"agent{number}/1")


def strangers(process: Process, number: int) -> None:
    process.show(b"key-%d" % number, path=f"/files/n{number}n", user_agent=f"agent{number}/1")


def signed(process: Process, number: int) -> None:
    """Rightly signed, and everything about it is new."""
    token = sign(f"user-{number}", claims={"sid": f"s{number}"}, headers={"kid": f"key-{number}"})
    verdict = process.show(token.encode(), path=f"/route{number}y", user_agent=f"agent{number}/1")
    assert isinstance(verdict, Admitted)


def headers(process: Process, number: int) -> None:
    process.show(sign("ann", headers={"x": str(number)}).encode() + b"A")


@pytest.mark.parametrize("phase", [Phase.OBSERVE, Phase.SWAP])
@pytest.mark.parametrize("send", [rubbish, unknown_tokens, strangers, signed, headers])
def test_p10_nothing_grows_with_what_is_sent(phase: Phase, send: Sends) -> None:
    hold_out(phase, send, 3 * MOST_TALLIES // 2)


def hold_out(phase: Phase, send: Sends, times: int) -> None:
    process = Process(phase)
    for number in range(times):
        send(process, number)
    half = process.holds()
    assert half <= MOST, "it keeps more than its bounds add up to"
    for number in range(times, 2 * times):
        send(process, number)
    assert process.holds() <= half + 2 * ROOM, "it goes on growing"
    assert process.flights.flying() == 0
    counted("G13", "different credentials against one process's memory", 2 * times)


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("send", [rubbish, unknown_tokens, strangers, signed, headers])
def test_p10_nothing_grows_with_a_hundred_thousand_of_anything(send: Sends) -> None:
    for phase in (Phase.OBSERVE, Phase.SWAP):
        hold_out(phase, send, 50_000)


def test_p10_a_signer_gone_mad_fills_no_process() -> None:
    usage = Usage()
    for number in range(5 * MOST_KEYS):
        usage.presences.add(Presence("a1", "web", f"kid-{number}", "/"))
        usage.differ(Difference("allow_deny", "a1", "web", f"/{number}", f"reason-{number}"))
    assert sum(held(usage)) <= 3 * 2 * MOST_KEYS + 2 * MOST_TALLIES + 6 * MOST_KEYS
    assert len(usage.presences.take()) <= 2 * MOST_KEYS


def test_p10_and_p2_beyond_what_can_be_remembered_of_revocations_no_cache_is_believed() -> None:
    now = 10**12
    recent = Recent(ROOM, lambda: now)
    mark = recent.mark()
    for number in range(MOST_EVICTED + 1):
        recent.evict(b"%032d" % number)
    assert sum(held(recent)) <= MOST_EVICTED
    assert recent.suspect(b"%032d" % 5), "an evicted one"
    assert recent.suspect(b"never evicted"), "nobody can say any more"
    assert mark.generation < recent.mark().generation
    now += SUSPECT_NS
    assert not recent.suspect(b"%032d" % 5)


def test_swaps_beyond_the_limit_are_admitted_unswapped_and_counted() -> None:
    process = Process(Phase.DRAIN)
    process.gate.terms = with_limit(3)
    tokens = [sign("ann").encode() for _ in range(5)]
    verdicts = [process.show(token) for token in tokens]
    assert [each.hand_out is not None for each in verdicts] == [True] * 3 + [False] * 2
    assert {each.principal.subject for each in verdicts} == {"ann"}, "nobody is refused"
    assert process.node.usage.tally("a1", None, "unswapped").count == 2
    other = process.show(sign("bob").encode())
    assert other.hand_out is not None, "another subject's minute is its own"
    process.node.recent.clear()  # and what has its session is handed its token, limit or not
    process.node.recent.trusted_until = FOREVER
    assert process.show(tokens[0]).hand_out == verdicts[0].hand_out
    process.ahead_ns += MINUTE_NS
    process.node.recent.trusted_until = FOREVER
    process.node.recent.distrust_legacy()
    assert process.show(tokens[4]).hand_out is not None, "the next minute it gets one"


def with_limit(most: int) -> Any:
    return prepared.terms_of(Rig("postgresql://nowhere").settings(swap={"per_minute": most}))


def test_swaps_have_no_limit_where_it_is_nought() -> None:
    process = Process(Phase.DRAIN)
    process.gate.terms = with_limit(0)
    assert all(process.show(sign("ann").encode()).hand_out for _ in range(50))


def test_p10_more_subjects_than_a_minute_can_hold_are_not_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(openings, "MOST_SUBJECTS", 3)
    kept = openings.Openings(lambda: 10**9)
    for number in range(9):
        kept.opened("users", f"user-{number}")
        kept.opened("users", "user-0")
    assert len(kept) == 3
    assert not kept.allows("users", "user-0", most=10)
    assert kept.allows("users", "user-0", most=11)
    assert kept.allows("users", "user-8", most=1), "never seen, as far as this can tell"
    assert kept.allows("staff", "user-0", most=1), "another person"


def test_a_minute_of_openings_ends_with_it() -> None:
    now = 10**9
    kept = openings.Openings(lambda: now)
    kept.opened("users", "ann")
    now += MINUTE_NS - 1
    assert not kept.allows("users", "ann", most=1)
    now += 1
    assert kept.allows("users", "ann", most=1)
    kept.opened("users", "bob")
    assert len(kept) == 1
