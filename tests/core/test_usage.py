"""What is counted in memory: bounded, and never held for ever by invented names."""

from __future__ import annotations

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
