"""The schema on two pages: every table, column, constraint and index, and why it is there.

Here is what stays for ever; what `retire` takes away is in `legacy_tables.py`.

The revisions in `migrations/` build what stands here and import none of it; a test compares both.
Tables carry no schema name: `in_schema` gives a copy that does, an engine's `schema_translate_map`
does the same at run time. Times are written by the database's clock, never by a node's.
"""

from __future__ import annotations

from functools import cache

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

from migrator.stores.columns import XID8 as XID8
from migrator.stores.columns import array, at, identity, json, metadata, number, octets, words
from migrator.stores.legacy_tables import LEGACY as LEGACY
from migrator.stores.legacy_tables import jobs as jobs

SCHEMA = "migrator"

# A name of its own, not Alembic's `alembic_version`: whoever sets `database.schema` to a schema
# that the app migrates too must not have the app's history overwritten by ours.
VERSION_TABLE = "migrator_alembic_version"

sessions = Table(
    "sessions",
    metadata,
    Column("id", Uuid, primary_key=True),  # uuid v7, ours: new rows land side by side in the index
    octets("digest", nullable=True),  # null while no token exists yet: a backfilled session
    words("kind"),
    words("realm"),
    words("subject"),
    words("client", null=True),
    array("scopes"),
    json("claims"),
    at("created_at", null=False, default="now()"),
    at("expires_at"),
    at("last_seen_at"),
    words("user_agent", null=True),
    words("ip", null=True),  # not inet: what a proxy header says must never fail a login
    at("revoked_at"),
    words("revoked_reason", null=True),
    words("revoked_by", null=True),
    words("origin"),
    at("auth_time"),
    array("amr"),
    words("label", null=True),
    UniqueConstraint("digest", name="sessions_digest_key"),
    CheckConstraint("octet_length(digest) = 32", name="sessions_digest_check"),
    CheckConstraint("kind IN ('session', 'api')", name="sessions_kind_check"),
    CheckConstraint(
        "origin IN ('login', 'swap', 'exchange', 'backfill', 'regenerate')",
        name="sessions_origin_check",
    ),
    CheckConstraint(
        "kind = 'api' OR expires_at IS NOT NULL",  # only an API token may have no end
        name="sessions_expires_at_check",
    ),
    # Two halves of one index: capping and ending a subject must not wade through what a busy
    # program left behind, and listing what is over must not scan the table.
    Index("sessions_living_idx", "realm", "subject", postgresql_where=text("revoked_at IS NULL")),
    Index(
        "sessions_ended_idx", "realm", "subject", postgresql_where=text("revoked_at IS NOT NULL")
    ),
    # The sweep's two questions.
    Index("sessions_expires_at_idx", "expires_at"),
    Index(
        "sessions_revoked_at_idx", "revoked_at", postgresql_where=text("revoked_at IS NOT NULL")
    ),
    # Room for last-seen updates within the page, so that they touch no index.
    postgresql_with={"fillfactor": 90},
)

feed = Table(
    "feed",
    metadata,
    identity(),
    # Readers ask for xid >= xmin of their last snapshot: id order is not commit order, and a row
    # whose transaction commits late would be passed over by `id > last`.
    Column("xid", XID8, nullable=False, server_default=text("pg_current_xact_id()")),
    at("at", null=False, default="clock_timestamp()"),
    words("kind"),
    words("key"),
    Index("feed_xid_idx", "xid"),
)

_PHASES = "('observe', 'swap', 'drain', 'cutover', 'retired')"

rollout = Table(
    "rollout",
    metadata,
    # One row and never another: the key can only be true.
    Column("id", Boolean, primary_key=True, server_default=text("true")),
    words("phase"),
    number("percent", SmallInteger, default="0"),
    number("epoch", default="1"),
    at("since", null=False, default="now()"),
    json("exceptions", "[]"),
    at("drain_since"),
    at("sunset_at"),
    # The mark of `retire`. Legacy tables missing without it: a broken schema, not a retired one.
    at("legacy_removed_at"),
    json("issuers"),  # immutable id -> name, written by `init`: the id is part of fingerprints
    json("brownouts", "[]"),  # the windows that are still to come or open; nodes read them here
    Column("soak", JSONB),  # what would end the last move by itself, and until when; null: nothing
    CheckConstraint("id", name="rollout_id_check"),
    CheckConstraint(f"phase IN {_PHASES}", name="rollout_phase_check"),
    CheckConstraint("percent BETWEEN 0 AND 100", name="rollout_percent_check"),
)

