"""How a session token is judged: memory, cache, store; what is remembered; what an outage does."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from migrator.core import tokens
from migrator.core.brownouts import Brownout
from migrator.core.errors import Unavailable
from migrator.core.flow import CACHE_LIFE, SEEN_GRAIN, Node, SubjectState, SwapKey, run
from migrator.core.interfaces import TOMBSTONE, Found
from migrator.core.phases import Phase, bucket_of
from migrator.core.recent import LIFE_NS, SECOND_NS
from migrator.core.verdicts import Admitted, Principal, Reason, Refused
from migrator.stores.memory import MemoryStore
from tests.core.deployment import DAY, HOUR, Call, Deployment, jwt, presented, token_of, watch
from tests.core.signers import NOW

SECOND = timedelta(seconds=1)


def cached(world: Deployment, token: bytes) -> object:
    return run(world.cache.get(tokens.digest(token)))


# ---- judging -----------------------------------------------------------------------------------


def test_a_session_is_admitted_as_what_its_row_says() -> None:
    world = Deployment()
    token = world.login("ann", realm="staff", client="ios", scopes=["a"], claims={"n": 1})
    verdict = world.verdict(token)
    assert verdict == Admitted(
        Principal(
            subject="ann",
            realm="staff",
            scopes=frozenset({"a"}),
            claims={"n": 1},
            client="ios",
            via="session",
            session=world.session(token),
        )
    )


@pytest.mark.parametrize("token", [b"sess_", b"sess_" + b"0" * 49, b"pat_x", b"sess_x.y.z"])
def test_p10_an_invented_token_is_refused_without_a_question(token: bytes) -> None:
    world = Deployment()
    assert world.verdict(token) == Refused(Reason.BAD_TOKEN)
    assert world.store.asked == []
    assert world.counted() == {("", "", "refused:bad_token"): 1}


def test_a_well_formed_token_that_names_nothing_is_unknown() -> None:
    world = Deployment()
    assert world.verdict(tokens.mint("sess", bytes(32))) == Refused(Reason.UNKNOWN_TOKEN)
    assert world.verdict(tokens.mint("pat", bytes(32))) == Refused(Reason.UNKNOWN_TOKEN)
    assert world.counted() == {("", "", "refused:unknown_token"): 2}


def test_a_session_that_is_over_is_refused_by_its_client() -> None:
    world = Deployment()
    token = world.login(client="ios")
    world.counted()
    world.forget()
    world.later(100 * DAY)
    assert world.verdict(token) == Refused(Reason.SESSION_EXPIRED)
    assert world.counted() == {("", "ios", "refused:session_expired"): 1}


def test_both_kinds_of_prefix_are_ours_and_no_other() -> None:
    gate = Deployment().gate
    assert gate.is_ours(b"sess_x")
    assert gate.is_ours(b"pat_x")
    assert not gate.is_ours(b"sessx")
    assert not gate.is_ours(b"xsess_")
    assert gate.well_formed(tokens.mint("sess", bytes(32)))
    assert gate.well_formed(tokens.mint("pat", bytes(32)))
    assert not gate.well_formed(tokens.mint("key", bytes(32)))


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


# ---- strict ------------------------------------------------------------------------------------


def test_p2_strict_asks_the_store_whatever_is_remembered_or_cached() -> None:
    world = Deployment()
    token = world.login()
    world.admit(token)
    world.store.asked.clear()
    assert isinstance(run(world.gate.judge_session(token, strict=True)), Admitted)
    assert world.store.asked == ["find"]
    strict = Deployment(strict=True)
    token = strict.login()
    strict.admit(token)
    strict.store.asked.clear()
    assert isinstance(strict.verdict(token), Admitted)
    assert "find" in strict.store.asked


# ---- the app's own word ------------------------------------------------------------------------


def test_the_hook_may_turn_a_subject_away_or_narrow_what_it_may_do() -> None:
    said: dict[str, SubjectState | None] = {
        "gone": None,
        "blocked": SubjectState(active=False),
        "as before": SubjectState(active=True),
        "less": SubjectState(active=True, scopes=frozenset()),
    }
    asked: list[tuple[str, str]] = []

    async def resolve(subject: str, realm: str) -> SubjectState | None:
        asked.append((subject, realm))
        return said[subject]

    world = Deployment(resolve=resolve)
    verdicts = {
        name: world.verdict(world.login(name, client="ios", scopes=["a"])) for name in said
    }
    assert asked == [(name, "users") for name in said]
    for name in ("gone", "blocked"):
        assert verdicts[name] == Refused(Reason.INACTIVE_SUBJECT)
    assert world.counted()["", "ios", "refused:inactive_subject"] == 2
    scopes = {
        name: it.principal.scopes for name, it in verdicts.items() if isinstance(it, Admitted)
    }
    assert scopes == {"as before": frozenset({"a"}), "less": frozenset()}


# ---- where everybody stands --------------------------------------------------------------------


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


# ---- the rest ----------------------------------------------------------------------------------


def test_p6_a_swap_key_does_not_show_its_secret() -> None:
    assert repr(SwapKey("k1", b"secret")) == "SwapKey('k1')"


def test_a_flow_that_suspends_is_closed_before_it_is_refused() -> None:
    closed: list[str] = []

    async def flow() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            closed.append("closed")

    with pytest.raises(RuntimeError, match=r"^a blocking gate was given a store or hook"):
        run(flow())
    assert closed == ["closed"]
