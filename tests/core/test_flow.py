"""How a session token is judged; what strictness and the app's own word change."""

from __future__ import annotations

import asyncio

import pytest

from migrator.core import tokens
from migrator.core.flow import SubjectState, SwapKey, run
from migrator.core.verdicts import Admitted, Principal, Reason, Refused
from tests.core.deployment import DAY, Deployment

# ---- judging -----------------------------------------------------------------------------------


def test_a_session_is_admitted_as_what_its_row_says() -> None:
    world = Deployment()
    token = world.login("ann", realm="staff", client="ios", scopes=["a"], claims={"n": 1})
    verdict = world.verdict(token)
    assert verdict == Admitted(
        Principal(
            subject="ann",
            realm="staff",
            scopes=frozenset({"a"}),
            claims={"n": 1},
            client="ios",
            via="session",
            session=world.session(token),
        )
    )


@pytest.mark.parametrize("token", [b"sess_", b"sess_" + b"0" * 49, b"pat_x", b"sess_x.y.z"])
def test_p10_an_invented_token_is_refused_without_a_question(token: bytes) -> None:
    world = Deployment()
    assert world.verdict(token) == Refused(Reason.BAD_TOKEN)
    assert world.store.asked == []
    assert world.counted() == {("", "", "refused:bad_token"): 1}


def test_a_well_formed_token_that_names_nothing_is_unknown() -> None:
    world = Deployment()
    assert world.verdict(tokens.mint("sess", bytes(32))) == Refused(Reason.UNKNOWN_TOKEN)
    assert world.verdict(tokens.mint("pat", bytes(32))) == Refused(Reason.UNKNOWN_TOKEN)
    assert world.counted() == {("", "", "refused:unknown_token"): 2}


def test_a_session_that_is_over_is_refused_by_its_client() -> None:
    world = Deployment()
    token = world.login(client="ios")
    world.counted()
    world.forget()
    world.later(100 * DAY)
    assert world.verdict(token) == Refused(Reason.SESSION_EXPIRED)
    assert world.counted() == {("", "ios", "refused:session_expired"): 1}


def test_both_kinds_of_prefix_are_ours_and_no_other() -> None:
    gate = Deployment().gate
    assert gate.is_ours(b"sess_x")
    assert gate.is_ours(b"pat_x")
    assert not gate.is_ours(b"sessx")
    assert not gate.is_ours(b"xsess_")
    assert gate.well_formed(tokens.mint("sess", bytes(32)))
    assert gate.well_formed(tokens.mint("pat", bytes(32)))
    assert not gate.well_formed(tokens.mint("key", bytes(32)))


# ---- strict ------------------------------------------------------------------------------------


def test_p2_strict_asks_the_store_whatever_is_remembered_or_cached() -> None:
    world = Deployment()
    token = world.login()
    world.admit(token)
    world.store.asked.clear()
    assert isinstance(run(world.gate.judge_session(token, strict=True)), Admitted)
    assert world.store.asked == ["find"]
    strict = Deployment(strict=True)
    token = strict.login()
    strict.admit(token)
    strict.store.asked.clear()
    assert isinstance(strict.verdict(token), Admitted)
    assert "find" in strict.store.asked


# ---- the app's own word ------------------------------------------------------------------------


def test_the_hook_may_turn_a_subject_away_or_narrow_what_it_may_do() -> None:
    said: dict[str, SubjectState | None] = {
        "gone": None,
        "blocked": SubjectState(active=False),
        "as before": SubjectState(active=True),
        "less": SubjectState(active=True, scopes=frozenset()),
    }
    asked: list[tuple[str, str]] = []

    async def resolve(subject: str, realm: str) -> SubjectState | None:
        asked.append((subject, realm))
        return said[subject]

    world = Deployment(resolve=resolve)
    verdicts = {
        name: world.verdict(world.login(name, client="ios", scopes=["a"])) for name in said
    }
    assert asked == [(name, "users") for name in said]
    for name in ("gone", "blocked"):
        assert verdicts[name] == Refused(Reason.INACTIVE_SUBJECT)
    assert world.counted()["", "ios", "refused:inactive_subject"] == 2
    scopes = {
        name: it.principal.scopes for name, it in verdicts.items() if isinstance(it, Admitted)
    }
    assert scopes == {"as before": frozenset({"a"}), "less": frozenset()}


# ---- the rest ----------------------------------------------------------------------------------


def test_p6_a_swap_key_does_not_show_its_secret() -> None:
    assert repr(SwapKey("k1", b"secret")) == "SwapKey('k1')"


def test_a_flow_that_suspends_is_closed_before_it_is_refused() -> None:
    closed: list[str] = []

    async def flow() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            closed.append("closed")

    with pytest.raises(RuntimeError, match=r"^a blocking gate was given a store or hook"):
        run(flow())
    assert closed == ["closed"]
