"""The refresh route: what a refresh token, or a session, becomes there; over no server."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from migrator.core import tokens
from migrator.core.app import AsyncSessions, Issued
from migrator.core.brownouts import Brownout
from migrator.core.claims import Claims
from migrator.core.errors import Refused, Unavailable
from migrator.core.flow import SwapKey, run
from migrator.core.phases import Exemption, Phase
from migrator.core.verdicts import Reason
from tests.core.deployment import (
    DAY,
    HOUR,
    HS,
    MADE,
    ROTATING,
    TERMS,
    Deployment,
    exchanged,
    forged,
    jwt,
    made,
    no_legacy,
    refresh_jwt,
    token_of,
)
from tests.core.signers import NOW, claims


def refused(world: Deployment, token: bytes | str) -> Reason:
    with pytest.raises(Refused) as caught:
        world.sessions.exchange(token, legacy=no_legacy)
    return caught.value.reason


# ---- the refresh route -------------------------------------------------------------------------


def test_a_refresh_token_becomes_one_session_that_ends_with_it() -> None:
    world = Deployment()
    token = refresh_jwt(azp="ios")
    first = exchanged(world, token)
    assert exchanged(world, token.decode()) == first
    session = world.session(first)
    assert (session.origin, session.client) == ("exchange", "ios")
    assert session.expires_at == NOW + 10 * DAY
    assert session.user_agent is None
    assert len(world.rows()) == 1
    assert world.counted() == {("a1", "ios", "exchanged"): 2}
    assert [*world.usage.take_sightings()] == [("users", "user-1", "a1", "ios")]


def test_where_refresh_tokens_rotate_each_presentation_extends_the_session() -> None:
    world = Deployment(Phase.DRAIN, ROTATING, rolling_by_realm={"users": 30 * DAY})
    token = refresh_jwt()
    issued = world.sessions.exchange(token, legacy=no_legacy)
    assert issued.expires_at == NOW + 30 * DAY
    world.later(DAY)
    issued = world.sessions.exchange(token, legacy=no_legacy)
    assert issued.expires_at == world.session(token_of(issued)).expires_at == NOW + 31 * DAY
    world.later(DAY)
    again = world.sessions.exchange(token_of(issued), legacy=no_legacy)
    assert token_of(again) == token_of(issued)
    assert again.expires_at == world.session(token_of(again)).expires_at == NOW + 32 * DAY
    world.recent.evict(tokens.digest(token_of(issued)))
    world.store.asked.clear()
    same = world.sessions.exchange(token_of(issued), legacy=no_legacy)
    assert same.expires_at == NOW + 32 * DAY
    assert "extend" not in world.store.asked


@pytest.mark.parametrize("rolling", [None, {}, {"staff": 30 * DAY}])
def test_a_session_of_a_realm_that_does_not_rotate_is_answered_with_itself(
    rolling: dict[str, timedelta] | None,
) -> None:
    world = Deployment(rolling_by_realm=rolling)
    token = exchanged(world, refresh_jwt())
    world.later(DAY)
    issued = world.sessions.exchange(token, legacy=no_legacy)
    assert token_of(issued) == token
    assert issued.expires_at == NOW + 10 * DAY


def test_a_login_is_not_extended_at_the_refresh_route() -> None:
    world = Deployment(rolling_by_realm={"users": 300 * DAY})
    issued = world.sessions.exchange(world.login(), legacy=no_legacy)
    assert issued.expires_at == NOW + 90 * DAY


def test_a_dead_or_unknown_session_is_not_carried_on() -> None:
    world = Deployment()
    token = world.login()
    world.sessions.end(token)
    assert refused(world, token) is Reason.SESSION_ENDED
    assert refused(world, tokens.mint("sess", bytes(32))) is Reason.UNKNOWN_TOKEN


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (jwt(), Reason.WRONG_PURPOSE),
        (forged(refresh_jwt()), Reason.BAD_SIGNATURE),
        (refresh_jwt(lasts_s=-60), Reason.LEGACY_EXPIRED),
        (b"opaque", Reason.UNKNOWN_ISSUER),
        (HS.token(claims(iss="https://x")), Reason.UNKNOWN_ISSUER),
        ("\ud800", Reason.UNKNOWN_ISSUER),
        (7, Reason.UNKNOWN_ISSUER),
    ],
)
def test_what_is_no_refresh_token_is_refused_and_left_to_an_app_that_decides(
    token: Any, reason: Reason
) -> None:
    world = Deployment()
    assert refused(world, token) is reason
    if reason is not Reason.UNKNOWN_ISSUER:
        assert world.counted() == {("", "", f"refused:{reason}"): 1}
    world.move(Phase.OBSERVE)
    assert world.sessions.exchange(token, legacy=made) == Issued(MADE, "legacy")


def test_in_observe_and_outside_the_cohort_the_app_refreshes_what_holds() -> None:
    world = Deployment(Phase.OBSERVE)
    assert world.sessions.exchange(refresh_jwt(azp="ios"), legacy=made).kind == "legacy"
    assert [*world.usage.take_sightings()] == [("users", "user-1", "a1", "ios")]
    world.move(Phase.SWAP, percent=0)
    assert world.sessions.exchange(refresh_jwt(), legacy=made).kind == "legacy"
    held = Exemption("client", "ios", Phase.DRAIN)
    world.move(Phase.SWAP, exceptions=(held,))
    assert world.sessions.exchange(refresh_jwt(azp="ios"), legacy=made).kind == "session"
    held = Exemption("issuer", "a1", Phase.DRAIN)
    world.move(Phase.SWAP, exceptions=(held,))
    assert world.sessions.exchange(refresh_jwt(), legacy=made).kind == "session"


@pytest.mark.parametrize("phase", [Phase.OBSERVE, Phase.SWAP])
def test_p2_what_was_revoked_is_not_refreshed_by_the_app_either(phase: Phase) -> None:
    world = Deployment(phase)
    world.move(phase, percent=0)
    token = refresh_jwt(azp="ios")
    world.sessions.end(token)
    world.counted()
    assert refused(world, token) is Reason.DENIED
    assert world.counted() == {("a1", "ios", "refused:denied"): 1}
    respelt = token + b"="
    if phase is Phase.OBSERVE:
        assert refused(world, respelt) is Reason.DENIED
        assert world.sessions.exchange(refresh_jwt() + b"=", legacy=made).kind == "legacy"
        assert world.sessions.exchange(jwt() + b"=", legacy=made).kind == "legacy"
    else:
        assert refused(world, respelt) is Reason.UNKNOWN_ISSUER


def test_p2_what_was_revoked_is_not_exchanged() -> None:
    world = Deployment()
    token = refresh_jwt(azp="ios")
    world.sessions.end(token)
    world.counted()
    assert refused(world, token) is Reason.DENIED
    assert world.counted() == {("a1", "ios", "refused:denied"): 1}
    assert world.usage.take_sightings() == {}


def test_an_expired_session_of_a_refresh_token_is_refused_unless_the_app_decides() -> None:
    world = Deployment(limits=replace(TERMS.limits, absolute=HOUR))
    token = refresh_jwt()
    exchanged(world, token)
    world.forget()
    world.later(HOUR)
    world.move(Phase.SWAP, percent=0)
    assert refused(world, token) is Reason.SESSION_EXPIRED
    world.move(Phase.OBSERVE)
    assert world.sessions.exchange(token, legacy=made).kind == "legacy"


def test_a_retired_or_cut_over_refresh_token_is_refused() -> None:
    world = Deployment(Phase.RETIRED)
    assert refused(world, refresh_jwt()) is Reason.LEGACY_RETIRED
    world = Deployment(Phase.CUTOVER)
    assert refused(world, refresh_jwt(azp="ios")) is Reason.LEGACY_RETIRED
    assert world.counted() == {("a1", "ios", "refused:legacy_retired"): 1}
    world.move(Phase.DRAIN, brownouts=(Brownout(7, NOW, NOW + HOUR, by="client", value="ios"),))
    assert refused(world, refresh_jwt(azp="ios")) is Reason.LEGACY_RETIRED
    assert world.usage.take_hits() == {(7, "users", "user-1", "a1", "ios")}
    exchanged(world, refresh_jwt(azp="web"))


def test_p4_the_store_away_is_said_and_the_app_decides_where_it_does() -> None:
    world = Deployment(Phase.SWAP)
    world.move(Phase.SWAP, percent=0)
    run(world.gate.now())
    world.store.go_away()
    with pytest.raises(Unavailable):
        world.sessions.exchange(refresh_jwt(), legacy=made)
    world.move(Phase.OBSERVE)
    assert world.sessions.exchange(refresh_jwt(), legacy=made).kind == "legacy"
    assert world.sessions.exchange(refresh_jwt() + b"=", legacy=made).kind == "legacy"


def test_a_node_that_lacks_the_key_says_not_now() -> None:
    world = Deployment()
    token = refresh_jwt()
    exchanged(world, token)
    world.sessions.terms = replace(TERMS, swap_keys=(SwapKey("k2", bytes(32)),))
    world.sessions._keys = {"k2": bytes(32)}
    with pytest.raises(Unavailable, match=r"^swap key could not be asked: 'k1' is not on this"):
        world.sessions.exchange(token, legacy=no_legacy)


# ---- listing and API tokens --------------------------------------------------------------------


def test_claims_of_a_refresh_token_that_rolls_say_how_far() -> None:
    world = Deployment(Phase.DRAIN, ROTATING)
    found = world.gate.verifier.verify(refresh_jwt(), (ROTATING,), now=NOW, purpose="refresh")
    assert isinstance(found, Claims)
    assert found.rolling == 30 * DAY


# ---- before the commit, and beyond it ----------------------------------------------------------


def test_an_async_exchange_is_of_the_token_it_was_given() -> None:
    world = Deployment()
    sessions = AsyncSessions(**world.parts)
    issued = asyncio.run(sessions.exchange(refresh_jwt("ann"), legacy=no_legacy))
    assert world.session(token_of(issued)).subject == "ann"
