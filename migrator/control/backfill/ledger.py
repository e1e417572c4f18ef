"""A table that is a ledger: found, described, and read page by page along its primary key.

Never by OFFSET, and never by one long query: a page begins after the last key of the page before,
so any page can be read again after a crash. What a page's SELECT says is the sources' business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from migrator.control.backfill import refusals
from migrator.control.backfill.reading import Values
from migrator.control.backfill.rows import COLUMNS, Cursor, Page, Relation, Row, as_relation

_FIND = "SELECT to_regclass(%(name)s)::oid"

_DESCRIBE = """
SELECT format('%%I.%%I', n.nspname, c.relname),
  (SELECT jsonb_object_agg(a.attname, format_type(a.atttypid, NULL)) FROM pg_attribute a
   WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
  coalesce((SELECT jsonb_agg(a.attname ORDER BY k.n) FROM pg_index i
    CROSS JOIN unnest(i.indkey::smallint[]) WITH ORDINALITY k (attnum, n)
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
    WHERE i.indrelid = c.oid AND i.indisprimary), '[]'::jsonb)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = %(oid)s"""


@dataclass(frozen=True, slots=True)
class Table:
    """A table as its catalogue has it.

    Args:
        name: with its schema, quoted.
        types: of each column, as `format_type` calls them.
        key: the columns of the primary key.
    """

    name: str
    types: Mapping[str, str]
    key: tuple[str, ...]


def describe(connection: Connection, name: str) -> Table:
    """The table called `name`, on the search path or with its schema.

    Raises:
        Stopped: USAGE, there is no such table, or none with a primary key.
    """
    try:
        oid = _one(connection, _FIND, name=name)
    except DBAPIError:  # not the name of anything, to older servers
        oid = None
    connection.rollback()
    if oid is None:
        raise refusals.no_table(name)
    found = connection.exec_driver_sql(_DESCRIBE, {"oid": oid}).one()
    connection.rollback()
    if not found[2]:
        raise refusals.no_key(name)
    # A percent sign is the driver's unless it is doubled.
    return Table(found[0].replace("%", "%%"), found[1], tuple(found[2]))


def quoted(column: str) -> str:
    """A column's name as an identifier of the ledger, called `l` in every SELECT."""
    return 'l."' + column.replace('"', '""').replace("%", "%%") + '"'


Select: TypeAlias = Callable[[str, str, Values], str]
"""From SQL for the key and a WHERE clause, the SELECT of `rows.COLUMNS`; takes parameters."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads a table along its key.

    Args:
        connection: to the ledger's database.
        elsewhere: that database is not ours: rows are fetched, without their tokens.
        up_to: the last key that is read; () is to the end, wherever that is by then.
    """

    connection: Connection
    table: Table
    select: Select
    elsewhere: bool
    up_to: Cursor = ()

    def total(self) -> int:
        """How many rows there are now."""
        count = _one(self.connection, f"SELECT count(*) FROM {self.table.name}")  # noqa: S608 - quoted by format()
        self.connection.rollback()
        return int(count or 0)

    def bounds(self, rows: int) -> list[Cursor]:
        """Every so many rows a key, in one pass over the primary key."""
        found = self.connection.exec_driver_sql(
            f"SELECT {self._names} FROM (SELECT *, row_number() OVER (ORDER BY {self._order}) AS n"  # noqa: S608 - as above
            f" FROM ({self._keys('true')}) k) l WHERE mod(n, {rows:d}) = 0 ORDER BY n",
            {},
        ).all()
        self.connection.rollback()
        return [tuple(row) for row in found]

    @contextmanager
    def part(self, ours: Connection, up_to: Cursor) -> Iterator[Reader]:
        """The same as far as a key, for one of several readers at once.

        Args:
            ours: this reader's own connection to our database.
        """
        if not self.elsewhere:
            yield replace(self, connection=ours, up_to=up_to)
            return
        with self.connection.engine.connect() as other:
            read_only = other.execution_options(postgresql_readonly=True)
            yield replace(self, connection=read_only, up_to=up_to)

    def page(self, after: Cursor, size: int) -> Page | None:
        """The next rows after a cursor."""
        return self.between(after, self.up_to, size)

    def between(self, after: Cursor, up_to: Cursor, size: int) -> _KeyRange | None:
        """The first rows of those after one key, as far as another."""
        values = Values()
        where = f"{self.after(after, values)} AND {self.after(up_to, values, up_to=True)}"
        keys = f"{self._keys(where)} ORDER BY {self._order} LIMIT {size:d}"
        # Only the last is brought here, however many come before it.
        row = self.connection.exec_driver_sql(
            f"WITH k AS MATERIALIZED ({keys}), n AS (SELECT count(*) AS n FROM k)"  # noqa: S608 - as above
            f" SELECT (SELECT n FROM n), {self._names}"
            " FROM (SELECT * FROM k OFFSET (SELECT greatest(n - 1, 0) FROM n)) l",
            values.given,
        ).one_or_none()
        if self.elsewhere:
            self.connection.rollback()
        if row is None:
            return None
        return _KeyRange(self, low=after, cursor=tuple(row[1:]), size=row[0])

    @property
    def _order(self) -> str:
        return ", ".join(quoted(column).removeprefix("l.") for column in self.table.key)

    @property
    def _names(self) -> str:
        return ", ".join(f"{quoted(column)}::text" for column in self.table.key)

    def _keys(self, where: str) -> str:
        columns = ", ".join(quoted(column) for column in self.table.key)
        return f"SELECT {columns} FROM {self.table.name} l WHERE {where}"  # noqa: S608 - as above

    def after(self, cursor: Cursor, values: Values, *, up_to: bool = False) -> str:
        """The condition that a row comes after `cursor`, or not after it."""
        if not cursor:
            return "true"
        columns = ", ".join(quoted(column) for column in self.table.key)
        bounds = ", ".join(
            f"{values.add(text)}::text::{self.table.types[column]}"
            for column, text in zip(self.table.key, cursor, strict=True)
        )
        return f"({columns}) {'<=' if up_to else '>'} ({bounds})"

    def fetched(self, relation: Relation) -> Relation:
        """The rows of `relation`, brought here, where they are in another database."""
        try:
            rows = self.connection.exec_driver_sql(relation.sql, relation.values).all()
        finally:
            self.connection.rollback()
        return as_relation([Row(**dict(zip(COLUMNS, row, strict=True))) for row in rows])


@dataclass(frozen=True, slots=True, kw_only=True)
class _KeyRange:
    """The rows after one key, up to and including another."""

    reader: Reader = field(kw_only=False)
    low: Cursor
    cursor: Cursor
    size: int

    @property
    def key(self) -> str:
        return ",".join(self.cursor)  # asked for when it is the only one

    def relation(self) -> Relation:
        values = Values()
        reader = self.reader
        where = (
            f"{reader.after(self.low, values)} AND {reader.after(self.cursor, values, up_to=True)}"
        )
        key = " || ',' || ".join(f"{quoted(column)}::text" for column in reader.table.key)
        selected = reader.select(key, f"WHERE {where}", values)
        relation = Relation(selected, values.given)
        return reader.fetched(relation) if reader.elsewhere else relation

    def halves(self) -> tuple[Page, Page]:
        first = self.reader.between(self.low, self.cursor, self.size // 2)
        if first is None:  # they were deleted meanwhile
            none = replace(self, low=self.cursor, size=0)
            return none, none
        return first, replace(self, low=first.cursor, size=self.size - first.size)


def _one(connection: Connection, sql: str, **values: Any) -> Any:
    return connection.exec_driver_sql(sql, values).scalar()
