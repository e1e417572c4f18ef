"""What commands about sessions work with: the flows of the app, and a connection beside them."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from migrator import wiring
from migrator.control import reach

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from migrator.core.app import Sessions
    from migrator.settings import Settings

# A command may take its time; a request may not.
_BUDGET_MS = 30_000


@dataclass(frozen=True, slots=True)
class Desk:
    """A connection, the schema it is about, and the flows; nothing of it is a node."""

    connection: Connection
    schema: str
    app: Sessions


@contextmanager
def seated(settings: Settings) -> Iterator[Desk]:
    """A desk at the database of `settings`.

    Raises:
        Stopped: UNREACHABLE, or UNFIT: our tables are not there.
        BadSettings: a key cannot be used.
    """
    home = settings.database.schema
    with reach.reached(settings.database.url.get_secret_value(), home) as connection:
        patient = replace(settings, database=replace(settings.database, budget_ms=_BUDGET_MS))
        yield Desk(connection, home, wiring.operator(patient))


def stdin_bytes(most: int) -> bytes:
    """What stdin holds, and one byte more than `most` where there is more."""
    return sys.stdin.buffer.read(most + 1)
