"""What crosses the bridge: logins of the app become sessions, its answers are rewritten."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from migrator.core import bridging
from migrator.core.bridge import Minter, is_marked
from migrator.core.bridging import From
from migrator.core.claims import Claims
from migrator.core.errors import Refused, Unavailable
from migrator.core.flow import run
from migrator.core.phases import Exemption, Phase
from migrator.core.verdicts import Principal, Reason
from migrator.core.verdicts import Refused as RefusedVerdict
from tests.core.deployment import (
    DAY,
    HOUR,
    HS,
    ISSUER,
    ROTATING,
    SHAPE,
    TERMS,
    Deployment,
    forged,
    jwt,
    presented,
    refresh_jwt,
)
from tests.core.signers import NOW, NOW_S, claims

SECOND = timedelta(seconds=1)
TO = From("ios/7 (x)", "192.0.2.7")


def issued(world: Deployment, *found: bytes, **more: Any) -> dict[bytes, bytes]:
    return run(world.bridge.issued(found, TO, **more))


def renewed(world: Deployment, token: bytes, *found: bytes, refreshes: bool) -> list[bytes]:
    of = run(world.bridge.carried(token))
    return run(world.bridge.renewed(of, found, refreshes=refreshes))


# ---- the app's logins --------------------------------------------------------------------------


def test_a_login_of_the_app_becomes_one_session_for_both_its_tokens() -> None:
    world = Deployment()
    access = jwt("ann", scope="read", name="Ann", amr=["pwd"], sid="f1")
    pair = access, refresh_jwt("ann", sid="f1")
    swaps = issued(world, *pair)
    assert {*swaps} == {*pair}
    assert len({*swaps.values()}) == 1
    token = swaps[access]
    session = world.session(token)
    assert (session.subject, session.client, session.origin) == ("ann", "ios/7", "exchange")
    assert session.scopes == {"read"}
    assert session.claims == {"name": "Ann"}
    assert (session.user_agent, session.ip) == ("ios/7 (x)", "192.0.2.7")
    assert (session.auth_time, session.amr) == (NOW, ("pwd",))
    assert session.expires_at == NOW + 10 * DAY
    assert session.created_at == NOW
    assert world.counted() == {("", "ios/7", "issued:session"): 1}
    assert world.usage.take_minutes([]) == {"sign_in": 1}


def test_p3_a_login_without_a_refresh_token_ends_with_its_access_token() -> None:
    world = Deployment()
    token = jwt("ann", azp="web", auth_time=NOW_S - 5)
    session = world.session(issued(world, token)[token])
    assert (session.origin, session.client) == ("swap", "web")
    assert session.expires_at == NOW + HOUR
    assert session.auth_time == NOW - 5 * SECOND


def test_a_login_whose_refresh_tokens_rotate_lasts_as_they_do() -> None:
    world = Deployment(Phase.DRAIN, ROTATING)
    token = refresh_jwt("ann")
    assert world.session(issued(world, token)[token]).expires_at == NOW + 30 * DAY


def test_p3_two_people_in_one_answer_get_two_sessions() -> None:
    world = Deployment()
    admin, ann = refresh_jwt("admin"), jwt("ann")
    swaps = issued(world, admin, ann)
    assert world.session(swaps[admin]).subject == "admin"
    assert world.session(swaps[ann]).subject == "ann"
    assert world.session(swaps[ann]).expires_at == NOW + HOUR
    assert world.usage.take_minutes([]) == {"sign_in": 2}


def test_the_first_access_token_of_a_login_is_what_is_read() -> None:
    world = Deployment()
    first, second = jwt("ann", scope="a"), jwt("ann", scope="b")
    swaps = issued(world, first, second)
    assert swaps[first] == swaps[second]
    assert world.session(swaps[first]).scopes == {"a"}


def test_what_is_no_login_stays_as_it_is() -> None:
    world = Deployment()
    assert issued(world, b"opaque", forged(jwt()), HS.token(claims(iss="https://x"))) == {}
    assert world.rows() == []
    token = jwt()
    assert {*issued(world, b"opaque", token)} == {token}


def test_an_answer_full_of_signatures_costs_no_more_than_some() -> None:
    world = Deployment()
    good = jwt()
    bad = [forged(jwt()) for _ in range(bridging._MOST_SIGNATURES - 1)]
    assert {*issued(world, *bad, b"opaque", good)} == {good}
    assert issued(world, *bad, forged(jwt()), good) == {}


def test_p2_what_named_the_login_names_the_session() -> None:
    world = Deployment()
    token, anonymous = jwt("ann"), jwt("bob", jti=...)
    swaps = issued(world, token, anonymous)
    assert world.verdict(token) != RefusedVerdict(Reason.DENIED)
    world.sessions.end(token)
    assert world.session(swaps[token]).revoked_reason == "logout"
    assert world.session(swaps[anonymous]).revoked_reason is None
    world.sessions.end(anonymous)
    assert world.session(swaps[anonymous]).revoked_reason is None


def test_once_retired_the_legacy_tables_are_left_alone() -> None:
    world = Deployment(Phase.RETIRED)
    token = jwt("ann")
    assert world.session(issued(world, token)[token]).subject == "ann"
    assert world.store._legacy == {}
    assert {*issued(world, jwt("ann"), refreshes=True)} != set()
    assert "check" not in world.store.asked


def test_a_cap_holds_for_these_too() -> None:
    world = Deployment(per_subject=1)
    first = world.login("ann")
    world.later(SECOND)
    issued(world, jwt("ann"))
    world.later(SECOND)
    world.login("ann")
    assert world.session(first).revoked_reason == "cap"


def test_outside_the_cohort_the_app_keeps_its_login_and_its_end_is_noted() -> None:
    world = Deployment(Phase.OBSERVE)
    assert issued(world, jwt("ann", lasts_s=60), refresh_jwt("ann", lasts_s=99)) == {}
    assert world.usage.issued_horizon == NOW + 99 * SECOND
    assert world.counted() == {("", "", "issued:legacy"): 1}
    held = Exemption("client", "ios", Phase.DRAIN)
    world.move(Phase.OBSERVE, exceptions=(held,))
    assert len(issued(world, jwt("ann"))) == 1
    held = Exemption("issuer", "a1", Phase.DRAIN)
    world.move(Phase.OBSERVE, exceptions=(held,))
    assert len(issued(world, jwt("ann"))) == 1
    world.move(Phase.SWAP, percent=0, exceptions=())
    assert issued(world, jwt("ann")) == {}


def test_p2_what_is_issued_for_a_revoked_family_does_not_go_out() -> None:
    world = Deployment()
    world.sessions.end(jwt("ann", sid="f1"))
    world.counted()
    fresh = jwt("ann", sid="f1", azp="ios")
    with pytest.raises(Refused) as caught:
        issued(world, fresh, refreshes=True)
    assert caught.value.reason is Reason.DENIED
    assert world.counted() == {("a1", "ios", "refused:denied"): 1}
    assert world.usage.take_minutes([]) == {}
    others = jwt("bob"), refresh_jwt("bob")
    assert {*issued(world, *others, refreshes=True)} == {*others}
    # A login may say so: it is what a login is for.
    assert {*issued(world, fresh)} == {fresh}


def test_p4_an_answer_that_nobody_can_judge_does_not_go_out() -> None:
    world = Deployment()
    run(world.gate.now())
    world.store.go_away()
    with pytest.raises(Unavailable):
        issued(world, jwt("ann"))
    with pytest.raises(Unavailable):
        issued(world, jwt("ann"), refreshes=True)


# ---- towards the app ---------------------------------------------------------------------------


def test_the_app_is_shown_sessions_of_its_realm_only() -> None:
    shows = Deployment().bridge.shows
    assert shows(Principal("ann", "users", via="session"))
    assert not shows(Principal("ann", "staff", via="session"))
    assert not shows(Principal("ann", "users", via="legacy"))


def test_the_jwt_shown_is_marked_unless_libraries_copy_it() -> None:
    world = Deployment()
    session = world.session(world.login("ann"))
    made = run(world.bridge.mint(session, "access", frozenset({"a"}), {}))
    assert is_marked(made)
    bare = run(world.bridge.mint(session, "refresh", frozenset(), {}, marked=False))
    assert not is_marked(bare)
    found = world.gate.verifier.verify(bare, (ISSUER,), now=NOW, purpose="refresh")
    assert isinstance(found, Claims)
    assert found.exp == NOW + timedelta(minutes=5)


def test_how_the_app_answered_is_counted_by_client() -> None:
    world = Deployment()
    session = world.session(world.login(client="ios"))
    world.counted()
    for code in (200, 403, 401):
        world.bridge.answered(session, code)
    assert world.counted() == {
        ("a1", "ios", "bridge:shown"): 2,
        ("a1", "ios", "bridge:refused"): 1,
    }


def test_a_route_that_issues_and_that_nobody_configured_is_noted() -> None:
    world = Deployment()
    found = [jwt(), b"opaque", jwt()]
    world.bridge.saw_elsewhere(found, "/users/7")
    assert world.usage.routes == {("/users/*", "issues_legacy"): 2}
    assert world.counted() == {("a1", "", "issued:elsewhere"): 2}


# ---- the answer to a session -------------------------------------------------------------------


def test_a_refresh_renews_what_a_session_says() -> None:
    world = Deployment()
    token = world.login("ann", scopes=["old"])
    world.admit(token)
    fresh, again = jwt("ann", name="Ann", scope="new"), refresh_jwt("ann")
    assert renewed(world, token, fresh, again, refreshes=True) == [fresh, again]
    session = world.session(token)
    assert session.claims == {"name": "Ann"}
    assert session.scopes == {"new"}
    assert world.gate.peek(presented(token)) is None
    world.sessions.end(again)  # it is the session's now
    assert world.session(token).revoked_reason == "logout"


def test_scopes_stay_where_the_issuer_says_none() -> None:
    world = Deployment()
    by = world.bridge.minter.shape
    world.bridge.minter.shape = replace(by, claims=replace(by.claims, scopes=None))
    token = world.login("ann", scopes=["old"])
    renewed(world, token, jwt("ann", name="Ann"), refreshes=True)
    assert world.session(token).scopes == {"old"}
    assert world.session(token).claims == {"name": "Ann"}


def test_what_slides_with_every_answer_is_not_worth_a_write() -> None:
    world = Deployment()
    token = world.login("ann")
    world.store.asked.clear()
    fresh = jwt("ann", name="Ann")
    assert renewed(world, token, fresh, refreshes=False) == [fresh]
    assert "renew" not in world.store.asked


def test_p3_another_persons_tokens_in_the_answer_are_left_alone() -> None:
    world = Deployment()
    token = world.login("ann")
    others = jwt("bob", name="Bob")
    assert renewed(world, token, others, refreshes=True) == []
    assert world.session(token).claims == {}
    staff = world.login("ann", realm="staff")
    assert renewed(world, staff, jwt("ann", name="Ann"), refreshes=True) == []


def test_our_own_jwt_in_an_answer_is_recognised() -> None:
    world = Deployment()
    token = world.login("ann")
    marked = run(world.bridge.mint(world.session(token), "access", frozenset(), {}))
    stale = forged(marked)
    assert renewed(world, token, b"x", stale, refreshes=False) == [stale]
    assert renewed(world, token, marked, refreshes=False) == [marked]


# ---- logout ------------------------------------------------------------------------------------


def test_a_logout_ends_what_it_names_in_any_spelling() -> None:
    world = Deployment()
    token, legacy = world.login("ann"), jwt("bob")
    run(world.bridge.end_presented(token))
    ended = world.session(token)
    assert (ended.revoked_reason, ended.revoked_by) == ("logout", "app")
    run(world.bridge.end_presented(legacy + b"="))
    assert world.verdict(legacy) == RefusedVerdict(Reason.DENIED)
    world.store.asked.clear()
    for nobodys in (b"opaque", str(ended.id).encode(), HS.token(claims(iss="https://x"))):
        run(world.bridge.end_presented(nobodys))
    assert world.store.asked == []


# ---- what an answer holds ----------------------------------------------------------------------


def test_of_a_pair_the_access_token_is_read_wherever_it_stands() -> None:
    world = Deployment()
    first, second = refresh_jwt("ann", scope="r"), jwt("ann", scope="a")
    swaps = issued(world, first, second)
    assert world.session(swaps[second]).scopes == {"a"}


def test_the_latest_end_is_noted_wherever_it_stands() -> None:
    world = Deployment(Phase.OBSERVE)
    issued(world, refresh_jwt("ann", lasts_s=99), jwt("ann", lasts_s=60))
    assert world.usage.issued_horizon == NOW + 99 * SECOND


def test_a_login_behind_the_bridge_ends_the_oldest_beyond_the_cap() -> None:
    world = Deployment()
    first = world.login("ann")
    world.later(SECOND)
    second = world.login("ann")
    world.later(SECOND)
    world.bridge.terms = replace(TERMS, per_subject=1)
    issued(world, jwt("ann"))
    assert world.session(first).revoked_reason == "cap"
    assert world.session(second).revoked_at is None


def test_what_a_library_made_of_a_bridge_jwt_is_read_in_an_answer() -> None:
    world = Deployment()
    token = world.marked()
    assert {*issued(world, token)} == {token}


def test_what_the_app_is_shown_is_marked_and_repeats_its_cookies() -> None:
    world = Deployment()
    styles = {
        purpose: replace(style, mirrors={"name": "c"}) for purpose, style in SHAPE.styles.items()
    }
    world.bridge.minter = Minter(replace(SHAPE, styles=styles))
    session = world.session(world.login("ann"))
    shown = run(world.bridge.mint(session, "refresh", frozenset(), {"c": "v"}))
    assert is_marked(shown)
    assert world.claims(shown, "refresh").kept["name"] == "v"
