"""A request as a whole at the gate: unreadable ones, routes that save a client, outages."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from migrator.core.comparing import Shadow
from migrator.core.errors import Unavailable
from migrator.core.flow import SubjectState
from migrator.core.gate import AsyncGate, Gate
from migrator.core.phases import Phase
from migrator.core.presented import Credential, Route
from migrator.core.verdicts import Admitted, Passed, Reason, Refused
from tests.core.deployment import (
    DAY,
    DECIDING,
    ISSUERS,
    Deployment,
    forged,
    jwt,
    presented,
    subject_of,
)


def test_nothing_presented_passes_without_a_question_to_a_store() -> None:
    """P4: a request without a credential never touches a store."""
    world = Deployment()
    outcome = world.admit()
    assert outcome.verdict == Passed()
    assert (outcome.place, outcome.dead_cookie, outcome.dead_legacy) == (None, False, False)
    assert world.store.asked == []


# ---- unreadable requests -----------------------------------------------------------------------


@pytest.mark.parametrize("phase", DECIDING)
def test_an_unreadable_request_is_refused(phase: Phase) -> None:
    world = Deployment(phase)
    assert world.verdict(fault=Reason.REPEATED_CREDENTIAL) == Refused(Reason.REPEATED_CREDENTIAL)
    assert world.counted() == {("", "", "refused:repeated_credential"): 1}


def test_an_unreadable_request_passes_while_the_app_decides_unless_it_brings_ours() -> None:
    world = Deployment(Phase.OBSERVE)
    fault = Reason.REPEATED_CREDENTIAL
    assert world.verdict(fault=fault) == Passed(fault)
    assert world.verdict(jwt(), fault=fault) == Passed(fault)
    assert world.counted() == {("", "", "passed:repeated_credential"): 2}
    assert world.verdict(world.login_anyhow(), fault=fault) == Refused(fault)


# ---- routes that save a client -----------------------------------------------------------------


@pytest.mark.parametrize("route", ["login", "refresh", "logout", "public"])
def test_a_dead_credential_does_not_close_the_routes_that_save_a_client(route: Route) -> None:
    world = Deployment()
    dead = world.login()
    world.sessions.end(dead)
    assert world.verdict(dead) == Refused(Reason.SESSION_ENDED)
    assert world.verdict(dead, route=route) == Passed(Reason.SESSION_ENDED, strip=True)
    verdict = world.verdict(fault=Reason.MALFORMED_REQUEST, route=route)
    assert verdict == Passed(Reason.MALFORMED_REQUEST, strip=True)
    verdict = world.verdict(legacy=forged(jwt()), route="public")
    assert verdict == Passed(Reason.BAD_SIGNATURE, strip=True)


@pytest.mark.parametrize("reason", [Reason.REPEATED_CREDENTIAL, Reason.SUBJECTS_DIFFER])
def test_a_request_that_says_two_things_is_refused_there_too(reason: Reason) -> None:
    assert Deployment().verdict(fault=reason, route="login") == Refused(reason)


def test_a_living_credential_is_admitted_there() -> None:
    world = Deployment()
    assert subject_of(world.verdict(world.login(), route="public")) == "user-1"


# ---- bridge tokens -----------------------------------------------------------------------------


@pytest.mark.parametrize("phase", Phase)
def test_a_bridge_token_from_outside_is_refused_before_anything_else(phase: Phase) -> None:
    world = Deployment(phase)
    marked = world.marked()
    world.forget()
    for place in ("header", "legacy", "session_cookie"):
        alone: dict[str, Any] = {place: Credential(marked, "header", ISSUERS)}
        assert world.verdict(**alone) == Refused(Reason.BRIDGE_TOKEN)
    for name in ("session_copies", "legacy_copies", "others"):
        beside: dict[str, Any] = {name: [marked]}
        verdict = world.verdict(world.login_anyhow(), **beside)
        assert verdict == Refused(Reason.BRIDGE_TOKEN)
    verdict = world.verdict(marked, route="login")
    assert verdict == Passed(Reason.BRIDGE_TOKEN, strip=True)
    assert world.verdict(marked, fault=Reason.CSRF) == Refused(Reason.BRIDGE_TOKEN)


# ---- comparing ---------------------------------------------------------------------------------


def test_what_we_would_refuse_and_the_app_served_is_taken_in_by_its_kind_of_route() -> None:
    world = Deployment(Phase.OBSERVE)
    passed = world.admit(forged(jwt()))
    for answered in (200, 299, 300, 401):
        world.gate.observed("/users/7", passed, answered)
    world.gate.observed("/users/7", world.admit(), 200)
    world.gate.observed("/users/7", world.admit(jwt()), 200)
    assert world.usage.routes == {("/users/*", "bad_signature"): 2}


def test_the_apps_answers_are_compared_with_what_the_shim_would_do() -> None:
    world = Deployment(Phase.OBSERVE)
    shadow = Shadow("a1", "ios", None)
    refused = Shadow("a1", "ios", Reason.DENIED)
    for each, answered in ((shadow, 200), (refused, 401), (shadow, 500), (refused, 403)):
        world.gate.compared("/x", each, answered)
    assert world.counted() == {("a1", "ios", "pair:agree"): 1, ("a1", "ios", "pair:agree_deny"): 2}
    world.gate.compared("/x/7", refused, 200)
    assert world.usage.differences.take() == {refused.differs("allow_deny", "/x/7"): 1}
    world.gate.compared("/x/7", shadow, 401)
    assert world.usage.differences.take() == {shadow.differs("deny_allow", "/x/7"): 1}


def test_an_answer_that_the_app_gives_to_an_ending_token_proves_nothing() -> None:
    world = Deployment(Phase.OBSERVE)
    world.admit(jwt())  # so that the database's time is known
    said = world.claims(jwt(lasts_s=11))
    shadow = Shadow("a1", None, None, said)
    world.gate.compared("/x", shadow, 401)
    assert [*world.usage.take_unsettled(world.ticks())] == [
        (shadow.differs("deny_allow", "/x"), said.fingerprint)
    ]
    world.later(timedelta(seconds=2))
    world.gate.compared("/x", shadow, 401)
    assert not world.usage.take_unsettled(world.ticks())
    assert not world.usage.differences.take()


def test_the_status_an_app_denies_with_is_the_configured_one() -> None:
    world = Deployment(Phase.OBSERVE, denies_with=403)
    world.gate.compared("/x", Shadow("a1", None, Reason.DENIED), 403)
    world.gate.compared("/x", Shadow("a1", None), 403)
    assert world.counted() == {("a1", "", "pair:agree_deny"): 1, ("a1", "", "pair:deny_allow"): 1}


# ---- outages and colours -----------------------------------------------------------------------


def test_p4_an_outage_is_no_refusal() -> None:
    world = Deployment()
    token, legacy = world.login(), jwt()
    world.forget()
    world.store.go_away()
    for credential in (token, legacy):
        with pytest.raises(Unavailable):
            world.admit(credential)
    with pytest.raises(Unavailable):
        world.admit(session_cookie=token)


def test_a_blocking_gate_says_so_when_something_suspends() -> None:
    async def resolve(_subject: str, _realm: str) -> SubjectState:
        await asyncio.sleep(0)
        return SubjectState(active=True)

    world = Deployment(resolve=resolve)
    with pytest.raises(RuntimeError, match="suspends"):
        world.admit(world.login())


def test_an_async_gate_awaits_the_same_flow() -> None:
    async def resolve(_subject: str, _realm: str) -> SubjectState:
        await asyncio.sleep(0)
        return SubjectState(active=True)

    world = Deployment()
    token = world.login()
    slept: list[str] = []
    world.node.sleep = lambda: slept.append("slept")
    gate = AsyncGate(**world.parts | {"resolve": resolve})

    async def flow() -> None:
        outcome = await gate.admit(presented(token))
        assert subject_of(outcome.verdict) == "user-1"
        await gate.aclose()

    asyncio.run(flow())
    assert slept == ["slept"]
    assert isinstance(Gate(**world.parts).admit(presented(token)).verdict, Admitted)


def test_a_session_of_a_day_is_over_when_nobody_used_it() -> None:
    world = Deployment()
    token = world.login()
    world.later(DAY + timedelta(minutes=2))
    assert world.verdict(token) == Refused(Reason.SESSION_IDLE)
