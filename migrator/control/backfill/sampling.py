"""Some rows of a ledger, drawn by a seed: the same seed draws the same rows again.

A row is drawn by the hash of its key and not by its place, so neither the order of a table nor
what was added since moves the others in or out of the sample by more than its share.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from migrator.control.backfill.ledger import Reader, quoted
from migrator.control.backfill.reading import Values
from migrator.control.backfill.rows import Cursor, Here, Relation, Row, Source, as_relation
from migrator.control.backfill.simplejwt import Ledger

ROOM: Final = 1000
_PAGE: Final = 5000


@dataclass(slots=True)
class Drawn:
    """Relations of a ledger's rows, and how many rows were there to draw from."""

    relations: Iterator[Relation]
    of: int | None


def all_of(source: Source) -> Drawn:
    """Every row."""
    return Drawn(_pages(source), source.total())


def some_of(source: Source, size: int, seed: int) -> Drawn:
    """`size` rows, or as many as there are."""
    if isinstance(source, Ledger):
        reader = source.reader
        return Drawn(_picked(reader, size, seed), reader.total())
    rows = _rows(source)
    counted = _Counted(rows)
    # What is not a table is read once from its beginning; the sample alone is kept.
    least = heapq.nsmallest(size, counted, key=lambda row: _rank(row.key, seed))
    chunks = (least[at : at + ROOM] for at in range(0, len(least), ROOM))
    return Drawn((as_relation(chunk) for chunk in chunks), counted.seen)


def _pages(source: Source) -> Iterator[Relation]:
    cursor: Cursor = ()
    while (page := source.page(cursor, _PAGE)) is not None:
        cursor = page.cursor
        yield page.relation()


def _rows(source: Source) -> Iterator[Row]:
    cursor: Cursor = ()
    while (page := source.page(cursor, ROOM)) is not None:
        assert isinstance(page, Here), "every other ledger is a table"
        cursor = page.cursor
        yield from page.rows


class _Counted:
    """Rows, counted as they go by."""

    def __init__(self, rows: Iterator[Row]) -> None:
        self._rows = rows
        self.seen = 0

    def __iter__(self) -> Iterator[Row]:
        for row in self._rows:
            self.seen += 1
            yield row


def _rank(key: str, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed}\0{key}".encode("utf-8", "surrogatepass")).digest()


def _picked(reader: Reader, size: int, seed: int) -> Iterator[Relation]:
    columns = [quoted(column) for column in reader.table.key]
    texts = [f"{column}::text" for column in columns]
    keys = reader.connection.exec_driver_sql(
        f"SELECT {', '.join(texts)} FROM {reader.table.name} l"  # noqa: S608 - identifiers are quoted
        f" ORDER BY hashtextextended({' || chr(31) || '.join(texts)}, %(seed)s),"
        f" {', '.join(columns)} LIMIT %(size)s",
        {"seed": seed, "size": size},
    ).all()
    reader.connection.rollback()
    for at in range(0, len(keys), ROOM):
        relation = _among(reader, [tuple(key) for key in keys[at : at + ROOM]])
        yield reader.fetched(relation) if reader.elsewhere else relation


def _among(reader: Reader, keys: Sequence[Cursor]) -> Relation:
    """The rows with one of these keys."""
    values = Values()
    columns = reader.table.key
    names = [f"k{at}" for at in range(len(columns))]
    arrays = ", ".join(
        f"{values.add([key[at] for key in keys])}::text[]" for at in range(len(columns))
    )
    typed = ", ".join(
        f"k.{name}::{reader.table.types[column]}"
        for name, column in zip(names, columns, strict=True)
    )
    where = (
        f"WHERE ({', '.join(map(quoted, columns))}) IN"  # noqa: S608 - as above
        f" (SELECT {typed} FROM unnest({arrays}) AS k ({', '.join(names)}))"
    )
    key = " || ',' || ".join(f"{quoted(column)}::text" for column in columns)
    return Relation(reader.select(key, where, values), values.given)
