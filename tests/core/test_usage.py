"""What is counted in memory: bounded, and never held for ever by invented names."""

from __future__ import annotations

import pytest

from migrator.core import usage as usage_of
from migrator.core.comparing import OTHER
from migrator.core.usage import MOST_TALLIES, QUIET_TAKES, Usage, What


def test_what_was_counted_is_taken_once() -> None:
    usage = Usage()
    usage.count("a1", "ios/7", "legacy")
    usage.count("a1", "ios/7", "legacy")
    assert usage.take_tallies() == [(What("a1", "ios/7", "legacy"), 2)]
    assert usage.take_tallies() == []


def test_what_could_not_be_written_is_taken_again() -> None:
    usage = Usage()
    usage.count("a1", None, "legacy")
    taken = usage.take_tallies()
    usage.give_back(taken)
    assert usage.take_tallies() == taken


def test_totals_only_grow_whichever_names_are_forgotten() -> None:
    usage = Usage()
    for client in ("ios/7", "invented/1", None):
        usage.count("a1", client, "legacy")
    assert usage.totals() == {("a1", "legacy"): 3}
    for _ in range(QUIET_TAKES + 2):
        usage.take_tallies()
    usage.count("a1", "ios/7", "legacy")
    assert usage.totals() == {("a1", "legacy"): 4}


def test_invented_names_count_as_one_and_give_way_in_time() -> None:
    usage = Usage()
    for number in range(MOST_TALLIES):
        usage.count("a1", f"invented/{number}", "refused:bad_signature")
    usage.count("a1", "ios/7", "legacy")
    assert (What("a1", OTHER, "legacy"), 1) in usage.take_tallies()
    for _ in range(QUIET_TAKES + 1):
        usage.take_tallies()
    usage.count("a1", "ios/7", "legacy")
    assert usage.take_tallies() == [(What("a1", "ios/7", "legacy"), 1)]


def test_a_name_lives_while_it_is_used_and_a_while_beyond() -> None:
    usage = Usage()
    tally = usage.tally(None, "ios", "session")
    for _ in range(2):
        tally.bump()
        assert len(usage.take_tallies()) == 1
        for _ in range(QUIET_TAKES):
            assert usage.take_tallies() == []
        assert usage.tally(None, "ios", "session") is tally
    usage.take_tallies()
    assert usage.tally(None, "ios", "session") is not tally
    assert usage.totals() == {("", "session"): 2}


def test_what_the_app_served_is_counted_by_route_each_time() -> None:
    usage = Usage()
    for _ in range(2):
        usage.observed("/me", "bad_signature")
        usage.count_routes()
    assert usage.totals() == {("", "route:bad_signature"): 2}


def test_each_child_has_an_era_of_its_own_and_counts_from_nothing() -> None:
    usage = Usage()
    assert usage.last_issued_at is None
    for era in (1, 2):
        usage.signed_in()
        usage.forget()
        assert usage.era == era
    usage.signed_in()
    assert usage.take_minutes([]) == {"sign_in": 1}


def test_the_rest_of_the_names_is_of_no_issuer_where_none_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(usage_of, "MOST_TALLIES", 1)
    usage = Usage()
    for client in ("ios", "web", "ios"):
        usage.count(None, client, "session")
    assert usage.take_tallies() == [
        (What("", "ios", "session"), 2),
        (What("", OTHER, "session"), 1),
    ]


def test_a_name_that_was_never_counted_is_forgotten_too() -> None:
    usage = Usage()
    tally = usage.tally(None, "ios", "session")
    for _ in range(QUIET_TAKES + 1):
        assert usage.take_tallies() == []
    assert usage.tally(None, "ios", "session") is not tally
