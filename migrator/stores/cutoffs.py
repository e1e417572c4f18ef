"""What a cutoff ends: the statements, in batches; `{s}` is the schema.

A batch is one transaction of its own, so that no lock is held for long and nothing done is lost.
"""

from __future__ import annotations

# By primary key, so that each batch goes on where the last one stopped.
SWAPPED_FROM = """
SELECT t.fingerprint, s.id, s.digest
FROM {s}.legacy_tokens t JOIN {s}.sessions s ON s.id = t.session_id
WHERE t.issuer = %(issuer)s AND (%(kid)s::text IS NULL OR t.kid = %(kid)s::text)
  AND s.revoked_at IS NULL AND (s.expires_at IS NULL OR s.expires_at > clock_timestamp())
  AND t.fingerprint > %(after)s
ORDER BY t.fingerprint LIMIT %(room)s"""

COUNT_SWAPPED_FROM = """
SELECT count(DISTINCT s.id)
FROM {s}.legacy_tokens t JOIN {s}.sessions s ON s.id = t.session_id
WHERE t.issuer = %(issuer)s AND (%(kid)s::text IS NULL OR t.kid = %(kid)s::text)
  AND s.revoked_at IS NULL AND (s.expires_at IS NULL OR s.expires_at > clock_timestamp())"""

SWAPPED_OF_SUBJECT = """
SELECT t.issuer, t.purpose, t.iat, t.exp, s.id, s.digest
FROM {s}.legacy_tokens t JOIN {s}.sessions s ON s.id = t.session_id
WHERE s.realm = %(realm)s AND s.subject = %(subject)s AND s.revoked_at IS NULL
  AND (s.expires_at IS NULL OR s.expires_at > clock_timestamp())"""

# Very many rows of the feed would cost every node more than forgetting everything once.
END_NAMED = """
WITH named AS (SELECT unnest(%(ids)s::uuid[]) AS id),
ended AS (
  UPDATE {s}.sessions s SET revoked_at = clock_timestamp(), revoked_reason = %(reason)s,
    revoked_by = %(by)s
  FROM named WHERE s.id = named.id AND s.revoked_at IS NULL RETURNING s.id, s.digest),
fed AS (
  INSERT INTO {s}.feed (kind, key)
  SELECT 'session', encode(digest, 'hex') FROM ended
  WHERE digest IS NOT NULL AND NOT %(everything)s
  UNION ALL SELECT 'all', '' WHERE %(everything)s AND EXISTS (SELECT FROM ended))
SELECT id FROM ended"""
