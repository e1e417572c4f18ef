"""What a ledger's word becomes here: denials, cutoffs and endings; and who reads it next.

The same discipline as every ending (queries.py): what bars new swaps is committed with its words
in the feed first; then the lock that such swaps share is had once, exclusively, and what they
opened meanwhile is ended. Repeating any of it changes nothing and writes no row, so a ledger is
simply read again and again. What a ledger no longer says stays said here, but for a user who is
active again.
"""

# ruff: noqa: S608 - nothing but our own constants is put together here

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from psycopg.types.json import Jsonb

from migrator.core.errors import Unavailable
from migrator.core.flow import run
from migrator.stores import queries as q
from migrator.stores.postgres import family_lock, issuer_lock, jti_lock, subject_lock

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from migrator.core.interfaces import Cache
    from migrator.stores.drivers import BlockingDriver, Row

REASON: Final = "ledger"
INACTIVE: Final = "inactive"
CHANGED: Final = "changed"

# More new denials than this wait for the issuer's lock once, in place of one lock for each.
_MOST_LOCKS: Final = 32
_LOCK_TRIES: Final = 20
_UUID_CHARS: Final = frozenset({32, 36})

_ITEMS = """
items (jti, fingerprint, family, until, session_id) AS MATERIALIZED (
  SELECT * FROM unnest(%(jtis)s::text[], %(fingerprints)s::bytea[], %(families)s::text[],
    %(untils)s::timestamptz[], %(ids)s::uuid[]))"""

# A bridge JWT has its session's id for a jti where the legacy token had none to keep.
_NAMED = """
hit AS MATERIALIZED (
  SELECT t.session_id AS id, t.family FROM items i
  JOIN {s}.legacy_tokens t ON t.fingerprint = i.fingerprint WHERE t.issuer = %(issuer)s
  UNION ALL
  SELECT t.session_id, t.family FROM items i
  JOIN {s}.legacy_tokens t ON t.issuer = %(issuer)s AND t.jti = i.jti),
named AS MATERIALIZED (
  SELECT id FROM hit WHERE id IS NOT NULL
  UNION SELECT t.session_id FROM items i
  JOIN {s}.legacy_tokens t ON t.issuer = %(issuer)s AND t.family = i.family
  UNION SELECT t.session_id FROM hit h
  JOIN {s}.legacy_tokens t ON t.issuer = %(issuer)s AND t.family = h.family
  WHERE %(whole_family)s
  UNION SELECT i.session_id FROM items i WHERE i.session_id IS NOT NULL)"""

_ENDED = """
ended AS (
  UPDATE {s}.sessions s SET revoked_at = clock_timestamp(), revoked_reason = %(reason)s,
    revoked_by = %(by)s
  FROM named WHERE s.id = named.id AND s.realm = %(realm)s AND s.revoked_at IS NULL
  RETURNING s.id, s.digest)"""

_FED = """
fed AS (
  INSERT INTO {s}.feed (kind, key)
  SELECT 'session', encode(digest, 'hex') FROM ended WHERE digest IS NOT NULL
  UNION SELECT 'legacy', '' FROM ended WHERE digest IS NULL"""
_ONLY_ENDED = f"{_FED})"
_AND_ISSUER = f"{_FED} UNION SELECT 'legacy', %(issuer)s WHERE EXISTS (SELECT FROM told))"
_AND_ALL = f"{_FED} UNION SELECT 'legacy', '' WHERE EXISTS (SELECT FROM cut))"
_AND_SUBJECTS = f"""{_FED} UNION SELECT 'legacy', '' WHERE EXISTS (SELECT FROM cut)
  UNION SELECT 'subject', %(realm)s || E'\\x1f' || subject FROM cut)"""

_LIVING = """
SELECT s.id::text, s.digest FROM named JOIN {s}.sessions s USING (id)
WHERE s.realm = %(realm)s AND s.revoked_at IS NULL"""

# One that lapsed although the ledger still says it is renewed; one that holds is left as it is.
_AGAIN = """
  UPDATE SET until = excluded.until
  WHERE denials.until IS NOT NULL
    AND (excluded.until IS NULL OR denials.until <= clock_timestamp())"""

