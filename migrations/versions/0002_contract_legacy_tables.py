"""Take the legacy tables away. Contract: runs only with releases that know the phase `retired`.

`retire` alone runs it, after every node has acknowledged that phase and the mark was set. A branch
of its own, without a link to `expand`: bringing the schema up to date must never come past here.
An expand revision written after this one finds the legacy tables or finds them gone.
"""

from __future__ import annotations

from alembic import context, op
from sqlalchemy.dialects import postgresql

revision = "0002_contract"
down_revision = None
branch_labels = ("contract",)
depends_on = None

TABLES = (
    "legacy_tokens",
    "denials",
    "cutoffs",
    "legacy_subjects",
    "legacy_usage",
    "differences",
    "ignores",
    "legacy_census",
    "legacy_counts",
    "brownout_hits",
    "jobs",
    "job_ranges",
)

# The caller has asked already; this is for whoever runs the revision by another road. It locks the
# row, so that no move can slip between the question and the drop.
_GUARD = """
DO $do$ BEGIN
  PERFORM FROM {schema}.rollout
    WHERE phase = 'retired' AND legacy_removed_at IS NOT NULL FOR UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'legacy tables go with `migrator retire` only'
      USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
END $do$
"""


def upgrade() -> None:
    schema = context.config.attributes["schema"]
    dialect = postgresql.dialect(paramstyle="named")  # type: ignore[no-untyped-call]  # untyped
    op.execute(_GUARD.format(schema=dialect.identifier_preparer.quote(schema)))
    for table in TABLES:
        op.drop_table(table, schema=schema)


def downgrade() -> None:
    raise RuntimeError("retired is retired: the legacy tables are gone with what they held")
