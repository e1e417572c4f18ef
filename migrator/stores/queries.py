"""Every statement of the request path, named after what it does; `{s}` is the schema.

The database settles races, Python does not. Three rules are proved by experiment and kept exactly:

- A swap takes its locks in a statement of its own, before the one that inserts. A lock inside the
  inserting statement comes after its snapshot, and lets the swap survive a revocation it raced.
- Read committed, said explicitly: under a repeatable-read default every statement would see what
  the first one saw, with the same result.
- Insert, then read in another statement: `INSERT … UNION SELECT` shows a concurrent loser nothing.
"""

# ruff: noqa: S608, S105 - nothing but our own constants is put together here

from __future__ import annotations

SESSION_COLUMNS = (
    "id, kind, realm, subject, client, scopes, claims, created_at, expires_at, last_seen_at,"
    " user_agent, ip, revoked_at, revoked_reason, revoked_by, origin, auth_time, amr, label"
)
_S = ", ".join(f"s.{column}" for column in SESSION_COLUMNS.split(", "))

BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
COMMIT = "COMMIT"

NOW = "SELECT clock_timestamp()"

ROLLOUT = """
SELECT phase, percent, epoch, since, exceptions, drain_since, sunset_at, brownouts,
  soak, legacy_removed_at
FROM {s}.rollout"""

# Its lease is over and it serves: that makes it rogue. Now and then is enough to be seen.
STILL_ACTS = """
UPDATE {s}.nodes SET seen_at = clock_timestamp()
WHERE id = %(id)s AND lease_until < clock_timestamp()
  AND seen_at < clock_timestamp() - interval '2 s'"""

FIND = f"SELECT clock_timestamp(), {_S} FROM {{s}}.sessions s WHERE s.digest = %(digest)s"

# ---- a legacy token ----------------------------------------------------------------------------

SHARE_LOCKS = """
SELECT pg_advisory_xact_lock_shared(key)
FROM unnest(%(locks)s::bigint[]) WITH ORDINALITY l(key, n) ORDER BY n"""

# A token that cannot be dated is cut off by any cutoff of its subject; one issued in the same
# second as the cutoff cannot be told apart, so it is cut off too.
_CUT_OFF = """EXISTS (
  SELECT FROM {s}.cutoffs c WHERE c.realm = %(realm)s AND c.subject = %(subject)s
    AND (%(effective_iat)s::timestamptz IS NULL
         OR date_trunc('second', %(effective_iat)s::timestamptz) <= c.not_before)
  UNION ALL
  SELECT FROM {s}.cutoffs c WHERE c.issuer = %(issuer)s
    AND (c.kid IS NULL OR c.kid = %(kid)s::text))"""

_DENIED = """EXISTS (
  SELECT FROM {s}.denials d WHERE d.fingerprint = %(fingerprint)s
    AND (d.until IS NULL OR d.until > clock_timestamp())
  UNION ALL
  SELECT FROM {s}.denials d WHERE d.issuer = %(issuer)s AND d.jti = %(jti)s::text
    AND (d.until IS NULL OR d.until > clock_timestamp())
  UNION ALL
  SELECT FROM {s}.denials d WHERE d.issuer = %(issuer)s AND d.family = %(family)s::text
    AND (d.until IS NULL OR d.until > clock_timestamp()))"""

KNOW = f"""
INSERT INTO {{s}}.legacy_tokens (
  fingerprint, issuer, jti, family, realm, subject, client, percent_bucket, kid, purpose, iat, exp,
  session_id, swap_key_id, first_seen_at, last_seen_at, keep_until)
SELECT %(fingerprint)s, %(issuer)s, %(jti)s, %(family)s, %(realm)s, %(subject)s, %(client)s,
  %(percent_bucket)s, %(kid)s, %(purpose)s, %(iat)s, %(exp)s, %(session_id)s, %(swap_key_id)s,
  clock_timestamp(), clock_timestamp(), %(keep_until)s
WHERE NOT {_CUT_OFF} AND NOT {_DENIED}
ON CONFLICT DO NOTHING"""

# Only the one whose row stands gets a session: the fingerprint settles the race, even between
# nodes that derive with different keys.
OPEN = """
INSERT INTO {s}.sessions (
  id, digest, kind, realm, subject, client, scopes, claims, created_at, expires_at, last_seen_at,
  user_agent, ip, origin, auth_time, amr)
SELECT %(session_id)s, %(digest)s, 'session', %(realm)s, %(subject)s, %(client)s, %(scopes)s,
  %(claims)s, clock_timestamp(), %(expires_at)s, clock_timestamp(), %(user_agent)s, %(ip)s,
  %(origin)s, %(auth_time)s, %(amr)s
FROM {s}.legacy_tokens t WHERE t.fingerprint = %(fingerprint)s AND t.session_id = %(session_id)s
ON CONFLICT DO NOTHING"""

