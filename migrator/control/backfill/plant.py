"""What becomes of a ledger's row, decided and done by one statement for a whole page.

- A living token becomes a `legacy_tokens` row and a session without a token (digest null), which
  gets one when the legacy token is first swapped or exchanged; until then it can be listed and
  ended. It ends when an exchange at this moment would make it end.
- A revoked one becomes denials, by fingerprint and by jti, and no session: most rows of a
  blacklist were rotated, not logged out, and an ended session for each would bury the real ones in
  `sessions list --ended` and in every count. Both, because the old system went by jti (sliding
  tokens are re-issued under theirs), and because a jti may be in a claim of another name.
- What we know, deny or cut off already is left as it is: a ledger never revives anything.

The insert of a fingerprint makes an exchange of that very token wait for this transaction: keep
pages short against a request's budget. No lock of a swap is taken; `SETTLE` afterwards ends what
slipped past a cutoff or denial that was committed while its page was being planted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from migrator.control.backfill.rows import COLUMNS
from migrator.core.facts import LATEST
from migrator.settings import Issuer, Settings

REASON: Final = "ledger"

# uuid v7 (RFC 9562 section 6.2, method 1): milliseconds, the version, a counter of 24 bits around
# the variant, and 48 bits of a salted hash. To draw 128 random bits for each row is a system call
# for each row; counted, the ids of a page land side by side in their indexes.
UUID7: Final = """(clock.ms || '7' || substr(counter, 1, 3) || '8' || substr(counter, 4, 3)
    || substr(encode(sha256(clock.salt || fingerprint), 'hex'), 1, 12))::uuid"""
_SALT: Final = "decode(replace(gen_random_uuid()::text, '-', ''), 'hex')"


def bucket(realm: str, subject: str) -> str:
    """`phases.bucket_of` in SQL, of two expressions."""
    seen = (
        f"sha256(convert_to({realm}, 'UTF8') || '\\x00'::bytea || convert_to({subject}, 'UTF8'))"
    )
    # 2**32 is 96 modulo 100; 64 unsigned bits at once do not fit a bigint.
    high, low = (
        f"('x' || encode(substr({seen}, {at}, 4), 'hex'))::bit(32)::bigint" for at in (1, 5)
    )
    return f"((({high}) * 96 + {low}) %% 100)::smallint"


_EFFECTIVE_IAT = """coalesce(j.iat, j.exp - CASE j.purpose WHEN 'refresh'
      THEN %(refresh_lifetime)s::interval ELSE %(lifetime)s::interval END) - %(skew)s::interval"""

# The same conditions as in stores/queries.py, over rows instead of parameters.
_BARRED = f"""(EXISTS (
    SELECT FROM {{s}}.cutoffs c WHERE c.realm = %(realm)s AND c.subject = j.subject
      AND coalesce({_EFFECTIVE_IAT} <= c.not_before, true)
    UNION ALL
    SELECT FROM {{s}}.cutoffs c WHERE c.issuer = %(issuer)s AND (c.kid IS NULL OR c.kid = j.kid)
    UNION ALL
    SELECT FROM {{s}}.denials d WHERE d.fingerprint = j.fingerprint
      AND (d.until IS NULL OR d.until > clock.at)
    UNION ALL
    SELECT FROM {{s}}.denials d WHERE d.issuer = %(issuer)s AND d.jti = j.jti
      AND (d.until IS NULL OR d.until > clock.at)
    UNION ALL
    SELECT FROM {{s}}.denials d WHERE d.issuer = %(issuer)s AND d.family = j.family
      AND (d.until IS NULL OR d.until > clock.at)))"""  # noqa: S608 - of constants, as all here

_JUDGED = f"""
WITH clock AS MATERIALIZED (
  SELECT at, lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0') AS ms,
    {_SALT} AS salt
  FROM clock_timestamp() AS at),
rows ({", ".join(COLUMNS)}) AS MATERIALIZED (
{{rows}}
),
judged AS MATERIALIZED (
  SELECT r.*, least(r.exp + %(keep)s::interval, %(latest)s) AS keep_until, CASE
      WHEN r.exp + %(keep)s::interval <= clock.at THEN 'expired'
      WHEN r.revoked AND (r.fingerprint IS NOT NULL OR r.jti IS NOT NULL) THEN 'revoked'
      WHEN r.exp <= clock.at THEN 'expired'
      WHEN r.fault IS NOT NULL THEN r.fault
      WHEN r.fingerprint IS NULL OR r.subject IS NULL OR r.purpose IS NULL THEN 'unreadable'
      WHEN r.exp IS NULL THEN 'no_expiry'
      ELSE 'living' END AS verdict
  FROM rows r CROSS JOIN clock),
