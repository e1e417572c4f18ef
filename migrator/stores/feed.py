"""The pulse's side of Postgres: the feed in; heartbeat, usage and last-seen out.

The feed is read as `xid >= xmin of the snapshot before`, and repeats are dropped by id: id order
is not commit order, so `id > last` would pass over a row whose transaction committed late.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg.types.json import Jsonb

from migrator.core.flow import run
from migrator.stores import comparing, guards
from migrator.stores import queries as q
from migrator.stores.rollout_row import rollout_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from migrator.core.claims import Claims
    from migrator.core.phases import Rollout
    from migrator.core.usage import Hit, Sighting, Usage, What
    from migrator.stores.drivers import BlockingDriver, Row

# The mark of the snapshot is read first and the rows after it, so the rows are at least as new.
_WHERE = """
SELECT clock_timestamp(), pg_snapshot_xmin(pg_current_snapshot())::text,
  pg_postmaster_start_time()::text || pg_is_in_recovery()::text, (
    SELECT legacy_removed_at IS NULL FROM {s}.rollout)"""

_ROWS = "SELECT id, kind, key FROM {s}.feed WHERE xid >= %(xmin)s::xid8 ORDER BY id"

_LATEST = """
SELECT id, kind, key FROM {s}.feed WHERE at > clock_timestamp() - interval '150 s' ORDER BY id"""

_BEAT = """
INSERT INTO {s}.nodes (id, build, host, pid, epoch, acked_at, lease_until, seen_at, started_at,
  sees_tables, has_keys, key_ids, clock_skew_ms, last_jwt_issued_at, issued_horizon, vitals)
VALUES (%(id)s, %(build)s, %(host)s, %(pid)s, %(epoch)s, clock_timestamp(),
  clock_timestamp() + %(lease_s)s * interval '1 s', clock_timestamp(), clock_timestamp(), true,
  %(has_keys)s, %(key_ids)s, %(clock_skew_ms)s, %(last_issued_at)s, %(issued_horizon)s,
  %(vitals)s)
ON CONFLICT (id) DO UPDATE SET
  acked_at = CASE WHEN nodes.epoch IS DISTINCT FROM excluded.epoch THEN excluded.acked_at
    ELSE nodes.acked_at END,
  epoch = excluded.epoch, lease_until = excluded.lease_until, seen_at = excluded.seen_at,
  has_keys = excluded.has_keys, key_ids = excluded.key_ids,
  clock_skew_ms = excluded.clock_skew_ms, vitals = excluded.vitals,
  last_jwt_issued_at = greatest(nodes.last_jwt_issued_at, excluded.last_jwt_issued_at),
  issued_horizon = greatest(nodes.issued_horizon, excluded.issued_horizon)"""

# What it issued outlives it: the drain horizon still counts a node that has gone.
_LEAVE = "UPDATE {s}.nodes SET lease_until = clock_timestamp() WHERE id = %(id)s"

# Dated when it is written; but what was issued by when, for a node may write long after it issued
# (it was cut off), and a drain that took effect in between would look as if it had not.
_COUNT = """
INSERT INTO {s}.legacy_usage AS u (hour, issuer, client, outcome, count, last_at)
SELECT date_trunc('hour', clock_timestamp()), issuer, client, outcome, count,
  CASE WHEN outcome = 'issued:legacy'
    THEN least(%(issued_at)s::timestamptz, clock_timestamp())
    ELSE clock_timestamp() END
FROM unnest(%(issuers)s::text[], %(clients)s::text[], %(outcomes)s::text[], %(counts)s::bigint[])
  AS c (issuer, client, outcome, count)
ORDER BY issuer, client, outcome
ON CONFLICT (hour, issuer, client, outcome) DO UPDATE
SET count = u.count + excluded.count, last_at = greatest(u.last_at, excluded.last_at)"""

_SIGHT = """
INSERT INTO {s}.legacy_subjects AS l (
  realm, subject, issuer, client, first_seen_at, last_seen_at, max_exp)
SELECT realm, subject, issuer, client, clock_timestamp(), clock_timestamp(), exp
FROM unnest(%(realms)s::text[], %(subjects)s::text[], %(issuers)s::text[], %(clients)s::text[],
  %(exps)s::timestamptz[]) AS s (realm, subject, issuer, client, exp)
ORDER BY realm, subject, issuer, client
ON CONFLICT (realm, subject, issuer, client) DO UPDATE
SET last_seen_at = excluded.last_seen_at, max_exp = greatest(l.max_exp, excluded.max_exp)"""

# SKIP LOCKED: last-seen is information, and must never wait for anything.
_SEEN = """
WITH used AS (
  SELECT s.id FROM {s}.sessions s
  WHERE s.id = ANY(%(ids)s) AND s.revoked_at IS NULL
    AND (s.last_seen_at IS NULL
         OR s.last_seen_at < clock_timestamp() - make_interval(secs => %(grain_s)s))
  ORDER BY s.id FOR NO KEY UPDATE SKIP LOCKED)
