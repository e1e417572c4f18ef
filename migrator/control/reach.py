"""A connection to tables that are there: what every command about rows begins with."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy import text

from migrator.control import revisions, schema
from migrator.core.errors import Exit, Stopped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection


@contextmanager
def reached(url: str, home: str) -> Iterator[Connection]:
    """A connection to a database that has our tables in the schema `home`.

    Raises:
        Stopped: UNREACHABLE; UNFIT, the tables are not there as this release made them.
    """
    with revisions.connected(url) as connection:
        names = {"rollout": f'"{home}".rollout', "sessions": f'"{home}".sessions'}
        found = connection.execute(
            text("SELECT to_regclass(:rollout), to_regclass(:sessions)"), names
        ).one()
        connection.rollback()
        if None in found:
            state = schema.state(url, home)
            raise Stopped(schema.PROBLEMS.get(state, schema.PROBLEMS["broken"]), Exit.UNFIT)
        yield connection
