"""A foreign rule by path is about requests: where a token is named apart from one, it is none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from migrator.core.bridging import From
from migrator.core.errors import Refused
from migrator.core.flow import run
from migrator.core.introspecting import introspect
from migrator.core.issuers import ForeignRule
from migrator.core.phases import Phase
from migrator.core.verdicts import Passed, Reason
from migrator.core.verdicts import Refused as RefusedVerdict
from tests.core.deployment import HS, ISSUER, Deployment, jwt, no_legacy, refresh_jwt
from tests.core.signers import claims, verifier

ROOT, HOOKS = ForeignRule(path="/"), ForeignRule(path="/hooks")


def world_with(*rules: ForeignRule, phase: Phase = Phase.DRAIN) -> Deployment:
    return Deployment(phase, verifier_=verifier(ISSUER, foreign=rules))


def test_a_refresh_an_ending_and_a_question_are_under_no_path() -> None:
    world = world_with(ROOT)
    assert world.sessions.exchange(refresh_jwt(), legacy=no_legacy).kind == "session"
    assert run(introspect(world.gate, jwt())) is not None
    assert world.sessions.end(jwt()) == 1


def test_the_bridges_routes_are_under_no_path() -> None:
    world = world_with(ROOT)
    login = jwt("ann")
    assert {*run(world.bridge.issued((login,), From()))} == {login}
    assert run(world.bridge.refresh(refresh_jwt())) is not None
    slid = jwt()
    world.sessions.end(slid)
    with pytest.raises(Refused) as caught:
        run(world.bridge.refresh(slid))
    assert caught.value.reason is Reason.DENIED


def test_a_route_whose_tokens_are_foreign_issues_none_of_ours() -> None:
    world = world_with(HOOKS)
    world.bridge.saw_elsewhere([jwt()], "/hooks")
    assert world.counted() == {}
    world.bridge.saw_elsewhere([jwt()], "/else")
    assert world.counted() == {("a1", "", "issued:elsewhere"): 1}


def test_another_spelling_of_what_is_foreign_there_is_the_apps() -> None:
    rule = ForeignRule(iss=ISSUER.iss, path="/hooks")
    world = world_with(rule, phase=Phase.OBSERVE)
    token = jwt()
    world.sessions.end(token)
    assert isinstance(world.verdict(token + b"=", path="/hooks"), Passed)
    assert world.verdict(token + b"=", path="/else") == RefusedVerdict(Reason.DENIED)


def test_another_spelling_in_another_issuers_place_is_the_apps() -> None:
    two = replace(ISSUER, id="a2", name="two", iss="https://two.example")
    world = Deployment(Phase.OBSERVE, ISSUER, two)
    token = HS.token(claims(iss="https://two.example", jti="j-two"))
    assert world.sessions.end(token) == 1
    assert isinstance(world.verdict(token + b"="), Passed)
