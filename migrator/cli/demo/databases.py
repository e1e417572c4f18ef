"""Databases on any Postgres, embedded or not: made as copies, dropped under whoever uses them."""

from __future__ import annotations

import psycopg
from psycopg import sql


def create_database(
    server_url: str, name: str, template: str | None = None, *, by_files: bool = False
) -> str:
    """Create a database on any server and return its URL; nobody may be using `template`.

    Args: `by_files` copies files between two checkpoints (Postgres 15 or later): three times
    as fast where fsync is off, slower where it is on.
    """
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
        sql.Identifier(name), sql.Identifier(template or "template1")
    )
    if by_files:
        statement += sql.SQL(" STRATEGY file_copy")
    _run(server_url, statement)
    head, _, tail = server_url.rpartition("/")
    return f"{head}/{name}" + "".join(tail.partition("?")[1:])


def drop_database(server_url: str, name: str) -> None:
    """Drop a database on any server, if it is there, and end whoever is connected to it."""
    _run(
        server_url,
        sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)),
    )


def _run(server_url: str, statement: sql.Composed) -> None:
    url = server_url.replace("postgresql+psycopg://", "postgresql://", 1)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)