UPDATE {s}.sessions s SET last_seen_at = clock_timestamp() FROM used WHERE s.id = used.id"""

# Where refresh tokens rotate, a client that is in use is never logged out. One that refreshes on a
# 401 alone would meet its first when the session is over, so use itself carries it on, as far as
# the refresh chain could have been. A twentieth of the lifetime at a time, to spare the index.
_CARRY_ON = """
WITH used AS (
  SELECT s.id, least(clock_timestamp() + make_interval(secs => r.rolling_s),
    s.created_at + make_interval(secs => %(absolute_s)s)) AS ends_at
  FROM {s}.sessions s
  JOIN unnest(%(realms)s::text[], %(rollings_s)s::float8[]) AS r (realm, rolling_s)
    ON r.realm = s.realm
  WHERE s.id = ANY(%(ids)s) AND s.revoked_at IS NULL AND s.origin IN ('exchange', 'backfill')
    AND s.expires_at > clock_timestamp()
    AND s.expires_at < clock_timestamp() + make_interval(secs => r.rolling_s * 0.95)
  ORDER BY s.id FOR NO KEY UPDATE OF s SKIP LOCKED)
UPDATE {s}.sessions s SET expires_at = used.ends_at FROM used
WHERE s.id = used.id AND s.expires_at < used.ends_at"""

_ADOPTED = """
WITH mine AS (
  SELECT t.fingerprint FROM {s}.legacy_tokens t
  WHERE t.session_id = ANY(%(ids)s) AND t.adopted_at IS NULL
  ORDER BY t.fingerprint FOR NO KEY UPDATE SKIP LOCKED)
UPDATE {s}.legacy_tokens t SET adopted_at = clock_timestamp() FROM mine
WHERE t.fingerprint = mine.fingerprint"""

_WITH_SESSION = """
WITH mine AS (
  SELECT l.realm, l.subject, l.issuer, l.client FROM {s}.legacy_subjects l
  WHERE (l.realm, l.subject, l.client) IN (
    SELECT realm, subject, coalesce(client, '') FROM {s}.sessions WHERE id = ANY(%(ids)s))
  ORDER BY 1, 2, 3, 4 FOR NO KEY UPDATE SKIP LOCKED)
UPDATE {s}.legacy_subjects l SET session_seen_at = clock_timestamp() FROM mine
WHERE (l.realm, l.subject, l.issuer, l.client)
  = (mine.realm, mine.subject, mine.issuer, mine.client)"""

_LEGACY_SEEN = """
WITH mine AS (
  SELECT t.fingerprint FROM {s}.legacy_tokens t
  WHERE t.fingerprint = ANY(%(fingerprints)s)
    AND t.last_seen_at < clock_timestamp() - %(grain_s)s * interval '1 s'
  ORDER BY t.fingerprint FOR NO KEY UPDATE SKIP LOCKED)
UPDATE {s}.legacy_tokens t SET last_seen_at = clock_timestamp() FROM mine
WHERE t.fingerprint = mine.fingerprint"""

# The grain that last-seen is written in; sessions.judge allows for it and the flush together.
GRAIN_S = 60


@dataclass(frozen=True, slots=True)
class Event:
    """One row of the feed: what changed, so that nothing remembered of it is believed any more."""

    id: int
    kind: str
    key: str


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at the feed.

    Args:
        now: the database's clock.
        xmin: where the next look starts.
        server: names the running server; another one has another history.
        rollout: where everybody stands.
        has_legacy: the legacy tables exist; gone once `retire` left its mark.
        events: every row since the look before, repeats among them.
    """

    now: datetime
    xmin: str
    server: str
    rollout: Rollout
    has_legacy: bool
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """What a node says of itself."""

    id: str
    build: str
    host: str
    pid: int
    epoch: int | None
    lease_s: int
    has_keys: bool
    key_ids: tuple[str, ...]
    clock_skew_ms: int | None
    last_issued_at: datetime | None
    issued_horizon: datetime | None


@dataclass(frozen=True, slots=True)
class Carrying:
    """How far use carries an exchanged session on: by realm, and at most since it began.

    Args:
        in_observe: whether it does in `observe` too. Behind a bridge it does not: there a client
            gets its JWTs again at the refresh route, and so that it goes there, use alone must
            come to an end, as it would have with its JWTs.
    """

    rolling_s: Mapping[str, float]
    absolute_s: float
    in_observe: bool = True


