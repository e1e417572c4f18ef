"""What the tests of our tables do to databases, and ask of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, create_engine, make_url, text
from sqlalchemy.pool import NullPool

from migrator.stores import tables

LASTING = {table.name for table in tables.LASTING}
LEGACY = {table.name for table in tables.LEGACY}


@contextmanager
def connect(url: str, **kw: Any) -> Iterator[Connection]:
    """A connection that commits at the end."""
    with create_engine(url, poolclass=NullPool, **kw).begin() as connection:
        yield connection


def execute(url: str, *statements: str) -> None:
    with connect(url) as connection:
        for statement in statements:
            connection.execute(text(statement))


def column(url: str, query: str) -> list[Any]:
    with connect(url) as connection:
        return list(connection.execute(text(query)).scalars())


def names(url: str, home: str = "migrator") -> set[str]:
    return set(column(url, f"SELECT tablename FROM pg_tables WHERE schemaname = '{home}'"))


def retire(url: str, home: str = "migrator") -> None:
    execute(url, f"UPDATE {home}.rollout SET phase = 'retired', legacy_removed_at = now()")


SESSION = """
    INSERT INTO {home}.sessions (id, digest, kind, realm, subject, origin, expires_at)
    VALUES (gen_random_uuid(), sha256('{who}'), 'session', 'users', '{who}', 'login',
            now() + interval '1 day')
"""


def catalog(url: str, home: str) -> set[tuple[str, ...]]:
    """Columns, constraints, indexes and storage of a schema, as PostgreSQL spells them."""
    query = """
        WITH home AS (SELECT oid, nspname FROM pg_namespace WHERE nspname = :home)
        SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull::text,
               coalesce(pg_get_expr(d.adbin, d.adrelid), ''), a.attidentity::text
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
        LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
        JOIN home ON home.oid = c.relnamespace
        WHERE c.relkind = 'r' AND NOT a.attisdropped
        UNION ALL
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(pg_constraint.oid),
               '', '', ''
        FROM pg_constraint JOIN home ON home.oid = connamespace
        UNION ALL
        SELECT tablename, indexname, indexdef, '', '', '' FROM pg_indexes
        JOIN home ON home.nspname = schemaname
        UNION ALL
        SELECT relname, coalesce(reloptions::text, ''), '', '', '', '' FROM pg_class
        JOIN home ON home.oid = relnamespace WHERE relkind = 'r'
    """
    with connect(url) as connection:
        rows = connection.execute(text(query), {"home": home}).all()
    return {
        tuple(str(cell).replace(f"{home}.", "") for cell in row)
        for row in rows
        if tables.VERSION_TABLE not in row[0]
    }


@contextmanager
def role(url: str) -> Iterator[tuple[str, str]]:
    """A login role without rights, and the URL that comes in as it."""
    name = f"role_{make_url(url).database}"
    execute(url, f"CREATE ROLE {name} LOGIN PASSWORD 'app'")
    as_role = make_url(url).set(username=name, password="app")
    try:
        yield name, as_role.render_as_string(hide_password=False)
    finally:
        execute(url, f"DROP OWNED BY {name}", f"DROP ROLE {name}")
