"""What a client is told of each reason: one coarse word, and a status. P5 leans on it: an outage
is none of these."""

from __future__ import annotations

import pytest

from migrator.core.reasons import Reason, status, word

WORDS = {
    "expired": ["legacy_expired", "session_expired", "session_idle"],
    "revoked": ["session_ended", "superseded", "denied", "cut_off", "inactive_subject"],
    "legacy_retired": ["legacy_retired"],
}
TOLD = {Reason(reason): told for told, reasons in WORDS.items() for reason in reasons}


@pytest.mark.parametrize("reason", Reason)
def test_a_client_is_told_one_of_four_words(reason: Reason) -> None:
    """A finer one would help whoever guesses."""
    assert word(reason) == TOLD.get(reason, "invalid")


BAD_REQUESTS = {"malformed_request", "repeated_credential", "subjects_differ"}


@pytest.mark.parametrize("reason", Reason)
def test_a_refusal_is_401_but_for_requests_that_are_wrong_themselves(reason: Reason) -> None:
    """RFC 6750 section 3.1."""
    special = dict.fromkeys(BAD_REQUESTS, 400) | {"csrf": 403}
    assert status(reason) == special.get(reason.value, 401)
