"""Who still lives on a legacy token: counted in the database, by issuer and client.

A legacy token is *open* while somebody would lose by its refusal: not over, not adopted, its
session not ended, not denied, not cut off, and its (realm, subject, client) not seen with a
session later. What is open is the end of the drain horizon and the people a cutover would hit.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from migrator.core.phases import Phase
from migrator.stores.queries import in_schema

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from migrator.core.phases import Exemption, Rollout
    from migrator.settings import Issuer

# As `core.phases.bucket_of`: the first 8 bytes, big-endian, modulo 100; 2**32 modulo 100 is 96.
_BUCKET = """(
  SELECT ((('x' || encode(substr(h, 1, 4), 'hex'))::bit(32)::bigint % 100) * 96
        + ('x' || encode(substr(h, 5, 4), 'hex'))::bit(32)::bigint) % 100
  FROM sha256(convert_to(l.realm, 'UTF8') || '\\x00'::bytea || convert_to(l.subject, 'UTF8')) h)"""

_OPEN = """
WITH terms AS (
  SELECT issuer, leeway_s * interval '1 s' AS leeway
  FROM unnest(CAST(:issuers AS text[]), CAST(:leeways AS float8[])) AS t (issuer, leeway_s)),
open AS (
  SELECT t.realm, t.subject, t.issuer, coalesce(t.client, seen.client, '') AS client,
    t.exp + coalesce(i.leeway, interval '0') AS ends_at, t.last_seen_at, t.percent_bucket AS bucket
  FROM {s}.legacy_tokens t
  LEFT JOIN terms i ON i.issuer = t.issuer
  LEFT JOIN {s}.sessions s ON s.id = t.session_id
  -- A ledger seldom says which program holds a token; whoever showed it later does.
  LEFT JOIN LATERAL (SELECT l.client FROM {s}.legacy_subjects l
    WHERE t.client IS NULL AND l.realm = t.realm AND l.subject = t.subject
      AND l.issuer = t.issuer AND l.max_exp = t.exp AND l.client <> ''
    ORDER BY l.last_seen_at DESC LIMIT 1) seen ON true
  WHERE t.adopted_at IS NULL AND t.exp + coalesce(i.leeway, interval '0') > :now
    AND (t.session_id IS NULL OR (s.id IS NOT NULL AND s.revoked_at IS NULL
      AND (s.expires_at IS NULL OR s.expires_at > :now)))
    AND NOT EXISTS (SELECT FROM {s}.denials d WHERE (d.until IS NULL OR d.until > :now) AND (
      d.fingerprint = t.fingerprint OR (d.issuer = t.issuer AND d.jti = t.jti)
      OR (d.issuer = t.issuer AND d.family = t.family)))
    AND NOT EXISTS (SELECT FROM {s}.cutoffs c
      WHERE c.realm = t.realm AND c.subject = t.subject
        AND (coalesce(t.iat, t.exp) <= c.not_before OR c.not_before >= :stopped_at))
    AND NOT EXISTS (SELECT FROM {s}.cutoffs c
      WHERE c.issuer = t.issuer AND (c.kid IS NULL OR c.kid = t.kid))
    AND NOT EXISTS (SELECT FROM {s}.legacy_subjects l
      WHERE l.realm = t.realm AND l.subject = t.subject AND l.client = coalesce(t.client, '')
        AND l.session_seen_at > coalesce(t.last_seen_at, '-infinity'))
  UNION ALL
  SELECT l.realm, l.subject, l.issuer, l.client, l.max_exp + coalesce(i.leeway, interval '0'),
    l.last_seen_at, {bucket}
  FROM {s}.legacy_subjects l
  LEFT JOIN terms i ON i.issuer = l.issuer
  WHERE l.max_exp + coalesce(i.leeway, interval '0') > :now
    AND (l.session_seen_at IS NULL OR l.session_seen_at < l.last_seen_at)
    AND NOT EXISTS (SELECT FROM {s}.cutoffs c
      WHERE c.realm = l.realm AND c.subject = l.subject
        AND (l.last_seen_at <= c.not_before OR c.not_before >= :stopped_at))
    AND NOT EXISTS (SELECT FROM {s}.cutoffs c WHERE c.issuer = l.issuer AND c.kid IS NULL)
    -- A token with a row of its own is judged there.
    AND NOT EXISTS (SELECT FROM {s}.legacy_tokens t WHERE t.realm = l.realm
      AND t.subject = l.subject AND t.issuer = l.issuer AND t.exp = l.max_exp))
SELECT issuer, client, count(DISTINCT (realm, subject)) AS subjects,
  max(last_seen_at) AS last_seen_at, max(ends_at) AS ends_at, grouping(issuer) AS is_total
FROM open l WHERE {scope}
GROUP BY GROUPING SETS ((issuer, client), ()) ORDER BY is_total DESC, subjects DESC, client, issuer
"""

_SEEN = """
SELECT issuer, client, count(DISTINCT (realm, subject)) AS subjects,
  max(last_seen_at) AS last_seen_at, NULL AS ends_at, grouping(issuer) AS is_total
FROM (SELECT l.*, {bucket} AS bucket FROM {s}.legacy_subjects l) l
WHERE last_seen_at > :since AND {scope}
GROUP BY GROUPING SETS ((issuer, client), ()) ORDER BY is_total DESC, subjects DESC, client, issuer
"""

_USAGE = """
SELECT issuer, client, outcome, max(last_at) AS last_at,
  coalesce(sum(count) FILTER (WHERE hour >= :day), 0)::bigint AS day,
  coalesce(sum(count) FILTER (WHERE hour < :day AND hour >= :day_before), 0)::bigint AS day_before
