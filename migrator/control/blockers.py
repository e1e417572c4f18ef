"""Who holds the lock that a connection waits for: watched while it waits, told without literals.

Afterwards is too late to ask: a lock timeout ends the wait, and with it PostgreSQL's knowledge of
who was in the way.
"""

from __future__ import annotations

import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

# Several looks within the shortest lock timeout in use, and no load worth naming.
POLL_SECONDS = 0.2

BLOCKERS = text(
    """
    SELECT pid, coalesce(usename, ''), coalesce(application_name, ''), coalesce(state, ''),
           coalesce(query, '')
    FROM pg_stat_activity WHERE pid = ANY (pg_blocking_pids(:pid)) ORDER BY xact_start
    """
)

# Where a literal or a comment may begin: nothing after it is shown. Cutting is safer than
# replacing, since where a string ends depends on a server setting. `$1` is a parameter's name.
_UNSAFE = re.compile(r"'|--|/\*|\$(?!\d)")
_NUMBER = re.compile(r"(?<![\w$])\d+(\.\d+)?\b")
_ROOM = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocker:
    """A backend that held the lock: enough to find it, or to end it."""

    pid: int
    role: str
    application: str
    state: str
    query: str

    def __str__(self) -> str:
        name = f" ({self.application})" if self.application else ""
        return f"pid {self.pid}{name} as {self.role}, {self.state}: {self.query}"


def without_literals(query: str) -> str:
    """The beginning of `query`, on one line, up to the first place where a value could stand."""
    cut = _UNSAFE.search(query)
    shown = " ".join((query if cut is None else query[: cut.start()]).split())
    shown = _NUMBER.sub("?", shown)
    shortened = cut is not None or len(shown) > _ROOM
    return f"{shown[:_ROOM]} …".lstrip() if shortened else shown


@contextmanager
def watch(engine: Engine, pid: int) -> Iterator[list[Blocker]]:
    """Yield a list that holds, at any moment, who last stood in the way of backend `pid`.

    It stays empty where nobody did, and where a second connection could not be had: naming the
    blocker is a courtesy and never a reason to fail.
    """
    seen: list[Blocker] = []
    over = threading.Event()
    watcher = threading.Thread(
        target=_look, args=(engine, pid, seen, over), name="migrator-blockers", daemon=True
    )
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


def _look(engine: Engine, pid: int, seen: list[Blocker], over: threading.Event) -> None:
    try:
        with engine.connect() as connection:
            watching = connection.execution_options(isolation_level="AUTOCOMMIT")
            while not over.wait(POLL_SECONDS):
                rows = watching.execute(BLOCKERS, {"pid": pid}).all()
                if rows:
                    seen[:] = [_blocker(tuple(row)) for row in rows]
    except SQLAlchemyError:
        return


def _blocker(row: tuple[int, str, str, str, str]) -> Blocker:
    pid, role, application, state, query = row
    return Blocker(
        pid=pid,
        role=role,
        application=application,
        state=state,
        query=without_literals(query),
    )