rollout_log = Table(
    "rollout_log",
    metadata,
    identity(),
    at("at", null=False, default="now()"),
    words("who"),
    words("why", null=True),
    words("command"),
    words("from_phase", null=True),
    words("to_phase", null=True),
    number("from_percent", SmallInteger),
    number("to_percent", SmallInteger),
    number("epoch"),
    json("detail"),
)

nodes = Table(
    "nodes",
    metadata,
    Column("id", Text, primary_key=True),
    words("build", null=True),
    words("host", null=True),
    number("pid", Integer),
    number("epoch"),  # the one it acknowledged; null until it read one
    at("acked_at"),
    at("lease_until"),
    at("seen_at", null=False, default="now()"),
    at("started_at", null=False, default="now()"),
    Column("sees_tables", Boolean, nullable=False, server_default=text("false")),
    Column("has_keys", Boolean, nullable=False, server_default=text("false")),
    array("key_ids"),  # swap keys it holds, by id
    number("clock_skew_ms", Integer),
    at("last_jwt_issued_at"),
    at("issued_horizon"),  # the largest exp it handed out through `login` and `exchange`
    json("vitals"),  # how its stores answer: latencies and failures of the last minute
)

# What an operator decided about moves, each with an owner, a reason and an end.

holds = Table(
    "holds",
    metadata,
    identity(),
    at("created_at", null=False, default="now()"),
    words("created_by"),
    words("reason"),
    at("starts_at", null=False, default="now()"),  # later than now: a freeze that is announced
    at("until", null=False),
    at("released_at"),
    words("released_by", null=True),
    CheckConstraint("until > starts_at", name="holds_until_check"),
)

overrides = Table(
    "overrides",
    metadata,
    identity(),
    at("created_at", null=False, default="now()"),
    words("created_by"),
    words("gate"),
    words("reason"),
    at("until", null=False),
    at("revoked_at"),
    words("revoked_by", null=True),
)

plans = Table(
    "plans",
    metadata,
    Column("id", Text, primary_key=True),
    at("created_at", null=False, default="now()"),
    words("created_by"),
    at("expires_at", null=False),
    words("command"),
    number("epoch", default="0"),
    json("body"),  # the move, its gates and its forecast, as they were
    at("used_at"),
    words("used_by", null=True),
)

brownouts = Table(
    "brownouts",
    metadata,
    identity(),
    at("created_at", null=False, default="now()"),
    words("created_by"),
    words("reason", null=True),
    at("starts_at", null=False),
    at("ends_at", null=False),
    words("by", null=True),  # a segment: issuer | client | cohort; null: everybody
    words("value", null=True),
    number("percent", SmallInteger, default="100"),
    json("limits"),  # beyond which it aborts itself
    json("forecast"),
    at("paused_at"),
    at("cancelled_at"),
    words("cancelled_by", null=True),
    at("aborted_at"),
    words("aborted_why", null=True),
    CheckConstraint("ends_at > starts_at", name="brownouts_ends_at_check"),
    CheckConstraint("percent BETWEEN 1 AND 100", name="brownouts_percent_check"),
)

# What soaks and brownouts are judged by: too fine for `legacy_usage`, swept after two days.
minutes = Table(
    "minutes",
    metadata,
    Column("minute", TIMESTAMP(timezone=True), primary_key=True),
    Column("outcome", Text, primary_key=True),
    number("count", default="0"),
)

LASTING = (
    *(sessions, feed, rollout, rollout_log, nodes),
    *(holds, overrides, plans, brownouts, minutes),
)


@cache
def in_schema(schema: str = SCHEMA) -> MetaData:
    """A copy of every table, living in `schema`."""
    copy = MetaData()
    for table in metadata.tables.values():
        table.to_metadata(copy, schema=schema)
    return copy
