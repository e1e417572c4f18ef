"""Bring the tables. Expand: any release may run with it, and the app notices nothing.

Every table is new, so no index needs to be built concurrently: nobody can be waiting for an empty
table. A later revision that indexes one of these does it with `postgresql_concurrently`.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects import postgresql

revision = "0001_expand"
down_revision = None
branch_labels = ("expand",)
depends_on = None


class XID8(sa.types.UserDefinedType[int]):
    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "xid8"


def upgrade() -> None:
    schema = context.config.attributes["schema"]
    _lasting(schema)
    _operating(schema)
    _legacy(schema)


def downgrade() -> None:
    raise RuntimeError(
        "expanded tables are left in place: the app does not see them, and sessions may live there"
    )


def at(name: str, *, null: bool = True, default: str | None = None) -> sa.Column[Any]:
    server = None if default is None else sa.text(default)
    return sa.Column(name, sa.TIMESTAMP(timezone=True), nullable=null, server_default=server)


def words(name: str, *, null: bool = False, default: str | None = None) -> sa.Column[Any]:
    return sa.Column(name, sa.Text, nullable=null, server_default=default)


def json(name: str, default: str = "{}") -> sa.Column[Any]:
    server = sa.text(f"'{default}'::jsonb")
    return sa.Column(name, postgresql.JSONB, nullable=False, server_default=server)


def array(name: str) -> sa.Column[Any]:
    server = sa.text("'{}'::text[]")
    return sa.Column(name, postgresql.ARRAY(sa.Text), nullable=False, server_default=server)


def flag(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Boolean, nullable=False, server_default=sa.text("false"))


def number(
    name: str, kind: type[Any] = sa.BigInteger, default: str | None = None
) -> sa.Column[Any]:
    server = None if default is None else sa.text(default)
    return sa.Column(name, kind, nullable=default is None, server_default=server)


def identity() -> sa.Column[Any]:
    return sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True)


def index(schema: str, table: str, name: str, *columns: str, where: str | None = None) -> None:
    condition = None if where is None else sa.text(where)
    op.create_index(
        f"{table}_{name}_idx", table, list(columns), schema=schema, postgresql_where=condition
    )


def _lasting(schema: str) -> None:
    op.create_table(
        "sessions",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("digest", sa.LargeBinary, nullable=True),
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
        words("ip", null=True),
        at("revoked_at"),
        words("revoked_reason", null=True),
        words("revoked_by", null=True),
        words("origin"),
        at("auth_time"),
        array("amr"),
        words("label", null=True),
        sa.UniqueConstraint("digest", name="sessions_digest_key"),
        sa.CheckConstraint("octet_length(digest) = 32", name="sessions_digest_check"),
        sa.CheckConstraint("kind IN ('session', 'api')", name="sessions_kind_check"),
        sa.CheckConstraint(
            "origin IN ('login', 'swap', 'exchange', 'backfill', 'regenerate')",
            name="sessions_origin_check",
        ),
        sa.CheckConstraint(
            "kind = 'api' OR expires_at IS NOT NULL", name="sessions_expires_at_check"
        ),
        schema=schema,
        postgresql_with={"fillfactor": 90},
    )
    ended = "revoked_at IS NOT NULL"
    index(schema, "sessions", "living", "realm", "subject", where="revoked_at IS NULL")
    index(schema, "sessions", "ended", "realm", "subject", where=ended)
    index(schema, "sessions", "expires_at", "expires_at")
    index(schema, "sessions", "revoked_at", "revoked_at", where=ended)

    op.create_table(
        "feed",
        identity(),
        sa.Column("xid", XID8, nullable=False, server_default=sa.text("pg_current_xact_id()")),
        at("at", null=False, default="clock_timestamp()"),
        words("kind"),
        words("key"),
        schema=schema,
    )
    index(schema, "feed", "xid", "xid")

    rollout = op.create_table(
        "rollout",
        sa.Column("id", sa.Boolean, primary_key=True, server_default=sa.text("true")),
        words("phase"),
        number("percent", sa.SmallInteger, "0"),
        number("epoch", default="1"),
        at("since", null=False, default="now()"),
        json("exceptions", "[]"),
        at("drain_since"),
        at("sunset_at"),
        at("legacy_removed_at"),
        json("issuers"),
        json("brownouts", "[]"),
        sa.Column("soak", postgresql.JSONB),
        sa.CheckConstraint("id", name="rollout_id_check"),
        sa.CheckConstraint(
            "phase IN ('observe', 'swap', 'drain', 'cutover', 'retired')",
            name="rollout_phase_check",
        ),
        sa.CheckConstraint("percent BETWEEN 0 AND 100", name="rollout_percent_check"),
        schema=schema,
    )
    # The one row there ever is. It comes with its table, because a node that finds the tables must
    # find a phase in them; this is the schema's own seed and touches no data of anybody's.
    op.bulk_insert(rollout, [{"phase": "observe"}])

    op.create_table(
        "rollout_log",
        identity(),
        at("at", null=False, default="now()"),
        words("who"),
        words("why", null=True),
        words("command"),
        words("from_phase", null=True),
        words("to_phase", null=True),
        number("from_percent", sa.SmallInteger),
        number("to_percent", sa.SmallInteger),
        number("epoch"),
        json("detail"),
        schema=schema,
    )
    op.create_table(
        "nodes",
        sa.Column("id", sa.Text, primary_key=True),
        words("build", null=True),
        words("host", null=True),
        number("pid", sa.Integer),
        number("epoch"),
        at("acked_at"),
        at("lease_until"),
        at("seen_at", null=False, default="now()"),
        at("started_at", null=False, default="now()"),
        flag("sees_tables"),
        flag("has_keys"),
        array("key_ids"),
        number("clock_skew_ms", sa.Integer),
        at("last_jwt_issued_at"),
        at("issued_horizon"),
        json("vitals"),
        schema=schema,
    )


def _operating(schema: str) -> None:
    op.create_table(
        "holds",
        identity(),
        at("created_at", null=False, default="now()"),
        words("created_by"),
        words("reason"),
        at("starts_at", null=False, default="now()"),
        at("until", null=False),
        at("released_at"),
        words("released_by", null=True),
        sa.CheckConstraint("until > starts_at", name="holds_until_check"),
        schema=schema,
    )
    op.create_table(
        "overrides",
        identity(),
        at("created_at", null=False, default="now()"),
        words("created_by"),
        words("gate"),
        words("reason"),
        at("until", null=False),
        at("revoked_at"),
        words("revoked_by", null=True),
        schema=schema,
    )
    op.create_table(
        "plans",
        sa.Column("id", sa.Text, primary_key=True),
        at("created_at", null=False, default="now()"),
        words("created_by"),
        at("expires_at", null=False),
        words("command"),
        number("epoch", default="0"),
        json("body"),
        at("used_at"),
        words("used_by", null=True),
        schema=schema,
    )
    op.create_table(
        "brownouts",
        identity(),
        at("created_at", null=False, default="now()"),
        words("created_by"),
        words("reason", null=True),
        at("starts_at", null=False),
        at("ends_at", null=False),
        words("by", null=True),
        words("value", null=True),
        number("percent", sa.SmallInteger, "100"),
        json("limits"),
        json("forecast"),
        at("paused_at"),
        at("cancelled_at"),
        words("cancelled_by", null=True),
        at("aborted_at"),
        words("aborted_why", null=True),
        sa.CheckConstraint("ends_at > starts_at", name="brownouts_ends_at_check"),
        sa.CheckConstraint("percent BETWEEN 1 AND 100", name="brownouts_percent_check"),
        schema=schema,
    )
    op.create_table(
        "minutes",
        sa.Column("minute", sa.TIMESTAMP(timezone=True), primary_key=True),
        sa.Column("outcome", sa.Text, primary_key=True),
        number("count", default="0"),
        schema=schema,
    )


def _legacy(schema: str) -> None:
    op.create_table(
        "legacy_tokens",
        sa.Column("fingerprint", sa.LargeBinary, primary_key=True),
        words("issuer"),
        words("jti", null=True),
        words("family", null=True),
        words("realm"),
        words("subject"),
        words("client", null=True),
        number("percent_bucket", sa.SmallInteger),
        words("kid", null=True),
        words("purpose"),
        at("iat"),
        at("exp", null=False),
        sa.Column("session_id", sa.Uuid),
        words("swap_key_id", null=True),
        at("first_seen_at"),
        at("last_seen_at"),
        at("adopted_at"),
        at("keep_until", null=False),
        sa.CheckConstraint(
            "octet_length(fingerprint) = 32", name="legacy_tokens_fingerprint_check"
        ),
        sa.CheckConstraint("purpose IN ('access', 'refresh')", name="legacy_tokens_purpose_check"),
        sa.CheckConstraint("percent_bucket BETWEEN 0 AND 99", name="legacy_tokens_bucket_check"),
        schema=schema,
        postgresql_with={"fillfactor": 90},
    )
    tokens = "legacy_tokens"
    index(schema, tokens, "session", "session_id")
    index(schema, tokens, "family", "issuer", "family", where="family IS NOT NULL")
    index(schema, tokens, "jti", "issuer", "jti", where="jti IS NOT NULL")
    index(schema, tokens, "kid", "issuer", "kid")
    index(schema, tokens, "keep_until", "keep_until")
    index(schema, tokens, "exp", "issuer", "exp", where="adopted_at IS NULL")
    index(schema, tokens, "subject", "realm", "subject")

    op.create_table(
        "denials",
        identity(),
        at("created_at", null=False, default="now()"),
        words("issuer"),
        words("jti", null=True),
        sa.Column("fingerprint", sa.LargeBinary, nullable=True),
        words("family", null=True),
        at("until"),
        words("reason"),
        words("created_by", null=True),
        sa.CheckConstraint("num_nonnulls(jti, fingerprint, family) = 1", name="denials_one_check"),
        sa.CheckConstraint("octet_length(fingerprint) = 32", name="denials_fingerprint_check"),
        sa.UniqueConstraint("issuer", "jti", name="denials_jti_key"),
        sa.UniqueConstraint("fingerprint", name="denials_fingerprint_key"),
        sa.UniqueConstraint("issuer", "family", name="denials_family_key"),
        schema=schema,
    )
    index(schema, "denials", "until", "until", where="until IS NOT NULL")

    op.create_table(
        "cutoffs",
        identity(),
        at("created_at", null=False, default="now()"),
        words("realm", null=True),
        words("subject", null=True),
        words("issuer", null=True),
        words("kid", null=True),
        at("not_before"),
        words("reason", null=True),
        words("created_by", null=True),
        sa.CheckConstraint(
            "(num_nonnulls(realm, subject, not_before) = 3 AND num_nonnulls(issuer, kid) = 0)"
            " OR (num_nonnulls(realm, subject, not_before) = 0 AND issuer IS NOT NULL)",
            name="cutoffs_one_check",
        ),
        schema=schema,
    )
    subject = ("realm", "subject", "not_before")
    index(schema, "cutoffs", "subject", *subject, where="subject IS NOT NULL")
    index(schema, "cutoffs", "issuer", "issuer", "kid", where="issuer IS NOT NULL")

    op.create_table(
        "legacy_subjects",
        sa.Column("realm", sa.Text, primary_key=True),
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("issuer", sa.Text, primary_key=True),
        sa.Column("client", sa.Text, primary_key=True, server_default=""),
        at("first_seen_at"),
        at("last_seen_at"),
        at("max_exp"),
        at("session_seen_at"),
        schema=schema,
        postgresql_with={"fillfactor": 90},
    )
    index(schema, "legacy_subjects", "max_exp", "issuer", "max_exp")
    op.create_table(
        "legacy_usage",
        sa.Column("hour", sa.TIMESTAMP(timezone=True), primary_key=True),
        sa.Column("issuer", sa.Text, primary_key=True, server_default=""),
        sa.Column("client", sa.Text, primary_key=True, server_default=""),
        sa.Column("outcome", sa.Text, primary_key=True),
        number("count", default="0"),
        at("last_at"),
        schema=schema,
    )
    _learning(schema)
    op.create_table(
        "jobs",
        sa.Column("name", sa.Text, primary_key=True),
        words("source", null=True),
        words("state"),
        json("checkpoint"),
        number("done", default="0"),
        number("total"),
        number("rejected", default="0"),
        at("started_at"),
        at("updated_at", null=False, default="now()"),
        json("detail"),
        sa.CheckConstraint(
            "state IN ('idle', 'running', 'paused', 'done', 'failed')", name="jobs_state_check"
        ),
        schema=schema,
    )
    op.create_table(
        "job_ranges",
        sa.Column("job", sa.Text, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        words("state", default="waiting"),
        json("bounds"),
        json("after"),
        words("run", null=True),
        at("updated_at", null=False, default="now()"),
        json("tally"),
        sa.CheckConstraint(
            "state IN ('waiting', 'running', 'done')", name="job_ranges_state_check"
        ),
        schema=schema,
    )


def _learning(schema: str) -> None:
    op.create_table(
        "differences",
        sa.Column("hour", sa.TIMESTAMP(timezone=True), primary_key=True),
        sa.Column("direction", sa.Text, primary_key=True),
        sa.Column("issuer", sa.Text, primary_key=True, server_default=""),
        sa.Column("client", sa.Text, primary_key=True, server_default=""),
        sa.Column("route", sa.Text, primary_key=True),
        sa.Column("verdict", sa.Text, primary_key=True),
        number("count", default="0"),
        at("last_at"),
        sa.CheckConstraint(
            "direction IN ('deny_allow', 'allow_deny')", name="differences_direction_check"
        ),
        schema=schema,
    )
    op.create_table(
        "ignores",
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
        sa.CheckConstraint(
            "direction = 'allow_deny' OR (direction = 'deny_allow' AND route IS NOT NULL)",
            name="ignores_direction_check",
        ),
        schema=schema,
    )
    op.create_table(
        "legacy_census",
        sa.Column("hour", sa.TIMESTAMP(timezone=True), primary_key=True),
        sa.Column("issuer", sa.Text, primary_key=True),
        sa.Column("client", sa.Text, primary_key=True, server_default=""),
        sa.Column("kid", sa.Text, primary_key=True, server_default=""),
        sa.Column("route", sa.Text, primary_key=True),
        number("count", default="0"),
        at("last_at"),
        schema=schema,
    )
    op.create_table(
        "legacy_counts",
        sa.Column("name", sa.Text, primary_key=True),
        at("taken_at", null=False),
        number("took_ms", sa.Integer),
        json("body"),
        schema=schema,
    )
    op.create_table(
        "brownout_hits",
        sa.Column("brownout", sa.BigInteger, primary_key=True),
        sa.Column("realm", sa.Text, primary_key=True),
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("issuer", sa.Text, primary_key=True),
        sa.Column("client", sa.Text, primary_key=True, server_default=""),
        at("first_at"),
        at("last_at"),
        schema=schema,
    )
