"""How a revision is run: in our schema, in one transaction, one operator at a time.

Called by `migrator.control.revisions`, which puts into the configuration's attributes: `schema`,
`version_table`, `lock_timeout_ms`, `applied` (a list that collects revision ids) and, unless a
script is being printed, `connection`.
"""

from __future__ import annotations

from typing import Any

from alembic import context
from alembic.runtime.migration import MigrationInfo
from sqlalchemy import Connection, literal, text
from sqlalchemy.dialects import postgresql

ATTRIBUTES = context.config.attributes
SCHEMA: str = ATTRIBUTES["schema"]

# CREATE SCHEMA IF NOT EXISTS asks for the right to create one even where it exists, so a schema
# made by the database's owner beforehand would be no help.
_CREATE_SCHEMA = """
DO $do$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = {literal}) THEN
    CREATE SCHEMA {quoted};
  END IF;
END $do$
"""

# The two-integer form has a lock space of its own, apart from the swap's locks.
_ONE_AT_A_TIME = (
    "SELECT pg_catalog.pg_advisory_xact_lock("
    "pg_catalog.hashtext('migrator.schema'), pg_catalog.hashtext({literal}))"
)


def _note(*, step: MigrationInfo, **_: Any) -> None:
    ATTRIBUTES["applied"].extend(step.up_revision_ids)


def _run(connection: Connection | None) -> None:
    context.configure(
        connection=connection,
        dialect_name="postgresql",
        version_table=ATTRIBUTES["version_table"],
        version_table_schema=SCHEMA,
        literal_binds=connection is None,
        on_version_apply=_note,  # type: ignore[arg-type]  # called by keyword, typed by position
    )
    # Named parameters: with percent-style ones a % would be doubled here and once more by text().
    dialect = postgresql.dialect(paramstyle="named")  # type: ignore[no-untyped-call]  # untyped
    names = {
        "quoted": dialect.identifier_preparer.quote(SCHEMA),
        "literal": literal(SCHEMA).compile(
            dialect=dialect, compile_kwargs={"literal_binds": True}
        ),
    }
    with context.begin_transaction():
        # LOCAL, because behind a pooler a session's setting becomes somebody else's. A revision
        # that leaves the transaction (an index built concurrently) sets it again.
        context.execute(f"SET LOCAL lock_timeout = {int(ATTRIBUTES['lock_timeout_ms'])}")
        for statement in (_ONE_AT_A_TIME, _CREATE_SCHEMA):
            rendered = statement.format(**names).strip()
            context.execute(text(rendered.replace(":", r"\:")) if connection else rendered)
        context.run_migrations()


_run(None if context.is_offline_mode() else ATTRIBUTES["connection"])
