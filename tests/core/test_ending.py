"""Logouts: what ends with what was presented, who is told, and in which order; over no server."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest

from migrator.core import tokens
from migrator.core.errors import Refused, Unavailable
from migrator.core.flow import run
from migrator.core.interfaces import TOMBSTONE
from migrator.core.phases import Phase
from migrator.core.verdicts import Admitted, Reason
from migrator.core.verdicts import Refused as RefusedVerdict
from tests.core.deployment import (
    Call,
    Deployment,
    exchanged,
    forged,
    jwt,
    presented,
    refresh_jwt,
    watch,
)

SECOND = timedelta(seconds=1)


# ---- ending ------------------------------------------------------------------------------------


def test_p2_a_logout_ends_the_session_everywhere_here_and_tells_the_others() -> None:
    world = Deployment()
    token = world.login()
    world.admit(token)
    stamp = world.recent.stamp
    assert world.sessions.end(token.decode()) == 1
    session = world.session(token)
    assert (session.revoked_reason, session.revoked_by) == ("logout", "app")
    assert world.gate.peek(presented(token)) is None
    assert run(world.cache.get(tokens.digest(token))) is TOMBSTONE
    assert world.cache.hints == [("session", tokens.digest(token).hex())]
    assert world.recent.stamp == stamp + 1
    assert world.sessions.end(token) == 0


def test_p2_a_logout_by_id_or_by_the_id_as_text_is_the_same() -> None:
    world = Deployment()
    for as_text in (False, True):
        token = world.login()
        session_id = world.session(token).id
        assert world.sessions.end(str(session_id) if as_text else session_id) == 1
        assert (world.session(token).revoked_reason, world.session(token).revoked_by) == (
            "logout",
            "app",
        )
        assert world.verdict(token) == RefusedVerdict(Reason.SESSION_ENDED)


@pytest.mark.parametrize(
    "nobodys",
    [
        b"opaque",
        "x" * 36,
        "\u00e9" * 18,
        b"sess_nonsense",
        tokens.mint("sess", bytes(32)),
        forged(jwt()),
        jwt(lasts_s=-60),
        uuid.UUID(int=7),
        str(uuid.UUID(int=7)).encode() + b"0",
    ],
)
def test_what_is_nobodys_needs_no_ending(nobodys: Any) -> None:
    world = Deployment()
    assert world.sessions.end(nobodys) == 0


@pytest.mark.parametrize("purpose", ["access", "refresh"])
def test_p2_a_logout_by_a_legacy_token_ends_what_it_became_and_denies_it(purpose: str) -> None:
    world = Deployment()
    token = jwt(sid="f1") if purpose == "access" else refresh_jwt(sid="f1")
    if purpose == "access":
        world.admit(token)
    else:
        exchanged(world, token)
    sibling = jwt(sid="f1")
    world.admit(sibling)
    assert world.sessions.end(token) == 2
    for row in world.rows():
        assert (row.revoked_reason, row.revoked_by) == ("logout", "app")
    assert world.verdict(jwt(sid="f1")) == RefusedVerdict(Reason.DENIED)
    assert world.gate.peek(presented(sibling)) is None


def test_a_token_that_became_nothing_is_denied_and_counts_as_one() -> None:
    world = Deployment()
    token = jwt()
    assert world.sessions.end(token) == 1
    assert world.verdict(token) == RefusedVerdict(Reason.DENIED)


def test_once_retired_no_legacy_table_is_asked() -> None:
    world = Deployment(Phase.RETIRED)
    token = world.login()
    calls: list[Call] = []
    watch(calls, world.store, "family_of", "end", "end_subject")
    assert world.sessions.end(jwt()) == 0
    assert world.sessions.end(token) == 1
    world.sessions.end_all("user-1")
    assert [call.named["legacy"] for call in calls] == [False, False, False]
    world.move(Phase.CUTOVER)
    world.sessions.end(world.login())
    world.sessions.end_all("user-1")
    assert [call.named["legacy"] for call in calls[3:]] == [True, True, True]


def test_p2_everything_of_a_subject_ends_and_what_was_never_seen_is_cut_off() -> None:
    world = Deployment()
    one, two, bobs = world.login("ann"), world.login("ann"), world.login("bob")
    staff = world.login("ann", realm="staff")
    for token in (one, two):
        world.admit(token)
    stamp = world.recent.stamp
    world.cache.hints.clear()
    world.later(SECOND)
    assert world.sessions.end_all("ann") == 2
    assert world.recent.stamp == stamp + 1
    assert ("subject", "ann") in world.cache.hints
    for token in (one, two):
        assert world.gate.peek(presented(token)) is None
        assert world.verdict(token) == RefusedVerdict(Reason.SESSION_ENDED)
        assert run(world.cache.get(tokens.digest(token))) is TOMBSTONE
        assert world.session(token).revoked_reason == "end_all"
        assert world.session(token).revoked_by == "app"
        assert ("session", tokens.digest(token).hex()) in world.cache.hints
    for token in (bobs, staff):
        assert isinstance(world.verdict(token), Admitted)
    assert world.verdict(jwt("ann")) == RefusedVerdict(Reason.CUT_OFF)
    assert world.sessions.end_all("ann", realm="staff") == 1


def test_a_subject_with_nothing_to_end_is_told_to_the_others_all_the_same() -> None:
    world = Deployment()
    assert world.sessions.end_all("ann") == 0
    assert world.cache.hints == [("subject", "ann")]
    assert world.recent.suspect(("subject", "users", "ann"))


def test_nobody_is_called_what_no_row_can_hold() -> None:
    world = Deployment()
    assert world.sessions.end_all("a\0b") == 0
    assert world.sessions.list("a\0b") == ()
    assert world.store.asked == []


def test_p2_everything_else_of_a_subject_ends_and_this_session_stays() -> None:
    world = Deployment()
    mine, other = world.login("ann", realm="staff"), world.login("ann", realm="staff")
    users = world.login("ann")
    assert world.sessions.end_others(mine) == 1
    assert isinstance(world.verdict(mine), Admitted)
    assert isinstance(world.verdict(users), Admitted)
    ended = world.session(other)
    assert (ended.revoked_reason, ended.revoked_by) == ("end_others", "app")
    world.sessions.end(mine)
    for token in (mine, b"sess_x", tokens.mint("sess", bytes(32))):
        with pytest.raises(Refused) as caught:
            world.sessions.end_others(token)
        assert caught.value.reason is Reason.UNKNOWN_TOKEN


def test_a_logout_buries_before_the_commit_and_again_after_it() -> None:
    world = Deployment()
    token = world.login()
    calls: list[Call] = []
    watch(calls, world.cache, "bury", "hint")
    watch(calls, world.store, "end", "end_subject")
    world.sessions.end(token)
    assert [call.name for call in calls] == ["bury", "end", "bury", "hint"]
    calls.clear()
    world.login()
    world.sessions.end_all("user-1")
    assert [call.name for call in calls] == ["bury", "end_subject", "bury", "hint"]


# ---- listing and API tokens --------------------------------------------------------------------


def test_p4_nothing_is_ended_in_secret_while_the_store_is_away() -> None:
    world = Deployment()
    token = world.login()
    world.store.go_away("end", "end_subject", "deny")
    with pytest.raises(Unavailable):
        world.sessions.end(token)
    with pytest.raises(Unavailable):
        world.sessions.end(jwt())
    with pytest.raises(Unavailable):
        world.sessions.end_all("user-1")
    world.store.go_away("none")
    assert isinstance(world.verdict(token), Admitted)


# ---- before the commit, and beyond it ----------------------------------------------------------


def test_p2_a_session_is_buried_before_its_ending_commits() -> None:
    world = Deployment()
    token = world.login("ann")
    world.store.go_away("end")
    with pytest.raises(Unavailable):
        world.sessions.end(token)
    assert run(world.cache.get(tokens.digest(token))) is TOMBSTONE


def test_p2_a_subjects_sessions_are_buried_before_their_ending_commits() -> None:
    world = Deployment()
    token = world.login("ann")
    world.store.go_away("end_subject")
    with pytest.raises(Unavailable):
        world.sessions.end_all("ann")
    assert run(world.cache.get(tokens.digest(token))) is TOMBSTONE


def test_p2_a_denied_token_is_not_remembered_though_it_never_had_a_session() -> None:
    world = Deployment(Phase.SWAP)
    world.move(Phase.SWAP, percent=0)
    token = jwt()
    assert isinstance(world.verdict(token), Admitted)
    stamp = world.recent.stamp
    assert world.sessions.end(token) == 1
    assert world.recent.stamp == stamp + 1
    assert world.verdict(token) == RefusedVerdict(Reason.DENIED)


def test_an_id_is_a_uuid_as_it_is_printed() -> None:
    world = Deployment()
    token = world.login()
    assert world.sessions.end(world.session(token).id.hex) == 0
    assert isinstance(world.verdict(token), Admitted)


def test_a_token_that_cannot_be_ours_is_not_looked_for() -> None:
    world = Deployment()
    assert world.sessions.end(b"sess_nonsense") == 0
    assert "find" not in world.store.asked


def test_p2_others_are_told_to_look_where_a_denial_ended_no_session() -> None:
    world = Deployment()
    calls: list[Call] = []
    watch(calls, world.cache, "hint")
    assert world.sessions.end(jwt()) == 1
    assert [call.given for call in calls] == [((),)]
