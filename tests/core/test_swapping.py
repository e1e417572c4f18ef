"""A legacy token at the gate: what the phase says of it, and the session it becomes."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from migrator.core import tokens
from migrator.core.brownouts import Brownout
from migrator.core.comparing import Presence, Shadow
from migrator.core.errors import Unavailable
from migrator.core.flow import SwapKey
from migrator.core.legacy import Key
from migrator.core.phases import Exemption, Phase, bucket_of
from migrator.core.presented import Credential, Route
from migrator.core.swapping import client_of
from migrator.core.usage import Sighting
from migrator.core.verdicts import Admitted, Notice, Passed, Principal, Reason, Refused
from tests.core.deployment import (
    DAY,
    HOUR,
    HS,
    ISSUER,
    KEY,
    Call,
    Deployment,
    admitted,
    derived,
    forged,
    jwt,
    no_legacy,
    passed,
    presented,
    refresh_jwt,
    watch,
)
from tests.core.signers import NOW, NOW_S, SECRET, claims, ring_of

SECOND = timedelta(seconds=1)
ROUTES: list[Route] = ["login", "public"]


class Away:
    """Keys that were never fetched."""

    def find(self, kid: str | None, alg: str) -> Any:
        raise Unavailable("JWKS", f"{kid} {alg}")


# ---- the swap ----------------------------------------------------------------------------------


def test_p1_a_legacy_token_becomes_one_session_and_the_same_token_each_time() -> None:
    world = Deployment()
    token = jwt()
    expected = derived(world, token)
    for _ in range(3):
        assert admitted(world, token).hand_out == expected
        world.forget()
    assert len(world.rows()) == 1
    assert admitted(world, expected).principal.session == world.session(expected)


def test_p3_the_session_says_what_the_token_said_and_no_more() -> None:
    world = Deployment()
    token = jwt(
        "ann",
        azp="ios",
        scope="read write",
        name="Ann",
        role="admin",
        auth_time=NOW_S - 90,
        amr=["pwd"],
    )
    verdict = admitted(world, token, user_agent="other/1", ip="192.0.2.7")
    session = verdict.principal.session
    assert session is not None
    assert verdict.principal == Principal(
        subject="ann",
        realm="users",
        scopes=frozenset({"read", "write"}),
        claims={"name": "Ann"},
        client="ios",
        via="legacy",
        session=session,
    )
    assert (session.subject, session.realm, session.client) == ("ann", "users", "ios")
    assert (session.kind, session.origin, session.label) == ("session", "swap", None)
    assert session.scopes == {"read", "write"}
    assert session.claims == {"name": "Ann"}
    assert (session.user_agent, session.ip) == ("other/1", "192.0.2.7")
    assert session.auth_time == NOW - timedelta(seconds=90)
    assert session.amr == ("pwd",)
    assert session.created_at == session.last_seen_at == NOW
    assert session.expires_at == NOW + HOUR
    assert verdict.notice is None
    assert verdict.shadow is None


def test_p3_a_session_ends_no_later_than_its_token_nor_than_any_session() -> None:
    world = Deployment()
    session = admitted(world, jwt(lasts_s=400 * 86_400)).principal.session
    assert session is not None
    assert session.expires_at == NOW + 90 * DAY


@pytest.mark.parametrize(
    ("share", "kept"), [("full", "192.0.2.7"), ("truncated", "192.0.2.0"), ("off", None)]
)
def test_of_an_address_is_kept_what_the_settings_allow(share: str, kept: str | None) -> None:
    world = Deployment(store_ip=share)
    session = admitted(world, jwt(), ip="192.0.2.7", user_agent="a" * 600).principal.session
    assert session is not None
    assert session.ip == kept
    assert session.user_agent == "a" * 512


def test_a_token_that_is_nearly_over_is_admitted_without_a_row() -> None:
    world = Deployment()
    assert admitted(world, jwt(lasts_s=599)).hand_out is None
    assert world.rows() == []
    assert admitted(world, jwt(lasts_s=600)).hand_out is not None


def test_a_token_in_a_url_is_not_swapped() -> None:
    world = Deployment()
    verdict = world.verdict(jwt(), "query")
    assert isinstance(verdict, Admitted)
    assert verdict.hand_out is None
    assert world.rows() == []


def test_nothing_is_swapped_without_a_key() -> None:
    world = Deployment(swap_keys=())
    assert admitted(world, jwt()).hand_out is None
    assert world.rows() == []


def test_a_node_that_lacks_the_key_of_a_swap_admits_and_hands_nothing_out() -> None:
    world = Deployment(swap_keys=(KEY,))
    token = jwt()
    admitted(world, token)
    world.forget()
    world.gate.terms = replace(world.gate.terms, swap_keys=(SwapKey("k2", bytes(32)),))
    world.gate._keys = {"k2": bytes(32)}
    verdict = admitted(world, token)
    assert verdict.hand_out is None
    assert verdict.principal.session is not None


def test_the_first_key_derives_and_the_others_are_known() -> None:
    world = Deployment(swap_keys=(SwapKey("new", bytes(32)), KEY))
    token = jwt()
    expected = derived(world, token, bytes(32))
    assert admitted(world, token).hand_out == expected


@pytest.mark.parametrize("percent", [0, 50, 100])
def test_only_the_cohort_is_swapped(percent: int) -> None:
    world = Deployment(Phase.SWAP)
    world.move(Phase.SWAP, percent=percent)
    for number in range(20):
        name = f"u{number}"
        seen = hashlib.sha256(f"users\0{name}".encode()).digest()
        swapped = int.from_bytes(seen[:8], "big") % 100 < percent
        assert (admitted(world, jwt(name)).hand_out is not None) == swapped


# ---- the phases --------------------------------------------------------------------------------


def test_in_observe_the_app_decides_and_the_shim_only_looks() -> None:
    world = Deployment(Phase.OBSERVE)
    token = jwt(azp="ios")
    verdict = admitted(world, token)
    assert verdict.hand_out is None
    assert verdict.principal.session is None
    said = world.claims(token)
    assert verdict.shadow == Shadow("a1", "ios", None, said)
    assert world.rows() == []
    assert world.usage.take_sightings() == {
        ("users", "user-1", "a1", "ios"): Sighting(said.exp),
    }
    assert world.counted() == {("a1", "ios", "legacy"): 1}


def test_a_swap_is_counted_as_one_and_the_client_as_who_it_says() -> None:
    world = Deployment()
    admitted(world, jwt(), user_agent="ios/7 (x)")
    assert world.counted()["a1", "ios/7", "swapped"] == 1
    assert [*world.usage.take_sightings()] == [("users", "user-1", "a1", "ios/7")]


def test_presences_are_taken_by_kind_of_route() -> None:
    world = Deployment()
    admitted(world, jwt(azp="ios"), path="/users/7")
    passed_on: Route = "public"
    admitted(world, jwt(azp="ios"), path="/users/7", route=passed_on)
    assert world.usage.presences.take() == {
        Presence("a1", "ios", "k1", "/users/*"): 1,
        Presence("a1", "ios", "k1", "public"): 1,
    }


def test_in_the_cutover_a_good_token_is_refused_and_seen_by_name() -> None:
    world = Deployment(Phase.CUTOVER)
    assert world.verdict(jwt(azp="ios"), path="/x") == Refused(Reason.LEGACY_RETIRED)
    assert world.counted() == {("a1", "ios", "refused:legacy_retired"): 1}
    assert [*world.usage.take_sightings()] == [("users", "user-1", "a1", "ios")]
    assert world.usage.take_hits() == frozenset()
    assert world.usage.presences.take() == {Presence("a1", "ios", "k1", "/x"): 1}
    assert "check" not in world.store.asked


def test_in_a_brownout_it_is_known_which_one_refused_whom() -> None:
    world = Deployment()
    window = Brownout(7, NOW - HOUR, NOW + HOUR)
    world.move(Phase.DRAIN, brownouts=(window,))
    assert world.verdict(jwt(azp="ios")) == Refused(Reason.LEGACY_RETIRED)
    assert world.usage.take_hits() == {(7, "users", "user-1", "a1", "ios")}


@pytest.mark.parametrize(("by", "value"), [("issuer", "a1"), ("client", "ios"), ("cohort", "100")])
def test_an_exception_is_found_by_issuer_client_or_share(by: Any, value: str) -> None:
    world = Deployment()
    world.move(Phase.DRAIN, exceptions=(Exemption(by, value, Phase.CUTOVER),))
    assert world.verdict(jwt(azp="ios")) == Refused(Reason.LEGACY_RETIRED)
    world.move(Phase.DRAIN, exceptions=(Exemption(by, "0", Phase.CUTOVER),))
    admitted(world, jwt(azp="ios"))


def test_retired_tokens_are_refused_unread() -> None:
    world = Deployment(Phase.RETIRED)
    for token in (jwt(), forged(jwt()), jwt(lasts_s=-99)):
        assert world.verdict(token) == Refused(Reason.LEGACY_RETIRED)
    assert world.usage.take_sightings() == {}
    assert world.counted() == {("", "", "refused:legacy_retired"): 3}


def test_in_the_drain_answers_carry_the_notice() -> None:
    world = Deployment()
    world.move(Phase.DRAIN, drain_since=NOW - HOUR, sunset_at=NOW + DAY)
    assert admitted(world, jwt()).notice == Notice(NOW - HOUR, NOW + DAY)
    world.move(Phase.SWAP, drain_since=NOW - HOUR)
    assert admitted(world, jwt()).notice is None
    world.move(Phase.DRAIN, drain_since=None)
    assert admitted(world, jwt()).notice is None


def test_a_token_issued_past_the_drain_is_late() -> None:
    world = Deployment()
    world.move(Phase.DRAIN, drain_since=NOW - 100 * SECOND)
    for age, late in ((70, 0), (69, 1), (69, 1)):
        admitted(world, jwt(iat=NOW_S - age, azp="ios"))
        assert world.counted().get(("a1", "ios", "late"), 0) == late
    world.move(Phase.SWAP)
    admitted(world, jwt(iat=NOW_S))
    assert ("a1", "", "late") not in world.counted()
    world.move(Phase.DRAIN, drain_since=None)
    admitted(world, jwt(iat=NOW_S))
    assert ("a1", "", "late") not in world.counted()


# ---- what does not verify ----------------------------------------------------------------------


@pytest.mark.parametrize("phase", [Phase.SWAP, Phase.DRAIN, Phase.CUTOVER])
def test_what_does_not_verify_is_refused_and_counted(phase: Phase) -> None:
    world = Deployment(phase)
    assert world.verdict(forged(jwt()), user_agent="ios") == Refused(Reason.BAD_SIGNATURE)
    assert world.counted() == {("a1", "ios", "refused:bad_signature"): 1}


def test_what_does_not_verify_passes_while_the_app_decides() -> None:
    world = Deployment(Phase.OBSERVE)
    verdict = passed(world, forged(jwt()), user_agent="ios", route="login")
    assert verdict == Passed(Reason.BAD_SIGNATURE)
    assert verdict.shadow == Shadow("a1", "ios", Reason.BAD_SIGNATURE)
    assert world.counted() == {("a1", "ios", "passed:bad_signature"): 1}


@pytest.mark.parametrize(
    ("phase", "verdict"),
    [
        (Phase.OBSERVE, Passed(Reason.LEGACY_EXPIRED)),
        (Phase.SWAP, Passed(Reason.LEGACY_EXPIRED)),
        (Phase.DRAIN, Passed(Reason.LEGACY_EXPIRED)),
        (Phase.CUTOVER, Refused(Reason.LEGACY_EXPIRED)),
    ],
)
def test_an_expired_token_gets_the_apps_own_answer_up_to_the_drain(
    phase: Phase, verdict: Passed | Refused
) -> None:
    world = Deployment(phase)
    expired = jwt(lasts_s=-60)
    found = world.verdict(expired, user_agent="ios")
    assert found == verdict
    if isinstance(found, Passed):
        is_compared = phase is Phase.OBSERVE
        shadow = Shadow("a1", "ios", Reason.LEGACY_EXPIRED)
        assert found.shadow == (shadow if is_compared else None)
        assert world.counted() == {("a1", "ios", "passed:legacy_expired"): 1}
        strip = phase is not Phase.OBSERVE
        assert passed(world, expired, route="public").strip == strip


def test_of_several_candidates_none_is_named_for_what_does_not_verify() -> None:
    twin = replace(ISSUER, id="a2", name="twin", keys=ring_of())
    world = Deployment(Phase.SWAP, ISSUER, twin)
    header = Credential(forged(jwt()), "header", frozenset({"a1", "a2"}))
    assert world.verdict(header=header) == Refused(Reason.BAD_SIGNATURE)
    assert [*world.counted()] == [("", "", "refused:bad_signature")]
    world.move(Phase.OBSERVE)
    verdict = world.verdict(header=header)
    assert isinstance(verdict, Passed)
    assert verdict.shadow == Shadow("", None, Reason.BAD_SIGNATURE)


def test_an_unverified_token_stands_where_its_issuer_or_client_does() -> None:
    world = Deployment()
    for by, value in (("issuer", "a1"), ("client", "ios")):
        held: Any = Exemption(by, value, Phase.OBSERVE)  # type: ignore[arg-type]
        world.move(Phase.DRAIN, exceptions=(held,))
        verdict = world.verdict(forged(jwt()), user_agent="ios/7")
        assert verdict == Passed(Reason.BAD_SIGNATURE)
    held = Exemption("cohort", "100", Phase.OBSERVE)
    world.move(Phase.DRAIN, exceptions=(held,))
    assert world.verdict(forged(jwt())) == Refused(Reason.BAD_SIGNATURE)


def test_a_row_keeps_the_bucket_that_its_subject_was_swapped_under() -> None:
    world = Deployment()
    calls: list[Call] = []
    watch(calls, world.store, "swap")
    handed = admitted(world, jwt("ann")).hand_out
    assert handed is not None
    [ticket] = [call.given[1] for call in calls]
    assert ticket.percent_bucket == bucket_of("ann", "users")
    assert (ticket.swap_key_id, ticket.digest) == ("k1", tokens.digest(handed))
    assert ticket.session.created_at == ticket.session.last_seen_at == NOW


def test_of_a_token_of_several_people_the_remembered_session_says_its_scopes() -> None:
    world = Deployment()
    handed = admitted(world, jwt(scope="read")).hand_out
    assert handed is not None
    world.store.asked.clear()
    assert admitted(world, handed).principal.scopes == {"read"}
    assert world.store.asked == []


def test_a_token_without_a_kid_is_forgotten_with_its_issuers_key_of_no_name() -> None:
    anonymous = replace(ISSUER, keys=ring_of(Key(None, "HS256", SECRET)))
    world = Deployment(Phase.DRAIN, anonymous)
    token = HS.token(claims(), HS.header(kid=...))
    admitted(world, token)
    world.recent.evict(("kid", "a1", ""))
    assert world.gate.peek(presented(token)) is None


def test_p4_keys_that_were_never_fetched_are_no_refusal() -> None:
    away = replace(ISSUER, keys=Away())
    with pytest.raises(Unavailable):
        Deployment(Phase.SWAP, away).verdict(jwt())
    assert Deployment(Phase.OBSERVE, away).verdict(jwt()) == Passed()


@pytest.mark.parametrize("route", ["refresh", "logout"])
def test_a_refresh_token_passes_where_it_belongs(route: Route) -> None:
    world = Deployment()
    assert world.verdict(refresh_jwt(), route=route) == Passed()
    assert world.verdict(refresh_jwt(lasts_s=-99), route=route) == Passed()
    verdict = passed(world, forged(refresh_jwt()), route=route)
    assert verdict == Passed(Reason.BAD_SIGNATURE, strip=True)


@pytest.mark.parametrize("route", [*ROUTES, None])
def test_a_refresh_token_is_no_login_anywhere_else(route: Route | None) -> None:
    world = Deployment()
    verdict = world.verdict(refresh_jwt(), route=route)
    soft = Passed(Reason.WRONG_PURPOSE, strip=True)
    assert verdict == (soft if route else Refused(Reason.WRONG_PURPOSE))


# ---- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("agent", "client"),
    [
        (None, None),
        ("", None),
        ("  ", None),
        ("ios/7.2", "ios/7.2"),
        ("  ios/7.2 (iPhone; x) y", "ios/7.2"),
        ("a" * 80, "a" * 64),
        ("\x00\x01", None),
    ],
)
def test_a_client_is_its_user_agents_first_product(agent: str | None, client: str | None) -> None:
    assert client_of(agent) == client


def test_p5_a_login_needs_no_legacy_token() -> None:
    world = Deployment(Phase.RETIRED)
    assert world.sessions.login("ann", legacy=no_legacy).kind == "session"