living AS MATERIALIZED (
  SELECT j.*, {UUID7} AS session_id, {bucket("%(realm)s", "j.subject")} AS percent_bucket,
    least(CASE j.purpose WHEN 'refresh'
        THEN greatest(j.exp, clock.at + %(rolling)s::interval) ELSE j.exp END,
      clock.at + %(absolute)s::interval) AS ends_at,
    {_BARRED} AS barred
  FROM (
    -- In the order of the largest index that would else be written all over.
    SELECT *, lpad(to_hex(row_number() OVER (ORDER BY fingerprint)), 6, '0') AS counter
    FROM judged WHERE verdict = 'living') j CROSS JOIN clock),
revoked AS MATERIALIZED (SELECT * FROM judged WHERE verdict = 'revoked'),
named AS MATERIALIZED (
  -- Row by row along an index: no page may read the whole table to find a handful of sessions.
  SELECT t.id FROM revoked r CROSS JOIN LATERAL (
    SELECT session_id AS id FROM {{s}}.legacy_tokens WHERE fingerprint = r.fingerprint OFFSET 0) t
  UNION
  SELECT t.id FROM revoked r CROSS JOIN LATERAL (
    SELECT session_id AS id FROM {{s}}.legacy_tokens WHERE issuer = %(issuer)s AND jti = r.jti
    OFFSET 0) t)"""  # noqa: S608 - of constants, as all here

_KNOWN = "EXISTS (SELECT FROM {s}.legacy_tokens t WHERE t.fingerprint = living.fingerprint)"
_WOULD_BE_SEEDED = f"DISTINCT fingerprint) FROM living WHERE NOT barred AND NOT {_KNOWN}"

_COUNTS = """
SELECT jsonb_build_object(
  'read', (SELECT count(*) FROM judged),
  'expired', (SELECT count(*) FROM judged WHERE verdict = 'expired'),
  'living', (SELECT count(*) FROM living),
  'barred', (SELECT count(*) FROM living WHERE barred AND NOT {known}),
  'seeded', (SELECT count({seeded}),
  'revoked', (SELECT count(*) FROM revoked),
  'denied', (SELECT count(*) FROM denied),
  'ended', (SELECT count(*) FROM ended),
  'rejects', coalesce((SELECT jsonb_agg(jsonb_build_array(key, verdict) ORDER BY length(key), key)
    FROM judged
    WHERE verdict NOT IN ('expired', 'revoked', 'living')), '[]'::jsonb))"""

PLANT: Final = f"""{_JUDGED},
known AS (
  INSERT INTO {{s}}.legacy_tokens (fingerprint, issuer, jti, family, realm, subject, client,
    percent_bucket, kid, purpose, iat, exp, session_id, keep_until)
  SELECT fingerprint, %(issuer)s, jti, family, %(realm)s, subject, client, percent_bucket, kid,
    purpose, iat, least(exp, %(latest)s), session_id, keep_until
  FROM living WHERE NOT barred
  ON CONFLICT DO NOTHING RETURNING session_id),
opened AS (
  INSERT INTO {{s}}.sessions (id, kind, realm, subject, client, created_at, expires_at, origin)
  SELECT session_id, 'session', %(realm)s, subject, client, clock.at, ends_at, 'backfill'
  FROM living JOIN known USING (session_id) CROSS JOIN clock RETURNING 1),
by_fingerprint AS (
  INSERT INTO {{s}}.denials (issuer, fingerprint, until, reason)
  SELECT %(issuer)s, fingerprint, keep_until, '{REASON}' FROM revoked
  WHERE fingerprint IS NOT NULL
  ON CONFLICT DO NOTHING RETURNING fingerprint),
by_jti AS (
  -- A sliding token is re-issued under its jti, so its denial outlives the exp of this row.
  INSERT INTO {{s}}.denials (issuer, jti, until, reason)
  SELECT %(issuer)s, jti, CASE purpose WHEN 'refresh' THEN keep_until END, '{REASON}' FROM revoked
  WHERE jti IS NOT NULL
  ON CONFLICT DO NOTHING RETURNING jti),
denied AS (
  SELECT 1 FROM revoked r WHERE r.fingerprint IN (SELECT fingerprint FROM by_fingerprint)
    OR r.jti IN (SELECT jti FROM by_jti)),
ended AS (
  UPDATE {{s}}.sessions s SET revoked_at = clock.at, revoked_reason = '{REASON}',
    revoked_by = %(by)s
  FROM named CROSS JOIN clock WHERE s.id = named.id AND s.revoked_at IS NULL
  RETURNING s.digest),
fed AS (
  INSERT INTO {{s}}.feed (kind, key)
  SELECT 'session', encode(digest, 'hex') FROM ended WHERE digest IS NOT NULL
  UNION ALL SELECT 'legacy', %(issuer)s WHERE EXISTS (SELECT FROM denied))
{_COUNTS.format(seeded="*) FROM opened", known=_KNOWN)}"""  # noqa: S608 - of constants, as all here

SURVEY: Final = f"""{_JUDGED},
denied AS (
  SELECT 1 FROM revoked r
  WHERE (r.fingerprint IS NOT NULL AND NOT EXISTS (
      SELECT FROM {{s}}.denials d WHERE d.fingerprint = r.fingerprint))
    OR (r.jti IS NOT NULL AND NOT EXISTS (
      SELECT FROM {{s}}.denials d WHERE d.issuer = %(issuer)s AND d.jti = r.jti))),
ended AS (
  SELECT 1 FROM {{s}}.sessions s JOIN named USING (id) WHERE s.revoked_at IS NULL)
{_COUNTS.format(seeded=_WOULD_BE_SEEDED, known=_KNOWN)}"""  # noqa: S608 - of constants, as all here

# What a page could not see because it was committed meanwhile. Whoever ended a subject swept after
# its cutoff was committed; what was planted after that sweep, this finds.
SETTLE: Final = f"""
WITH late AS (
  SELECT t.session_id AS id, d.reason FROM {{s}}.denials d
  JOIN {{s}}.legacy_tokens t ON t.fingerprint = d.fingerprint
  WHERE d.created_at >= %(began)s
  UNION ALL
  SELECT t.session_id, d.reason FROM {{s}}.denials d
  JOIN {{s}}.legacy_tokens t ON t.issuer = d.issuer AND t.jti = d.jti
  WHERE d.created_at >= %(began)s
  UNION ALL
  SELECT t.session_id, d.reason FROM {{s}}.denials d
  JOIN {{s}}.legacy_tokens t ON t.issuer = d.issuer AND t.family = d.family
  WHERE d.created_at >= %(began)s
  UNION ALL
  SELECT j.session_id, 'cutoff' FROM {{s}}.cutoffs c
  JOIN {{s}}.sessions s ON s.realm = c.realm AND s.subject = c.subject AND s.revoked_at IS NULL
  JOIN {{s}}.legacy_tokens j ON j.session_id = s.id
  WHERE c.created_at >= %(began)s AND coalesce({_EFFECTIVE_IAT} <= c.not_before, true)
  UNION ALL
  SELECT j.session_id, 'cutoff' FROM {{s}}.cutoffs c
  JOIN {{s}}.legacy_tokens j ON j.issuer = c.issuer AND (c.kid IS NULL OR c.kid = j.kid)
  WHERE c.created_at >= %(began)s),
ended AS (
  UPDATE {{s}}.sessions s SET revoked_at = clock_timestamp(), revoked_reason = late.reason,
    revoked_by = %(by)s
  FROM late WHERE s.id = late.id AND s.revoked_at IS NULL
    AND (late.reason = '{REASON}' OR (s.origin = 'backfill' AND s.digest IS NULL))
  RETURNING s.digest),
fed AS (
  INSERT INTO {{s}}.feed (kind, key)
  SELECT 'session', encode(digest, 'hex') FROM ended WHERE digest IS NOT NULL)
SELECT count(*) FROM ended"""  # noqa: S608 - of constants, as all here


def terms(settings: Settings, issuer: Issuer, *, by: str) -> Mapping[str, Any]:
    """The parameters of the statements, but for those of the rows."""
    return {
        "issuer": issuer.id,
        "realm": issuer.realm,
        "by": by,
        "keep": issuer.leeway + issuer.skew,
        "skew": issuer.skew,
        "lifetime": issuer.lifetime,
        "refresh_lifetime": issuer.refresh_lifetime,
        "rolling": issuer.refresh_lifetime if issuer.rotates_refresh else None,
        "absolute": settings.sessions.absolute,
        "latest": LATEST,
    }
