"""What a connection of ours is: one to a primary, that hears when a COMMIT was a doubtful one.

A standby lags: it would admit what the primary has revoked. And where the wait for a synchronous
standby is cancelled, Postgres answers COMMIT all the same and only warns: it is in force here, and
a failover may lose it. Who revoked must not be told that it is done.
"""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg

from migrator.core.errors import Unavailable
from migrator.stores.queries import COMMIT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from psycopg.errors import Diagnostic

# The URL may say otherwise.
TO_CONNECT: dict[str, Any] = {"connect_timeout": 2, "target_session_attrs": "primary"}
_WARNING = "01000"


class _Hearing:
    """Counts the warnings that came, from `listen` on."""

    doubts = 0

    def listen(self: Any) -> None:
        """Begin; what connecting itself warned of concerns no COMMIT."""
        self.add_notice_handler(partial(_Hearing._hear, weakref.ref(self)))

    @staticmethod
    def _hear(heard: weakref.ref[_Hearing], said: Diagnostic) -> None:
        connection = heard()
        if connection is not None and said.sqlstate == _WARNING:
            connection.doubts += 1


class Connection(_Hearing, psycopg.Connection[Any]):
    """For a blocking app."""


class AsyncConnection(_Hearing, psycopg.AsyncConnection[Any]):
    """For an async app."""


def require_no_doubt(
    connection: _Hearing, before: int, steps: Sequence[tuple[str, Mapping[str, object] | None]]
) -> None:
    """Refuse to call done what may be on no standby.

    Args:
        before: `connection.doubts` when the script was sent.

    Raises:
        Unavailable: the script ended in a COMMIT, and warned.
    """
    if connection.doubts != before and steps[-1][0] == COMMIT:
        raise Unavailable("postgres", "committed, and perhaps on no standby")
