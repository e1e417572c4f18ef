"""What the sweep deletes: which rows decide nothing any more, as a table; `{s}` is the schema.

Two things stay longer than they look needed. A legacy token's row stays while its session lives:
a family and the cutoff of a key find by it what came from one login or one signer, and sessions
of an exchange outlive their refresh token. A node that issued legacy tokens stays until the last
of them is over: the drain horizon counts it although it is gone.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pile:
    """Rows of one table that may go.

    Args:
        name: in the result.
        table, key: whose rows, and by which columns they are named.
        dead: which may go; `%(keep)s` is `sessions.keep_ended`.
        order: oldest first, along an index.
        legacy: the table goes with `retire`.
    """

    name: str
    table: str
    key: str
    dead: str
    order: str
    legacy: bool = False

    @property
    def count(self) -> str:
        """The statement that counts them."""
        return f"SELECT count(*) FROM {{s}}.{self.table} WHERE {self.dead}"  # noqa: S608 - constants above

    @property
    def batch(self) -> str:
        """The statement that deletes the oldest `%(room)s` of them."""
        return (
            f"DELETE FROM {{s}}.{self.table} WHERE {self.key} IN ("  # noqa: S608 - constants above
            f"SELECT {self.key.strip('()')} FROM {{s}}.{self.table} WHERE {self.dead}"
            f" ORDER BY {self.order} LIMIT %(room)s FOR UPDATE SKIP LOCKED)"
        )


_NOW = "clock_timestamp()"

PILES = (
    Pile("sessions_ended", "sessions", "id", f"revoked_at < {_NOW} - %(keep)s", "revoked_at"),
    Pile("sessions_expired", "sessions", "id", f"expires_at < {_NOW} - %(keep)s", "expires_at"),
    Pile("denials", "denials", "id", f"until < {_NOW}", "until", legacy=True),
    Pile(
        "minutes", "minutes", "(minute, outcome)", f"minute < {_NOW} - interval '2 days'", "minute"
    ),
    Pile("feed", "feed", "id", f"at < {_NOW} - interval '1 hour'", "id"),
    Pile(
        "nodes",
        "nodes",
        "id",
        f"coalesce(lease_until, seen_at) < {_NOW} - interval '1 day'"
        f" AND (issued_horizon < {_NOW} - interval '1 day'"
        " OR (issued_horizon IS NULL AND (last_jwt_issued_at IS NULL"
        " OR EXISTS (SELECT FROM {s}.rollout WHERE legacy_removed_at IS NOT NULL))))",
        "id",
    ),
    Pile(
        "legacy_usage",
        "legacy_usage",
        "(hour, issuer, client, outcome)",
        f"hour < {_NOW} - interval '90 days'",
        "hour",
        legacy=True,
    ),
    Pile(
        "differences",
        "differences",
        "(hour, direction, issuer, client, route, verdict)",
        f"hour < {_NOW} - interval '90 days'",
        "hour",
        legacy=True,
    ),
    Pile(
        "legacy_census",
        "legacy_census",
        "(hour, issuer, client, kid, route)",
        f"hour < {_NOW} - interval '90 days'",
        "hour",
        legacy=True,
    ),
)

LEGACY_TOKENS = "legacy_tokens"

_LIVES = """EXISTS (
  SELECT FROM {s}.sessions s WHERE s.id = t.session_id AND s.revoked_at IS NULL
    AND (s.expires_at IS NULL OR s.expires_at > clock_timestamp()))"""

COUNT_LEGACY_TOKENS = f"""
SELECT count(*) FROM {{s}}.legacy_tokens t
WHERE t.keep_until < clock_timestamp() AND NOT {_LIVES}"""  # noqa: S608 - a constant of this file

# Walks by key: rows that stay must not be looked at again by each batch.
WALK_LEGACY_TOKENS = f"""
SELECT t.keep_until, t.fingerprint, {_LIVES} FROM {{s}}.legacy_tokens t
WHERE t.keep_until < clock_timestamp() AND (%(after)s::bytea IS NULL
  OR (t.keep_until, t.fingerprint) > (%(after_at)s::timestamptz, %(after)s::bytea))
ORDER BY t.keep_until, t.fingerprint LIMIT %(room)s"""  # noqa: S608 - a constant of this file

DELETE_LEGACY_TOKENS = """
DELETE FROM {s}.legacy_tokens WHERE fingerprint = ANY(%(prints)s::bytea[])"""
