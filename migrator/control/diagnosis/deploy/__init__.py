"""What a rollout in production needs beyond what works: `doctor --deploy`, one file for each part.

Every look has a budget and none stops another. A rehearsal is told the same, and more gently.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from migrator.control import reach, roster
from migrator.control.diagnosis.deploy import (
    cookies,
    demanded,
    fleet,
    front,
    leftovers,
    libraries,
    server,
)
from migrator.control.diagnosis.finding import Finding
from migrator.control.ledgers.unwired import by_route
from migrator.core.errors import Stopped

if TYPE_CHECKING:
    from migrator.settings import Settings

_REHEARSALS: Final = frozenset({"ci", "demo", "dev", "development", "local", "test", "testing"})


def looks(settings: Settings, *, addresses: tuple[str, ...] = ()) -> list[Finding]:
    """Everything that can be told.

    Args:
        addresses: at which clients reach the app; each is asked twice with a token of nobody.
    """
    found = [
        *demanded.looks(settings),
        *cookies.looks(settings),
        *libraries.looks(),
        *(Finding("routes.no-logout", "warn", each.what, each.do) for each in by_route(settings)),
        *_of_database(settings),
    ]
    if settings.environment in _REHEARSALS:
        found = [replace(each, level="info") if each.level == "warn" else each for each in found]
    return [*found, *(finding for url in addresses for finding in front.looks(url, settings))]


def _of_database(settings: Settings) -> list[Finding]:
    home = settings.database.schema
    try:
        with reach.reached(settings.database.url.get_secret_value(), home) as connection:
            found = [
                *server.looks(connection, settings),
                *fleet.looks(connection, settings),
                *leftovers.looks(connection, home, has_legacy=roster.has_legacy(connection, home)),
            ]
            connection.rollback()
    except Stopped:
        return []  # the database's own look says why
    return found
