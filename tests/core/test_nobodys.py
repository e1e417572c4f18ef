"""What is nobody's: foreign tokens, JWTs that no issuer claims, tokens of no configured place."""

from __future__ import annotations

import pytest

from migrator.core.comparing import Shadow
from migrator.core.legacy import ForeignRule
from migrator.core.phases import Phase
from migrator.core.presented import Credential
from migrator.core.verdicts import Passed, Reason, Refused
from tests.core.deployment import DECIDING, HS, ISSUER, Deployment, jwt
from tests.core.signers import claims, verifier


@pytest.mark.parametrize("phase", Phase)
def test_what_is_nobodys_passes_and_is_counted_by_shape(phase: Phase) -> None:
    world = Deployment(phase)
    assert world.verdict(b"opaque") == Passed(Reason.FOREIGN)
    outcome = world.admit(foreign_header=True)
    assert outcome.verdict == Passed(Reason.FOREIGN)
    assert not outcome.dead_cookie
    assert world.counted() == {("", "", "foreign:credential"): 1, ("", "", "foreign:scheme"): 1}


def test_what_is_nobodys_hides_no_dead_cookie() -> None:
    assert Deployment().admit(foreign_header=True, session_cookie=b"junk").dead_cookie


@pytest.mark.parametrize("phase", DECIDING)
def test_what_is_nobodys_is_refused_where_the_settings_say_so(phase: Phase) -> None:
    world = Deployment(phase, refuses_foreign=True)
    assert world.verdict(b"opaque") == Refused(Reason.FOREIGN)
    assert world.verdict(foreign_header=True) == Refused(Reason.FOREIGN)
    assert world.verdict(b"opaque", route="login") == Refused(Reason.FOREIGN)


def test_nothing_foreign_is_refused_while_the_app_decides() -> None:
    assert Deployment(Phase.OBSERVE, refuses_foreign=True).verdict(b"x") == Passed(Reason.FOREIGN)


def test_what_a_rule_names_is_foreign_whatever_else_is_refused() -> None:
    rule = ForeignRule(iss="https://other.example")
    judging = verifier(ISSUER, foreign=(rule,))
    world = Deployment(verifier_=judging, refuses_foreign=True)
    token = HS.token(claims(iss="https://other.example"))
    assert world.verdict(token) == Passed(Reason.FOREIGN)
    assert world.counted() == {("", "", "foreign:rule"): 1}


def test_a_rule_may_name_a_path() -> None:
    judging = verifier(ISSUER, foreign=(ForeignRule(path="/hooks/*"),))
    world = Deployment(verifier_=judging)
    token = HS.token(claims(iss="https://other.example"))
    assert world.verdict(token, path="/hooks/1") == Passed(Reason.FOREIGN)
    assert world.verdict(token, path="/api") == Refused(Reason.UNKNOWN_ISSUER)


@pytest.mark.parametrize("phase", [Phase.SWAP, Phase.DRAIN, Phase.CUTOVER])
def test_a_jwt_that_nobody_claims_is_refused(phase: Phase) -> None:
    world = Deployment(phase)
    assert world.verdict(HS.token(claims(iss="https://x"))) == Refused(Reason.UNKNOWN_ISSUER)
    assert world.counted() == {("", "", "refused:unknown_issuer"): 1}


def test_a_jwt_that_nobody_claims_is_retired_with_the_others() -> None:
    world = Deployment(Phase.RETIRED)
    assert world.verdict(HS.token(claims(iss="https://x"))) == Refused(Reason.LEGACY_RETIRED)


def test_a_jwt_that_nobody_claims_passes_while_the_app_decides() -> None:
    world = Deployment(Phase.OBSERVE)
    verdict = world.verdict(HS.token(claims(iss="https://x")), user_agent="ios/7")
    assert verdict == Passed(Reason.UNKNOWN_ISSUER)
    assert isinstance(verdict, Passed)
    assert verdict.shadow == Shadow("", "ios/7", Reason.UNKNOWN_ISSUER)
    assert world.counted() == {("", "", "passed:unknown_issuer"): 1}


def test_p2_what_was_revoked_is_refused_in_every_spelling_while_the_app_decides() -> None:
    world = Deployment(Phase.OBSERVE)
    revoked, lives = jwt(), jwt()
    world.sessions.end(revoked)
    assert world.verdict(revoked) == Refused(Reason.DENIED)
    assert world.verdict(revoked + b"=") == Refused(Reason.DENIED)
    assert world.verdict(lives + b"=") == Passed(Reason.NOT_A_JWS)


def test_what_nobody_signed_is_bound_in_no_spelling_while_the_app_decides() -> None:
    world = Deployment(Phase.OBSERVE)
    token = HS.token(claims(iss="https://x"))
    assert world.verdict(token + b"=") == Passed(Reason.NOT_A_JWS)
    rule = ForeignRule(iss="https://other.example", path="/hooks/*")
    world = Deployment(Phase.OBSERVE, verifier_=verifier(ISSUER, foreign=(rule,)))
    revoked = jwt()
    world.sessions.end(revoked)
    assert world.verdict(revoked + b"=", path="/hooks/1") == Refused(Reason.DENIED)


def test_a_strict_request_is_judged_by_the_store_alone() -> None:
    world = Deployment()
    token = world.login()
    world.admit(token)
    for request in ({"value": token}, {"session_cookie": token}):
        world.store.asked.clear()
        world.admit(**request)  # type: ignore[arg-type]
        assert world.store.asked == []
        world.admit(strict=True, **request)  # type: ignore[arg-type]
        assert world.store.asked == ["find"]


def test_what_decided_is_counted_once() -> None:
    world = Deployment(Phase.OBSERVE)
    world.admit(legacy=b"opaque")
    assert world.counted() == {("", "", "foreign:credential"): 1}
    world.admit(legacy=jwt())
    assert world.counted() == {("a1", "", "legacy"): 1}


def test_the_tokens_of_no_configured_place_are_not_an_issuers() -> None:
    world = Deployment()
    header = Credential(jwt(), "header", frozenset({"another"}))
    assert world.verdict(header=header) == Refused(Reason.UNKNOWN_ISSUER)
