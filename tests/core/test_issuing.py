"""Logins, what the app makes in their place, and API tokens; over no server."""

from __future__ import annotations

import asyncio
import inspect
from datetime import timedelta
from typing import Any

import pytest

from migrator.core import tokens
from migrator.core.app import AsyncSessions, Issued, Sessions
from migrator.core.flow import run
from migrator.core.interfaces import TOMBSTONE
from migrator.core.phases import Exemption, Phase
from migrator.core.verdicts import Admitted, Reason
from migrator.core.verdicts import Refused as RefusedVerdict
from tests.core.deployment import (
    DAY,
    HOUR,
    MADE,
    Call,
    Deployment,
    jwt,
    made,
    no_legacy,
    refresh_jwt,
    token_of,
    watch,
)
from tests.core.signers import NOW

SECOND = timedelta(seconds=1)


# ---- login -------------------------------------------------------------------------------------


def test_a_login_is_a_session_that_says_what_the_app_said() -> None:
    world = Deployment()
    issued = world.sessions.login(
        "ann",
        client="ios",
        realm="staff",
        scopes=["read"],
        claims={"name": "Ann"},
        legacy=no_legacy,
    )
    session = world.session(token_of(issued))
    assert issued.expires_at == session.expires_at == NOW + 90 * DAY
    assert (session.subject, session.realm, session.client) == ("ann", "staff", "ios")
    assert (session.kind, session.origin) == ("session", "login")
    assert session.scopes == {"read"}
    assert session.claims == {"name": "Ann"}
    assert session.created_at == session.last_seen_at == session.auth_time == NOW
    assert world.counted() == {("", "ios", "issued:session"): 1}
    assert world.usage.take_minutes([]) == {"sign_in": 1}


def test_a_login_is_of_the_settings_realm_unless_it_says_another() -> None:
    world = Deployment(login_realm="home")
    assert world.session(world.login()).realm == "home"


def test_each_login_is_given_another_token_drawn_from_the_secret() -> None:
    world = Deployment()
    assert world.login() == tokens.mint("sess", (1).to_bytes(32, "big"))
    assert world.login() == tokens.mint("sess", (2).to_bytes(32, "big"))


@pytest.mark.parametrize(
    ("phase", "kind"),
    [
        (Phase.OBSERVE, "legacy"),
        (Phase.SWAP, "session"),
        (Phase.DRAIN, "session"),
        (Phase.CUTOVER, "session"),
        (Phase.RETIRED, "session"),
    ],
)
def test_the_phase_says_what_a_login_gives(phase: Phase, kind: str) -> None:
    world = Deployment(phase)
    issued = world.sessions.login("ann", legacy=made)
    assert issued.kind == kind
    if kind == "legacy":
        assert issued == Issued(MADE, "legacy")
        assert world.counted() == {("", "", "issued:legacy"): 1}
        assert world.usage.take_minutes([]) == {"sign_in": 1}


def test_a_login_outside_the_cohort_gets_what_the_app_makes() -> None:
    world = Deployment(Phase.SWAP)
    world.move(Phase.SWAP, percent=0)
    assert world.sessions.login("ann", legacy=made).kind == "legacy"
    held = Exemption("client", "ios", Phase.DRAIN)
    world.move(Phase.SWAP, exceptions=(held,))
    assert world.sessions.login("ann", client="ios", legacy=made).kind == "session"
    assert world.sessions.login("ann", client="web", legacy=made).kind == "legacy"


@pytest.mark.parametrize("percent", range(0, 101, 10))
def test_a_cohort_goes_by_the_subject_of_its_realm(percent: int) -> None:
    world = Deployment(Phase.SWAP)
    world.move(Phase.SWAP, percent=percent)
    legacy = world.verdict(jwt("ann"))
    assert isinstance(legacy, Admitted)
    is_in = legacy.hand_out is not None
    assert (world.sessions.login("ann", legacy=made).kind == "session") == is_in


@pytest.mark.parametrize(
    "wrong",
    [
        {"subject": ""},
        {"subject": "a\0b"},
        {"subject": "a" * 256},
        {"scopes": ["a\0b"]},
        {"scopes": ["fine", ""]},
        {"claims": {"name": "\0"}},
        {"claims": {"\ud800": 1}},
    ],
)
def test_what_no_row_can_hold_is_said_where_the_app_issues_it(wrong: dict[str, Any]) -> None:
    world = Deployment()
    arguments: dict[str, Any] = {"subject": "ann", "legacy": no_legacy, **wrong}
    with pytest.raises(ValueError, match="control characters"):
        world.sessions.login(**arguments)
    assert world.rows("ann") == []


def test_a_client_is_kept_as_plain_text() -> None:
    world = Deployment()
    assert world.session(world.login(client="i\0os" + "x" * 300)).client == "ios" + "x" * 252
    assert world.session(world.login(client="")).client is None


def test_beyond_the_cap_the_oldest_login_ends_and_nothing_admits_it() -> None:
    world = Deployment(per_subject=2)
    first = world.login()
    world.admit(first)
    world.later(SECOND)
    second = world.login()
    world.later(SECOND)
    third = world.login()
    world.cache.hints.clear()
    assert world.verdict(first) == RefusedVerdict(Reason.SESSION_ENDED)
    for token in (second, third):
        assert isinstance(world.verdict(token), Admitted)
    assert run(world.cache.get(tokens.digest(first))) is TOMBSTONE


def test_p6_what_was_issued_does_not_show_its_token() -> None:
    world = Deployment()
    issued = world.sessions.login("ann", legacy=no_legacy)
    assert repr(issued) == f"Issued(session, until {issued.expires_at})"


# ---- what the app makes ------------------------------------------------------------------------