FROM {s}.legacy_usage WHERE hour >= :since GROUP BY issuer, client, outcome
ORDER BY day DESC, outcome, client, issuer
"""

DAY = timedelta(hours=24)
_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Subjects of one issuer and client. `client` '' is not known."""

    issuer: str
    client: str
    subjects: int
    last_seen_at: datetime | None
    ends_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """Subjects by issuer and client, and how many people that is."""

    subjects: int
    groups: tuple[Group, ...]
    ends_at: datetime | None = None

    @property
    def clients(self) -> str:
        """The clients by name, the largest first, and last those without one."""
        shown = [f"{one.client or 'unknown client'} {one.subjects}" for one in self.groups[:4]]
        more = len(self.groups) - len(shown)
        return " · ".join(shown) + (f" · {more} more" if more > 0 else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What nodes counted of one outcome: the last day, the day before, and when last."""

    issuer: str
    client: str
    outcome: str
    last_at: datetime | None
    day: int
    day_before: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Whom a move concerns: who would stand in `cutover` and does not now. None: everybody."""

    before: Rollout | None = None
    after: Rollout | None = None

    def concerns(self, issuer: str, client: str) -> bool:
        """Whether anybody of this issuer and client is concerned."""
        buckets = range(100) if self.needs_buckets else (0,)
        return any(self._concerns(issuer, client, bucket) for bucket in buckets)

    def _concerns(self, issuer: str, client: str, bucket: int) -> bool:
        def cut(rollout: Rollout | None) -> bool:
            if rollout is None:
                return False
            phase = rollout.phase_for(issuer=issuer, client=client or None, bucket=bucket)
            return phase in _REFUSING

        return self.after is None or (cut(self.after) and not cut(self.before))

    def sql(self) -> tuple[str, dict[str, Any]]:
        """The same question over columns issuer, client and bucket of `l`."""
        if self.after is None:
            return "true", {}
        after, given = _cut(self.after, "a")
        if self.before is None:
            return after, given
        before, more = _cut(self.before, "b")
        return f"({after}) AND NOT ({before})", {**given, **more}

    @property
    def needs_buckets(self) -> bool:
        """Whether a cohort decides somewhere."""
        both = [rollout for rollout in (self.before, self.after) if rollout is not None]
        return any(one.by == "cohort" for rollout in both for one in rollout.exceptions)


EVERYBODY = Scope()
_REFUSING = frozenset({Phase.CUTOVER, Phase.RETIRED})


def still_open(
    connection: Connection,
    schema: str,
    *,
    issuers: Sequence[Issuer],
    now: datetime,
    stopped_at: datetime | None,
    scope: Scope = EVERYBODY,
) -> Census:
    """Whose legacy tokens are open at `now`.

    Args:
        stopped_at: when issuing stopped, so that a cutoff made since covers all there is.
    """
    return _census(
        connection,
        schema,
        _OPEN,
        scope,
        now=now,
        stopped_at=stopped_at,
        issuers=[issuer.id for issuer in issuers],
        leeways=[issuer.leeway.total_seconds() for issuer in issuers],
    )


def seen_since(
    connection: Connection, schema: str, *, since: datetime, scope: Scope = EVERYBODY
) -> Census:
    """Who was seen with a legacy token since then."""
    return _census(connection, schema, _SEEN, scope, since=since)


def usage(
    connection: Connection, schema: str, *, now: datetime, back: timedelta
) -> tuple[Line, ...]:
    """What nodes counted, as far `back` as that."""
    hour = now.replace(minute=0, second=0, microsecond=0)
    day = hour - DAY + _HOUR
    rows = connection.execute(
        text(in_schema(_USAGE, schema)),
        {"day": day, "day_before": day - DAY, "since": min(day - DAY, now - back - _HOUR)},
    ).mappings()
    return tuple(Line(**row) for row in rows)


def counting_since(connection: Connection, schema: str) -> datetime | None:
    """The earliest hour that usage is on record of."""
    found: datetime | None = connection.scalar(
        text(in_schema("SELECT min(hour) FROM {s}.legacy_usage", schema))
    )
    return found


def _census(
    connection: Connection, schema: str, statement: str, scope: Scope, **given: object
) -> Census:
    where, facts = scope.sql()
    bucket = _BUCKET if scope.needs_buckets else "0"
    filled = statement.replace("{scope}", where).replace("{bucket}", bucket)
    rows = connection.execute(text(in_schema(filled, schema)), {**given, **facts}).mappings()
    found = [dict(row) for row in rows]
    totals = [row for row in found if row.pop("is_total")]
    total = totals[0]
    groups = [Group(**row) for row in found if row["issuer"] is not None]
    return Census(
        subjects=total["subjects"],
        ends_at=total["ends_at"],
        groups=tuple(sorted(groups, key=lambda group: not group.client)),
    )


def _cut(rollout: Rollout, name: str) -> tuple[str, dict[str, Any]]:
    branches: list[str] = []
    given: dict[str, Any] = {}
    for number, one in enumerate(rollout.exceptions):
        key = f"{name}{number}"
        condition, value = _covers(one, key)
        given[key] = value
        branches.append(f"WHEN {condition} THEN {_truth(one.phase)}")
    default = _truth(rollout.phase)
    return (f"CASE {' '.join(branches)} ELSE {default} END" if branches else default), given


def _covers(one: Exemption, key: str) -> tuple[str, str | int]:
    match one.by:
        case "issuer":
            return f"l.issuer = :{key}", one.value
        case "client":
            return f":{key} IN (l.client, split_part(l.client, '/', 1))", one.value
        case "cohort":
            return f"l.bucket < :{key}", int(one.value)


def _truth(phase: Phase) -> str:
    return "true" if phase in _REFUSING else "false"
