"""Small values of core: what is kept of a client, the database's clock, errors, reasons."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest

from migrator.core.bridge import Signer
from migrator.core.claims import Claims
from migrator.core.clock import DatabaseClock, elapsed_ns
from migrator.core.comparing import Difference, Presence, Shadow
from migrator.core.errors import BadSettings, Exit, Problem, Refused, Stopped, Unavailable
from migrator.core.ids import uuid7
from migrator.core.presented import Credential, Presented
from migrator.core.reasons import Reason, Word, status, word
from migrator.core.seen import kept_ip, plain
from migrator.core.sessions import Limits, Session, exchange_end, idle_end
from migrator.core.verdicts import Admitted, Principal
from tests.core.signers import NOW

AT = datetime(2026, 11, 23, 12, tzinfo=UTC)


# ---- seen --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "most", "kept"),
    [
        (None, 5, None),
        ("", 5, None),
        ("\0\x1f\ud800", 5, None),
        ("abc", 5, "abc"),
        ("abcdefg", 5, "abcde"),
        ("\0a\ud800b", 5, "ab"),
        ("\0" * 8 + "abc", 2, None),
        ("\0" * 7 + "abc", 2, "a"),
    ],
)
def test_what_is_kept_of_a_text_can_be_printed_and_is_bounded(
    text: str | None, most: int, kept: str | None
) -> None:
    assert plain(text, most) == kept


@pytest.mark.parametrize(
    ("ip", "full", "truncated"),
    [
        (None, None, None),
        ("192.0.2.77", "192.0.2.77", "192.0.2.0"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2:3::4", "2001:db8:1::"),
        ("unix:", "unix:", None),
        ("x" * 70, "x" * 64, None),
    ],
)
def test_of_an_address_is_kept_what_is_asked_for(
    ip: str | None, full: str | None, truncated: str | None
) -> None:
    assert kept_ip(ip, "full") == full
    assert kept_ip(ip, "truncated") == truncated
    assert kept_ip(ip, "off") is None


# ---- the clock ---------------------------------------------------------------------------------


def test_the_databases_time_goes_on_by_the_local_clock() -> None:
    ticks = 10**15
    clock = DatabaseClock(lambda: ticks)
    assert not clock.is_set
    clock.learn(AT)
    assert clock.is_set
    assert clock.now() == AT
    ticks += 1_500_000_000
    assert clock.now() == AT + timedelta(seconds=1.5)
    assert clock.ticks() == ticks
    assert clock.ticks_at(AT) == 10**15
    assert clock.ticks_at(AT + timedelta(seconds=2)) == 10**15 + 2 * 10**9
    clock.learn(AT)
    assert clock.now() == AT


def test_the_local_clock_never_goes_back() -> None:
    first, second = elapsed_ns(), elapsed_ns()
    assert 0 < first <= second


def test_ids_are_version_7_and_ordered_by_the_millisecond() -> None:
    ids = [uuid7() for _ in range(50)]
    assert {each.version for each in ids} == {7}
    assert {each.variant for each in ids} == {"specified in RFC 4122"}
    assert len({*ids}) == 50
    stamps = [each.int >> 80 for each in ids]
    assert stamps == sorted(stamps)
    assert abs(stamps[0] / 1000 - datetime.now(UTC).timestamp()) < 60


# ---- errors ------------------------------------------------------------------------------------


def test_a_problem_is_a_small_page() -> None:
    problem = Problem("x.y", "it is so", "because", "do that")
    assert str(problem) == "x.y: it is so\n  why: because\n  do:  do that"
    stopped = Stopped(problem, Exit.UNFIT)
    assert (stopped.problem, stopped.exit_code, str(stopped)) == (problem, 5, str(problem))
    both = BadSettings((problem, problem))
    assert both.problems == (problem, problem)
    assert str(both) == f"{problem}\n{problem}"


def test_p4_what_could_not_be_asked_says_which_store_and_why() -> None:
    error = Unavailable("Postgres", "no answer")
    assert (error.store, error.why) == ("Postgres", "no answer")
    assert str(error) == "Postgres could not be asked: no answer"
    assert str(Unavailable("Redis")) == "Redis could not be asked"
    assert Unavailable("Redis").why == ""


def test_a_refusal_says_its_reason_and_nothing_of_the_credential() -> None:
    refused = Refused(Reason.DENIED)
    assert (refused.reason, str(refused)) == (Reason.DENIED, "denied")


# ---- reasons -----------------------------------------------------------------------------------


def test_a_client_is_told_one_of_four_words() -> None:
    told = {reason: word(reason) for reason in Reason}
    assert {*told.values()} == {*get_args(Word)}
    assert {reason for reason in Reason if told[reason] == "expired"} == {
        Reason.LEGACY_EXPIRED,
        Reason.SESSION_EXPIRED,
        Reason.SESSION_IDLE,
    }
    assert {reason for reason in Reason if told[reason] == "revoked"} == {
        Reason.SESSION_ENDED,
        Reason.SUPERSEDED,
        Reason.DENIED,
        Reason.CUT_OFF,
        Reason.INACTIVE_SUBJECT,
    }
    assert [reason for reason in Reason if told[reason] == "legacy_retired"] == [
        Reason.LEGACY_RETIRED
    ]


def test_a_refusal_is_401_but_for_a_request_that_is_wrong_in_itself() -> None:
    others = {reason: status(reason) for reason in Reason if status(reason) != 401}
    assert others == {
        Reason.MALFORMED_REQUEST: 400,
        Reason.REPEATED_CREDENTIAL: 400,
        Reason.SUBJECTS_DIFFER: 400,
        Reason.CSRF: 403,
    }


# ---- what is shown -----------------------------------------------------------------------------


def test_p6_no_value_shows_a_credential() -> None:
    assert repr(Credential(b"secret", "header")) == "Credential(6 bytes, header)"
    admitted = Admitted(Principal("ann", "users"), b"secret")
    assert repr(admitted) == f"Admitted({admitted.principal!r}, handing out a token)"
    admitted = Admitted(Principal("ann", "users"))
    assert repr(admitted) == f"Admitted({admitted.principal!r}, handing out nothing)"
    assert repr(Signer("HS256", "k1", b"secret")) == "Signer(kid='k1', alg='HS256')"


def test_every_place_of_a_request_is_found() -> None:
    several = [Credential(bytes([each]), "cookie") for each in range(6)]
    request = Presented(
        header=several[0],
        session_cookie=several[1],
        legacy=several[2],
        session_copies=(several[3],),
        legacy_copies=(several[4],),
        others=(several[5],),
    )
    assert request.everything() == tuple(several)
    assert Presented().everything() == ()


def test_the_copy_that_was_chosen_takes_the_first_ones_place() -> None:
    one, two, three = (Credential(b"x", "cookie") for _ in range(3))
    for first, rest in (("session_cookie", "session_copies"), ("legacy", "legacy_copies")):
        given: dict[str, Any] = {first: one, rest: (two, three)}
        request = Presented(**given)
        request.let_speak(two)
        assert getattr(request, first) is two
        left = getattr(request, rest)
        assert len(left) == 2
        assert left[0] is one
        assert left[1] is three
        request.let_speak(Credential(b"x", "cookie"))
        assert getattr(request, first) is two


# ---- ends of sessions --------------------------------------------------------------------------


def test_a_session_lies_unused_from_its_last_use_or_its_beginning() -> None:
    session = Session(
        id=uuid7(),
        kind="session",
        realm="users",
        subject="ann",
        created_at=AT,
        expires_at=None,
        origin="login",
    )
    hour, minute = timedelta(hours=1), timedelta(minutes=1)
    assert idle_end(session, idle=hour, grain=minute) == AT + hour + minute
    used = replace(session, last_seen_at=AT + hour)
    assert idle_end(used, idle=hour, grain=minute) == AT + 2 * hour + minute


def test_p3_an_exchange_ends_as_late_as_its_chain_and_no_later_than_any_session() -> None:
    day = timedelta(days=1)
    limits = Limits(idle=day, absolute=90 * day)

    def ends(legacy: timedelta, rolling: timedelta | None) -> timedelta:
        return exchange_end(legacy_end=AT + legacy, now=AT, limits=limits, rolling=rolling) - AT

    assert ends(10 * day, None) == 10 * day
    assert ends(10 * day, 30 * day) == 30 * day
    assert ends(40 * day, 30 * day) == 40 * day
    assert ends(10 * day, 99 * day) == 90 * day


# ---- differences -------------------------------------------------------------------------------


def said(**more: object) -> Claims:
    told: dict[str, object] = {
        "issuer": "a1",
        "realm": "users",
        "subject": "ann",
        "fingerprint": bytes(32),
        "exp": AT,
        "keep_until": AT,
        **more,
    }
    return Claims(**told)  # type: ignore[arg-type]


def test_a_token_that_is_nearly_over_is_ending() -> None:
    shadow = Shadow("a1", None, None, said())
    assert not shadow.is_ending(AT - timedelta(seconds=10))
    assert shadow.is_ending(AT - timedelta(seconds=9))
    assert not Shadow("a1", None).is_ending(AT)


def test_a_shadow_that_is_refused_for_more_than_its_token_admits_nobody() -> None:
    shadow = Shadow("a1", "ios", None, said())
    assert shadow.refusing(Reason.CSRF) == Shadow("a1", "ios", Reason.CSRF, None)


def test_a_difference_is_named_by_what_the_shim_would_do() -> None:
    shadow = Shadow("a1", None)
    assert shadow.differs("deny_allow", "/users/7?x") == Difference(
        "deny_allow", "a1", "", "/users/*", "admitted"
    )
    refused = Shadow("a1", "ios", Reason.DENIED).differs("allow_deny", "/x")
    assert refused == Difference("allow_deny", "a1", "ios", "/x", "denied")
    assert refused.folded() == Difference("allow_deny", "a1", "(other)", "(other)", "denied")


def test_a_presence_is_named_by_client_key_and_route() -> None:
    kid = "k\0" + "1" * 99
    presence = Presence.of(said(kid=kid), client="ios", route="/x")
    assert presence == Presence("a1", "ios", "k" + "1" * 63, "/x")
    assert Presence.of(said(), client=None, route="/x") == Presence("a1", "", "", "/x")
    assert presence.folded() == Presence("a1", "(other)", presence.kid, "(other)")


@pytest.mark.parametrize("milliseconds", [2, 3])
def test_an_id_begins_with_its_millisecond(
    monkeypatch: pytest.MonkeyPatch, milliseconds: int
) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: milliseconds * 1_000_000)
    for _ in range(64):
        made = uuid7()
        assert (made.int >> 80, made.version) == (milliseconds, 7)


def test_the_clock_is_whole_and_never_ahead() -> None:
    tick = 0
    clock = DatabaseClock(lambda: tick)
    clock.learn(NOW)
    tick = 1_999
    assert clock.now() == NOW + timedelta(microseconds=1)
    assert isinstance(clock.ticks_at(NOW), int)
    assert clock.ticks_at(NOW) == 0
