"""The immutable ids of issuers, as the database keeps them: part of every fingerprint.

A name may change, an id never: under another id the same JWT would be another token, and would
swap a second time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select, update

from migrator.stores import tables

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection


def recorded(connection: Connection, schema: str) -> dict[str, str]:
    """Names by id, as the database has them."""
    rollout = tables.in_schema(schema).tables[f"{schema}.rollout"]
    found = connection.execute(select(rollout.c.issuers)).scalar_one()
    connection.rollback()
    return {str(one): str(name) for one, name in found.items()}


def record(connection: Connection, schema: str, names: Mapping[str, str]) -> bool:
    """Record names by id beside those that are there; False: they were there already."""
    rollout = tables.in_schema(schema).tables[f"{schema}.rollout"]
    row = connection.execute(select(rollout.c.issuers).with_for_update()).scalar_one()
    if all(row.get(one) == name for one, name in names.items()):
        connection.rollback()
        return False
    connection.execute(update(rollout).values(issuers={**row, **names}))
    connection.commit()
    return True


def id_for(name: str, known: Mapping[str, str]) -> str:
    """The id that `name` has, else the first that nobody has had."""
    for one, called in known.items():
        if called == name:
            return one
    numbers = (f"a{number}" for number in range(1, len(known) + 2))
    return next(one for one in numbers if one not in known)
