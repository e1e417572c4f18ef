"""A session from Postgres against bare psycopg: pooled by psycopg_pool, and alone."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle

from migrator.core.flow import run
from migrator.core.presented import Presented
from migrator.core.verdicts import Admitted
from migrator.stores import queries as q
from tests.bench import parts
from tests.bench.database import SCHEMA, Database
from tests.bench.timing import Case, Group, awaiting, blocking

KNOWN = 256
_FIND = q.in_schema(q.FIND, SCHEMA)


def groups(database: Database) -> Iterator[Group]:
    """The lookup in both colours."""
    logins = parts.logins(KNOWN)
    for login in logins:
        run(database.store.create(login.found.session, login.found.digest, cap=None))
    yield _blocking(database, logins)
    yield _async(database, logins)


def _blocking(database: Database, logins: list[parts.Login]) -> Group:
    one, pool, store, gate = (
        database.connection(),
        database.pool(),
        database.store,
        database.gate(),
    )

    def pooled(digest: bytes) -> None:
        with pool.connection() as connection:
            _hit(connection.execute(_FIND, {"digest": digest}, binary=True).fetchall())

    def alone(digest: bytes) -> None:
        _hit(one.execute(_FIND, {"digest": digest}, binary=True).fetchall())

    def found(digest: bytes) -> None:
        _hit(run(store.find(digest)))

    def admitted(presented: Presented) -> None:
        _hit(isinstance(gate.admit(presented).verdict, Admitted))

    return Group(
        "postgres",
        "A session from Postgres; no Redis, memory not trusted (blocking)",
        [
            Case("psycopg_pool, prepared", blocking(pooled, _digests(logins))),
            Case("psycopg, prepared, one connection", blocking(alone, _digests(logins))),
            Case("Postgres.find", blocking(found, _digests(logins)), "<= 1.4"),
            Case("Gate.admit, the whole flow", blocking(admitted, _requests(logins))),
        ],
    )


def _async(database: Database, logins: list[parts.Login]) -> Group:
    runner, store, gate = database.runner, database.async_store, database.async_gate()
    one, pool = database.async_connection(), database.async_pool()

    async def pooled(digest: bytes) -> None:
        async with pool.connection() as connection:
            cursor = await connection.execute(_FIND, {"digest": digest}, binary=True)
            _hit(await cursor.fetchall())

    async def alone(digest: bytes) -> None:
        cursor = await one.execute(_FIND, {"digest": digest}, binary=True)
        _hit(await cursor.fetchall())

    async def found(digest: bytes) -> None:
        _hit(await store.find(digest))

    async def admitted(presented: Presented) -> None:
        _hit(isinstance((await gate.admit(presented)).verdict, Admitted))

    return Group(
        "postgres-async",
        "A session from Postgres; no Redis, memory not trusted (async)",
        [
            Case("psycopg_pool, prepared", awaiting(runner, pooled, _digests(logins))),
            Case("psycopg, prepared, one connection", awaiting(runner, alone, _digests(logins))),
            Case("Postgres.find", awaiting(runner, found, _digests(logins)), "<= 1.4"),
            Case("AsyncGate.admit, the whole flow", awaiting(runner, admitted, _requests(logins))),
        ],
    )


def _digests(logins: list[parts.Login]) -> Iterator[bytes]:
    return cycle([login.found.digest for login in logins])


def _requests(logins: list[parts.Login]) -> Iterator[Presented]:
    return cycle([login.presented for login in logins])


def _hit(found: object) -> None:
    if not found:
        raise AssertionError("not a hit")