# A backfilled session gets its token the first time its legacy token is seen.
GIVE_TOKEN = f"""
WITH given AS (
  UPDATE {{s}}.sessions s SET digest = %(digest)s, user_agent = %(user_agent)s, ip = %(ip)s,
    client = coalesce(s.client, %(client)s), scopes = %(scopes)s, claims = %(claims)s,
    auth_time = coalesce(s.auth_time, %(auth_time)s), amr = %(amr)s,
    expires_at = %(expires_at)s,
    last_seen_at = clock_timestamp()
  FROM {{s}}.legacy_tokens t
  WHERE t.fingerprint = %(fingerprint)s AND s.id = t.session_id AND s.digest IS NULL
    AND s.revoked_at IS NULL AND s.expires_at > clock_timestamp()
    AND NOT {_CUT_OFF} AND NOT {_DENIED}
  RETURNING t.fingerprint)
UPDATE {{s}}.legacy_tokens t SET swap_key_id = %(swap_key_id)s, kid = coalesce(t.kid, %(kid)s),
  first_seen_at = coalesce(t.first_seen_at, clock_timestamp()), last_seen_at = clock_timestamp()
FROM given WHERE t.fingerprint = given.fingerprint"""

STAND = f"""
SELECT clock_timestamp(), {_CUT_OFF}, {_DENIED}, t.fingerprint IS NOT NULL, s.digest,
  t.swap_key_id, t.adopted_at IS NOT NULL, {_S}
FROM (VALUES (1)) one(n)
LEFT JOIN {{s}}.legacy_tokens t ON t.fingerprint = %(fingerprint)s
LEFT JOIN {{s}}.sessions s ON s.id = t.session_id"""

# ---- a login -----------------------------------------------------------------------------------

CREATE = """
INSERT INTO {s}.sessions (
  id, digest, kind, realm, subject, client, scopes, claims, created_at, expires_at, last_seen_at,
  user_agent, ip, origin, auth_time, amr, label)
VALUES (%(session_id)s, %(digest)s, %(kind)s, %(realm)s, %(subject)s, %(client)s, %(scopes)s,
  %(claims)s, %(created_at)s, %(expires_at)s, %(created_at)s, %(user_agent)s, %(ip)s, %(origin)s,
  %(auth_time)s, %(amr)s, %(label)s)
ON CONFLICT DO NOTHING"""

# In place of a legacy token that the bridge took out of the app's answer. It is adopted: nobody
# holds it, so it holds nothing up. A ledger that names it, and a backfill, find its session.
PLANT = """
INSERT INTO {s}.legacy_tokens (
  fingerprint, issuer, jti, family, realm, subject, client, percent_bucket, kid, purpose, iat, exp,
  session_id, first_seen_at, last_seen_at, adopted_at, keep_until)
VALUES (%(fingerprint)s, %(issuer)s, %(jti)s, %(family)s, %(realm)s, %(subject)s, %(client)s,
  %(percent_bucket)s, %(kid)s, %(purpose)s, %(iat)s, %(exp)s, %(session_id)s, clock_timestamp(),
  clock_timestamp(), clock_timestamp(), %(keep_until)s)
ON CONFLICT DO NOTHING"""

# A client that refreshes by the clock would leave a row each time; the app's list names the last.
UPROOT = """
DELETE FROM {s}.legacy_tokens
WHERE session_id = %(session_id)s AND swap_key_id IS NULL AND purpose = 'refresh'
  AND adopted_at < clock_timestamp() - interval '1 hour'"""

# Oldest out, by families: what came from one login counts once and goes together. A family with a
# swapped or backfilled session in it is never capped: its JWT would have lived.
_CAP = """
over AS (
  SELECT family FROM living GROUP BY family HAVING bool_and(origin IN ('login', 'regenerate'))
  ORDER BY max(created_at) DESC, max(id::text) DESC OFFSET %(cap)s),
ended AS (
  UPDATE {s}.sessions s
  SET revoked_at = clock_timestamp(), revoked_reason = 'cap', revoked_by = 'cap'
  FROM living JOIN over USING (family) WHERE s.id = living.id AND s.revoked_at IS NULL
  RETURNING s.id, s.digest),
fed AS (
  INSERT INTO {s}.feed (kind, key) SELECT 'session', encode(digest, 'hex') FROM ended
  WHERE digest IS NOT NULL)
SELECT id, digest FROM ended"""

