"""The tables that `retire` takes away: what is known of legacy tokens, and of the way out of them.

The others are in `tables.py`, which also says how all of them are to be read.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Index,
    Integer,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import TIMESTAMP

from migrator.stores.columns import at, identity, json, metadata, number, octets, words

legacy_tokens = Table(
    "legacy_tokens",
    metadata,
    octets("fingerprint", primary_key=True),
    words("issuer"),
    words("jti", null=True),
    words("family", null=True),
    words("realm"),
    words("subject"),
    words("client", null=True),
    number("percent_bucket", SmallInteger),
    words("kid", null=True),
    words("purpose"),
    at("iat"),
    at("exp", null=False),
    Column("session_id", Uuid),  # no foreign key: the row outlives its session and still decides
    words("swap_key_id", null=True),
    at("first_seen_at"),  # null while only a ledger named it
    at("last_seen_at"),
    at("adopted_at"),
    at("keep_until", null=False),  # exp + leeway + skew: sweep earlier and the JWT swaps again
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
    identity(),
    at("created_at", null=False, default="now()"),
    words("issuer"),
    words("jti", null=True),
    octets("fingerprint", nullable=True),
    words("family", null=True),
    at("until"),  # null: for ever
    words("reason"),
    words("created_by", null=True),  # null: a ledger said so
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
    identity(),
    at("created_at", null=False, default="now()"),
    words("realm", null=True),
    words("subject", null=True),
    words("issuer", null=True),
    words("kid", null=True),
    at("not_before"),
    words("reason", null=True),
    words("created_by", null=True),
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
    at("first_seen_at"),
    at("last_seen_at"),  # with a legacy token
    at("max_exp"),
    at("session_seen_at"),
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
    number("count", default="0"),
    at("last_at"),
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
    number("count", default="0"),
    at("last_at"),
    CheckConstraint(
        "direction IN ('deny_allow', 'allow_deny')", name="differences_direction_check"
    ),
)

ignores = Table(
    "ignores",
    metadata,
    identity(),
    at("created_at", null=False, default="now()"),
    words("owner"),
    words("reason"),
    at("until", null=False),
    words("direction"),
    words("issuer", null=True),
    words("client", null=True),
    words("route", null=True),
    words("verdict", null=True),
    at("removed_at"),
    words("removed_by", null=True),
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
    number("count", default="0"),
    at("last_at"),
)

# What takes long to count, kept with its age, so that status never has to wait for it.
legacy_counts = Table(
    "legacy_counts",
    metadata,
    Column("name", Text, primary_key=True),  # what was counted, and for whom
    at("taken_at", null=False),
    number("took_ms", Integer),
    json("body"),
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
    at("first_at"),
    at("last_at"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("name", Text, primary_key=True),
    words("source", null=True),  # null: not a backfill
    words("state"),
    json("checkpoint"),
    number("done", default="0"),
    number("total"),
    number("rejected", default="0"),
    at("started_at"),
    at("updated_at", null=False, default="now()"),
    json("detail"),
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
    words("state", default="waiting"),
    json("bounds"),  # from which key, and to which
    json("after"),  # the last key that was planted
    words("run", null=True),  # who holds it
    at("updated_at", null=False, default="now()"),
    json("tally"),
    CheckConstraint("state IN ('waiting', 'running', 'done')", name="job_ranges_state_check"),
)

LEGACY = (
    *(legacy_tokens, denials, cutoffs, legacy_subjects, legacy_usage),
    *(differences, ignores, legacy_census, legacy_counts, brownout_hits, jobs, job_ranges),
)
