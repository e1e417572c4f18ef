"""What a service is told of a credential it asks about: as the gate judges, changing nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from migrator.core.errors import Unavailable
from migrator.core.flow import SubjectState, run
from migrator.core.introspecting import Description, introspect
from migrator.core.phases import Exemption, Phase
from migrator.core.verdicts import Admitted, Principal
from tests.core.deployment import HOUR, HS, Deployment, forged, jwt, refresh_jwt
from tests.core.signers import NOW, NOW_S, claims


def told(world: Deployment, credential: bytes) -> Description | None:
    return run(introspect(world.gate, credential))


def test_a_session_is_described_by_its_row() -> None:
    world = Deployment()
    token = world.login("ann", client="ios", scopes=["read"])
    session = world.session(token)
    verdict = world.verdict(token)
    assert isinstance(verdict, Admitted)
    assert told(world, token) == Description(
        principal=verdict.principal,
        issued_at=NOW,
        expires_at=session.expires_at,
        auth_time=NOW,
        amr=(),
    )
    legacy = world.verdict(jwt(amr=["pwd"]))
    assert isinstance(legacy, Admitted)
    assert legacy.hand_out is not None
    found = told(world, legacy.hand_out)
    assert found is not None
    assert found.amr == ("pwd",)


def test_a_dead_or_invented_session_is_not() -> None:
    world = Deployment()
    token = world.login()
    world.sessions.end(token)
    assert told(world, token) is None
    assert told(world, b"sess_x") is None


def test_a_legacy_token_is_described_by_itself_and_never_swapped() -> None:
    world = Deployment()
    token = jwt("ann", azp="ios", scope="read", name="Ann", auth_time=NOW_S - 5, amr=["pwd"])
    principal = Principal(
        subject="ann",
        realm="users",
        scopes=frozenset({"read"}),
        claims={"name": "Ann"},
        client="ios",
        via="legacy",
    )
    assert told(world, token) == Description(
        principal=principal,
        issued_at=NOW - timedelta(seconds=60),
        expires_at=NOW + HOUR,
        auth_time=NOW - timedelta(seconds=5),
        amr=("pwd",),
    )
    assert world.rows("ann") == []
    assert [*world.usage.take_sightings()] == [("users", "ann", "a1", "ios")]
    assert world.counted() == {("a1", "ios", "legacy"): 1}
    assert world.gate.recent._entries == {}


def test_once_it_has_a_session_that_says_what_it_may_do() -> None:
    world = Deployment()
    token = jwt(scope="read")
    verdict = world.verdict(token)
    assert isinstance(verdict, Admitted)
    assert verdict.principal.session is not None
    run(world.store.renew(verdict.principal.session, {}, {"less"}))
    found = told(world, token)
    assert found is not None
    assert found.principal.scopes == {"less"}


@pytest.mark.parametrize(
    ("credential", "counted"),
    [
        (forged(jwt()), {("", "", "refused:bad_signature"): 1}),
        (refresh_jwt(), {("", "", "refused:wrong_purpose"): 1}),
        (jwt(lasts_s=-60), {("", "", "refused:legacy_expired"): 1}),
        (b"opaque", {}),
        (HS.token(claims(iss="https://x")), {}),
    ],
)
def test_what_does_not_hold_is_nobodys(credential: bytes, counted: dict[Any, int]) -> None:
    world = Deployment()
    assert told(world, credential) is None
    assert world.counted() == counted
    assert world.usage.take_sightings() == {}


def test_past_the_cutover_none_is_described() -> None:
    world = Deployment(Phase.CUTOVER)
    assert told(world, jwt(azp="ios")) is None
    assert world.counted() == {("a1", "ios", "refused:legacy_retired"): 1}
    assert [*world.usage.take_sightings()] == [("users", "user-1", "a1", "ios")]
    world.move(Phase.RETIRED)
    assert told(world, jwt()) is None
    assert world.counted() == {}


@pytest.mark.parametrize(("by", "value"), [("issuer", "a1"), ("client", "ios"), ("cohort", "100")])
def test_an_exception_holds_here_too(by: Any, value: str) -> None:
    world = Deployment()
    world.move(Phase.DRAIN, exceptions=(Exemption(by, value, Phase.CUTOVER),))
    assert told(world, jwt(azp="ios")) is None
    world.move(Phase.DRAIN, exceptions=(Exemption(by, "0", Phase.CUTOVER),))
    assert told(world, jwt(azp="ios")) is not None


@pytest.mark.parametrize("phase", [Phase.OBSERVE, Phase.SWAP, Phase.DRAIN])
def test_p2_what_was_revoked_is_described_in_no_phase(phase: Phase) -> None:
    world = Deployment(phase)
    token = jwt(azp="ios")
    world.sessions.end(token)
    world.counted()
    assert told(world, token) is None
    assert world.counted() == {("a1", "ios", "refused:denied"): 1}


def test_what_is_merely_over_is_described_while_the_app_decides() -> None:
    world = Deployment()
    token = jwt(lasts_s=7200)
    verdict = world.verdict(token)
    assert isinstance(verdict, Admitted)
    session = verdict.principal.session
    assert session is not None
    kept = world.store._sessions

    kept[session.id] = replace(session, expires_at=NOW)
    assert told(world, token) is None
    world.move(Phase.OBSERVE)
    assert told(world, token) is not None


def test_the_hook_is_asked_here_too() -> None:
    async def resolve(subject: str, _realm: str) -> SubjectState:
        return SubjectState(active=subject == "ann", scopes=frozenset({"now"}))

    world = Deployment(resolve=resolve)
    found = told(world, jwt("ann"))
    assert found is not None
    assert found.principal.scopes == {"now"}
    assert told(world, jwt("bob")) is None
    assert told(world, world.login("bob")) is None


def test_p4_an_outage_is_not_inactive() -> None:
    world = Deployment()
    token = world.login()
    world.store.go_away()
    for credential in (token, jwt()):
        with pytest.raises(Unavailable):
            told(world, credential)
