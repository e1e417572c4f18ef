"""What is counted in memory until the pulse wrote it: taken once, given back whole, bounded."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from migrator.core import usage as buffers
from migrator.core.claims import Claims
from migrator.core.comparing import OTHER, Difference
from migrator.core.counting import TAKES, Counts
from migrator.core.usage import QUIET_TAKES, Sighting, Unsettled, Usage, What

AT = datetime(2026, 11, 23, tzinfo=UTC)
HOUR = timedelta(hours=1)
CLAIMS = Claims(
    issuer="a1", realm="users", subject="ann", fingerprint=bytes(32), exp=AT, keep_until=AT
)
DIFFERENCE = Difference("deny_allow", "a1", "ios", "/x", "admitted")
KEY = ("users", "ann", "a1", "ios")


# ---- issuing and logins ------------------------------------------------------------------------


def test_the_drain_horizon_is_the_largest_end_that_was_issued() -> None:
    usage = Usage()
    usage.issued(AT, None)
    assert (usage.last_issued_at, usage.issued_horizon) == (AT, None)
    usage.issued(AT + HOUR, AT + 3 * HOUR)
    usage.issued(AT + 2 * HOUR, AT + HOUR)
    assert usage.last_issued_at == AT + 2 * HOUR
    assert usage.issued_horizon == AT + 3 * HOUR


def test_a_minute_grows_by_logins_and_by_what_was_counted() -> None:
    usage = Usage()
    usage.signed_in()
    usage.signed_in()
    counted = [
        (What("a1", "", "legacy"), 1),
        (What("a1", "", "swapped"), 2),
        (What("", "", "session"), 4),
        (What("a1", "", "refused:legacy_retired"), 8),
        (What("a1", "", "refused:denied"), 16),
    ]
    taken = usage.take_minutes(counted)
    assert taken == {"sign_in": 2, "legacy": 3, "session": 4, "refused": 8}
    assert usage.take_minutes([]) == {}
    usage.give_back_minutes(taken)
    usage.give_back_minutes({})
    usage.signed_in()
    assert usage.take_minutes([]) == {"sign_in": 3}


# ---- sightings ---------------------------------------------------------------------------------


def test_a_subject_is_seen_with_its_largest_exp_and_lost_in_no_outage() -> None:
    usage = Usage()
    later = replace(CLAIMS, exp=AT + HOUR)
    for claims in (CLAIMS, later, CLAIMS):
        usage.saw(claims, "ios")
    usage.saw(CLAIMS, None)
    taken = usage.take_sightings()
    assert taken == {KEY: Sighting(AT + HOUR), (*KEY[:3], ""): Sighting(AT)}
    assert usage.take_sightings() == {}
    usage.saw(CLAIMS, "ios")
    usage.give_back_sightings(taken)
    assert usage.take_sightings() == taken
    usage.saw(replace(CLAIMS, exp=AT + 2 * HOUR), "ios")
    usage.give_back_sightings(taken)
    assert usage.take_sightings()[KEY] == Sighting(AT + 2 * HOUR)
    assert usage.take_hits() == frozenset()


def test_sightings_and_hits_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers, "MOST_SUBJECTS", 2)
    usage = Usage()
    for name in ("a", "b", "c"):
        usage.saw(replace(CLAIMS, subject=name), None, brownout=1)
    usage.saw(replace(CLAIMS, subject="a", exp=AT + HOUR), None)
    taken = usage.take_sightings()
    assert [key[1] for key in taken] == ["a", "b"]
    assert next(iter(taken.values())) == Sighting(AT + HOUR)
    assert {hit[2] for hit in usage.take_hits()} == {"a", "b"}
    usage.saw(replace(CLAIMS, subject="d"), None)
    usage.give_back_sightings(taken)
    assert len(usage.take_sightings()) == 2


def test_whom_a_brownout_refused_is_told_once_and_lost_in_no_outage() -> None:
    usage = Usage()
    usage.saw(CLAIMS, "ios", brownout=7)
    usage.saw(CLAIMS, "ios", brownout=7)
    taken = usage.take_hits()
    assert taken == {(7, *KEY)}
    assert usage.take_hits() == frozenset()
    usage.give_back_hits(taken)
    assert usage.take_hits() == taken


# ---- routes and differences --------------------------------------------------------------------


def test_routes_are_counted_and_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers, "MOST_TALLIES", 1)
    usage = Usage()
    for path in ("/a", "/a", "/b"):
        usage.observed(path, "denied")
    assert usage.routes == {("/a", "denied"): 2}
    usage.count_routes()
    usage.count_routes()
    assert usage.routes == {}
    assert usage.take_tallies() == [(What("", "/a", "route:denied"), 2)]


def test_a_difference_is_counted_by_kind_and_as_a_pair() -> None:
    usage = Usage()
    usage.differ(DIFFERENCE)
    usage.differ(DIFFERENCE, 2)
    assert usage.differences.take() == {DIFFERENCE: 3}
    assert usage.take_tallies() == [(What("a1", "ios", "pair:deny_allow"), 3)]


def test_what_may_be_a_revocation_under_way_is_held_back() -> None:
    usage = Usage()
    usage.suspect(DIFFERENCE, CLAIMS, 5)
    usage.suspect(DIFFERENCE, CLAIMS, 9)
    key = DIFFERENCE, CLAIMS.fingerprint
    assert usage.take_unsettled(4) == {}
    taken = usage.take_unsettled(5)
    assert taken == {key: Unsettled(CLAIMS, 5, 2)}
    assert usage.take_unsettled(5) == {}
    usage.give_back_unsettled(taken)
    assert usage.take_unsettled(5) == taken
    usage.suspect(DIFFERENCE, CLAIMS, 7)
    usage.give_back_unsettled(taken)
    assert usage.take_unsettled(7) == {key: Unsettled(CLAIMS, 7, 3)}
    assert usage.differences.take() == {}


def test_what_there_is_no_room_to_hold_back_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers, "MOST_UNSETTLED", 1)
    usage = Usage()
    usage.suspect(DIFFERENCE, CLAIMS, 1)
    other = replace(CLAIMS, fingerprint=b"x" * 32)
    usage.suspect(DIFFERENCE, other, 1)
    assert usage.differences.take() == {DIFFERENCE: 1}
    assert len(usage.take_unsettled(1)) == 1


# ---- tallies -----------------------------------------------------------------------------------


def test_what_was_given_back_comes_again_with_what_is_new() -> None:
    usage = Usage()
    what = What("a1", "ios", "legacy")
    usage.count("a1", "ios", "legacy")
    taken = usage.take_tallies()
    usage.count("a1", "ios", "legacy")
    usage.give_back(taken)
    usage.give_back([(What("b", "", "x"), 1)])
    assert usage.take_tallies() == [(what, 2)]


def test_a_name_that_came_back_is_not_quiet() -> None:
    usage = Usage()
    usage.count("a1", "ios", "legacy")
    for _ in range(2):
        usage.take_tallies()
        for _ in range(QUIET_TAKES):
            usage.take_tallies()
        tally = usage.tally("a1", "ios", "legacy")
        usage.count("a1", "ios", "legacy")
        assert usage.tally("a1", "ios", "legacy") is tally
    assert usage.take_tallies() == [(What("a1", "ios", "legacy"), 1)]
    assert usage.totals() == {("a1", "legacy"): 3}


def everything(usage: Usage) -> None:
    usage.count("a1", "ios", "legacy")
    usage.signed_in()
    usage.saw(CLAIMS, "ios", brownout=7)
    usage.observed("/a", "denied")
    usage.differ(DIFFERENCE)
    usage.suspect(DIFFERENCE, CLAIMS, 1)
    usage.issued(AT, AT)


def left(usage: Usage) -> list[object]:
    return [
        usage.take_tallies(),
        usage.take_minutes([]),
        usage.take_sightings(),
        usage.take_hits(),
        usage.differences.take(),
        usage.take_unsettled(9),
    ]


def test_a_child_begins_anew() -> None:
    usage = Usage()
    everything(usage)
    usage.forget()
    assert not any(left(usage))
    assert usage.totals() == {}
    assert usage.routes == {}
    assert usage.era == 1
    assert usage.last_issued_at is None
    assert usage.issued_horizon is None


def test_once_retired_what_nobody_asks_for_is_let_go() -> None:
    usage = Usage()
    everything(usage)
    usage.drop()
    assert not any(left(usage))
    assert usage.totals() == {("a1", "legacy"): 1, ("a1", "pair:deny_allow"): 1}


# ---- counts by key -----------------------------------------------------------------------------


def test_counts_beyond_their_room_are_folded_and_given_back_whole() -> None:
    counts: Counts[Difference] = Counts(room=1)
    other = replace(DIFFERENCE, route="/y")
    counts.add(DIFFERENCE)
    counts.add(other, 2)
    folded = replace(DIFFERENCE, route=OTHER, client=OTHER)
    taken = counts.take()
    assert taken == {DIFFERENCE: 1, folded: 2}
    counts.add(DIFFERENCE, 3)
    counts.give_back(taken)
    assert counts.take() == {DIFFERENCE: 4, folded: 2}
    assert counts.take() == {}


def test_what_folding_leaves_is_bounded_too() -> None:
    counts: Counts[Difference] = Counts(room=1)
    for issuer in ("a1", "a2", "a3"):
        counts.add(replace(DIFFERENCE, issuer=issuer))
    taken = counts.take()
    assert [key.issuer for key in taken] == ["a1", "a2"]


def test_a_key_is_known_for_an_hour_of_takes() -> None:
    counts: Counts[Difference] = Counts(room=1)
    counts.add(DIFFERENCE)
    other = replace(DIFFERENCE, route="/y")
    for _ in range(TAKES - 1):
        counts.take()
    counts.add(other)
    assert other not in counts.take()
    counts.add(other)
    assert counts.take() == {other: 1}
    counts.forget()
    counts.add(DIFFERENCE)
    assert counts.take() == {DIFFERENCE: 1}
