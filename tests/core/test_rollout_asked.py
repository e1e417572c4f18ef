"""What a node asks about the rollout: once, and before it acts where its pulse is silent."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from migrator.core.brownouts import Brownout
from migrator.core.flow import Node, run
from migrator.core.phases import Phase, bucket_of
from migrator.core.recent import SECOND_NS
from migrator.core.verdicts import Admitted, Reason, Refused
from tests.core.deployment import HOUR, Call, Deployment, jwt, watch
from tests.core.signers import NOW

SECOND = timedelta(seconds=1)


def test_where_everybody_stands_is_asked_once() -> None:
    world = Deployment()
    world.node.rollout = None
    assert run(world.gate.where()).phase is Phase.DRAIN
    assert run(world.gate.where()).phase is Phase.DRAIN
    assert world.store.asked.count("rollout") == 1


def test_the_time_is_asked_once_and_learned_with_every_find() -> None:
    world = Deployment()
    assert run(world.gate.now()) == world.now
    assert run(world.gate.now()) == world.now
    assert world.store.asked == ["now"]


def test_everything_wakes_the_pulse() -> None:
    world = Deployment()
    woken: list[str] = []
    world.node.wake = lambda: woken.append("x")
    run(world.gate.where())
    run(world.gate.now())
    assert woken == ["x", "x"]


def test_p7_a_node_whose_pulse_is_silent_asks_before_it_acts() -> None:
    world = Deployment()
    world.node.id = "n1"
    run(world.gate.now())
    world.node.heard_until = world.ticks()
    assert not world.node.is_deaf()
    world.store.set_rollout(replace(world.rollout, phase=Phase.CUTOVER, epoch=9))
    assert run(world.gate.where()).phase is Phase.DRAIN
    world.later(timedelta(microseconds=1))
    assert world.node.is_deaf()
    stamp = world.recent.stamp
    assert run(world.gate.where()).phase is Phase.CUTOVER
    assert world.recent.stamp == stamp + 1
    assert world.store.asked.count("rollout") == 1
    assert Node(recent=world.recent, usage=world.usage, clock=world.node.clock).id is None


def test_a_silent_node_that_cannot_ask_keeps_its_phase_and_asks_again_in_a_second() -> None:
    world = Deployment()
    run(world.gate.now())
    world.node.heard_until = world.ticks() - 1
    world.store.go_away("rollout")
    for asked in (1, 1):
        assert run(world.gate.where()).phase is Phase.DRAIN
        assert world.store.asked.count("rollout") == asked
    assert world.node.heard_until == world.ticks() + SECOND_NS
    world.later(SECOND + timedelta(microseconds=1))
    run(world.gate.where())
    assert world.store.asked.count("rollout") == 2


def test_a_silent_node_says_who_asks() -> None:
    world = Deployment()
    world.node.id = "n1"
    run(world.gate.now())
    world.node.heard_until = 0
    calls: list[Call] = []
    watch(calls, world.store, "rollout")
    run(world.gate.where())
    assert [call.named["deaf"] for call in calls] == ["n1"]


def test_a_window_opens_on_time_for_whoever_asks_anew() -> None:
    world = Deployment()
    window = Brownout(1, world.now + HOUR, world.now + 2 * HOUR)
    world.move(Phase.DRAIN, brownouts=(window,))
    assert run(world.gate.where()).open == ()
    world.later(HOUR)
    assert run(world.gate.where()).open == (window,)
    stamp = world.recent.stamp
    world.node.turn()
    assert world.node.rollout is not None
    assert world.node.rollout.open == (window,)
    assert world.recent.stamp == stamp + 1
    world.node.turn()
    assert world.recent.stamp == stamp + 1


def test_a_silent_node_that_asks_learns_of_windows_as_they_stand() -> None:
    world = Deployment()
    run(world.gate.now())
    world.node.heard_until = 0
    window = Brownout(1, world.now - HOUR, world.now + HOUR)
    world.store.set_rollout(replace(world.rollout, epoch=9, brownouts=(window,)))
    assert run(world.gate.where()).open == (window,)


@pytest.mark.parametrize(
    ("by", "value"), [("issuer", "a1"), ("client", "ios"), ("cohort", "100"), (None, "")]
)
def test_whom_a_window_refused_is_known_by_what_it_covers(by: Any, value: str) -> None:
    world = Deployment()
    refused = 0
    for number in range(12):
        window = Brownout(5, NOW - HOUR, NOW + HOUR, by=by, value=value, percent=50)
        world.move(Phase.DRAIN, brownouts=(window,))
        name = f"u{number}"
        covered = window.includes(bucket_of(name, "users"))
        verdict = world.verdict(jwt(name, azp="ios"))
        assert (verdict == Refused(Reason.LEGACY_RETIRED)) == covered
        assert world.usage.take_hits() == ({(5, "users", name, "a1", "ios")} if covered else set())
        refused += covered
    assert 0 < refused < 12


def test_a_token_is_judged_from_memory_unless_strictness_is_asked_for() -> None:
    world = Deployment()
    token = world.login()
    world.admit(token)
    world.store.asked.clear()
    assert isinstance(run(world.gate.judge_session(token)), Admitted)
    assert world.store.asked == []


def test_following_an_equal_rollout_makes_nothing_stale() -> None:
    world = Deployment()
    stamp = world.recent.stamp
    world.node.follow(replace(world.rollout), world.now)
    assert world.recent.stamp == stamp
    world.node.follow(replace(world.rollout, soak_until=world.now), world.now)
    assert world.recent.stamp == stamp
    assert world.node.rollout is not None
    assert world.node.rollout.soak_until == world.now
    world.node.follow(replace(world.rollout, epoch=99), world.now)
    assert world.recent.stamp == stamp + 1
    world.node.rollout = None
    world.node.follow(world.rollout, world.now)
    assert world.recent.stamp == stamp + 2


def test_a_node_that_knows_nothing_yet_turns_nothing() -> None:
    world = Deployment()
    world.node.turn()  # the clock was never set
    world.node.rollout = None
    run(world.gate.now())
    world.node.turn()
    assert world.node.rollout is None
    assert not world.node.is_deaf()
    world.node.wake()
    world.node.sleep()
