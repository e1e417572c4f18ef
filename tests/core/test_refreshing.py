"""The refresh route of an app behind the bridge: sessions are carried on or back."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from migrator.core import tokens
from migrator.core.errors import Refused, Unavailable
from migrator.core.flow import SubjectState, run
from migrator.core.phases import Exemption, Phase
from migrator.core.refreshing import Carried
from migrator.core.verdicts import Reason
from tests.core.deployment import (
    DAY,
    HS,
    ISSUER,
    ROTATING,
    TERMS,
    Deployment,
    exchanged,
    forged,
    jwt,
    made,
    refresh_jwt,
)
from tests.core.signers import NOW, claims

SECOND = timedelta(seconds=1)


def refresh(world: Deployment, credential: bytes) -> Carried | None:
    return run(world.bridge.refresh(credential))


def carried(world: Deployment, credential: bytes) -> Carried:
    found = refresh(world, credential)
    assert found is not None
    return found


def refused(world: Deployment, credential: bytes) -> Reason:
    with pytest.raises(Refused) as caught:
        refresh(world, credential)
    return caught.value.reason


def rotating_back(**terms: Any) -> tuple[Deployment, bytes]:
    """Where clients go back, and the token of an exchanged session that is over in a day."""
    terms = {"rolling_by_realm": {"users": 30 * DAY}, **terms}
    world = Deployment(Phase.DRAIN, ISSUER, **terms)
    token = exchanged(world, refresh_jwt("ann", lasts_s=86_400, scope="read"))
    world.move(Phase.OBSERVE)
    return world, token


# ---- refreshing --------------------------------------------------------------------------------


def test_a_session_at_the_refresh_route_is_carried_on_and_never_rotated() -> None:
    world = Deployment(Phase.DRAIN, ROTATING, rolling_by_realm={"users": 30 * DAY})
    token = exchanged(world, refresh_jwt("ann", scope="read"))
    world.later(DAY)
    found = carried(world, token)
    assert (found.token, found.goes_back) == (token, False)
    assert found.session.expires_at == world.session(token).expires_at == NOW + 31 * DAY
    assert found.scopes == {"read"}
    assert repr(found) == f"Carried({found.session.id})"


def test_a_refresh_token_becomes_a_session_where_the_phase_says_so() -> None:
    world = Deployment()
    found = carried(world, refresh_jwt("ann"))
    assert world.session(found.token) == found.session
    assert found.session.origin == "exchange"
    assert not found.goes_back


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"phase": Phase.OBSERVE},
        {"phase": Phase.SWAP, "percent": 0},
        {"phase": Phase.DRAIN, "exceptions": (Exemption("client", "ios", Phase.OBSERVE),)},
        {"phase": Phase.DRAIN, "exceptions": (Exemption("issuer", "a1", Phase.OBSERVE),)},
    ],
)
def test_p5_where_the_app_issues_a_sessions_client_goes_back_and_the_session_lives(
    elsewhere: dict[str, Any],
) -> None:
    world = Deployment()
    token = world.login("ann", client="ios")
    world.move(**elsewhere)
    found = carried(world, token)
    assert found.goes_back
    assert found.session == world.session(token)
    beside = run(world.bridge.beside(replace(found, goes_back=False)))
    assert beside.goes_back
    world.move(Phase.DRAIN, exceptions=())
    assert not run(world.bridge.beside(found)).goes_back


def test_a_bridge_jwt_is_nobodys_at_the_refresh_route() -> None:
    world = Deployment()
    assert refused(world, world.marked()) is Reason.BRIDGE_TOKEN
    assert world.counted()["", "", "refused:bridge_token"] == 1


def test_a_dead_session_is_not_carried_on() -> None:
    world = Deployment()
    token = world.login()
    world.sessions.end(token)
    assert refused(world, token) is Reason.SESSION_ENDED
    assert refused(world, b"sess_x") is Reason.BAD_TOKEN


def test_a_session_that_is_merely_over_goes_back_while_its_refreshes_would_have_lasted() -> None:
    world, token = rotating_back()
    session = world.session(token)
    world.later(DAY)
    found = carried(world, token)
    assert found.goes_back
    assert found.session == replace(session, expires_at=None)
    assert found.scopes == {"read"}
    assert found.token == token
    world.later(29 * DAY - SECOND)
    assert carried(world, token).goes_back
    world.later(SECOND)
    assert refused(world, token) is Reason.SESSION_EXPIRED


def test_its_last_use_counts_and_else_its_beginning() -> None:
    world, token = rotating_back()
    session = world.session(token)
    kept = world.store._sessions
    world.later(35 * DAY)
    kept[session.id] = replace(session, last_seen_at=NOW + 10 * DAY)
    assert carried(world, token).goes_back
    kept[session.id] = replace(session, last_seen_at=None)
    assert refused(world, token) is Reason.SESSION_EXPIRED


def test_a_session_that_was_over_is_refused_where_nobody_goes_back() -> None:
    world, token = rotating_back()
    world.later(DAY)
    world.move(Phase.DRAIN)
    assert refused(world, token) is Reason.SESSION_EXPIRED
    for terms in ({"rolling_by_realm": None}, {"rolling_by_realm": {"staff": 30 * DAY}}):
        world, token = rotating_back(**terms)
        world.later(DAY)
        assert refused(world, token) is Reason.SESSION_EXPIRED
    world, _ = rotating_back(limits=replace(TERMS.limits, absolute=DAY, idle=9 * DAY))
    world.move(Phase.DRAIN)
    login = world.login("ann")
    world.move(Phase.OBSERVE)
    world.later(DAY)
    assert refused(world, login) is Reason.SESSION_EXPIRED


def test_the_hook_may_turn_away_who_would_go_back() -> None:
    active = True

    async def resolve(_subject: str, _realm: str) -> SubjectState:
        return SubjectState(active=active, scopes=frozenset({"now"}))

    world = Deployment(Phase.DRAIN, resolve=resolve, rolling_by_realm={"users": 30 * DAY})
    token = exchanged(world, refresh_jwt("ann", lasts_s=86_400))
    world.move(Phase.OBSERVE)
    world.later(DAY)
    assert carried(world, token).scopes == {"now"}
    active = False
    assert refused(world, token) is Reason.SESSION_EXPIRED


# ---- what the app answers ----------------------------------------------------------------------


def test_what_is_the_apps_own_is_left_to_it() -> None:
    world = Deployment()
    assert refresh(world, b"opaque") is None
    other = HS.token(claims(iss="https://x"))
    assert refresh(world, other) is None


def test_in_observe_the_app_refreshes_what_was_not_revoked() -> None:
    world = Deployment(Phase.OBSERVE)
    for token in (refresh_jwt(), jwt(), forged(refresh_jwt()), refresh_jwt() + b"="):
        assert refresh(world, token) is None
    dead, slid = refresh_jwt(azp="ios"), jwt()
    for token in (dead, slid):
        world.sessions.end(token)
        world.counted()
        assert refused(world, token) is Reason.DENIED
        assert refused(world, token + b"=") is Reason.DENIED


@pytest.mark.parametrize("phase", [Phase.SWAP, Phase.DRAIN])
def test_an_expired_refresh_token_gets_the_apps_own_answer(phase: Phase) -> None:
    world = Deployment(phase)
    assert refresh(world, refresh_jwt(lasts_s=-60)) is None


def test_past_the_cutover_no_legacy_token_reaches_the_app() -> None:
    world = Deployment(Phase.CUTOVER)
    assert refused(world, refresh_jwt(lasts_s=-60)) is Reason.LEGACY_EXPIRED
    assert refused(world, refresh_jwt()) is Reason.LEGACY_RETIRED
    world.counted()
    assert refused(world, jwt(azp="ios")) is Reason.LEGACY_RETIRED
    assert world.counted()["a1", "ios", "refused:legacy_retired"] == 1
    assert refused(world, refresh_jwt() + b"=") is Reason.LEGACY_RETIRED
    world.move(Phase.RETIRED)
    for token in (refresh_jwt(), jwt(), refresh_jwt() + b"="):
        assert refused(world, token) is Reason.LEGACY_RETIRED


def test_p2_a_sliding_access_token_that_was_revoked_does_not_reach_the_app() -> None:
    world = Deployment()
    dead, lives = jwt(azp="ios"), jwt()
    world.sessions.end(dead)
    world.counted()
    assert refused(world, dead) is Reason.DENIED
    assert world.counted()["a1", "ios", "refused:denied"] == 1
    assert refused(world, lives) is Reason.WRONG_PURPOSE


def test_another_spelling_is_refused_wherever_we_decide() -> None:
    world = Deployment()
    assert refused(world, refresh_jwt(azp="ios") + b"=") is Reason.NOT_A_JWS
    assert world.counted() == {("a1", "ios", "refused:not_a_jws"): 1}
    assert refused(world, jwt() + b"=") is Reason.NOT_A_JWS
    # One that nobody signed is the app's to turn away.
    assert refresh(world, forged(jwt()) + b"=") is None
    assert refresh(world, HS.token(claims(iss="https://x")) + b"=") is None


def test_outside_the_cohort_the_app_refreshes_and_a_revoked_one_is_refused() -> None:
    world = Deployment(Phase.SWAP)
    world.move(Phase.SWAP, percent=0)
    token = refresh_jwt()
    assert refresh(world, token) is None
    world.sessions.end(token)
    assert refused(world, token) is Reason.DENIED


def test_p4_an_outage_is_said_and_in_observe_the_app_decides() -> None:
    world = Deployment(Phase.OBSERVE)
    run(world.gate.now())
    world.store.go_away("check")
    assert refresh(world, refresh_jwt()) is None
    assert refresh(world, jwt()) is None
    world.move(Phase.SWAP, percent=0)
    with pytest.raises(Unavailable):
        refresh(world, refresh_jwt())
    with pytest.raises(Unavailable):
        refresh(world, jwt())


@pytest.mark.parametrize(
    ("phase", "decides"),
    [
        (Phase.OBSERVE, False),
        (Phase.SWAP, True),
        (Phase.DRAIN, True),
        (Phase.CUTOVER, True),
        (Phase.RETIRED, True),
    ],
)
def test_the_shim_answers_for_legacy_tokens_but_in_observe(phase: Phase, decides: bool) -> None:
    assert run(Deployment(phase).bridge.decides()) is decides


def test_a_session_as_it_crosses_is_the_living_one() -> None:
    world = Deployment()
    token = world.login("ann", scopes=["a"])
    assert run(world.bridge.carried(token)) == Carried(
        token, world.session(token), frozenset({"a"})
    )
    with pytest.raises(Refused) as caught:
        run(world.bridge.carried(tokens.mint("sess", bytes(32))))
    assert caught.value.reason is Reason.UNKNOWN_TOKEN


# ---- what an answer holds ----------------------------------------------------------------------


def test_in_observe_a_refresh_token_that_has_a_session_is_the_apps() -> None:
    world = Deployment()
    token = refresh_jwt("ann")
    exchanged(world, token)
    world.move(Phase.OBSERVE)
    assert refresh(world, token) is None
    assert world.sessions.exchange(token + b"=", legacy=made).kind == "legacy"


def test_a_sliding_token_is_bound_by_its_clients_phase() -> None:
    world = Deployment()
    held = Exemption("client", "ios", Phase.CUTOVER)
    world.move(Phase.DRAIN, exceptions=(held,))
    assert refused(world, jwt(azp="ios")) is Reason.LEGACY_RETIRED
    assert refused(world, jwt(azp="web")) is Reason.WRONG_PURPOSE


def test_in_observe_a_sliding_token_that_has_a_session_is_the_apps() -> None:
    world = Deployment()
    slid = jwt("ann")
    world.verdict(slid)
    assert len(world.rows("ann")) == 1
    world.move(Phase.OBSERVE)
    assert refresh(world, slid) is None