_NEW = """
fresh AS (SELECT * FROM items WHERE until IS NULL OR until > clock_timestamp()),
by_fingerprint AS (
  INSERT INTO {s}.denials (issuer, fingerprint, until, reason)
  SELECT DISTINCT ON (fingerprint) %(issuer)s, fingerprint, until, %(reason)s FROM fresh
  WHERE fingerprint IS NOT NULL ORDER BY fingerprint
  ON CONFLICT (fingerprint) DO {again} RETURNING fingerprint),
by_jti AS (
  INSERT INTO {s}.denials (issuer, jti, until, reason)
  SELECT DISTINCT ON (jti) %(issuer)s, jti, CASE WHEN NOT %(is_sliding)s THEN until END,
    %(reason)s FROM fresh WHERE jti IS NOT NULL ORDER BY jti
  ON CONFLICT (issuer, jti) DO {again} RETURNING jti),
by_family AS (
  INSERT INTO {s}.denials (issuer, family, until, reason)
  SELECT DISTINCT ON (family) %(issuer)s, family, NULL::timestamptz, %(reason)s FROM (
    SELECT family FROM fresh UNION ALL SELECT family FROM hit WHERE %(whole_family)s) f
  WHERE family IS NOT NULL ORDER BY family
  ON CONFLICT (issuer, family) DO NOTHING RETURNING family),
told AS (
  SELECT 'fingerprint' AS what, encode(fingerprint, 'hex') AS name FROM by_fingerprint
  UNION ALL SELECT 'jti', jti FROM by_jti UNION ALL SELECT 'family', family FROM by_family)
""".replace("{again}", _AGAIN.strip())

LISTED = f"WITH {_ITEMS}, {_NAMED} {_LIVING}"

# Rehearsed: what no denial says yet, and whose session lives.
WOULD_DENY = f"""
WITH {_ITEMS}, {_NAMED}
SELECT 'denied', coalesce(i.jti, i.family, encode(i.fingerprint, 'hex')), NULL::bytea FROM items i
WHERE (i.until IS NULL OR i.until > clock_timestamp()) AND NOT EXISTS (
  SELECT FROM {{s}}.denials d WHERE (d.until IS NULL OR d.until > clock_timestamp()) AND (
    d.fingerprint = i.fingerprint OR (d.issuer = %(issuer)s AND d.jti = i.jti)
    OR (d.issuer = %(issuer)s AND d.family = i.family)))
UNION ALL SELECT 'ended', id, digest FROM ({_LIVING}) AS l (id, digest)"""

DENY = f"""
WITH {_ITEMS}, {_NAMED}, {_NEW}, {_ENDED}, {_AND_ISSUER}
SELECT what, name, NULL::bytea FROM told
UNION ALL SELECT 'ended', id::text, digest FROM ended"""

END_LISTED = f"""
WITH {_ITEMS}, {_NAMED}, {_ENDED}, {_ONLY_ENDED}
SELECT 'ended', id::text, digest FROM ended"""

# ---- users --------------------------------------------------------------------------------------

_SUBJECTS = """
who (subject) AS MATERIALIZED (SELECT DISTINCT unnest(%(subjects)s::text[]))"""

_THEIR_SESSIONS = """
named AS MATERIALIZED (
  SELECT s.id FROM who JOIN {s}.sessions s ON s.realm = %(realm)s AND s.subject = who.subject
  WHERE s.revoked_at IS NULL)"""

LISTED_SUBJECTS = f"WITH {_SUBJECTS}, {_THEIR_SESSIONS} {_LIVING}"

_UNCUT = """NOT EXISTS (
  SELECT FROM {s}.cutoffs c WHERE c.realm = %(realm)s AND c.subject = who.subject
    AND c.reason = 'inactive' AND c.created_by = %(by)s)"""

WOULD_CUT = f"""
WITH {_SUBJECTS}, {_THEIR_SESSIONS}
SELECT 'subject', subject, NULL::bytea FROM who WHERE {_UNCUT}
UNION ALL SELECT 'ended', id, digest FROM ({_LIVING}) AS l (id, digest)"""

CUT_INACTIVE = f"""
WITH {_SUBJECTS}, {_THEIR_SESSIONS},
cut AS (
  INSERT INTO {{s}}.cutoffs (realm, subject, not_before, reason, created_by)
  SELECT %(realm)s, subject, clock_timestamp(), 'inactive', %(by)s FROM who WHERE {_UNCUT}
  RETURNING subject), {_ENDED}, {_AND_SUBJECTS}
SELECT 'subject', subject, NULL::bytea FROM cut
UNION ALL SELECT 'ended', id::text, digest FROM ended"""

