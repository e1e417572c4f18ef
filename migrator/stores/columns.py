"""The kinds of column that our tables are made of, in the words the revisions use."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Column, Identity, LargeBinary, MetaData, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP
from sqlalchemy.types import UserDefinedType

metadata = MetaData()


class XID8(UserDefinedType[int]):
    """A 64-bit transaction id, which never wraps (PostgreSQL 13 and later)."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """What DDL calls it."""
        return "xid8"


def identity() -> Column[int]:
    """A number that the database draws."""
    return Column("id", BigInteger, Identity(always=True), primary_key=True)


def words(name: str, *, null: bool = False, default: str | None = None) -> Column[str]:
    """Text."""
    return Column(name, Text, nullable=null, server_default=default)


def octets(name: str, **kw: Any) -> Column[bytes]:
    """Bytes."""
    return Column(name, LargeBinary, **kw)


def at(name: str, *, null: bool = True, default: str | None = None) -> Column[Any]:
    """A moment, with its zone."""
    return Column(
        name,
        TIMESTAMP(timezone=True),
        nullable=null,
        server_default=None if default is None else text(default),
    )


def json(name: str, default: str = "{}") -> Column[Any]:
    """A JSON document, empty unless given."""
    return Column(name, JSONB, nullable=False, server_default=text(f"'{default}'::jsonb"))


def array(name: str) -> Column[Any]:
    """A list of texts, empty unless given."""
    return Column(name, ARRAY(Text), nullable=False, server_default=text("'{}'::text[]"))


def number(name: str, kind: type[Any] = BigInteger, *, default: str | None = None) -> Column[Any]:
    """A number; null unless it has a default."""
    server = None if default is None else text(default)
    return Column(name, kind, nullable=default is None, server_default=server)
