"""Every reason a credential may be refused for, and the only word about it that a client is told.

A reason is the label in metrics, the key in logs and the anchor in the playbooks. Clients see only
the coarse word of its row, since a finer one would help whoever guesses.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, TypeAlias


class Reason(StrEnum):
    """Why a credential was not admitted."""

    # the request itself
    MALFORMED_REQUEST = "malformed_request"
    REPEATED_CREDENTIAL = "repeated_credential"
    SUBJECTS_DIFFER = "subjects_differ"
    CSRF = "csrf"
    # a token of ours
    BAD_TOKEN = "bad_token"  # noqa: S105 - a reason, not a secret
    UNKNOWN_TOKEN = "unknown_token"  # noqa: S105
    SESSION_ENDED = "session_ended"
    SESSION_EXPIRED = "session_expired"
    SESSION_IDLE = "session_idle"
    SUPERSEDED = "superseded"
    # a legacy token
    OVERSIZED = "oversized"
    NOT_A_JWS = "not_a_jws"
    BAD_HEADER = "bad_header"
    BAD_PAYLOAD = "bad_payload"
    BAD_CLAIM = "bad_claim"
    BAD_TIME = "bad_time"
    BAD_SUBJECT = "bad_subject"
    WRONG_ALGORITHM = "wrong_algorithm"
    WRONG_TYPE = "wrong_type"
    WRONG_AUDIENCE = "wrong_audience"
    WRONG_PURPOSE = "wrong_purpose"
    UNKNOWN_ISSUER = "unknown_issuer"
    UNKNOWN_KEY = "unknown_key"
    BAD_SIGNATURE = "bad_signature"
    NOT_YET_VALID = "not_yet_valid"
    NO_EXPIRY = "no_expiry"
    LEGACY_EXPIRED = "legacy_expired"
    LEGACY_RETIRED = "legacy_retired"
    BRIDGE_TOKEN = "bridge_token"  # noqa: S105
    DENIED = "denied"
    CUT_OFF = "cut_off"
    # anybody's
    INACTIVE_SUBJECT = "inactive_subject"
    FOREIGN = "foreign"


Word: TypeAlias = Literal["invalid", "expired", "revoked", "legacy_retired"]

_EXPIRED = frozenset(
    {Reason.LEGACY_EXPIRED, Reason.SESSION_EXPIRED, Reason.SESSION_IDLE},
)
_REVOKED = frozenset(
    {
        Reason.SESSION_ENDED,
        Reason.SUPERSEDED,
        Reason.DENIED,
        Reason.CUT_OFF,
        Reason.INACTIVE_SUBJECT,
    },
)
_BAD_REQUEST = frozenset(
    {Reason.MALFORMED_REQUEST, Reason.REPEATED_CREDENTIAL, Reason.SUBJECTS_DIFFER},
)


def word(reason: Reason) -> Word:
    """The only word about `reason` that a client is told."""
    if reason in _EXPIRED:
        return "expired"
    if reason in _REVOKED:
        return "revoked"
    return "legacy_retired" if reason is Reason.LEGACY_RETIRED else "invalid"


def status(reason: Reason) -> Literal[400, 401, 403]:
    """The HTTP status of a refusal for `reason` (RFC 6750 section 3.1)."""
    if reason in _BAD_REQUEST:
        return 400
    return 403 if reason is Reason.CSRF else 401
