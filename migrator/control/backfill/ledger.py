"""A table that is a ledger: found, described, and read page by page along its primary key.

Never by OFFSET, and never by one long query: a page begins after the last key of the page before,
so any page can be read again after a crash. What a page's SELECT says is the sources' business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
    """

    connection: Connection
    table: Table
    select: Select
    elsewhere: bool

    def total(self) -> int:
        """How many rows there are now."""
        count = _one(self.connection, f"SELECT count(*) FROM {self.table.name}")  # noqa: S608 - quoted by format()
        self.connection.rollback()
        return int(count or 0)

    def page(self, after: Cursor, size: int) -> Page | None:
        """The next rows after a cursor."""
        values = Values()
        columns = [quoted(column) for column in self.table.key]
        texts = ", ".join(f"{column}::text" for column in columns)
        rows = self.connection.exec_driver_sql(
            f"SELECT {texts} FROM {self.table.name} l WHERE {self.after(after, values)}"  # noqa: S608 - as above
            f" ORDER BY {', '.join(columns)} LIMIT {size:d}",
            values.given,
        ).all()
        if self.elsewhere:
            self.connection.rollback()
        keys = [tuple(row) for row in rows]
        return _KeyRange(self, after, keys) if keys else None

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


@dataclass(frozen=True, slots=True)
class _KeyRange:
    """The rows after one key, up to and including another."""

    reader: Reader
    low: Cursor
    keys: Sequence[Cursor]

    @property
    def size(self) -> int:
        return len(self.keys)

    @property
    def cursor(self) -> Cursor:
        return self.keys[-1]

    @property
    def key(self) -> str:
        return ",".join(self.keys[0])

    def relation(self) -> Relation:
        values = Values()
        reader = self.reader
        key = " || ',' || ".join(f"{quoted(column)}::text" for column in reader.table.key)
        where = (
            f"{reader.after(self.low, values)} AND {reader.after(self.cursor, values, up_to=True)}"
        )
        relation = Relation(reader.select(key, f"WHERE {where}", values), values.given)
        return reader.fetched(relation) if reader.elsewhere else relation

    def halves(self) -> tuple[Page, Page]:
        at = len(self.keys) // 2
        return (
            _KeyRange(self.reader, self.low, self.keys[:at]),
            _KeyRange(self.reader, self.keys[at - 1], self.keys[at:]),
        )


def _one(connection: Connection, sql: str, **values: Any) -> Any:
    return connection.exec_driver_sql(sql, values).scalar()
