"""A ledger's row held against ours: what is right, what is ours to decide, what is wrong.

What must live here: the findings, and the one statement that makes them. It judges by what a gate
would do with the token now and not by what a backfill once wrote, and shares no SQL with `plant`:
a mistake there must not be its own proof.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from migrator.control.backfill.rows import COLUMNS


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of a row, in words; a difference is what should not be."""

    words: str
    is_difference: bool = False


FINDINGS: Final[Mapping[str, Finding]] = {
    "same": Finding("as the ledger says"),
    "denied": Finding("revoked by the ledger, denied here"),
    "over": Finding("over by their own exp"),
    "ended": Finding("ended here since"),
    "barred": Finding("denied or cut off by us"),
    "newer": Finding("issued since the ledger was read: they wait for their swap"),
    "unseedable": Finding("nothing that a session can be made of"),
    "missing": Finding("no row of ours", is_difference=True),
    "not_denied": Finding("revoked by the ledger, not denied here", is_difference=True),
    "alive": Finding("revoked by the ledger, and its session lives", is_difference=True),
    "no_session": Finding("our row has no session", is_difference=True),
    "wrong_issuer": Finding("our row says another issuer", is_difference=True),
    "wrong_realm": Finding("our row says another realm", is_difference=True),
    "wrong_subject": Finding("our row says another subject", is_difference=True),
    "wrong_jti": Finding("our row says another jti", is_difference=True),
    "wrong_exp": Finding("our row says another exp", is_difference=True),
    "wrong_session": Finding("its session is somebody else's", is_difference=True),
    "outlives": Finding("its session outlives it", is_difference=True),
    "session_over": Finding("its session is over before it", is_difference=True),
    "extra": Finding("a session of ours that the ledger does not list", is_difference=True),
}

# Whole seconds are what a token says; a ledger's column may know the moment more exactly.
_SLACK: Final = "interval '1 s'"

_DENIED: Final = """(EXISTS (
    SELECT FROM {s}.denials d WHERE d.fingerprint = j.fingerprint
      AND (d.until IS NULL OR d.until > clock.at))
  OR EXISTS (
    SELECT FROM {s}.denials d WHERE d.issuer = %(issuer)s AND d.jti = j.jti
      AND (d.until IS NULL OR d.until > clock.at)))"""

_BARRED: Final = f"""({_DENIED} OR EXISTS (
    SELECT FROM {{s}}.denials d WHERE d.issuer = %(issuer)s AND d.family = j.family
      AND (d.until IS NULL OR d.until > clock.at))
  OR EXISTS (
    SELECT FROM {{s}}.cutoffs c WHERE c.issuer = %(issuer)s AND (c.kid IS NULL OR c.kid = j.kid))
  OR EXISTS (
    SELECT FROM {{s}}.cutoffs c WHERE c.realm = %(realm)s AND c.subject = j.subject
      AND coalesce(coalesce(j.iat, j.exp - CASE j.purpose WHEN 'refresh'
        THEN %(refresh_lifetime)s::interval ELSE %(lifetime)s::interval END)
        - %(skew)s::interval <= c.not_before, true)))"""  # noqa: S608 - of constants, as all here

_LIVING: Final = f"""CASE
  WHEN f.fingerprint IS NULL AND j.fingerprint IS NULL THEN 'unseedable'
  WHEN f.fingerprint IS NULL AND {_BARRED} THEN 'barred'
  WHEN f.fingerprint IS NULL AND j.iat > %(began)s::timestamptz - %(skew)s::interval THEN 'newer'
  WHEN f.fingerprint IS NULL THEN 'missing'
  WHEN f.issuer <> %(issuer)s THEN 'wrong_issuer'
  WHEN f.realm <> %(realm)s THEN 'wrong_realm'
  WHEN f.subject <> j.subject THEN 'wrong_subject'
  WHEN f.jti IS DISTINCT FROM j.jti THEN 'wrong_jti'
  WHEN abs(extract(epoch FROM f.exp - least(j.exp, %(latest)s))) > 1 THEN 'wrong_exp'
  WHEN s.id IS NULL AND clock.at > %(began)s::timestamptz + %(keep_ended)s::interval THEN 'ended'
  WHEN s.id IS NULL THEN 'no_session'
  WHEN s.realm <> f.realm OR s.subject <> f.subject THEN 'wrong_session'
  WHEN s.revoked_at IS NOT NULL THEN 'ended'
  WHEN s.expires_at > f.exp + {_SLACK}
    AND (%(rolling)s::interval IS NULL OR f.purpose <> 'refresh') THEN 'outlives'
  WHEN s.expires_at <= clock.at AND s.created_at + %(absolute)s::interval > clock.at
    THEN 'session_over'
  ELSE 'same' END"""

COMPARE: Final = f"""
WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS at),
rows ({", ".join(COLUMNS)}) AS MATERIALIZED (
{{rows}}
),
held AS (
  SELECT j.key, f.fingerprint AS of, CASE
      WHEN j.exp + %(keep)s::interval <= clock.at THEN 'over'
      WHEN j.revoked AND j.fingerprint IS NULL AND j.jti IS NULL THEN 'unseedable'
      WHEN j.revoked AND NOT {_DENIED} THEN 'not_denied'
      WHEN j.revoked AND s.revoked_at IS NULL AND s.expires_at > clock.at THEN 'alive'
      WHEN j.revoked THEN 'denied'
      WHEN j.exp <= clock.at THEN 'over'
      WHEN j.fault IS NOT NULL AND f.fingerprint IS NULL THEN 'unseedable'
      WHEN j.fault IS NOT NULL AND j.fingerprint IS NOT NULL THEN 'unseedable'
      ELSE {_LIVING} END AS finding
  FROM rows j CROSS JOIN clock
  -- A column of tokens that was blanked leaves the jti to know a row by.
  LEFT JOIN {{s}}.legacy_tokens f ON f.fingerprint = coalesce(j.fingerprint, (
    SELECT t.fingerprint FROM {{s}}.legacy_tokens t
    WHERE j.fingerprint IS NULL AND t.issuer = %(issuer)s AND t.jti = j.jti LIMIT 1))
  LEFT JOIN {{s}}.sessions s ON s.id = f.session_id)
SELECT key, finding, of FROM held ORDER BY length(key), key"""  # noqa: S608 - of constants, as all here

_OURS: Final = """
FROM {s}.legacy_tokens t JOIN {s}.sessions s ON s.id = t.session_id
WHERE t.issuer = %(issuer)s AND s.origin = 'backfill' AND s.revoked_at IS NULL
  AND t.exp > clock_timestamp()"""

OURS_SAMPLED: Final = f"""
SELECT s.id::text, t.jti, t.fingerprint {_OURS}
ORDER BY hashtextextended(encode(t.fingerprint, 'hex'), %(seed)s), t.fingerprint
LIMIT %(room)s"""

OURS_AFTER: Final = f"""
SELECT s.id::text, t.jti, t.fingerprint {_OURS} AND t.fingerprint > %(after)s
ORDER BY t.fingerprint LIMIT %(room)s"""
