"""How a legacy token stands, with its session or without, and what is remembered of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from migrator.core import tokens
from migrator.core.brownouts import Brownout
from migrator.core.comparing import Shadow
from migrator.core.errors import Unavailable
from migrator.core.flow import CACHE_LIFE, SubjectState, run
from migrator.core.phases import Phase
from migrator.core.sessions import Origin, Session
from migrator.core.verdicts import Passed, Reason, Refused
from tests.core.deployment import (
    HOUR,
    ISSUERS,
    Deployment,
    admitted,
    derived,
    jwt,
    passed,
    presented,
)
from tests.core.signers import NOW, NOW_S

SECOND = timedelta(seconds=1)


def backfilled(world: Deployment, token: bytes, origin: Origin = "swap") -> Session:
    """A row of its own for a legacy token, as a backfill plants it: no token names it yet."""
    said = world.claims(token)
    row = world.gate.session_of(
        said, client=None, now=NOW, expires_at=NOW + HOUR, origin=origin, user_agent=None, ip=None
    )
    world.store.backfill(row, said)
    return row


# ---- how it stands -----------------------------------------------------------------------------


def test_p2_what_was_denied_or_cut_off_is_refused_in_every_phase() -> None:
    for phase in (Phase.OBSERVE, Phase.SWAP, Phase.DRAIN):
        world = Deployment(phase)
        denied, cut = jwt(azp="ios"), jwt("bob", iat=NOW_S - 60)
        world.sessions.end(denied)
        world.sessions.end_all("bob")
        world.counted()
        assert world.verdict(denied) == Refused(Reason.DENIED)
        assert world.verdict(cut) == Refused(Reason.CUT_OFF)
        assert world.counted()["a1", "ios", "refused:denied"] == 1
        # Whoever keeps showing a dead token must not hold up a cutover.
        assert world.usage.take_sightings() == {}


def test_p2_a_legacy_token_whose_session_ended_never_opens_another() -> None:
    world = Deployment()
    token = jwt()
    session = admitted(world, token).principal.session
    assert session is not None
    run(world.store.end(session.id, reason="x", by="x", legacy=False))
    world.forget()
    assert world.verdict(token) == Refused(Reason.SESSION_ENDED)
    assert len(world.rows()) == 1
    world.store._sessions.clear()  # swept
    assert world.verdict(token) == Refused(Reason.SESSION_ENDED)
    assert world.rows() == []


def test_p2_a_legacy_token_whose_session_got_another_token_is_superseded() -> None:
    world = Deployment()
    token = jwt()
    session = admitted(world, token).principal.session
    assert session is not None
    world.forget()
    world.store._name(session.id, b"another digest")
    assert world.verdict(token) == Refused(Reason.SUPERSEDED)
    said = world.claims(token)
    world.store._legacy[said.fingerprint].swap_key_id = None
    assert world.verdict(token) == Refused(Reason.SUPERSEDED)
    # A node without the key cannot tell, and says no to nobody.
    world.store._legacy[said.fingerprint].swap_key_id = "k9"
    assert admitted(world, token).hand_out is None


def test_an_expired_session_is_over_for_its_token_too_and_the_app_may_decide() -> None:
    world = Deployment(limits=replace(Deployment().gate.terms.limits, absolute=HOUR))
    token = jwt(lasts_s=7200)
    admitted(world, token)
    world.forget()
    world.later(HOUR)
    assert world.verdict(token) == Refused(Reason.SESSION_EXPIRED)
    world.move(Phase.OBSERVE)
    verdict = passed(world, token, user_agent="ios")
    assert verdict == Passed(Reason.SESSION_EXPIRED)
    assert verdict.shadow == Shadow("a1", "ios", Reason.SESSION_EXPIRED)
    assert ("users", "user-1", "a1", "ios") in world.usage.take_sightings()


def test_a_token_that_was_adopted_or_backfilled_leads_to_its_session() -> None:
    world = Deployment()
    token = jwt(scope="read")
    row = backfilled(world, token, "backfill")
    verdict = admitted(world, token)
    assert verdict.principal.session is not None
    assert verdict.principal.session.id == row.id
    assert verdict.hand_out is not None
    assert verdict.principal.scopes == {"read"}


def test_a_session_that_has_no_token_yet_is_no_hand_out() -> None:
    world = Deployment(Phase.OBSERVE)
    token = jwt()
    row = backfilled(world, token)
    verdict = admitted(world, token)
    assert verdict.principal.session == row
    assert verdict.hand_out is None


def test_what_may_be_done_is_the_sessions_to_say_once_there_is_one() -> None:
    world = Deployment()
    token = jwt(scope="read")
    session = admitted(world, token).principal.session
    assert session is not None
    run(world.store.renew(session, {}, {"less"}))
    world.forget()
    assert admitted(world, token).principal.scopes == {"less"}


def test_the_hook_may_turn_away_whom_a_legacy_token_names() -> None:
    async def resolve(_subject: str, _realm: str) -> SubjectState:
        return SubjectState(active=False)

    world = Deployment(resolve=resolve)
    assert world.verdict(jwt()) == Refused(Reason.INACTIVE_SUBJECT)
    world.move(Phase.OBSERVE)
    assert world.verdict(jwt()) == Passed(Reason.INACTIVE_SUBJECT)


def test_p4_the_store_away_is_no_refusal_and_the_app_decides_where_it_does() -> None:
    world = Deployment()
    admitted(world, jwt())
    world.store.go_away("swap", "check")
    for lasts_s in (3600, 60):
        with pytest.raises(Unavailable):
            world.verdict(jwt(lasts_s=lasts_s))
    world.move(Phase.OBSERVE)
    world.usage.take_sightings()
    assert world.verdict(jwt(azp="ios")) == Passed()
    assert [*world.usage.take_sightings()] == [("users", "user-1", "a1", "ios")]


# ---- memory ------------------------------------------------------------------------------------


def test_p11_a_remembered_legacy_token_asks_nobody_and_points_at_its_session() -> None:
    world = Deployment()
    token = jwt()
    handed = admitted(world, token).hand_out
    assert handed is not None
    world.store.asked.clear()
    assert admitted(world, token).hand_out == handed
    assert admitted(world, handed).hand_out is None
    assert admitted(world, handed).principal.via == "session"
    assert world.store.asked == []
    world.recent.evict(tokens.digest(handed))
    assert world.gate.peek(presented(token)) is None


@pytest.mark.parametrize(
    "about",
    [("subject", "users", "user-1"), ("issuer", "a1"), ("kid", "a1", "k1")],
)
def test_p2_an_eviction_forgets_a_legacy_token_and_its_session(about: tuple[str, ...]) -> None:
    world = Deployment()
    token = jwt()
    handed = admitted(world, token).hand_out
    assert handed is not None
    world.recent.evict(about)
    assert world.gate.peek(presented(token)) is None
    assert world.gate.peek(presented(handed)) is None


def test_memory_of_a_legacy_token_ends_with_it_its_minute_or_the_next_edge() -> None:
    world = Deployment()
    token = jwt(lasts_s=5)
    admitted(world, token)
    world.later(4 * SECOND)
    assert world.gate.peek(presented(token)) is not None
    world.later(SECOND)
    assert world.gate.peek(presented(token)) is None

    token = jwt(lasts_s=900)
    admitted(world, token)
    world.later(CACHE_LIFE - SECOND)
    assert world.gate.peek(presented(token)) is not None
    world.later(SECOND)
    assert world.gate.peek(presented(token)) is None

    edge = world.now + 3 * SECOND
    world.move(Phase.DRAIN, brownouts=(Brownout(1, edge, edge + HOUR),))
    admitted(world, token)
    world.later(2 * SECOND)
    assert world.gate.peek(presented(token)) is not None
    world.later(SECOND)
    assert world.gate.peek(presented(token)) is None


def test_memory_of_a_swapped_session_ends_with_it() -> None:
    world = Deployment(min_remaining=timedelta(0))
    handed = admitted(world, jwt(lasts_s=5)).hand_out
    assert handed is not None
    world.later(4 * SECOND)
    assert world.gate.peek(presented(handed)) is not None
    world.later(SECOND)
    assert world.gate.peek(presented(handed)) is None


def test_a_hit_on_a_legacy_token_is_counted_and_its_session_is_not_yet_used() -> None:
    world = Deployment()
    token = jwt(azp="ios")
    since = world.ticks()
    handed = admitted(world, token).hand_out
    assert handed is not None
    assert [each.claims is not None for each in world.recent.used_since(since)] == [True]
    admitted(world, token)
    assert world.counted() == {("a1", "ios", "swapped"): 2}
    admitted(world, handed)
    assert world.counted() == {("", "ios", "session"): 1}


# ---- what it would be called elsewhere ---------------------------------------------------------


def test_a_swapped_token_in_a_url_is_handed_nothing() -> None:
    world = Deployment()
    token = jwt()
    assert admitted(world, token).hand_out is not None
    world.forget()
    assert admitted(world, token, place="query").hand_out is None


def test_p2_a_token_that_is_remembered_without_a_session_knows_the_one_it_would_have() -> None:
    world = Deployment()
    token = jwt()
    since = world.ticks()
    admitted(world, token, place="query")
    assert len([*world.recent.used_since(since)]) == 1
    assert world.recent.peek(token, ISSUERS) is not None
    assert world.gate.peek(presented(derived(world, token))) is None
    world.recent.evict(tokens.digest(derived(world, token)))
    assert world.recent.peek(token, ISSUERS) is None


def test_p2_so_does_one_whose_session_has_no_token_yet() -> None:
    world = Deployment()
    token = jwt()
    backfilled(world, token)
    admitted(world, token, place="query")
    assert world.recent.peek(token, ISSUERS) is not None
    world.recent.evict(tokens.digest(derived(world, token)))
    assert world.recent.peek(token, ISSUERS) is None
