"""Who shares an answer: what was asked for another is judged anew, or taken from memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from migrator.core import openings as openings_of
from migrator.core import tokens
from migrator.core.flow import run
from migrator.core.gate import Gate
from migrator.core.openings import MINUTE_NS, Openings
from migrator.core.phases import Phase
from migrator.core.verdicts import Admitted, Reason, Refused
from tests.core.deployment import Deployment, jwt


class Shares:
    """Flights in which everybody was waited for by nobody, or has waited for another."""

    def __init__(self, *, is_own: bool, looks_first: bool = False) -> None:
        self.is_own = is_own
        self.looks_first = looks_first
        self.keys: list[tuple[str, bytes]] = []
        self.found: list[object] = []

    async def share(
        self,
        key: tuple[str, bytes],
        ask: Callable[[], Awaitable[Any]],
        again: Callable[[], Any],
    ) -> Any:
        self.keys.append(key)
        asked = await ask()
        if self.looks_first:
            found = again()
            self.found.append(found)
            if found is not None:
                return found
        return asked, self.is_own


def waiting(world: Deployment, *, looks_first: bool) -> Shares:
    shares = Shares(is_own=False, looks_first=looks_first)
    world.gate = Gate(**world.parts | {"flights": shares})
    return shares


def test_what_everybody_needs_to_know_is_asked_for_once_and_then_known() -> None:
    world = Deployment()
    shares = waiting(world, looks_first=True)
    world.node.rollout = None
    assert run(world.gate.where()) == world.rollout
    assert run(world.gate.now()) == world.now
    assert len({*shares.keys}) == 2
    assert shares.found == [world.rollout, True]


def test_those_who_would_ask_the_same_have_one_key() -> None:
    world = Deployment()
    token, legacy = world.login(), jwt()
    shares = waiting(world, looks_first=False)
    world.admit(token)
    world.admit(legacy)
    fingerprint = world.claims(legacy).fingerprint
    digest = tokens.digest(token)
    assert ("session", digest) in shares.keys
    [key] = [key for key in shares.keys if key[1] == fingerprint]
    world.move(Phase.OBSERVE)
    shares.keys.clear()
    world.admit(legacy)
    [other] = [key for key in shares.keys if key[1] == fingerprint]
    assert other != key  # it would only be checked there


def test_what_was_asked_for_another_is_judged_by_whoever_waited() -> None:
    world = Deployment()
    token, legacy = world.login(), jwt(azp="ios")
    waiting(world, looks_first=False)
    for credential in (token, legacy):
        assert isinstance(world.verdict(credential), Admitted)
    assert world.counted()["a1", "ios", "swapped"] == 2  # of who asked, and of who waited
    world.sessions.end(token)
    assert world.verdict(token) == Refused(Reason.SESSION_ENDED)
    world.counted()
    assert world.verdict(tokens.mint("sess", bytes(32))) == Refused(Reason.UNKNOWN_TOKEN)
    assert world.counted() == {("", "", "refused:unknown_token"): 2}


def test_whoever_waited_may_find_the_answer_in_memory() -> None:
    world = Deployment()
    token, legacy = world.login(), jwt(azp="ios")
    waiting(world, looks_first=True)
    for credential in (token, legacy):
        assert isinstance(world.verdict(credential), Admitted)
    assert world.counted()["a1", "ios", "swapped"] == 2


def test_p2_strict_takes_nothing_from_memory_after_it_waited() -> None:
    world = Deployment()
    legacy = jwt(azp="ios")
    shares = waiting(world, looks_first=True)
    assert isinstance(world.verdict(legacy, strict=True), Admitted)
    world.store.asked.clear()
    shares.keys.clear()
    assert isinstance(world.verdict(legacy, strict=True), Admitted)
    assert "swap" in world.store.asked


# ---- how many sessions a subject opens ---------------------------------------------------------


def test_beyond_its_share_of_a_minute_a_subject_is_admitted_without_a_session() -> None:
    world = Deployment(swaps_per_minute=2)
    handed = []
    for _ in range(4):
        verdict = world.verdict(jwt("ann", azp="ios"))
        assert isinstance(verdict, Admitted)
        handed.append(verdict.hand_out is not None)
    assert handed == [True, True, False, False]
    assert len(world.rows("ann")) == 2
    assert world.counted()["a1", "ios", "unswapped"] == 2
    bobs = world.verdict(jwt("bob"))
    assert isinstance(bobs, Admitted)
    assert bobs.hand_out is not None


def test_a_session_that_is_there_is_no_opening() -> None:
    world = Deployment(swaps_per_minute=1)
    token = jwt("ann")
    first = world.verdict(token)
    assert isinstance(first, Admitted)
    world.recent.evict_all()
    again = world.verdict(token)
    assert isinstance(again, Admitted)
    assert again.hand_out == first.hand_out
    assert ("a1", "", "unswapped") not in world.counted()
    world.later(timedelta(microseconds=MINUTE_NS // 1000))
    other = world.verdict(jwt("ann"))
    assert isinstance(other, Admitted)
    assert other.hand_out is not None


def test_openings_are_of_a_subject_of_a_realm_in_the_minute_that_runs() -> None:
    ticks = 0
    openings = Openings(lambda: ticks)
    assert len(openings) == 0
    assert openings.allows("users", "ann", most=1)
    openings.opened("users", "ann")
    assert not openings.allows("users", "ann", most=1)
    assert openings.allows("users", "ann", most=2)
    assert openings.allows("users", "ann", most=0)
    assert openings.allows("users", "bob", most=1)
    assert openings.allows("staff", "ann", most=1)
    ticks = MINUTE_NS - 1
    openings.opened("users", "ann")
    assert not openings.allows("users", "ann", most=2)
    ticks = MINUTE_NS
    assert openings.allows("users", "ann", most=1)
    openings.opened("users", "bob")
    assert len(openings) == 1


def test_openings_are_counted_for_no_more_subjects_than_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(openings_of, "MOST_SUBJECTS", 1)
    openings = Openings(lambda: 1)
    for subject in ("ann", "bob", "ann"):
        openings.opened("users", subject)
    assert len(openings) == 1
    assert not openings.allows("users", "ann", most=2)
    assert openings.allows("users", "bob", most=1)
