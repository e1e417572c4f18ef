"""The statements by which a ledger's word becomes ours; `{s}` is the schema.

Each can be run again and again: what is there already is left as it is, and only what is different
puts a word into the feed. What they answer is rows of (what, name, digest).
"""

# ruff: noqa: S608 - nothing but our own constants is put together here

from __future__ import annotations

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
