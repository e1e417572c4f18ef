"""What a claim's value may be, at the bounds."""

from __future__ import annotations

from datetime import timedelta

from migrator.core import facts
from tests.core.signers import NOW


def test_a_name_with_dots_is_one_name_where_the_payload_has_it() -> None:
    assert facts.claim({"a.b": 1, "a": {"b": 2}}, "a.b") == 1
    assert facts.claim({"a": {"b": 2}}, "a.b") == 2
    assert facts.claim({"a": 1}, "a.b") is None
    assert facts.claim({}, "a") is None


def test_no_time_is_later_than_the_last_there_is() -> None:
    assert facts.later(NOW, timedelta.max) == facts.LATEST
    assert facts.later(NOW, timedelta(days=1)) == NOW + timedelta(days=1)


def test_scopes_are_256_at_the_most() -> None:
    most = [f"s{number}" for number in range(256)]
    assert facts.words(most) == frozenset(most)
    assert facts.words([*most, "more"]) is None


def test_a_list_of_texts_is_all_of_it_texts_or_unknown() -> None:
    most = [f"m{number}" for number in range(32)]
    assert facts.strings(most) == tuple(most)
    for unknown in ([*most, "more"], ["a", ""], ["a", 1], "a", None):
        assert facts.strings(unknown) == ()