def test_what_the_app_makes_is_handed_on_and_its_end_noted_for_the_drain() -> None:
    world = Deployment(Phase.OBSERVE)
    pair = {
        "access": jwt(lasts_s=60).decode(),
        "refresh": refresh_jwt(lasts_s=99).decode(),
        "expires_in": 60,
    }
    assert world.sessions.login("ann", legacy=lambda: pair).token is pair
    assert world.usage.last_issued_at == NOW
    assert world.usage.issued_horizon == NOW + 99 * SECOND
    world.sessions.login("ann", legacy=lambda: jwt(lasts_s=120).decode())
    assert world.usage.issued_horizon == NOW + 120 * SECOND
    world.sessions.login("ann", legacy=lambda: "no \ud800 jwt")
    assert world.usage.issued_horizon == NOW + 120 * SECOND
    assert world.counted() == {("", "", "issued:legacy"): 3}


def test_an_async_app_may_make_it_async() -> None:
    world = Deployment(Phase.OBSERVE)
    sessions = AsyncSessions(**world.parts)

    async def later() -> str:
        await asyncio.sleep(0)
        return MADE

    async def flow() -> None:
        assert await sessions.login("ann", legacy=later) == Issued(MADE, "legacy")
        assert await sessions.exchange(refresh_jwt(), legacy=later) == Issued(MADE, "legacy")
        world.move(Phase.DRAIN)
        issued = await sessions.login(
            "ann", client="ios", realm="staff", scopes=["a"], claims={"n": 1}, legacy=later
        )
        token = token_of(issued)
        session = world.session(token)
        assert (session.client, session.scopes) == ("ios", frozenset({"a"}))
        assert session.claims == {"n": 1}
        assert [*await sessions.list("ann", realm="staff")] == [session]
        other = token_of(await sessions.login("ann", realm="staff", legacy=later))
        assert await sessions.end_others(token) == 1
        assert world.session(other).revoked_by == "app"
        assert await sessions.end(token) == 1
        made = await sessions.create_api_token(
            "ann", label="ci", realm="staff", scopes=["a"], expires_at=NOW + HOUR
        )
        api = world.session(token_of(made))
        assert (api.label, api.realm, api.scopes) == ("ci", "staff", frozenset({"a"}))
        assert api.expires_at == NOW + HOUR
        assert await sessions.end_all("ann", realm="staff") == 1
        ended = world.session(token_of(made))
        assert (ended.revoked_reason, ended.revoked_by) == ("end_all", "app")
        assert (world.session(token).revoked_reason, world.session(token).revoked_by) == (
            "logout",
            "app",
        )

    asyncio.run(flow())


def test_both_colours_offer_the_same() -> None:
    def surface(kind: type) -> dict[str, list[str]]:
        return {
            name: [*inspect.signature(each).parameters]
            for name, each in vars(kind).items()
            if not name.startswith("_")
        }

    assert surface(Sessions) == surface(AsyncSessions)


# ---- listing and API tokens --------------------------------------------------------------------


def test_the_living_sessions_of_a_subject_are_listed_newest_first() -> None:
    world = Deployment(login_realm="home")
    first = world.login()
    world.later(SECOND)
    second = world.login()
    world.sessions.end(world.login())
    listed = world.sessions.list("user-1")
    assert [*listed] == [world.session(second), world.session(first)]
    assert world.sessions.list("user-1", realm="users") == []


def test_an_api_token_has_no_end_but_the_one_given_and_no_cap_ends_it() -> None:
    world = Deployment(per_subject=1, login_realm="home")
    issued = world.sessions.create_api_token("ann", label="ci\0" + "x" * 300, scopes=["read"])
    token = token_of(issued)
    assert token.startswith(b"pat_")
    assert issued.expires_at is None
    session = world.session(token)
    assert (session.kind, session.origin, session.realm) == ("api", "login", "home")
    assert (session.subject, session.label) == ("ann", "ci" + "x" * 253)
    assert session.created_at == NOW
    assert session.scopes == {"read"}
    world.login("ann", realm="home")
    world.forget()
    world.later(3000 * DAY)
    assert isinstance(world.verdict(token), Admitted)
    issued = world.sessions.create_api_token(
        "ann", label="x", realm="staff", expires_at=world.now + HOUR
    )
    assert issued.expires_at == world.now + HOUR
    assert world.session(token_of(issued)).realm == "staff"
    with pytest.raises(ValueError, match="control characters"):
        world.sessions.create_api_token("", label="x")
    with pytest.raises(ValueError, match=r"^scopes and claims hold no"):
        world.sessions.create_api_token("ann", label="x", scopes=["\0"])


# ---- before the commit, and beyond it ----------------------------------------------------------


def test_that_the_app_issued_is_noted_whatever_it_made() -> None:
    world = Deployment(Phase.OBSERVE)
    made: dict[str, object] = {"expires_in": 60}
    world.sessions.login("ann", legacy=lambda: made)
    assert world.usage.last_issued_at == NOW


def test_p2_others_are_told_of_what_a_cap_ended() -> None:
    world = Deployment(per_subject=1)
    first = world.login()
    world.later(SECOND)
    world.cache.hints.clear()
    world.login()
    assert world.cache.hints == [("session", tokens.digest(first).hex())]


@pytest.mark.parametrize(("phase", "there"), [(Phase.DRAIN, True), (Phase.RETIRED, False)])
def test_once_retired_a_login_leaves_the_legacy_tables_alone(phase: Phase, there: bool) -> None:
    world = Deployment(phase)
    calls: list[Call] = []
    watch(calls, world.store, "create")
    world.login()
    assert [call.named["legacy"] for call in calls] == [there]
