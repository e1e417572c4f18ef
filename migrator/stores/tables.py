"""The schema on one page: every table, column, constraint and index, and why it is there.

The revisions in `migrations/` build what stands here and import none of it; a test compares both.
Tables carry no schema name: `in_schema` gives a copy that does, an engine's `schema_translate_map`
does the same at run time. Times are written by the database's clock, never by a node's.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP
from sqlalchemy.types import UserDefinedType

SCHEMA = "migrator"

# A name of its own, not Alembic's `alembic_version`: whoever sets `database.schema` to a schema
# that the app migrates too must not have the app's history overwritten by ours.
VERSION_TABLE = "migrator_alembic_version"

metadata = MetaData()


class XID8(UserDefinedType[int]):
    """A 64-bit transaction id, which never wraps (PostgreSQL 13 and later)."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """What DDL calls it."""
        return "xid8"


def _id() -> Column[int]:
    return Column("id", BigInteger, Identity(always=True), primary_key=True)


def _text(name: str, *, null: bool = False, default: str | None = None) -> Column[str]:
    return Column(name, Text, nullable=null, server_default=default)


def _bytes(name: str, **kw: Any) -> Column[bytes]:
    return Column(name, LargeBinary, **kw)


def _at(name: str, *, null: bool = True, default: str | None = None) -> Column[Any]:
    return Column(
        name,
        TIMESTAMP(timezone=True),
        nullable=null,
        server_default=None if default is None else text(default),
    )


def _json(name: str, default: str = "{}") -> Column[Any]:
    return Column(name, JSONB, nullable=False, server_default=text(f"'{default}'::jsonb"))


def _texts(name: str) -> Column[Any]:
    return Column(name, ARRAY(Text), nullable=False, server_default=text("'{}'::text[]"))


def _whole(name: str, kind: type[Any] = BigInteger, *, default: str | None = None) -> Column[Any]:
    server = None if default is None else text(default)
    return Column(name, kind, nullable=default is None, server_default=server)


# ---- what stays for ever -----------------------------------------------------------------------

sessions = Table(
    "sessions",
    metadata,
    Column("id", Uuid, primary_key=True),  # uuid v7, ours: new rows land side by side in the index
    _bytes("digest", nullable=True),  # null while no token exists yet: a backfilled session
    _text("kind"),
    _text("realm"),
    _text("subject"),
    _text("client", null=True),
    _texts("scopes"),
    _json("claims"),
    _at("created_at", null=False, default="now()"),
    _at("expires_at"),
    _at("last_seen_at"),
    _text("user_agent", null=True),
    _text("ip", null=True),  # not inet: what a proxy header says must never fail a login
    _at("revoked_at"),
    _text("revoked_reason", null=True),
    _text("revoked_by", null=True),
    _text("origin"),
    _at("auth_time"),
    _texts("amr"),
    _text("label", null=True),
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
    _id(),
    # Readers ask for xid >= xmin of their last snapshot: id order is not commit order, and a row
    # whose transaction commits late would be passed over by `id > last`.
    Column("xid", XID8, nullable=False, server_default=text("pg_current_xact_id()")),
    _at("at", null=False, default="clock_timestamp()"),
    _text("kind"),
    _text("key"),
    Index("feed_xid_idx", "xid"),
)

_PHASES = "('observe', 'swap', 'drain', 'cutover', 'retired')"

rollout = Table(
    "rollout",
    metadata,
    # One row and never another: the key can only be true.
    Column("id", Boolean, primary_key=True, server_default=text("true")),
    _text("phase"),
    _whole("percent", SmallInteger, default="0"),
    _whole("epoch", default="1"),
    _at("since", null=False, default="now()"),
    _json("exceptions", "[]"),
    _at("drain_since"),
    _at("sunset_at"),
    # The mark of `retire`. Legacy tables missing without it: a broken schema, not a retired one.
    _at("legacy_removed_at"),
    _json("issuers"),  # immutable id -> name, written by `init`: the id is part of fingerprints
    _json("brownouts", "[]"),  # the windows that are still to come or open; nodes read them here
    Column("soak", JSONB),  # what would end the last move by itself, and until when; null: nothing
    CheckConstraint("id", name="rollout_id_check"),
    CheckConstraint(f"phase IN {_PHASES}", name="rollout_phase_check"),
    CheckConstraint("percent BETWEEN 0 AND 100", name="rollout_percent_check"),
)

rollout_log = Table(
    "rollout_log",
    metadata,
    _id(),
    _at("at", null=False, default="now()"),
    _text("who"),
    _text("why", null=True),
    _text("command"),
    _text("from_phase", null=True),
    _text("to_phase", null=True),
    _whole("from_percent", SmallInteger),
    _whole("to_percent", SmallInteger),
    _whole("epoch"),
    _json("detail"),
)

nodes = Table(
    "nodes",
    metadata,
    Column("id", Text, primary_key=True),
    _text("build", null=True),
    _text("host", null=True),
    _whole("pid", Integer),
    _whole("epoch"),  # the one it acknowledged; null until it read one
    _at("acked_at"),
    _at("lease_until"),
    _at("seen_at", null=False, default="now()"),
    _at("started_at", null=False, default="now()"),
    Column("sees_tables", Boolean, nullable=False, server_default=text("false")),
    Column("has_keys", Boolean, nullable=False, server_default=text("false")),
    _texts("key_ids"),  # swap keys it holds, by id
    _whole("clock_skew_ms", Integer),
    _at("last_jwt_issued_at"),
    _at("issued_horizon"),  # the largest exp it handed out through `login` and `exchange`
    _json("vitals"),  # how its stores answer: latencies and failures of the last minute
)

# What an operator decided about moves, each with an owner, a reason and an end.

holds = Table(
    "holds",
    metadata,
    _id(),
    _at("created_at", null=False, default="now()"),
    _text("created_by"),
    _text("reason"),
    _at("starts_at", null=False, default="now()"),  # later than now: a freeze that is announced
    _at("until", null=False),
    _at("released_at"),
    _text("released_by", null=True),
    CheckConstraint("until > starts_at", name="holds_until_check"),
)

overrides = Table(
    "overrides",
    metadata,
    _id(),
    _at("created_at", null=False, default="now()"),
    _text("created_by"),
    _text("gate"),
    _text("reason"),
    _at("until", null=False),
    _at("revoked_at"),
    _text("revoked_by", null=True),
)

plans = Table(
    "plans",
    metadata,
    Column("id", Text, primary_key=True),
    _at("created_at", null=False, default="now()"),
    _text("created_by"),
    _at("expires_at", null=False),
    _text("command"),
    _whole("epoch", default="0"),
    _json("body"),  # the move, its gates and its forecast, as they were
    _at("used_at"),
    _text("used_by", null=True),
)

brownouts = Table(
    "brownouts",
    metadata,
    _id(),
    _at("created_at", null=False, default="now()"),
    _text("created_by"),
    _text("reason", null=True),
    _at("starts_at", null=False),
    _at("ends_at", null=False),
    _text("by", null=True),  # a segment: issuer | client | cohort; null: everybody
    _text("value", null=True),
    _whole("percent", SmallInteger, default="100"),
    _json("limits"),  # beyond which it aborts itself
    _json("forecast"),
    _at("paused_at"),
    _at("cancelled_at"),
    _text("cancelled_by", null=True),
    _at("aborted_at"),
    _text("aborted_why", null=True),
    CheckConstraint("ends_at > starts_at", name="brownouts_ends_at_check"),
    CheckConstraint("percent BETWEEN 1 AND 100", name="brownouts_percent_check"),
)

# What soaks and brownouts are judged by: too fine for `legacy_usage`, swept after two days.
minutes = Table(
    "minutes",
    metadata,
    Column("minute", TIMESTAMP(timezone=True), primary_key=True),
    Column("outcome", Text, primary_key=True),
    _whole("count", default="0"),
)

# ---- what `retire` takes away ------------------------------------------------------------------

legacy_tokens = Table(
    "legacy_tokens",
    metadata,
    _bytes("fingerprint", primary_key=True),
    _text("issuer"),
    _text("jti", null=True),
    _text("family", null=True),
    _text("realm"),
    _text("subject"),
    _text("client", null=True),
    _whole("percent_bucket", SmallInteger),
    _text("kid", null=True),
    _text("purpose"),
    _at("iat"),
    _at("exp", null=False),
    Column("session_id", Uuid),  # no foreign key: the row outlives its session and still decides
    _text("swap_key_id", null=True),
    _at("first_seen_at"),  # null while only a ledger named it
    _at("last_seen_at"),
    _at("adopted_at"),
    _at("keep_until", null=False),  # exp + leeway + skew: sweep earlier and the JWT swaps again
    CheckConstraint("octet_length(fingerprint) = 32", name="legacy_tokens_fingerprint_check"),
    CheckConstraint("purpose IN ('access', 'refresh')", name="legacy_tokens_purpose_check"),
    CheckConstraint("percent_bucket BETWEEN 0 AND 99", name="legacy_tokens_bucket_check"),
    Index("legacy_tokens_session_idx", "session_id"),
    Index(
        "legacy_tokens_family_idx",
        "issuer",
        "family",
        postgresql_where=text("family IS NOT NULL"),
    ),
    Index("legacy_tokens_jti_idx", "issuer", "jti", postgresql_where=text("jti IS NOT NULL")),
    Index("legacy_tokens_kid_idx", "issuer", "kid"),  # what a leaked key signed
    Index("legacy_tokens_keep_until_idx", "keep_until"),
    # The drain horizon: what is still out there, by its end.
    Index("legacy_tokens_exp_idx", "issuer", "exp", postgresql_where=text("adopted_at IS NULL")),
    Index("legacy_tokens_subject_idx", "realm", "subject"),  # whether a sighting has a row
    postgresql_with={"fillfactor": 90},
)

denials = Table(
    "denials",
    metadata,
    _id(),
    _at("created_at", null=False, default="now()"),
    _text("issuer"),
    _text("jti", null=True),
    _bytes("fingerprint", nullable=True),
    _text("family", null=True),
    _at("until"),  # null: for ever
    _text("reason"),
    _text("created_by", null=True),  # null: a ledger said so
    CheckConstraint("num_nonnulls(jti, fingerprint, family) = 1", name="denials_one_check"),
    CheckConstraint("octet_length(fingerprint) = 32", name="denials_fingerprint_check"),
    # Whole, not partial: nulls do not collide, and ON CONFLICT needs no WHERE.
    UniqueConstraint("issuer", "jti", name="denials_jti_key"),
    UniqueConstraint("fingerprint", name="denials_fingerprint_key"),
    UniqueConstraint("issuer", "family", name="denials_family_key"),
    Index("denials_until_idx", "until", postgresql_where=text("until IS NOT NULL")),
)

cutoffs = Table(
    "cutoffs",
    metadata,
    _id(),
    _at("created_at", null=False, default="now()"),
    _text("realm", null=True),
    _text("subject", null=True),
    _text("issuer", null=True),
    _text("kid", null=True),
    _at("not_before"),
    _text("reason", null=True),
    _text("created_by", null=True),
    # A subject from a time on, or an issuer or one of its keys at all: who holds a leaked key
    # writes iat at will, so a time there would protect nobody.
    CheckConstraint(
        "(num_nonnulls(realm, subject, not_before) = 3 AND num_nonnulls(issuer, kid) = 0)"
        " OR (num_nonnulls(realm, subject, not_before) = 0 AND issuer IS NOT NULL)",
        name="cutoffs_one_check",
    ),
    Index(
        "cutoffs_subject_idx",
        "realm",
        "subject",
        "not_before",
        postgresql_where=text("subject IS NOT NULL"),
    ),
    Index("cutoffs_issuer_idx", "issuer", "kid", postgresql_where=text("issuer IS NOT NULL")),
)

legacy_subjects = Table(
    "legacy_subjects",
    metadata,
    Column("realm", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("issuer", Text, primary_key=True),
    Column("client", Text, primary_key=True, server_default=""),  # '' = not known
    _at("first_seen_at"),
    _at("last_seen_at"),  # with a legacy token
    _at("max_exp"),
    _at("session_seen_at"),
    # The drain horizon again. It moves when a token is refreshed, not with each sighting.
    Index("legacy_subjects_max_exp_idx", "issuer", "max_exp"),
    postgresql_with={"fillfactor": 90},
)

legacy_usage = Table(
    "legacy_usage",
    metadata,
    Column("hour", TIMESTAMP(timezone=True), primary_key=True),
    Column("issuer", Text, primary_key=True, server_default=""),  # '' = a session, or foreign
    Column("client", Text, primary_key=True, server_default=""),
    Column("outcome", Text, primary_key=True),
    _whole("count", default="0"),
    _at("last_at"),
)

# Where the app answered otherwise than the shim would have: `observe` compares.
differences = Table(
    "differences",
    metadata,
    Column("hour", TIMESTAMP(timezone=True), primary_key=True),
    Column("direction", Text, primary_key=True),  # what the app did, and what the shim would do
    Column("issuer", Text, primary_key=True, server_default=""),
    Column("client", Text, primary_key=True, server_default=""),
    Column("route", Text, primary_key=True),
    Column("verdict", Text, primary_key=True),  # the shim's reason, or 'admitted'
    _whole("count", default="0"),
    _at("last_at"),
    CheckConstraint(
        "direction IN ('deny_allow', 'allow_deny')", name="differences_direction_check"
    ),
)

ignores = Table(
    "ignores",
    metadata,
    _id(),
    _at("created_at", null=False, default="now()"),
    _text("owner"),
    _text("reason"),
    _at("until", null=False),
    _text("direction"),
    _text("issuer", null=True),
    _text("client", null=True),
    _text("route", null=True),
    _text("verdict", null=True),
    _at("removed_at"),
    _text("removed_by", null=True),
    # Whoever the app turns away and we would let in must be named by the route at the least.
    CheckConstraint(
        "direction = 'allow_deny' OR (direction = 'deny_allow' AND route IS NOT NULL)",
        name="ignores_direction_check",
    ),
)

# Taken when a token is verified anew, about once a minute while it is in use: no hit writes here.
legacy_census = Table(
    "legacy_census",
    metadata,
    Column("hour", TIMESTAMP(timezone=True), primary_key=True),
    Column("issuer", Text, primary_key=True),
    Column("client", Text, primary_key=True, server_default=""),
    Column("kid", Text, primary_key=True, server_default=""),
    Column("route", Text, primary_key=True),  # a class of routes: login, refresh, /api/*
    _whole("count", default="0"),
    _at("last_at"),
)

# What takes long to count, kept with its age, so that status never has to wait for it.
legacy_counts = Table(
    "legacy_counts",
    metadata,
    Column("name", Text, primary_key=True),  # what was counted, and for whom
    _at("taken_at", null=False),
    _whole("took_ms", Integer),
    _json("body"),
)

# Whom a brownout refused: what it taught is told by how they came back.
brownout_hits = Table(
    "brownout_hits",
    metadata,
    Column("brownout", BigInteger, primary_key=True),
    Column("realm", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("issuer", Text, primary_key=True),
    Column("client", Text, primary_key=True, server_default=""),
    _at("first_at"),
    _at("last_at"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("name", Text, primary_key=True),
    _text("source", null=True),  # null: not a backfill
    _text("state"),
    _json("checkpoint"),
    _whole("done", default="0"),
    _whole("total"),
    _whole("rejected", default="0"),
    _at("started_at"),
    _at("updated_at", null=False, default="now()"),
    _json("detail"),
    CheckConstraint(
        "state IN ('idle', 'running', 'paused', 'done', 'failed')", name="jobs_state_check"
    ),
)

# The parts of a backfill, claimed by its workers with SKIP LOCKED.
job_ranges = Table(
    "job_ranges",
    metadata,
    Column("job", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    _text("state", default="waiting"),
    _json("bounds"),  # from which key, and to which
    _json("after"),  # the last key that was planted
    _text("run", null=True),  # who holds it
    _at("updated_at", null=False, default="now()"),
    _json("tally"),
    CheckConstraint("state IN ('waiting', 'running', 'done')", name="job_ranges_state_check"),
)

LASTING = (
    *(sessions, feed, rollout, rollout_log, nodes),
    *(holds, overrides, plans, brownouts, minutes),
)
LEGACY = (
    *(legacy_tokens, denials, cutoffs, legacy_subjects, legacy_usage),
    *(differences, ignores, legacy_census, legacy_counts, brownout_hits, jobs, job_ranges),
)


@cache
def in_schema(schema: str = SCHEMA) -> MetaData:
    """A copy of every table, living in `schema`."""
    copy = MetaData()
    for table in metadata.tables.values():
        table.to_metadata(copy, schema=schema)
    return copy