_CAPPED = """
  FROM {s}.sessions s
  WHERE s.realm = %(realm)s AND s.subject = %(subject)s AND s.revoked_at IS NULL
    AND s.kind = 'session' AND s.expires_at > clock_timestamp()"""

CAP = f"""
WITH living AS (
  SELECT s.id, s.created_at, s.origin, coalesce((
    SELECT min(t.issuer || E'\\x1f' || t.family) FROM {{s}}.legacy_tokens t
    WHERE t.session_id = s.id AND t.family IS NOT NULL), s.id::text) AS family {_CAPPED}),
{_CAP}"""

# Once retired there are no families left.
CAP_EACH = f"""
WITH living AS (
  SELECT s.id, s.created_at, s.origin, s.id::text AS family {_CAPPED}),
{_CAP}"""

EXTEND = """
WITH moved AS (
  UPDATE {s}.sessions SET expires_at = %(expires_at)s
  WHERE id = %(session_id)s AND revoked_at IS NULL AND expires_at > clock_timestamp()
    AND expires_at < %(expires_at)s
  RETURNING digest)
INSERT INTO {s}.feed (kind, key) SELECT 'session', encode(digest, 'hex') FROM moved
WHERE digest IS NOT NULL"""

SET_CLAIMS = """
WITH moved AS (
  UPDATE {s}.sessions SET claims = %(claims)s, scopes = coalesce(%(scopes)s, scopes)
  WHERE id = %(session_id)s AND revoked_at IS NULL
    AND (claims, scopes) IS DISTINCT FROM (%(claims)s, coalesce(%(scopes)s, scopes))
  RETURNING digest)
INSERT INTO {s}.feed (kind, key) SELECT 'session', encode(digest, 'hex') FROM moved
WHERE digest IS NOT NULL"""

# ---- endings -----------------------------------------------------------------------------------

# Durable on the standby before it is acknowledged, where there is a synchronous one: a failover
# must not bring a revoked session back. A commit waits only for what it wrote itself: the message
# is for who asks again after a wait that broke off, and finds nothing left to write.
SYNCHRONOUS = """
SELECT set_config('synchronous_commit', 'remote_apply', true),
  pg_logical_emit_message(true, 'migrator', '')"""
LOCK_TIMEOUT = "SET LOCAL lock_timeout = '250ms'"
LOCK = "SELECT pg_advisory_xact_lock(%(lock)s)"

# A node that froze inside its pipeline keeps its locks; ending it costs that node one retry.
END_HOLDERS = """
SELECT pg_terminate_backend(pid) FROM pg_locks
WHERE locktype = 'advisory' AND granted AND pid <> pg_backend_pid()
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND classid = (%(lock)s::bigint >> 32)::bit(32)::bigint::oid
  AND objid = (%(lock)s::bigint)::bit(32)::bigint::oid AND objsubid = 1"""

FAMILY = f"""
WITH mine AS (
  SELECT issuer, family FROM {{s}}.legacy_tokens
  WHERE session_id = %(session_id)s AND family IS NOT NULL)
SELECT clock_timestamp(), s.digest, {_S} FROM {{s}}.sessions s
WHERE s.id = %(session_id)s OR s.id IN (
  SELECT t.session_id FROM {{s}}.legacy_tokens t JOIN mine USING (issuer, family))
ORDER BY (s.id = %(session_id)s) DESC"""

FAMILIES = """
SELECT issuer, family FROM {s}.legacy_tokens
WHERE session_id = %(session_id)s AND family IS NOT NULL"""

JUST_ONE = (
    f"SELECT clock_timestamp(), s.digest, {_S} FROM {{s}}.sessions s WHERE s.id = %(session_id)s"
)

# A session without a token is remembered nowhere, but its legacy token may be.
_FED = """
fed AS (
  INSERT INTO {s}.feed (kind, key)
  SELECT 'session', encode(digest, 'hex') FROM ended WHERE digest IS NOT NULL
  UNION SELECT 'legacy', '' FROM ended WHERE digest IS NULL)
SELECT id, digest FROM ended"""

_END = """
ended AS (
  UPDATE {s}.sessions s SET revoked_at = clock_timestamp(), revoked_reason = %(reason)s,
    revoked_by = %(by)s
  FROM named WHERE s.id = named.id AND s.revoked_at IS NULL RETURNING s.id, s.digest),"""

