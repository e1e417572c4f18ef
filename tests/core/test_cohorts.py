"""A cohort is the same people at every door: logins, refreshes, introspection and the bridge."""

from __future__ import annotations

import pytest

from migrator.core.bridging import From
from migrator.core.brownouts import Brownout
from migrator.core.errors import Refused
from migrator.core.flow import run
from migrator.core.introspecting import introspect
from migrator.core.phases import Exemption, Phase, bucket_of
from migrator.core.verdicts import Reason
from tests.core.deployment import HOUR, Call, Deployment, jwt, made, no_legacy, refresh_jwt, watch
from tests.core.signers import NOW

SUBJECTS = [f"s{number}" for number in range(12)]
OUTSIDE = (Exemption("cohort", "50", Phase.OBSERVE),)
OVER = (Exemption("cohort", "50", Phase.CUTOVER),)


def inside(subject: str) -> bool:
    return bucket_of(subject, "users") < 50


def half() -> Deployment:
    world = Deployment(Phase.SWAP)
    world.move(Phase.SWAP, percent=50)
    return world


def issued(world: Deployment, *found: bytes) -> dict[bytes, bytes]:
    return run(world.bridge.issued(found, From()))


def test_the_cohort_of_these_tests_is_some_and_not_all() -> None:
    assert 0 < sum(inside(each) for each in SUBJECTS) < len(SUBJECTS)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_refresh_goes_by_its_subjects_cohort(subject: str) -> None:
    given = half().sessions.exchange(refresh_jwt(subject), legacy=made)
    assert (given.kind == "session") == inside(subject)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_refresh_goes_by_an_exempted_cohort(subject: str) -> None:
    world = Deployment()
    world.move(Phase.DRAIN, exceptions=OVER)
    if inside(subject):
        with pytest.raises(Refused) as caught:
            world.sessions.exchange(refresh_jwt(subject), legacy=no_legacy)
        assert caught.value.reason is Reason.LEGACY_RETIRED
    else:
        assert world.sessions.exchange(refresh_jwt(subject), legacy=no_legacy).kind == "session"


@pytest.mark.parametrize("subject", SUBJECTS)
def test_what_is_described_goes_by_it(subject: str) -> None:
    world = Deployment()
    world.move(Phase.DRAIN, exceptions=OVER)
    described = run(introspect(world.gate, jwt(subject)))
    assert (described is None) == inside(subject)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_brownout_of_a_cohort_is_named_for_whom_it_refused(subject: str) -> None:
    world = Deployment()
    window = Brownout(7, NOW - HOUR, NOW + HOUR, by="cohort", value="50")
    world.move(Phase.DRAIN, brownouts=(window,))
    world.verdict(jwt(subject))
    hits = {(7, "users", subject, "a1", "")} if inside(subject) else set()
    assert world.usage.take_hits() == hits


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_login_behind_the_bridge_goes_by_it(subject: str) -> None:
    assert (issued(half(), jwt(subject)) != {}) == inside(subject)
    world = Deployment()
    world.move(Phase.DRAIN, exceptions=OUTSIDE)
    assert (issued(world, jwt(subject)) == {}) == inside(subject)


def goes_back(world: Deployment, token: bytes) -> bool:
    carried = run(world.bridge.refresh(token))
    assert carried is not None
    return carried.goes_back


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_session_at_the_bridges_refresh_route_goes_back_by_it(subject: str) -> None:
    world = Deployment()
    token = world.login(subject)
    world.move(Phase.SWAP, percent=50)
    assert goes_back(world, token) != inside(subject)
    world.move(Phase.DRAIN, percent=100, exceptions=OUTSIDE)
    assert goes_back(world, token) == inside(subject)


def test_the_row_of_a_refresh_keeps_its_subjects_bucket() -> None:
    world = Deployment()
    calls: list[Call] = []
    watch(calls, world.store, "swap")
    world.sessions.exchange(refresh_jwt("ann"), legacy=no_legacy)
    assert [call.given[1].percent_bucket for call in calls] == [bucket_of("ann", "users")]