END_SUBJECTS = f"""
WITH {_SUBJECTS}, {_THEIR_SESSIONS}, {_ENDED}, {_ONLY_ENDED}
SELECT 'ended', id::text, digest FROM ended"""

# Only the flag is lifted: what was ended meanwhile stays ended.
LIFT = """
WITH lifted AS (
  DELETE FROM {s}.cutoffs WHERE realm = %(realm)s AND subject = ANY(%(subjects)s::text[])
    AND reason = 'inactive' AND created_by = %(by)s RETURNING subject),
fed AS (INSERT INTO {s}.feed (kind, key) SELECT 'legacy', '' WHERE EXISTS (SELECT FROM lifted))
SELECT 'lifted', subject, NULL::bytea FROM lifted"""

HELD_INACTIVE = """
SELECT subject FROM {s}.cutoffs WHERE realm = %(realm)s AND reason = 'inactive'
  AND created_by = %(by)s AND subject > %(after)s ORDER BY subject LIMIT %(room)s"""

# A token of the very second of the change is let live, and so is one that the signer's clock may
# have dated so: the app itself compares whole seconds of its own clock, and the JWT that it hands
# out right after a change of password must not be refused.
_CHANGES = """
who (subject, at) AS MATERIALIZED (
  SELECT subject, least(max(at), clock_timestamp())
  FROM unnest(%(subjects)s::text[], %(changes)s::timestamptz[]) AS w (subject, at)
  GROUP BY subject),
named AS MATERIALIZED (
  SELECT s.id FROM who JOIN {s}.sessions s ON s.realm = %(realm)s AND s.subject = who.subject
  LEFT JOIN {s}.legacy_tokens t ON t.session_id = s.id
  WHERE s.revoked_at IS NULL AND s.kind = 'session' AND CASE
    WHEN t.fingerprint IS NULL THEN s.created_at < who.at - %(skew)s::interval
    ELSE coalesce(t.iat, t.exp - make_interval(secs =>
      (%(lifetimes)s::jsonb ->> (t.issuer || ':' || t.purpose))::float8), '-infinity')
      < date_trunc('second', who.at) END)"""

_NOT_BEFORE = "date_trunc('second', who.at) - interval '1 s' - %(skew)s::interval"

_SAME = """c.realm = %(realm)s AND c.subject = who.subject AND c.reason = 'changed'
    AND c.created_by = %(by)s"""

LISTED_CHANGED = f"WITH {_CHANGES} {_LIVING}"

WOULD_CHANGE = f"""
WITH {_CHANGES}
SELECT 'subject', subject, NULL::bytea FROM who
WHERE NOT EXISTS (SELECT FROM {{s}}.cutoffs c WHERE {_SAME} AND c.not_before >= {_NOT_BEFORE})
UNION ALL SELECT 'ended', id, digest FROM ({_LIVING}) AS l (id, digest)"""

CUT_CHANGED = f"""
WITH {_CHANGES},
moved AS (
  UPDATE {{s}}.cutoffs c SET not_before = {_NOT_BEFORE} FROM who
  WHERE {_SAME} AND c.not_before < {_NOT_BEFORE} RETURNING c.subject),
made AS (
  INSERT INTO {{s}}.cutoffs (realm, subject, not_before, reason, created_by)
  SELECT %(realm)s, subject, {_NOT_BEFORE}, 'changed', %(by)s FROM who
  WHERE NOT EXISTS (SELECT FROM {{s}}.cutoffs c WHERE {_SAME}) RETURNING subject),
cut AS (SELECT subject FROM moved UNION SELECT subject FROM made), {_ENDED}, {_AND_ALL}
SELECT 'subject', subject, NULL::bytea FROM cut
UNION ALL SELECT 'ended', id::text, digest FROM ended"""

END_CHANGED = f"""
WITH {_CHANGES}, {_ENDED}, {_ONLY_ENDED}
SELECT 'ended', id::text, digest FROM ended"""

# ---- what a function of the app is asked about --------------------------------------------------

LIVING_TOKENS = """
SELECT t.fingerprint, t.jti, t.family, t.subject, t.kid, t.purpose, t.iat, t.exp
FROM {s}.legacy_tokens t JOIN {s}.sessions s ON s.id = t.session_id
WHERE t.issuer = %(issuer)s AND s.revoked_at IS NULL
  AND (s.expires_at IS NULL OR s.expires_at > clock_timestamp()) AND t.fingerprint > %(after)s
ORDER BY t.fingerprint LIMIT %(room)s"""

