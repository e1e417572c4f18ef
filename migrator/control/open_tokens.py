"""What makes a legacy token *open*, in SQL: somebody would lose by its refusal.

It is not over, not adopted, its session not ended, it is not denied, not cut off, and its (realm,
subject, client) was not seen with a session later. A token with a row is judged by that row, one
that was only seen by its subject's. How many are open is `census.py`'s business; when the last of
them ends is told here without counting: along the index by end, down to the first that is open.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from migrator.stores.queries import in_schema

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from migrator.control.scope import Scope
    from migrator.settings import Issuer

# As `core.phases.bucket_of`: the first 8 bytes, big-endian, modulo 100; 2**32 modulo 100 is 96.
BUCKET = """(
  SELECT ((('x' || encode(substr(h, 1, 4), 'hex'))::bit(32)::bigint % 100) * 96
        + ('x' || encode(substr(h, 5, 4), 'hex'))::bit(32)::bigint) % 100
  FROM sha256(convert_to(l.realm, 'UTF8') || '\\x00'::bytea || convert_to(l.subject, 'UTF8')) h)"""

# How long after its exp a token of each issuer is still good. No CTE, which would keep the count
# to one process.
_TERMS = """(
    SELECT issuer, leeway_s * interval '1 s' AS leeway
    FROM unnest(CAST(:issuers AS text[]), CAST(:leeways AS float8[])) AS t (issuer, leeway_s)) i"""

_WITH_ROW = f"""
  SELECT t.realm, t.subject, t.issuer, coalesce(t.client, seen.client, '') AS client,
    t.exp + coalesce(i.leeway, interval '0') AS ends_at, t.last_seen_at, t.percent_bucket AS bucket
  FROM {{rows}} t
  LEFT JOIN {_TERMS} ON i.issuer = t.issuer
  LEFT JOIN {{s}}.sessions s ON s.id = t.session_id
  -- A ledger seldom says which program holds a token; whoever showed it later does.
  LEFT JOIN LATERAL (SELECT l.client FROM {{s}}.legacy_subjects l
    WHERE t.client IS NULL AND l.realm = t.realm AND l.subject = t.subject
      AND l.issuer = t.issuer AND l.max_exp = t.exp AND l.client <> ''
    ORDER BY l.last_seen_at DESC LIMIT 1) seen ON true
  WHERE t.adopted_at IS NULL AND t.exp + coalesce(i.leeway, interval '0') > :now
    AND (t.session_id IS NULL OR (s.id IS NOT NULL AND s.revoked_at IS NULL
      AND (s.expires_at IS NULL OR s.expires_at > :now)))
    AND NOT EXISTS (SELECT FROM {{s}}.denials d WHERE (d.until IS NULL OR d.until > :now)
      AND d.fingerprint = t.fingerprint)
    AND NOT EXISTS (SELECT FROM {{s}}.denials d WHERE (d.until IS NULL OR d.until > :now)
      AND d.issuer = t.issuer AND d.jti = t.jti)
    AND NOT EXISTS (SELECT FROM {{s}}.denials d WHERE (d.until IS NULL OR d.until > :now)
      AND d.issuer = t.issuer AND d.family = t.family)
    AND NOT EXISTS (SELECT FROM {{s}}.cutoffs c
      WHERE c.realm = t.realm AND c.subject = t.subject
        AND (coalesce(t.iat, t.exp) <= c.not_before OR c.not_before >= :stopped_at))
    AND NOT EXISTS (SELECT FROM {{s}}.cutoffs c
      WHERE c.issuer = t.issuer AND (c.kid IS NULL OR c.kid = t.kid))
    AND NOT EXISTS (SELECT FROM {{s}}.legacy_subjects l
      WHERE l.realm = t.realm AND l.subject = t.subject AND l.client = coalesce(t.client, '')
        AND l.session_seen_at > coalesce(t.last_seen_at, '-infinity'))"""  # noqa: S608 - constants

_SEEN_ONLY = f"""
  SELECT l.realm, l.subject, l.issuer, l.client,
    l.max_exp + coalesce(i.leeway, interval '0') AS ends_at, l.last_seen_at, {{bucket}} AS bucket
  FROM {{seen}} l
  LEFT JOIN {_TERMS} ON i.issuer = l.issuer
  WHERE l.max_exp + coalesce(i.leeway, interval '0') > :now
    AND (l.session_seen_at IS NULL OR l.session_seen_at < l.last_seen_at)
    AND NOT EXISTS (SELECT FROM {{s}}.cutoffs c
      WHERE c.realm = l.realm AND c.subject = l.subject
        AND (l.last_seen_at <= c.not_before OR c.not_before >= :stopped_at))
    AND NOT EXISTS (SELECT FROM {{s}}.cutoffs c WHERE c.issuer = l.issuer AND c.kid IS NULL)
    AND NOT EXISTS (SELECT FROM {{s}}.legacy_tokens t WHERE t.realm = l.realm
      AND t.subject = l.subject AND t.issuer = l.issuer AND t.exp = l.max_exp)"""  # noqa: S608 - constants

OPEN = (
    f"{_WITH_ROW}\n  UNION ALL{_SEEN_ONLY}".replace("{rows}", "{s}.legacy_tokens")
    .replace("{seen}", "{s}.legacy_subjects")
)  # fmt: skip

# A planner that cannot tell how many are open would sort them all to find the last: the limit is
# the fence that keeps it on the index.
_LATEST = """
WITH batch AS MATERIALIZED (
  SELECT * FROM {s}.%(table)s WHERE issuer = :issuer AND %(where)s
    AND %(end)s < CAST(:below AS timestamptz) AND %(end)s > :above
  ORDER BY %(end)s DESC FETCH FIRST :room ROWS WITH TIES)
