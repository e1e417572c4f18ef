"""Which clients were ever seen: a segment that names nearly one of them is a slip of the pen.

Such a segment would cut over, spare or brown out nobody, and every gate would pass it. A name
unlike any is told, and taken: its client may be still to come.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from sqlalchemy import text

from migrator.control import reach, roster
from migrator.core.brownouts import covers
from migrator.core.errors import Exit, Problem, Stopped
from migrator.stores.queries import in_schema

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from sqlalchemy import Connection

    from migrator.control.rollout import Segment
    from migrator.settings import Settings

# The hourly counts are few rows and know nearly everybody; people and tokens may be millions.
_FEW = "SELECT DISTINCT client FROM {s}.legacy_usage WHERE client <> ''"
_ALL = """
SELECT client FROM {s}.legacy_usage WHERE client <> ''
UNION SELECT client FROM {s}.legacy_subjects WHERE client <> ''
UNION SELECT client FROM {s}.legacy_tokens WHERE client <> ''"""
_NAMED = 8


def require_seen(settings: Settings, segments: Iterable[Segment]) -> tuple[str, ...]:
    """What to tell of clients that no legacy token was ever counted for.

    Raises:
        Stopped: USAGE, such a name is near to one that was seen; UNFIT; UNREACHABLE.
    """
    names = [one.value for one in segments if one.by == "client"]
    if not names:
        return ()
    home = settings.database.schema
    with reach.reached(settings.database.url.get_secret_value(), home) as connection:
        if not roster.has_legacy(connection, home):
            return ()
        seen: Collection[str] = ()
        for statement in (_FEW, _ALL):
            seen = _read(connection, statement, home)
            unseen = [name for name in names if not any(_covers(name, one) for one in seen)]
            if not unseen:
                return ()
    for name in unseen:
        if meant := near(name, seen):
            raise Stopped(_slip(name, meant, seen), Exit.USAGE)
    return tuple(f"{_unknown(name)}: the segment is of nobody; {_there(seen)}" for name in unseen)


def _read(connection: Connection, statement: str, home: str) -> list[str]:
    return list(connection.scalars(text(in_schema(statement, home))))


def _covers(name: str, client: str) -> bool:
    return covers("client", name, issuer=None, client=client, bucket=0)


def near(name: str, seen: Iterable[str]) -> list[str]:
    """Those that are probably meant: by their product, and by the version where one was named."""
    known = sorted({*seen} if "/" in name else {one.partition("/")[0] for one in seen})
    lower = {one.lower(): one for one in known}
    close = difflib.get_close_matches(name.lower(), lower, n=_NAMED)
    within = [one for one in known if name.lower() in one.lower()]
    return list(dict.fromkeys([*(lower[one] for one in close), *within]))[:_NAMED]


def _unknown(name: str) -> str:
    return f"no client called {name!r} was ever seen"


def _there(seen: Collection[str]) -> str:
    products = sorted({one.partition("/")[0] for one in seen})
    more = ", …" if len(products) > _NAMED else ""
    return f"seen: {', '.join(products[:_NAMED]) or 'none'}{more}"


def _slip(name: str, meant: Iterable[str], seen: Collection[str]) -> Problem:
    return Problem(
        id="segment.unseen_client",
        what=f"{_unknown(name)}; did you mean {', '.join(meant)}?",
        why=f"such a segment is of nobody; {_there(seen)}",
        do="name one of these, or add --unseen if it is still to come",
    )
