"""What every ledger is read into: rows of one shape, in pages that can be halved.

A row never holds a token. Who reads a ledger inside the database hands over a SELECT of these
columns; who reads it elsewhere hands over the values, with fingerprints made where the token was.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Protocol, TypeAlias, runtime_checkable

from sqlalchemy import Connection

from migrator.core.claims import Purpose

Cursor: TypeAlias = tuple[str, ...]
"""Where a page ends, as a checkpoint keeps it; () is the beginning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a ledger.

    Args:
        key: names the row in its ledger, for rejects; never the token.
        fault: why nothing can be made of it: a word of `verdicts.Reason`, or of `summary.REASONS`.
        revoked: the ledger says that this token is not to be admitted.
    """

    key: str
    fault: str | None = None
    fingerprint: bytes | None = None
    jti: str | None = None
    family: str | None = None
    subject: str | None = None
    client: str | None = None
    kid: str | None = None
    purpose: Purpose | None = None
    iat: datetime | None = None
    exp: datetime | None = None
    revoked: bool = False


COLUMNS = tuple(field.name for field in fields(Row))

_TYPES = {"fingerprint": "bytea", "iat": "timestamptz", "exp": "timestamptz", "revoked": "boolean"}


@dataclass(frozen=True, slots=True)
class Relation:
    """A SELECT of `COLUMNS`, in this order, and its parameters."""

    sql: str
    values: Mapping[str, Any]


def as_relation(rows: list[Row]) -> Relation:
    """Rows that are here, as a relation: one array for each column, all in one statement."""
    arrays = ", ".join(f"%(c_{name})s::{_TYPES.get(name, 'text')}[]" for name in COLUMNS)
    return Relation(
        f"SELECT * FROM unnest({arrays}) AS r ({', '.join(COLUMNS)})",  # noqa: S608 - names of ours
        {f"c_{name}": [getattr(row, name) for row in rows] for name in COLUMNS},
    )


class Page(Protocol):
    """Some rows of a ledger, in its order."""

    @property
    def size(self) -> int:
        """How many rows."""

    @property
    def cursor(self) -> Cursor:
        """Where it ends."""

    @property
    def key(self) -> str:
        """Names its first row."""

    def relation(self) -> Relation:
        """Its rows. May ask the ledger, and fail as a database does."""

    def halves(self) -> tuple[Page, Page]:
        """The same rows in two pages; never asked of a single row."""


class Source(Protocol):
    """A ledger that can be read from any cursor on."""

    @property
    def kind(self) -> str:
        """Which of simplejwt, table, jsonl and csv."""

    @property
    def place(self) -> str:
        """Where it is, in the operator's words."""

    @property
    def identity(self) -> Mapping[str, object]:
        """What a checkpoint is good for: another mapping would read other rows."""

    @property
    def unseedable(self) -> tuple[tuple[str, str], ...]:
        """What this kind of ledger never holds, and why."""

    def total(self) -> int | None:
        """How many rows it has about now; None where that cannot be told."""

    def page(self, after: Cursor, size: int) -> Page | None:
        """The next rows after a cursor, at most `size`; None at the end."""


@runtime_checkable
class Splittable(Source, Protocol):
    """A ledger that several can read at once, each a range of its keys."""

    def bounds(self, rows: int) -> list[Cursor]:
        """The keys that part it into ranges of about so many rows, in order."""

    def part(self, ours: Connection, up_to: Cursor) -> AbstractContextManager[Source]:
        """The ledger as far as a key, () for its end, over connections of one reader's own."""


@dataclass(frozen=True, slots=True)
class Here:
    """A page whose rows are in this process."""

    rows: tuple[Row, ...]
    cursors: tuple[Cursor, ...]

    @property
    def size(self) -> int:
        """See `Page.size`."""
        return len(self.rows)

    @property
    def cursor(self) -> Cursor:
        """See `Page.cursor`."""
        return self.cursors[-1]

    @property
    def key(self) -> str:
        """See `Page.key`."""
        return self.rows[0].key

    def relation(self) -> Relation:
        """See `Page.relation`."""
        return as_relation(list(self.rows))

    def halves(self) -> tuple[Page, Page]:
        """See `Page.halves`."""
        at = len(self.rows) // 2
        return (
            Here(self.rows[:at], self.cursors[:at]),
            Here(self.rows[at:], self.cursors[at:]),
        )
