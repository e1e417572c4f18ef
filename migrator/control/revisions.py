"""Running Alembic: where the revisions are, over which connection, and what its failures mean.

Alembic is configured in code: without an alembic.ini nothing depends on the working directory, and
the URL never stands in a configuration that could be printed.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import psycopg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.pool import NullPool

import migrator
from migrator.control import blockers
from migrator.core.errors import Exit, Problem, Stopped
from migrator.stores import tables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import URL, Connection

Branch: TypeAlias = Literal["expand", "contract"]

# Long enough for a busy moment; everybody else queues behind a lock one waits for, so no more.
LOCK_TIMEOUT_MS = 5000
_CONNECT_SECONDS = 10

# Alembic hands its environment to env.py through module globals: one run at a time in a process.
_one_run = threading.Lock()

NOT_RETIRED = Problem(
    id="schema.not_retired",
    what="the legacy tables are still in use",
    why="they go only after the rollout is retired and the database was marked so",
    do="migrator retire",
)


def migrations_dir() -> Path:
    """Where the revisions are: inside the installed package, else beside it in the source tree.

    In that order, because beside an installed package `migrations` is somebody else's.
    """
    package = Path(migrator.__file__).parent
    inside = package / "migrations"
    return inside if inside.is_dir() else package.parent / "migrations"


def config(schema: str, *, lock_timeout_ms: int = LOCK_TIMEOUT_MS) -> Config:
    """An Alembic configuration for `schema`; `env.py` says what else it wants to run online."""
    made = Config(output_buffer=StringIO())
    made.set_main_option("script_location", str(migrations_dir()).replace("%", "%%"))
    made.set_main_option("path_separator", "os")
    made.attributes.update(
        schema=schema,
        version_table=tables.VERSION_TABLE,
        lock_timeout_ms=lock_timeout_ms,
        applied=[],
    )
    return made


def scripts() -> ScriptDirectory:
    """The revisions of this release."""
    return ScriptDirectory.from_config(config(tables.SCHEMA))


def printed(schema: str, branch: Branch) -> str:
    """The SQL of a whole branch, in one transaction."""
    offline = config(schema)
    with _one_run:
        command.upgrade(offline, f"{branch}@head", sql=True)
    buffer = offline.output_buffer
    return buffer.getvalue() if isinstance(buffer, StringIO) else ""


def run(connection: Connection, schema: str, branch: Branch, *, lock_timeout_ms: int) -> list[str]:
    """Bring a branch to its head over `connection`; return the revisions applied.

    Raises:
        Stopped: CONFLICT, naming who held the lock; UNFIT where the role may not.
    """
    online = config(schema, lock_timeout_ms=lock_timeout_ms)
    applied: list[str] = []
    online.attributes.update(connection=connection, applied=applied)
    pid = connection.scalar(text("SELECT pg_backend_pid()"))
    connection.rollback()
    with (
        blockers.watch(connection.engine, pid or 0) as seen,
        _told(seen, connection.engine.url),
        _one_run,
    ):
        command.upgrade(online, f"{branch}@head")
    return applied


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    """A connection of an operator's command.

    Raises:
        Stopped: UNREACHABLE, saying where and why and never with which password.
    """
    target = _url(url)
    engine = create_engine(
        target,
        poolclass=NullPool,
        hide_parameters=True,
        # Decisions are read again after a wait: a snapshot from before it would be stale.
        isolation_level="READ COMMITTED",
        connect_args={
            "application_name": "migrator",
            "prepare_threshold": None,  # behind a pooler the next statement may run elsewhere
            **({} if "connect_timeout" in target.query else {"connect_timeout": _CONNECT_SECONDS}),
        },
    )
    try:
        connection = engine.connect()
    except OperationalError as error:
        raise Stopped(_unreachable(target, str(error.orig)), Exit.UNREACHABLE) from None
    with connection, _told([], target):
        yield connection


def _url(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        problem = Problem(
            id="database.url",
            what="the database URL cannot be read",
            why="it is not of the form postgresql+psycopg://user:password@host:port/name",
            do="set MIGRATOR_DATABASE_URL or database.url",
        )
        raise Stopped(problem, Exit.UNFIT) from None
    if parsed.drivername in {"postgres", "postgresql"}:
        return parsed.set(drivername="postgresql+psycopg")
    return parsed


def _unreachable(url: URL, why: str) -> Problem:
    secrets = [str(url.password)] if url.password else []
    secrets += [str(value) for name, value in url.query.items() if "password" in name]
    for secret in secrets:
        why = why.replace(secret, "***")
    return Problem(
        id="database.unreachable",
        what=f"no connection to {url.host or 'the local socket'}:{url.port or 5432}, "
        f"database {url.database}",
        why=" ".join(why.split()),
        do="check that it runs, the address, and the role; then run this again",
    )


@contextmanager
def _told(seen: list[blockers.Blocker], url: URL) -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        match error.orig:
            case psycopg.errors.LockNotAvailable() | psycopg.errors.DeadlockDetected():
                raise Stopped(_held(seen), Exit.CONFLICT) from error
            case psycopg.errors.InsufficientPrivilege():
                raise Stopped(_forbidden(str(error.orig)), Exit.UNFIT) from error
            case psycopg.errors.ObjectNotInPrerequisiteState():
                raise Stopped(NOT_RETIRED, Exit.GATE_FAILED) from error
            case psycopg.OperationalError() if error.connection_invalidated:
                raise Stopped(_unreachable(url, str(error.orig)), Exit.UNREACHABLE) from error
            case _:
                raise


def _held(seen: list[blockers.Blocker]) -> Problem:
    who = "; ".join(str(blocker) for blocker in seen) or "somebody who was gone when asked for"
    end = " or ".join(f"SELECT pg_terminate_backend({blocker.pid})" for blocker in seen)
    return Problem(
        id="schema.locked",
        what=f"a lock was not to be had in time; it is held by {who}",
        why="waiting longer would make the app's own statements wait behind this one",
        do=f"run this again later{f', or end the holder: {end}' if end else ''}",
    )


def _forbidden(why: str) -> Problem:
    return Problem(
        id="schema.forbidden",
        what="this role may not do that to the schema",
        why=" ".join(why.split()),
        do="change tables as their owner (migrator db sql prints what for); what a role needs to "
        "read and write rows, `migrator db sql --grants ROLE` prints",
    )