SELECT (SELECT max(l.ends_at) FROM (%(open)s) l WHERE {scope}) AS ends_at,
  (SELECT min(%(end)s) FROM batch) AS reached
"""
# Every issuer there is, one step along the same index each: the settings may have forgotten one.
_ISSUERS = """
WITH RECURSIVE one AS (
  (SELECT issuer FROM {s}.%(table)s WHERE %(where)s ORDER BY issuer, %(end)s LIMIT 1)
  UNION ALL
  SELECT (SELECT n.issuer FROM {s}.%(table)s n WHERE n.issuer > one.issuer AND %(where)s
    ORDER BY n.issuer, n.%(end)s LIMIT 1)
  FROM one WHERE one.issuer IS NOT NULL)
SELECT issuer FROM one WHERE issuer IS NOT NULL"""

_SOURCES = (
    {
        "table": "legacy_tokens",
        "where": "adopted_at IS NULL",
        "end": "exp",
        "open": _WITH_ROW.replace("{rows}", "batch"),
    },
    {
        "table": "legacy_subjects",
        "where": "true",
        "end": "max_exp",
        "open": _SEEN_ONLY.replace("{seen}", "batch"),
    },
)
_FIRST_ROOM, _MORE = 256, 8


@dataclass(frozen=True, slots=True)
class Terms:
    """By what is judged whether a token is open.

    Args:
        stopped_at: when issuing stopped, so that a cutoff made since covers all there is.
        issuers: those of the settings: how long after its exp a token of theirs is still good.
    """

    now: datetime
    stopped_at: datetime | None
    issuers: Sequence[Issuer]

    def leeway(self, issuer: str) -> timedelta:
        """That of the issuer with this id; none, if the settings do not know it."""
        known = (one.leeway for one in self.issuers if one.id == issuer)
        return next(known, timedelta())

    def asked(self) -> dict[str, object]:
        """What the statements here are asked with."""
        return {
            "now": self.now,
            "stopped_at": self.stopped_at,
            "issuers": [one.id for one in self.issuers],
            "leeways": [one.leeway.total_seconds() for one in self.issuers],
        }


def filled(statement: str, schema: str, scope: Scope) -> tuple[str, dict[str, Any]]:
    """A statement about a schema and a scope, and what the scope is asked with."""
    where, given = scope.sql()
    bucket = BUCKET if scope.needs_buckets else "0"
    return in_schema(
        statement.replace("{scope}", where).replace("{bucket}", bucket), schema
    ), given


def last_end(connection: Connection, schema: str, terms: Terms, scope: Scope) -> datetime | None:
    """When the last open legacy token within `scope` ends, exactly; None: none is open."""
    last: datetime | None = None
    if scope.sql()[0] == "false":  # nobody: the walk would look at everybody to find that out
        return last
    for source in _SOURCES:
        statement, given = filled(_LATEST % source, schema, scope)
        for issuer in connection.scalars(text(in_schema(_ISSUERS % source, schema))).all():
            found = _latest(connection, statement, {**terms.asked(), **given}, terms, issuer, last)
            last = found or last
    return last


def _latest(
    connection: Connection,
    statement: str,
    asked: dict[str, object],
    terms: Terms,
    issuer: str,
    known: datetime | None,
) -> datetime | None:
    """The latest end of one issuer's, from one source, that is later than what is `known`."""
    above = max(known or terms.now, terms.now) - terms.leeway(issuer)
    below: object = "infinity"
    room = _FIRST_ROOM
    while True:
        step = {"issuer": issuer, "below": below, "above": above, "room": room}
        row = connection.execute(text(statement), {**asked, **step}).one()
        if row.ends_at is not None or row.reached is None:
            end: datetime | None = row.ends_at
            return end
        below, room = row.reached, room * _MORE