END_ONE = f"""
WITH named AS (SELECT %(session_id)s::uuid AS id), {_END} {_FED}"""

# What may still come of the family is denied: a family is only ever ended whole.
DENY_FAMILY = """
WITH denied AS (
  INSERT INTO {s}.denials (issuer, family, until, reason, created_by)
  SELECT t.issuer, t.family, NULL, %(reason)s, %(by)s FROM {s}.legacy_tokens t
  WHERE t.session_id = %(session_id)s AND t.family IS NOT NULL
  ON CONFLICT DO NOTHING RETURNING issuer, family)
INSERT INTO {s}.feed (kind, key) SELECT 'legacy', issuer FROM denied"""

END_FAMILY = f"""
WITH mine AS (
  SELECT issuer, family FROM {{s}}.legacy_tokens
  WHERE session_id = %(session_id)s AND family IS NOT NULL),
named AS (
  SELECT %(session_id)s::uuid AS id
  UNION SELECT t.session_id FROM {{s}}.legacy_tokens t JOIN mine USING (issuer, family)),
{_END} {_FED}"""

DENY_TOKEN = """
WITH denied AS (
  INSERT INTO {s}.denials (issuer, fingerprint, until, reason, created_by)
  VALUES (%(issuer)s, %(fingerprint)s, %(keep_until)s, %(reason)s, %(by)s)
  ON CONFLICT (fingerprint) DO NOTHING RETURNING 1),
family AS (
  INSERT INTO {s}.denials (issuer, family, until, reason, created_by)
  SELECT %(issuer)s, %(family)s, NULL, %(reason)s, %(by)s WHERE %(family)s::text IS NOT NULL
  ON CONFLICT DO NOTHING RETURNING 1),
-- A row of its own, for the drain horizon: what is denied is not out there any more.
known AS (
  INSERT INTO {s}.legacy_tokens (
    fingerprint, issuer, jti, family, realm, subject, kid, purpose, iat, exp, keep_until)
  VALUES (%(fingerprint)s, %(issuer)s, %(jti)s, %(family)s, %(realm)s, %(subject)s, %(kid)s,
    %(purpose)s, %(iat)s, %(exp)s, %(keep_until)s)
  ON CONFLICT DO NOTHING)
INSERT INTO {s}.feed (kind, key)
SELECT 'legacy', %(issuer)s WHERE EXISTS (SELECT FROM denied) OR EXISTS (SELECT FROM family)"""

END_DENIED = f"""
WITH named AS (
  SELECT t.session_id AS id FROM {{s}}.legacy_tokens t WHERE t.fingerprint = %(fingerprint)s
  UNION SELECT t.session_id FROM {{s}}.legacy_tokens t
  WHERE t.issuer = %(issuer)s AND t.family = %(family)s::text), {_END} {_FED}"""

CUT_OFF_SUBJECT = """
WITH cut AS (
  INSERT INTO {s}.cutoffs (realm, subject, not_before, reason, created_by)
  VALUES (%(realm)s, %(subject)s, coalesce(%(before)s, clock_timestamp()), %(reason)s, %(by)s)
  RETURNING 1)
INSERT INTO {s}.feed (kind, key) SELECT 'legacy', '' FROM cut"""

TELL_SUBJECT = """
INSERT INTO {s}.feed (kind, key) VALUES ('subject', %(realm)s || E'\\x1f' || %(subject)s)"""

END_SUBJECT = f"""
WITH named AS (
  SELECT id FROM {{s}}.sessions WHERE realm = %(realm)s AND subject = %(subject)s
    AND revoked_at IS NULL AND id IS DISTINCT FROM %(keep)s::uuid), {_END} {_FED}"""

DIGESTS = """
SELECT digest FROM {s}.sessions
WHERE realm = %(realm)s AND subject = %(subject)s AND revoked_at IS NULL AND digest IS NOT NULL"""

LIST = f"""
SELECT {_S} FROM {{s}}.sessions s WHERE s.realm = %(realm)s AND s.subject = %(subject)s
  AND (%(ended)s OR (s.revoked_at IS NULL AND (s.expires_at IS NULL
       OR s.expires_at > clock_timestamp())))
ORDER BY s.created_at DESC, s.id DESC"""


def in_schema(statement: str, schema: str) -> str:
    """The statement with the schema's name in place."""
    return statement.replace("{s}", '"' + schema.replace('"', '""').replace("%", "%%") + '"')
