"""What brownouts taught: how those whom they refused came back, by client.

Whoever was refused and was seen with a session since came back silently; who logged in anew had to
sign in; who still presented a legacy token after the window was broken by it, and would be for
good by a cutover: a machine, or somebody who waited. Who was not seen since taught nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from migrator.stores.queries import in_schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from migrator.control.brownouts.rows import Row

# Living and ended sessions apart: each half has an index of its own.
_LOGIN = """SELECT FROM {s}.sessions s
      WHERE s.realm = h.realm AND s.subject = h.subject AND s.created_at >= h.first_at
        AND s.created_at < h.over_at + interval '1 day'
        AND (s.origin = 'login' OR s.auth_time >= h.first_at)
        AND (s.client IS NULL OR h.client = ''
          OR split_part(s.client, '/', 1) = split_part(h.client, '/', 1))"""

# Whoever logs in later than a day after it does so for other reasons.
# The grace is for what nodes had buffered when the window ended.
_OUTCOMES = """
WITH hit AS (
  SELECT h.*, w.over_at FROM {s}.brownout_hits h
  JOIN unnest(CAST(:ids AS bigint[]), CAST(:ends AS timestamptz[])) AS w (id, over_at)
    ON w.id = h.brownout
  WHERE :every <= 1 OR abs(hashtext(h.subject)::bigint) % :every = 0),
came AS (
  SELECT h.brownout, h.issuer, h.client, CASE
    WHEN l.last_seen_at > h.over_at + interval '5 s'
      AND (l.session_seen_at IS NULL OR l.session_seen_at < l.last_seen_at) THEN 'still'
    WHEN EXISTS ({login} AND s.revoked_at IS NULL)
      OR EXISTS ({login} AND s.revoked_at IS NOT NULL) THEN 'signed_in'
    WHEN l.session_seen_at > h.first_at THEN 'silent'
    ELSE 'unseen' END AS outcome
  FROM hit h LEFT JOIN {s}.legacy_subjects l ON l.realm = h.realm AND l.subject = h.subject
    AND l.issuer = h.issuer AND l.client = h.client)
SELECT brownout, issuer, client,
  count(*) FILTER (WHERE outcome = 'silent') AS silent,
  count(*) FILTER (WHERE outcome = 'signed_in') AS signed_in,
  count(*) FILTER (WHERE outcome = 'still') AS still,
  count(*) FILTER (WHERE outcome = 'unseen') AS unseen
FROM came GROUP BY brownout, issuer, client ORDER BY count(*) DESC, client, issuer"""

# Status must not wade through everybody a brownout met; the shares of so many are as good.
ENOUGH = 2_000
# The clients of long ago have been updated since.
_LATEST = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How the subjects of one brownout, issuer and client came back."""

    brownout: int
    issuer: str
    client: str
    silent: int
    signed_in: int
    still: int
    unseen: int

    @property
    def hit(self) -> int:
        """How many it refused."""
        return self.silent + self.signed_in + self.still + self.unseen


@dataclass(frozen=True, slots=True)
class Shares:
    """Of those who were seen again: how many came back silently, and how many signed in."""

    silent: float
    sign_in: float

    def of(self, subjects: int) -> tuple[int, int, int]:
        """Of so many: silently, by signing in, and not at all."""
        silent = round(self.silent * subjects)
        sign_in = min(round(self.sign_in * subjects), subjects - silent)
        return silent, sign_in, subjects - silent - sign_in


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What finished brownouts taught, by issuer and product."""

    brownouts: tuple[int, ...] = ()
    shares: Mapping[tuple[str, str], Shares] = field(default_factory=dict)

    def about(self, issuer: str, client: str) -> Shares | None:
        """What is known of a client; None: no brownout met it and saw it again."""
        return self.shares.get((issuer, _product(client)))


def outcomes(
    connection: Connection, home: str, rows: Sequence[Row], *, every: int = 1
) -> tuple[Outcome, ...]:
    """How those whom `rows` refused came back.

    Args:
        every: of so many subjects one is looked at.
    """
    if not rows:
        return ()
    asked = {
        "ids": [row.id for row in rows],
        "ends": [row.over_at for row in rows],
        "every": every,
    }
    found = connection.execute(
        text(in_schema(_OUTCOMES.replace("{login}", _LOGIN), home)), asked
    ).mappings()
    return tuple(Outcome(**row) for row in found)


def lesson(
    connection: Connection,
    home: str,
    rows: Iterable[Row],
    refused: Mapping[int, int],
    now: datetime,
) -> Lesson:
    """What the latest finished brownouts taught."""
    over = [row for row in latest(rows, now) if refused.get(row.id)]
    met = sum(refused.get(row.id, 0) for row in over)
    return learned(outcomes(connection, home, over, every=1 + met // ENOUGH))


def latest(rows: Iterable[Row], now: datetime) -> list[Row]:
    """The brownouts that forecasts are told by."""
    over = [row for row in rows if row.state(now) == "finished"]
    return sorted(over, key=lambda row: row.over_at)[-_LATEST:]


def learned(found: Sequence[Outcome]) -> Lesson:
    """The shares of what came back, by issuer and product."""
    sums: dict[tuple[str, str], tuple[int, int, int]] = {}
    for one in found:
        key = one.issuer, _product(one.client)
        silent, signed_in, seen = sums.get(key, (0, 0, 0))
        back = one.silent + one.signed_in + one.still
        sums[key] = silent + one.silent, signed_in + one.signed_in, seen + back
    shares = {
        key: Shares(silent / seen, signed_in / seen)
        for key, (silent, signed_in, seen) in sums.items()
        if seen
    }
    taught = {one.brownout for one in found if (one.issuer, _product(one.client)) in shares}
    return Lesson(brownouts=tuple(sorted(taught)), shares=shares)


def error_of(forecast: Mapping[str, Any], met: int | None) -> dict[str, Any] | None:
    """How far the forecast was off; None: there was none, or nothing to hold it against."""
    expected = forecast.get("subjects")
    if expected is None or met is None:
        return None
    percent = round(100 * (met - expected) / expected, 1) if expected else None
    return {"forecast": expected, "actual": met, "percent": percent}


def _product(client: str) -> str:
    return client.partition("/")[0]