# ---- whose turn it is ---------------------------------------------------------------------------

_DUE = "coalesce((detail ->> 'due')::float8, 0) - extract(epoch FROM clock_timestamp())::float8"

BE_THERE = """
INSERT INTO {s}.jobs (name, state) VALUES (%(name)s, 'idle') ON CONFLICT DO NOTHING"""

# `source` stays null: no backfill. Any node may find it due, and whoever was cut short goes on.
CLAIM = f"""
UPDATE {{s}}.jobs SET state = 'running', started_at = clock_timestamp(),
  updated_at = clock_timestamp(), detail = detail || jsonb_build_object('run', %(run)s::text,
    'due', extract(epoch FROM clock_timestamp())::float8 + %(lease_s)s::float8)
WHERE name = %(name)s
  AND ({_DUE} <= 0 OR (state = 'running' AND detail ->> 'run' = %(run)s)
    OR (%(at_once)s AND state <> 'running'))
RETURNING checkpoint, clock_timestamp()"""

HOW_LONG = f"SELECT {_DUE} FROM {{s}}.jobs WHERE name = %(name)s"

KEEP = """
UPDATE {s}.jobs SET checkpoint = %(checkpoint)s, updated_at = clock_timestamp(),
  done = done + %(read)s, detail = detail || jsonb_build_object(
    'due', extract(epoch FROM clock_timestamp())::float8 + %(lease_s)s::float8)
WHERE name = %(name)s AND detail ->> 'run' = %(run)s RETURNING 1"""

LEAVE = """
UPDATE {s}.jobs SET state = %(state)s, updated_at = clock_timestamp(),
  detail = detail || %(detail)s || jsonb_build_object(
    'due', extract(epoch FROM started_at)::float8 + %(every_s)s::float8,
    'denied', coalesce((detail ->> 'denied')::bigint, 0) + %(denied)s::bigint,
    'ended', coalesce((detail ->> 'ended')::bigint, 0) + %(ended)s::bigint)
  || CASE WHEN %(state)s = 'idle'
    THEN jsonb_build_object('read_at', clock_timestamp()) ELSE '{}'::jsonb END
WHERE name = %(name)s AND detail ->> 'run' = %(run)s"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing that a ledger says is not to be admitted; never a token.

    Args:
        until: from when on it needs no denial; None: for ever.
    """

    jti: str | None = None
    fingerprint: bytes | None = None
    family: str | None = None
    until: datetime | None = None