class Feed:
    """Reads and writes on a connection of its own, so that requests never wait for the pulse.

    Args:
        vitals: what the node says of its stores.
        learns_within_s: how long after the app revoked a token this node knows of it.
    """

    def __init__(
        self,
        driver: BlockingDriver,
        schema: str,
        *,
        vitals: Callable[[], Mapping[str, object]] = dict,
        learns_within_s: Callable[[], float] = float,
    ) -> None:
        self._driver = driver
        self._schema = schema
        self._vitals = vitals
        self._learns_within_s = learns_within_s

    def read(self, xmin: str | None) -> Reading:
        """What happened since `xmin`; with None, the last two minutes, to take a position.

        Raises:
            Unavailable: the database could not be asked.
        """
        since = (_LATEST, None) if xmin is None else (_ROWS, {"xmin": xmin})
        where, rollout, rows = self._run((_WHERE, None), (q.ROLLOUT, None), since)
        now, next_xmin, server, has_legacy = where[0]
        return Reading(
            now=now,
            xmin=next_xmin,
            server=server,
            rollout=rollout_of(rollout),
            has_legacy=has_legacy,
            events=tuple(Event(*row) for row in rows),
        )

    def close(self) -> None:
        """Let go of the connection."""
        self._driver.close()

    def beat(self, beat: Beat) -> None:
        """Renew this node's lease, and acknowledge the epoch it acts under."""
        facts = {name: getattr(beat, name) for name in Beat.__slots__}
        vitals = Jsonb(dict(self._vitals()))
        self._run((_BEAT, {**facts, "key_ids": list(beat.key_ids), "vitals": vitals}))

    def leave(self, node_id: str) -> None:
        """Say goodbye: the lease ends now."""
        self._run((_LEAVE, {"id": node_id}))

    def count(
        self,
        counted: Sequence[tuple[What, int]],
        minutes: Mapping[str, int],
        issued_at: datetime | None,
    ) -> None:
        """Add to this hour's usage, and to this minute's figures, or to neither.

        Args:
            issued_at: when this node last issued a legacy token.
        """
        counting = self._counting(counted, issued_at)
        if minutes:
            self._run(*counting, (guards.MINUTES, guards.minutes_of(minutes)))
        elif counted:
            self._run(*counting)

    def _counting(
        self, counted: Sequence[tuple[What, int]], issued_at: datetime | None
    ) -> tuple[tuple[str, Mapping[str, object]], ...]:
        if not counted:
            return ()
        return (
            (
                _COUNT,
                {
                    "issuers": [what.issuer for what, _ in counted],
                    "clients": [what.client for what, _ in counted],
                    "outcomes": [what.outcome for what, _ in counted],
                    "counts": [count for _, count in counted],
                    "issued_at": issued_at,
                },
            ),
        )

    def hit(self, hits: frozenset[Hit]) -> None:
        """Note whom brownouts refused."""
        if hits:
            self._run((guards.HITS, guards.hits_of(hits)))

    def guard(self, rollout: Rollout) -> tuple[guards.Ended, ...]:
        """End the brownout or the soak that went beyond its limits; see guards.py."""
        return guards.watch(self._run, self._schema, rollout)

    def compare(self, usage: Usage, now: int) -> None:
        """Write what was compared by that tick, and who presents which keys; see comparing.py."""
        before = now - round(self._learns_within_s() * 1e9)
        comparing.flush(self._run, usage, before=before)

    def sight(self, sightings: Mapping[tuple[str, str, str, str], Sighting]) -> None:
        """Note who still presents legacy tokens."""
        if sightings:
            columns = list(zip(*sightings, strict=True))
            self._run(
                (
                    _SIGHT,
                    {
                        "realms": list(columns[0]),
                        "subjects": list(columns[1]),
                        "issuers": list(columns[2]),
                        "clients": list(columns[3]),
                        "exps": [sighting.exp for sighting in sightings.values()],
                    },
                )
            )

    def seen(self, ids: Sequence[UUID], *, by_token: Sequence[UUID], has_legacy: bool) -> None:
        """Write last-seen of sessions; those in `by_token` were presented by their token."""
        steps: list[tuple[str, dict[str, object]]] = []
        if ids:
            steps.append((_SEEN, {"ids": list(ids), "grain_s": GRAIN_S}))
        if by_token and has_legacy:
            steps += [(name, {"ids": list(by_token)}) for name in (_ADOPTED, _WITH_SESSION)]
        for step in steps:
            self._run(step)

    def carry_on(self, ids: Sequence[UUID], carrying: Carrying) -> None:
        """Extend the exchanged sessions among `ids` where their refresh tokens would rotate."""
        if ids and carrying.rolling_s:
            facts = {
                "ids": list(ids),
                "realms": list(carrying.rolling_s),
                "rollings_s": list(carrying.rolling_s.values()),
                "absolute_s": carrying.absolute_s,
            }
            self._run((_CARRY_ON, facts))

    def legacy_seen(self, claims: Sequence[Claims]) -> None:
        """Write last-seen of legacy tokens that have a row."""
        if claims:
            fingerprints = [one.fingerprint for one in claims]
            self._run((_LEGACY_SEEN, {"fingerprints": fingerprints, "grain_s": GRAIN_S}))

    def _run(self, *steps: tuple[str, Mapping[str, object] | None]) -> list[list[Row]]:
        return run(
            self._driver.run(*((q.in_schema(sql, self._schema), facts) for sql, facts in steps))
        )
