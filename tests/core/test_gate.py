"""Which credential of a request decides, and what the others may still do; over no server."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from migrator.core.comparing import Shadow
from migrator.core.errors import Unavailable
from migrator.core.flow import SubjectState
from migrator.core.gate import AsyncGate, Gate
from migrator.core.legacy import ForeignRule
from migrator.core.phases import Exemption, Phase, bucket_of
from migrator.core.presented import Credential, Place, Route, Sent
from migrator.core.verdicts import Admitted, Passed, Reason, Refused
from tests.core.deployment import (
    DAY,
    HS,
    ISSUER,
    ISSUERS,
    Deployment,
    forged,
    jwt,
    presented,
)
from tests.core.signers import claims, verifier

LEFT = Sent(leftovers=frozenset({b"old"}))
ALL_PHASES = [Phase.OBSERVE, Phase.SWAP, Phase.DRAIN, Phase.CUTOVER, Phase.RETIRED]
DECIDING = [phase for phase in ALL_PHASES if phase is not Phase.OBSERVE]


def subject_of(verdict: object) -> str:
    assert isinstance(verdict, Admitted), verdict
    return verdict.principal.subject


def test_nothing_presented_passes_without_a_question_to_a_store() -> None:
    """P4: a request without a credential never touches a store."""
    world = Deployment()
    outcome = world.admit()
    assert outcome.verdict == Passed()
    assert (outcome.place, outcome.dead_cookie, outcome.dead_legacy) == (None, False, False)
    assert world.store.asked == []


# ---- the header decides ------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ALL_PHASES)
def test_p5_a_session_is_admitted_in_every_phase(phase: Phase) -> None:
    world = Deployment()
    token = world.login("ann", scopes=["read"])
    world.forget()
    world.move(phase)
    outcome = world.admit(token)
    assert subject_of(outcome.verdict) == "ann"
    assert outcome.place == "header"


def test_a_header_never_falls_back_to_a_cookie() -> None:
    world = Deployment()
    outcome = world.admit(b"sess_" + b"0" * 49, session_cookie=world.login())
    assert outcome.verdict == Refused(Reason.BAD_TOKEN)
    assert not outcome.dead_cookie


def test_a_header_and_a_cookie_of_the_same_subject_agree() -> None:
    world = Deployment()
    token = world.login()
    outcome = world.admit(world.login(), session_cookie=token)
    assert subject_of(outcome.verdict) == "user-1"
    assert not outcome.dead_cookie


@pytest.mark.parametrize("other", [{"subject": "bob"}, {"realm": "staff"}])
def test_a_header_and_a_cookie_of_two_people_are_refused(other: dict[str, str]) -> None:
    world = Deployment()
    named = {"subject": "user-1", **other}
    outcome = world.admit(world.login(), session_cookie=world.login(**named))
    assert outcome.verdict == Refused(Reason.SUBJECTS_DIFFER)
    assert outcome.place == "header"


def test_any_of_several_cookies_contradicts_a_header() -> None:
    world = Deployment()
    mine, bobs = world.login(), world.login("bob")
    verdict = world.verdict(world.login(), session_cookie=mine, session_copies=[bobs])
    assert verdict == Refused(Reason.SUBJECTS_DIFFER)


def test_a_dead_cookie_beside_a_good_header_is_to_be_cleared() -> None:
    world = Deployment()
    dead = world.login()
    world.sessions.end(dead)
    outcome = world.admit(world.login(), session_cookie=dead)
    assert isinstance(outcome.verdict, Admitted)
    assert outcome.dead_cookie


def test_a_legacy_token_beside_a_cookie_of_another_person_is_refused() -> None:
    world = Deployment()
    verdict = world.verdict(jwt("bob"), session_cookie=world.login())
    assert verdict == Refused(Reason.SUBJECTS_DIFFER)


# ---- cookies -----------------------------------------------------------------------------------


def test_our_cookie_decides_before_a_legacy_one() -> None:
    world = Deployment()
    outcome = world.admit(session_cookie=world.login("ann"), legacy=jwt("bob"))
    assert subject_of(outcome.verdict) == "ann"
    assert outcome.place == "cookie"


def test_what_is_not_ours_in_our_cookie_is_dead_and_counted() -> None:
    world = Deployment()
    outcome = world.admit(session_cookie=b"something")
    assert outcome.verdict == Passed()
    assert outcome.dead_cookie
    assert world.counted() == {("", "", "refused:bad_token"): 1}


def test_a_dead_copy_does_not_hide_the_living_one() -> None:
    world = Deployment()
    dead, alive = world.login(), world.login()
    world.sessions.end(dead)
    for one, other in ((dead, alive), (alive, dead), (b"junk", alive)):
        request = presented(session_cookie=one, session_copies=[other])
        outcome = world.gate.admit(request)
        assert subject_of(outcome.verdict) == "user-1"
        assert not outcome.dead_cookie
        assert request.session_cookie is not None
        assert request.session_cookie.value == alive
        assert [each.value for each in request.session_copies] != [alive]


def test_of_two_copies_of_one_subject_the_one_that_lasts_longest_speaks() -> None:
    world = Deployment()
    old = world.login()
    world.later(timedelta(hours=1))
    new = world.login()
    for one, other in ((old, new), (new, old)):
        request = presented(session_cookie=one, session_copies=[other])
        verdict = world.gate.admit(request).verdict
        assert isinstance(verdict, Admitted)
        assert verdict.principal.session == world.session(new)
        assert request.session_cookie is not None
        assert request.session_cookie.value == new


def test_what_never_ends_lasts_longest() -> None:
    world = Deployment()
    session = world.login()
    forever = str(world.sessions.create_api_token("user-1", label="x").token).encode()
    for one, other in ((session, forever), (forever, session)):
        request = presented(session_cookie=one, session_copies=[other])
        world.gate.admit(request)
        assert request.session_cookie is not None
        assert request.session_cookie.value == forever


def test_copies_of_two_people_are_refused_and_on_a_known_route_stripped() -> None:
    world = Deployment()
    two: dict[str, Any] = {"session_cookie": world.login("ann")}
    two["session_copies"] = [world.login("ann"), world.login("bob")]
    outcome = world.admit(**two)
    assert outcome.verdict == Refused(Reason.SUBJECTS_DIFFER)
    assert (outcome.place, outcome.dead_cookie) == ("cookie", False)
    outcome = world.admit(**two, route="login")
    assert outcome.verdict == Passed(Reason.SUBJECTS_DIFFER, strip=True)
    assert (outcome.place, outcome.dead_cookie) == ("cookie", True)


def test_a_forged_request_is_refused_by_its_session_cookie() -> None:
    world = Deployment()
    token = world.login()
    outcome = world.admit(session_cookie=token, forged=True)
    assert outcome.verdict == Refused(Reason.CSRF)
    assert outcome.place == "cookie"
    assert world.verdict(session_cookie=token) != outcome.verdict
    # A dead cookie proves nothing and forbids nothing.
    world.sessions.end(token)
    assert world.verdict(session_cookie=token, forged=True) == Passed()


def test_a_forged_request_is_refused_by_a_legacy_cookie_and_by_no_other_place() -> None:
    world = Deployment()
    assert world.verdict(legacy=jwt(), forged=True) == Refused(Reason.CSRF)
    place: Place
    for place in ("query", "body"):
        assert subject_of(world.verdict(jwt(), place, forged=True)) == "user-1"


def test_a_forged_request_with_a_legacy_cookie_passes_while_the_app_decides() -> None:
    world = Deployment(Phase.OBSERVE)
    verdict = world.verdict(legacy=jwt(), forged=True)
    assert verdict == Passed(Reason.CSRF)
    assert isinstance(verdict, Passed)
    assert verdict.shadow == Shadow("a1", None, Reason.CSRF)


def test_a_dead_legacy_cookie_of_a_forged_request_is_refused_for_what_it_is() -> None:
    world = Deployment()
    assert world.verdict(legacy=forged(jwt()), forged=True) == Refused(Reason.BAD_SIGNATURE)


# ---- copies of legacy cookies ------------------------------------------------------------------


def test_the_newest_of_two_good_legacy_copies_speaks() -> None:
    world = Deployment()
    short, long = jwt(lasts_s=1800), jwt(lasts_s=3600)
    for one, other in ((short, long), (long, short)):
        request = presented(legacy=one, legacy_copies=[other])
        outcome = world.gate.admit(request)
        assert isinstance(outcome.verdict, Admitted)
        assert outcome.verdict.principal.session is not None
        assert request.legacy is not None
        assert request.legacy.value == long
        assert not outcome.dead_legacy


def test_a_refused_copy_is_hidden_from_the_app() -> None:
    world = Deployment()
    good, bad = jwt(), forged(jwt())
    for one, other in ((good, bad), (bad, good)):
        outcome = world.admit(legacy=one, legacy_copies=[other])
        assert subject_of(outcome.verdict) == "user-1"
        assert outcome.dead_legacy


def test_where_no_copy_is_good_the_refusal_is_told() -> None:
    world = Deployment()
    verdict = world.verdict(legacy=b"opaque", legacy_copies=[forged(jwt())])
    assert verdict == Refused(Reason.BAD_SIGNATURE)
    assert world.verdict(legacy=b"one", legacy_copies=[b"two"]) == Passed(Reason.FOREIGN)


def test_copies_of_two_people_are_nobodys() -> None:
    world = Deployment()
    outcome = world.admit(legacy=jwt("ann"), legacy_copies=[jwt("bob")])
    assert outcome.verdict == Refused(Reason.SUBJECTS_DIFFER)
    assert not outcome.dead_legacy
    world.move(Phase.OBSERVE)
    outcome = world.admit(legacy=jwt("ann"), legacy_copies=[jwt("bob")])
    assert outcome.verdict == Passed(Reason.SUBJECTS_DIFFER)
    assert not outcome.dead_legacy


# ---- what is not ours --------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ALL_PHASES)
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


@pytest.mark.parametrize("phase", ALL_PHASES)
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


# ---- what the app would read -------------------------------------------------------------------


def test_a_dead_legacy_token_beside_a_living_one_is_hidden_from_the_app() -> None:
    world = Deployment(Phase.SWAP)
    dead = jwt("bob")
    world.sessions.end(dead)
    outcome = world.admit(jwt(), legacy=dead)
    assert subject_of(outcome.verdict) == "user-1"
    assert outcome.dead_legacy
    assert not world.admit(jwt(), legacy=jwt()).dead_legacy
    # Beside a session the app looks for no JWT.
    assert not world.admit(world.login(), legacy=dead).dead_legacy


def test_a_dead_one_among_the_places_that_never_decide_is_hidden_too() -> None:
    world = Deployment(Phase.SWAP)
    dead = jwt("bob")
    world.sessions.end(dead)
    elsewhere: list[dict[str, Any]] = [{"others": [dead]}, {"legacy_copies": [dead]}]
    for more in elsewhere:
        assert world.admit(jwt(), **more).dead_legacy
        assert world.admit(legacy=jwt(), **more).dead_legacy
    assert world.admit(others=[dead]).dead_legacy
    assert world.admit(foreign_header=True, others=[dead]).dead_legacy


def test_a_dead_token_in_a_body_is_refused_since_a_body_is_not_written_anew() -> None:
    world = Deployment(Phase.SWAP)
    dead = jwt("bob")
    world.sessions.end(dead)
    for header in (jwt(), b"opaque"):
        outcome = world.admit(header, legacy=Credential(dead, "body", ISSUERS))
        assert outcome.verdict == Refused(Reason.DENIED)
        assert outcome.place == "body"


def test_the_token_that_decided_is_not_judged_again_beside_itself() -> None:
    world = Deployment(Phase.SWAP)
    dead = jwt("bob")
    world.sessions.end(dead)
    world.counted()
    outcome = world.admit(b"opaque", others=[b"opaque"])
    assert world.counted() == {("", "", "foreign:credential"): 1}
    assert not outcome.dead_legacy


def test_where_a_credential_was_stripped_nothing_more_is_read() -> None:
    world = Deployment(Phase.SWAP)
    dead = jwt("bob")
    world.sessions.end(dead)
    outcome = world.admit(dead, route="login", others=[dead + b"x"])
    assert outcome.verdict == Passed(Reason.DENIED, strip=True)
    assert not outcome.dead_legacy


def test_a_fault_does_not_hide_what_is_dead() -> None:
    world = Deployment(Phase.OBSERVE)
    dead = jwt("bob")
    world.sessions.end(dead)
    outcome = world.admit(fault=Reason.REPEATED_CREDENTIAL, legacy=dead)
    assert outcome.verdict == Passed(Reason.REPEATED_CREDENTIAL)
    assert outcome.dead_legacy


# ---- memory ------------------------------------------------------------------------------------


def test_p11_a_hit_asks_nobody() -> None:
    world = Deployment(Phase.SWAP)
    token, legacy = world.login(), jwt()
    requests = [
        presented(token),
        presented(session_cookie=token),
        presented(legacy, "header"),
    ]
    for request in requests:
        world.gate.admit(request)
    world.store.asked.clear()
    for request, place in zip(requests, ("header", "cookie", "header"), strict=True):
        hit = world.gate.peek(request)
        assert hit is not None
        assert subject_of(hit.verdict) == "user-1"
        assert hit.place == place
    assert isinstance(world.gate.peek_header(token, ISSUERS), Admitted)
    assert world.gate.peek_header(legacy, ISSUERS) is not None
    assert world.gate.peek_header(legacy, frozenset()) is None
    assert world.store.asked == []


def test_memory_is_not_asked_where_more_than_one_credential_speaks() -> None:
    world = Deployment(Phase.SWAP)
    token, legacy = world.login(), jwt()
    for each in (token, legacy):
        world.admit(each)
    peek = world.gate.peek
    assert peek(presented()) is None
    assert peek(presented(world.login())) is None
    assert peek(presented(token, session_cookie=token)) is None
    assert peek(presented(token, fault=Reason.CSRF)) is None
    assert peek(presented(session_cookie=token, session_copies=[token])) is None
    assert peek(presented(session_cookie=token, forged=True)) is None
    assert peek(presented(token, forged=True)) is not None
    assert peek(presented(legacy, others=[jwt()])) is None
    assert peek(presented(legacy, legacy_copies=[jwt()])) is None
    assert peek(presented(legacy, legacy=jwt())) is None
    assert peek(presented(legacy, legacy=legacy)) is not None
    assert peek(presented(token, legacy=jwt(), others=[jwt()])) is not None


def test_p11_a_hit_costs_the_pulse_one_comparison() -> None:
    world = Deployment()
    woken: list[int] = []
    world.node.wake = lambda: woken.append(1)
    world.node.sleep = lambda: woken.append(2)
    world.gate.wake()
    assert woken == [1]
    world.gate.close()
    assert woken == [1, 2]


# ---- leftovers ---------------------------------------------------------------------------------


def test_leftovers_are_kept_until_the_session_cookie_came_back_past_the_cutover() -> None:
    world = Deployment()
    token = world.login()
    before = world.admit(session_cookie=token, sent=LEFT)
    assert (before.sent, before.settled) == (LEFT, False)
    world.move(Phase.CUTOVER)
    after = world.admit(session_cookie=token, sent=LEFT)
    assert (after.sent, after.settled) == (LEFT, True)
    hit = world.gate.peek(presented(session_cookie=token, sent=LEFT))
    assert hit is not None
    assert hit.settled
    assert not world.admit(session_cookie=token, sent=Sent()).settled
    assert world.admit(session_cookie=token).sent is None
    assert not world.admit(token, sent=LEFT).settled
    assert not world.admit(legacy=token, sent=LEFT).settled
    assert not world.admit(token, "cookie", session_cookie=b"junk", sent=LEFT).settled


def test_leftovers_of_a_segment_that_is_not_over_are_kept() -> None:
    world = Deployment()
    token = world.login(client="ios")
    held = (Exemption("client", "ios", Phase.DRAIN),)
    world.move(Phase.CUTOVER, exceptions=held)
    assert not world.admit(session_cookie=token, sent=LEFT).settled
    world.move(Phase.DRAIN, exceptions=(Exemption("client", "ios", Phase.CUTOVER),))
    assert world.admit(session_cookie=token, sent=LEFT).settled
    assert not world.admit(session_cookie=world.login(), sent=LEFT).settled


def test_leftovers_of_a_share_of_subjects_go_by_the_subject_and_its_realm() -> None:
    world = Deployment()
    names = [f"u{number}" for number in range(20)]
    world.move(Phase.DRAIN, exceptions=(Exemption("cohort", "50", Phase.CUTOVER),))
    for name in names:
        settled = world.admit(session_cookie=world.login(name), sent=LEFT).settled
        assert settled == (bucket_of(name, "users") < 50)


def test_what_was_revoked_for_good_leaves_no_leftover_in_any_phase() -> None:
    world = Deployment(Phase.SWAP)
    dead = jwt()
    world.sessions.end(dead)
    assert world.admit(legacy=dead, sent=LEFT).settled
    assert not world.admit(legacy=forged(jwt()), sent=LEFT).settled
    assert not world.admit(legacy=jwt(), sent=LEFT).settled
    assert not world.admit(dead, sent=LEFT).settled


def test_nothing_is_settled_before_the_rollout_is_known() -> None:
    world = Deployment(Phase.CUTOVER)
    request = presented(session_cookie=world.login(), sent=LEFT)
    assert world.gate.admit(request).settled
    world.node.rollout = None
    hit = world.gate.peek(request)
    assert hit is not None
    assert not hit.settled


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
