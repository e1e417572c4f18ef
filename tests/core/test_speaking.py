"""Which credential of a request decides: a header before cookies, and which copy of those."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from migrator.core.comparing import Shadow
from migrator.core.phases import Phase
from migrator.core.presented import Place
from migrator.core.verdicts import Admitted, Passed, Reason, Refused
from tests.core.deployment import Deployment, forged, jwt, presented, subject_of

# ---- the header decides ------------------------------------------------------------------------


@pytest.mark.parametrize("phase", Phase)
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
