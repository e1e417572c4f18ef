"""The database that a ledger is in: any that SQLAlchemy has a driver for, read and never written.

Connected for one turn at a time: nothing is held between two, and nothing is shared with a fork.
What fails is told by its kind alone, for a message may quote a row or the URL.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import psycopg
from sqlalchemy import ColumnElement, TextClause, and_, create_engine, make_url, or_, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from migrator.control.ledgers.reading import SourceFailed
from migrator.stores.watchdog import Watchdog

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Select

_STATEMENT_S: Final = 20.0
_CONNECT_S: Final = 5


class Reader:
    """Runs the statements of one turn."""

    def __init__(self, connection: Connection, watchdog: Watchdog) -> None:
        self._connection = connection
        self._watchdog = watchdog

    @property
    def is_postgres(self) -> bool:
        """Whether it has Postgres' functions."""
        return self._connection.dialect.name == "postgresql"

    def rows(self, query: Select[Any]) -> list[tuple[Any, ...]]:
        """The rows of a query, within its time."""
        bare = self._connection.connection.driver_connection
        if not isinstance(bare, psycopg.Connection):
            return [tuple(row) for row in self._connection.execute(query)]
        key = self._watchdog.watch(bare, time.monotonic() + _STATEMENT_S)
        try:
            return [tuple(row) for row in self._connection.execute(query)]
        finally:
            self._watchdog.release(key)


class Database:
    """A ledger's database.

    Args:
        url: of any database whose driver is installed; a secret.
    """

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)
        self._watchdog = Watchdog()

    @contextmanager
    def read(self) -> Iterator[Reader]:
        """A connection for one turn, in a transaction that cannot write where that can be had.

        Raises:
            SourceFailed: it could not be reached, or a statement failed.
        """
        try:
            with self._engine.connect() as connection:
                if connection.dialect.name == "postgresql":
                    connection.exec_driver_sql("SET TRANSACTION READ ONLY")
                    limit_ms = int(_STATEMENT_S * 1000)
                    connection.exec_driver_sql(f"SET LOCAL statement_timeout = {limit_ms}")
                yield Reader(connection, self._watchdog)
        except SQLAlchemyError as error:
            raise SourceFailed(_kind(error)) from None

    def close(self) -> None:
        """Nothing is held; its watchdog goes."""
        self._watchdog.end()


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        if parsed.drivername in {"postgres", "postgresql"}:
            parsed = parsed.set(drivername="postgresql+psycopg")
        options: dict[str, Any] = {}
        if parsed.drivername.startswith("postgresql+psycopg"):
            options = {"application_name": "migrator", "prepare_threshold": None}
            if "connect_timeout" not in parsed.query:
                options["connect_timeout"] = _CONNECT_S
        return create_engine(
            parsed, poolclass=NullPool, hide_parameters=True, connect_args=options
        )
    except (NoSuchModuleError, ImportError):
        raise SourceFailed("no driver for its url is installed") from None
    except ArgumentError:
        raise SourceFailed("its url cannot be read") from None


def _kind(error: SQLAlchemyError) -> str:
    orig = error.orig if isinstance(error, DBAPIError) else None
    return type(error if orig is None else orig).__name__


def condition(given: str) -> TextClause:
    """A condition from the settings, as it stands there: a colon is no parameter."""
    return text(f"({given})".replace(":", r"\:"))


def beyond(order: Sequence[ColumnElement[Any]], place: Sequence[Any]) -> ColumnElement[bool]:
    """The condition that a row comes after `place` in `order`."""
    return or_(
        *(
            and_(*(order[before] == place[before] for before in range(at)), order[at] > place[at])
            for at in range(len(order))
        )
    )
