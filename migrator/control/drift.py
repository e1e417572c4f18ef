"""How the tables in a database differ from `tables.py`: what somebody changed by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import MetaData, inspect
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.sql.schema import SchemaConst

from migrator.stores import tables

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection


def differences(connection: Connection, schema: str, *, contracted: bool) -> list[str]:
    """What is not as `tables.py` has it. An index of the owner's own is nobody's business."""
    ischema_names.setdefault("xid8", tables.XID8)  # SQLAlchemy cannot reflect it by itself
    # Alembic calls the default schema None, also where it is ours: a role named as the schema.
    home = None if inspect(connection).default_schema_name == schema else schema
    kept = tables.LASTING if contracted else (*tables.LASTING, *tables.LEGACY)
    wanted = MetaData()
    for kept_table in kept:
        kept_table.to_metadata(wanted, schema=home or SchemaConst.RETAIN_SCHEMA)
    names = {kept_table.name for kept_table in kept}

    def include(name: str | None, kind: str, parents: Mapping[str, str | None]) -> bool:
        match kind:
            case "schema":
                return name == home
            case "table":
                return name in names and parents["schema_name"] == home
            case _:
                return True

    context = MigrationContext.configure(
        connection,
        opts={
            "include_schemas": True,
            "include_name": include,
            "compare_type": True,
            "compare_server_default": True,
        },
    )
    found = [_told(difference) for difference in compare_metadata(context, wanted)]
    return [told for told in found if not told.startswith("remove_index")]


def _told(difference: object) -> str:
    first = difference[0] if isinstance(difference, list) else difference
    parts = first if isinstance(first, tuple) else (first,)
    return " ".join(getattr(part, "name", None) or str(part) for part in parts if part is not None)