@dataclass(slots=True)
class Tally:
    """What came of reading: rows read, and what is different since."""

    read: int = 0
    denied: int = 0
    ended: int = 0
    lifted: int = 0

    def add(self, other: Tally) -> None:
        """Count another one in."""
        self.read += other.read
        self.denied += other.denied
        self.ended += other.ended
        self.lifted += other.lifted


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Whom a ledger is about.

    Args:
        by: who stands in the rows; says which ledger it was.
        is_sliding: tokens are re-issued under their jti, so a jti stays denied for ever.
        whole_family: what is named takes its family with it.
        skew: how far ahead a signer's clock may be.
        lifetimes: "issuer:purpose" → seconds, for tokens without iat.
    """

    by: str
    realm: str
    issuer: str = ""
    is_sliding: bool = False
    whole_family: bool = False
    skew: timedelta = timedelta(0)
    lifetimes: Mapping[str, float] = field(default_factory=dict)


class Ledgers:
    """Writes what ledgers say, over a connection of its own.

    Args:
        driver: to our database; requests never wait for it.
        cache: gets its tombstones before and after each commit.
        rehearses: nothing is written; the tallies say what would have been.
    """

    def __init__(
        self, driver: BlockingDriver, schema: str, cache: Cache, *, rehearses: bool = False
    ) -> None:
        self._driver = driver
        self._cache = cache
        self._rehearses = rehearses
        self._sql = {
            name: q.in_schema(statement, schema)
            for name, statement in globals().items()
            if name.isupper() and not name.startswith("_") and isinstance(statement, str)
        }

    def now(self) -> datetime:
        """The database's clock."""
        now: datetime = run(self._driver.run((q.NOW, None)))[0][0][0]
        return now

    # Whose turn it is.

    def claim(
        self, name: str, run_id: str, lease_s: float, *, at_once: bool = False
    ) -> tuple[Mapping[str, Any], datetime]:
        """Take the turn of a ledger that is due: its checkpoint, and the time.

        Raises:
            NotDue: it is not, and in how many seconds it will be.
            Unavailable: the database could not be asked.
        """
        facts = {"name": name, "run": run_id, "lease_s": lease_s, "at_once": at_once}
        rows = self._run(("BE_THERE", facts), ("CLAIM", facts), ("HOW_LONG", facts))
        if rows[1]:
            return rows[1][0][0], rows[1][0][1]
        raise NotDue(rows[2][0][0])

    def keep(
        self, name: str, run_id: str, lease_s: float, checkpoint: Mapping[str, Any], read: int
    ) -> bool:
        """Write how far the reading came; False: another node has taken over."""
        facts = {
            "name": name,
            "run": run_id,
            "lease_s": lease_s,
            "checkpoint": Jsonb(dict(checkpoint)),
            "read": read,
        }
        return bool(self._run(("KEEP", facts))[0])

    def leave(
        self, name: str, run_id: str, every_s: float, tally: Tally, detail: Mapping[str, Any]
    ) -> None:
        """Write how the turn ended: `detail` has `why` None where it went well."""
        facts = {
            "name": name,
            "run": run_id,
            "every_s": every_s,
            "state": "idle" if detail.get("why") is None else "failed",
            "denied": tally.denied,
            "ended": tally.ended,
            "detail": Jsonb(dict(detail)),
        }
        self._run(("LEAVE", facts))

    # What is said.

    def deny(self, items: Sequence[Item], terms: Terms) -> Tally:
        """Deny what is named, and end what it became."""
        if not items:
            return Tally()
        facts = self._facts(terms) | _columns(items)
        if self._rehearses:
            return _tally(self._run(("WOULD_DENY", facts))[0])
        told = self._commit("LISTED", "DENY", facts)
        tally = _tally(told)
        for lock in _locks(terms.issuer, told):
            tally.add(_tally(self._sweep(lock, "END_LISTED", facts)))
        return tally

    def cut_inactive(self, subjects: Sequence[str], terms: Terms) -> Tally:
        """Refuse and end everything of subjects that are not active, for as long as that lasts."""
        facts = self._facts(terms) | {"subjects": list(subjects)}
        return self._cut(facts, ("LISTED_SUBJECTS", "CUT_INACTIVE", "END_SUBJECTS", "WOULD_CUT"))

    def cut_changed(self, changes: Mapping[str, datetime], terms: Terms) -> Tally:
        """Refuse legacy tokens issued before a subject's time; end sessions that began before."""
        facts = self._facts(terms) | {
            "subjects": list(changes),
            "changes": list(changes.values()),
            "skew": terms.skew,
            "lifetimes": Jsonb(dict(terms.lifetimes)),
        }
        return self._cut(facts, ("LISTED_CHANGED", "CUT_CHANGED", "END_CHANGED", "WOULD_CHANGE"))

    def held_inactive(self, after: str, room: int, terms: Terms) -> list[str]:
        """Subjects that this ledger holds to be inactive, after a name and at most so many."""
        facts = self._facts(terms) | {"after": after, "room": room}
        return [row[0] for row in self._run(("HELD_INACTIVE", facts))[0]]

    def lift(self, subjects: Sequence[str], terms: Terms) -> Tally:
        """Let subjects in again that are active again; what was ended stays ended."""
        if self._rehearses or not subjects:
            return Tally(lifted=len(subjects))
        facts = self._facts(terms) | {"subjects": list(subjects)}
        return _tally(self._synchronously("LIFT", facts))

    def living_tokens(self, issuer: str, after: bytes, room: int) -> list[Row]:
        """Legacy tokens of an issuer that became sessions which live, in their own order."""
        facts = {"issuer": issuer, "after": after, "room": room}
        return self._run(("LIVING_TOKENS", facts))[0]

    def close(self) -> None:
        """Let go of the connection."""
        self._driver.close()

    def _cut(self, facts: dict[str, Any], names: tuple[str, str, str, str]) -> Tally:
        listed, cut, end, would = names
        if not facts["subjects"]:
            return Tally()
        if self._rehearses:
            return _tally(self._run((would, facts))[0])
        told = self._commit(listed, cut, facts)
        tally = _tally(told)
        for what, subject, _ in told:
            if what == "subject":
                lock = subject_lock(facts["realm"], subject)
                tally.add(_tally(self._sweep(lock, end, _only(subject, facts))))
        return tally

    def _commit(self, listed: str, act: str, facts: dict[str, Any]) -> list[Row]:
        self._bury(row[1] for row in self._run((listed, facts))[0])
        told = self._synchronously(act, facts)
        self._settle(told)
        return told

    def _synchronously(self, name: str, facts: Mapping[str, Any]) -> list[Row]:
        steps = ((q.BEGIN, None), (q.SYNCHRONOUS, None), (self._sql[name], facts))
        return run(self._driver.run(*steps, (q.COMMIT, None)))[2]

    def _sweep(self, lock: int, name: str, facts: Mapping[str, Any]) -> list[Row]:
        """As `Postgres._sweep`: wait for the swaps that read too early, then end what they did."""
        for _ in range(_LOCK_TRIES):
            try:
                rows = run(
                    self._driver.run(
                        (q.BEGIN, None),
                        (q.SYNCHRONOUS, None),
                        (q.LOCK_TIMEOUT, None),
                        (q.LOCK, {"lock": lock}),
                        (self._sql[name], facts),
                        (q.COMMIT, None),
                    )
                )[4]
            except Unavailable as error:
                if "55P03" not in error.why:  # lock_not_available
                    raise
                run(self._driver.run((q.END_HOLDERS, {"lock": lock})))
            else:
                self._settle(rows)
                return rows
        raise Unavailable("postgres", "a swap under way could not be waited for")

    def _bury(self, digests: Iterable[bytes | None]) -> None:
        found = [bytes(digest) for digest in digests if digest]
        if found:
            run(self._cache.bury(found))

    def _settle(self, told: Sequence[Row]) -> None:
        digests = [row[2] for row in told if row[2]]
        self._bury(digests)
        if told:  # only ever wakes the others' poll of the feed, which says what happened
            hints = [("session", bytes(digest).hex()) for digest in digests]
            run(self._cache.hint(hints or [("legacy", "")]))

    def _run(self, *steps: tuple[str, Mapping[str, Any]]) -> list[list[Row]]:
        return run(self._driver.run(*((self._sql[name], facts) for name, facts in steps)))

    @staticmethod
    def _facts(terms: Terms) -> dict[str, Any]:
        return {
            "by": terms.by,
            "realm": terms.realm,
            "issuer": terms.issuer,
            "reason": REASON,
            "is_sliding": terms.is_sliding,
            "whole_family": terms.whole_family,
        }


