"""A rollout the size of a large company's: millions of rows, made in the database in one go."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, LiteralString

import psycopg
from psycopg import sql

from migrator.stores.drivers import conninfo

if TYPE_CHECKING:
    from collections.abc import Iterator

# Every second session's subject has another one; a quarter is over, a fifth was ended.
_SESSIONS = """
INSERT INTO migrator.sessions (id, digest, kind, realm, subject, client, created_at, expires_at,
  last_seen_at, revoked_at, revoked_reason, revoked_by, origin)
SELECT (lpad(to_hex(1700000000000 + i), 12, '0') || '70008000' || lpad(to_hex(i), 12, '0'))::uuid,
  sha256(int8send(i)), 'session', 'users', 'user-' || (i % %(subjects)s),
  'client-' || (i % 40) || '/1.' || (i % 3), now() - (i % 60) * interval '1 day',
  now() + ((i * 7) % 120 - 30) * interval '1 day', now() - (i % 3600) * interval '1 s',
  CASE WHEN i % 5 = 0 THEN now() - (i % 25) * interval '1 day' END,
  CASE WHEN i % 5 = 0 THEN 'logout' END, CASE WHEN i % 5 = 0 THEN 'user' END,
  CASE WHEN i <= %(tokens)s THEN 'swap' ELSE 'login' END
FROM generate_series(1, %(sessions)s::bigint) i"""

# A third was adopted, a quarter is over; each has a session.
_TOKENS = """
INSERT INTO migrator.legacy_tokens (fingerprint, issuer, jti, family, realm, subject, client,
  percent_bucket, kid, purpose, iat, exp, session_id, swap_key_id, first_seen_at, last_seen_at,
  adopted_at, keep_until)
SELECT sha256(int8send(-i)), 'a1', to_hex(i), CASE WHEN i % 2 = 0 THEN 'f' || i END, 'users',
  'user-' || (i % %(subjects)s), CASE WHEN i % 9 > 0 THEN 'client-' || (i % 40) || '/1.' || (i % 3)
    END,
  (i % %(subjects)s) % 100, 'k' || (i % 3), CASE WHEN i % 4 = 0 THEN 'refresh' ELSE 'access' END,
  e.exp - interval '30 days', e.exp,
  (lpad(to_hex(1700000000000 + i), 12, '0') || '70008000' || lpad(to_hex(i), 12, '0'))::uuid,
  'k1', now() - interval '3 days', now() - (i % 200000) * interval '1 s',
  CASE WHEN i % 3 = 0 THEN now() - interval '1 day' END, e.exp + interval '1 min'
FROM generate_series(1, %(tokens)s::bigint) i,
  LATERAL (SELECT now() + ((i * 7) % 40 - 10) * interval '1 day' + i * interval '1 ms' AS exp) e"""

# Half of them show a token that has a row, the others one that has none.
_SUBJECTS = """
INSERT INTO migrator.legacy_subjects (realm, subject, issuer, client, first_seen_at, last_seen_at,
  max_exp, session_seen_at)
SELECT 'users', 'user-' || i, 'a1', 'client-' || (i % 40) || '/1.' || (i % 3),
  now() - interval '9 days', now() - (i % 500000) * interval '1 s',
  now() + ((i * 7) % 40 - 10) * interval '1 day' + i * interval '1 ms'
    + CASE WHEN i % 2 = 0 THEN interval '1 s' ELSE interval '0' END,
  CASE WHEN i % 3 = 0 THEN now() - (i % 400000) * interval '1 s' END
FROM generate_series(1, %(seen)s::bigint) i"""

_DENIALS = """
INSERT INTO migrator.denials (issuer, jti, until, reason)
SELECT 'a1', to_hex(i * 10), now() + interval '10 days', 'ledger'
FROM generate_series(1, %(tokens)s::bigint / 50) i"""

_CUTOFFS = """
INSERT INTO migrator.cutoffs (realm, subject, not_before, reason, created_by)
SELECT 'users', 'user-' || (i * 11), now(), 'password reset', 'app'
FROM generate_series(1, %(tokens)s::bigint / 100) i"""

_USAGE = """
INSERT INTO migrator.legacy_usage (hour, issuer, client, outcome, count, last_at)
SELECT h, 'a1', 'client-' || c || '/1.0', o, 1000, h + interval '30 min'
FROM generate_series(date_trunc('hour', now()) - interval '90 days', now(), interval '1 hour') h,
  generate_series(1, %(clients)s) c, unnest(ARRAY['session', 'legacy', 'swapped', 'late']) o"""

_FILLS: tuple[tuple[LiteralString, LiteralString], ...] = (
    ("sessions", _SESSIONS),
    ("legacy_tokens", _TOKENS),
    ("legacy_subjects", _SUBJECTS),
    ("denials", _DENIALS),
    ("cutoffs", _CUTOFFS),
    ("legacy_usage", _USAGE),
)


def fill(url: str, *, sessions: int, tokens: int, seen: int, clients: int = 40) -> None:
    """Fill the tables of a migrated database, and let the server look at them.

    Args:
        sessions, tokens, seen: rows of sessions, legacy_tokens and legacy_subjects.
        clients: names counted by the hour for ninety days.
    """
    sizes = {
        "sessions": sessions,
        "subjects": sessions // 2,
        "tokens": tokens,
        "seen": seen,
        "clients": clients,
    }
    with psycopg.connect(**conninfo(url), autocommit=True) as connection:
        connection.execute("SET maintenance_work_mem = '512MB'")
        connection.execute("SET synchronous_commit = off")
        for table, statement in _FILLS:
            with _bare(connection, table):
                # No driver's parameters: percent signs stand for modulo here.
                filled: str = statement
                for name, size in sizes.items():
                    filled = filled.replace(f"%({name})s", str(size))
                connection.execute(filled.encode())
            connection.execute(
                sql.SQL("VACUUM (ANALYZE) migrator.{}").format(sql.Identifier(table))
            )
        connection.execute("CHECKPOINT")  # or what is asked next waits for the disk


@contextmanager
def _bare(connection: psycopg.Connection, table: str) -> Iterator[None]:
    """Take a table's indexes away and build them again: a third of the time of keeping them."""
    keys = connection.execute(
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE conrelid = %s::regclass AND contype IN ('p', 'u') ORDER BY contype",
        (f"migrator.{table}",),
    ).fetchall()
    indexes = connection.execute(
        "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index i"
        " WHERE indrelid = %s::regclass AND NOT EXISTS"
        " (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid)",
        (f"migrator.{table}",),
    ).fetchall()
    for name, _ in indexes:
        connection.execute(f"DROP INDEX {name}".encode())
    for name, _ in keys:
        connection.execute(f"ALTER TABLE migrator.{table} DROP CONSTRAINT {name}".encode())
    yield
    for name, definition in keys:
        connection.execute(
            f"ALTER TABLE migrator.{table} ADD CONSTRAINT {name} {definition}".encode()
        )
    for _, definition in indexes:
        connection.execute(definition.encode())