class NotDue(Exception):
    """A ledger's turn has not come, or another node is having it; `seconds` until it is due."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"due in {seconds:.1f} s")


def _columns(items: Sequence[Item]) -> dict[str, Any]:
    return {
        "jtis": [item.jti for item in items],
        "fingerprints": [item.fingerprint for item in items],
        "families": [item.family for item in items],
        "untils": [item.until for item in items],
        "ids": [_as_id(item.jti) for item in items],
    }


def _as_id(jti: str | None) -> UUID | None:
    if jti is not None and len(jti) in _UUID_CHARS:
        with suppress(ValueError):
            return UUID(jti)
    return None


def _locks(issuer: str, told: Sequence[Row]) -> list[int]:
    """What the swaps of newly denied tokens share; few for few, and the issuer's for many.

    A token that only its fingerprint names has no lock of its own.
    """
    named = [(what, name) for what, name, _ in told if what != "ended"]
    jtis = [jti_lock(issuer, name) for what, name in named if what == "jti"]
    families = [family_lock(issuer, name) for what, name in named if what == "family"]
    bare = sum(what == "fingerprint" for what, _ in named) > len(jtis)
    if bare or len(jtis) + len(families) > _MOST_LOCKS:
        return [issuer_lock(issuer)]
    return [*jtis, *families]


def _only(subject: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    at = facts["subjects"].index(subject)
    changes = {"changes": [facts["changes"][at]]} if "changes" in facts else {}
    return {**facts, "subjects": [subject], **changes}


def _tally(told: Sequence[Row]) -> Tally:
    counts = Counter(row[0] for row in told)
    by_name = max(counts["jti"], counts["fingerprint"])  # a token is denied by both
    return Tally(
        denied=by_name + counts["family"] + counts["subject"] + counts["denied"],
        ended=counts["ended"],
        lifted=counts["lifted"],
    )
