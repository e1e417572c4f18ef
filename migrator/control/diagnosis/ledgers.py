"""Whether the app's own revocations reach us: ledgers that are read, and such as nobody wired."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select

from migrator.control import reach, roster
from migrator.control.diagnosis.finding import Finding
from migrator.control.ledgers import standing, unwired
from migrator.control.ledgers.building import source_of
from migrator.control.ledgers.reading import MOST_ROWS, SourceFailed
from migrator.core.errors import Stopped
from migrator.stores import tables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from migrator.control.ledgers.unwired import Unwired
    from migrator.settings import Ledger, Settings


def looks(settings: Settings) -> list[Finding]:
    """The ledgers of the settings, and what looks like one and is in none of them."""
    try:
        with reach.reached(
            settings.database.url.get_secret_value(), settings.database.schema
        ) as connection:
            if not roster.has_legacy(connection, settings.database.schema):
                return []
            missing = list(unwired.by_tables(connection, settings))
            connection.rollback()
            stand = list(_standing(connection, settings))
            connection.rollback()
    except Stopped:
        # The database's own look tells why.
        return [_told(path) for path in unwired.by_library(settings)]
    read = [finding for ledger in settings.ledgers for finding in _read(settings, ledger)]
    missing += unwired.by_library(settings)
    return [*read, *stand, *map(_told, missing)]


def _read(settings: Settings, ledger: Ledger) -> list[Finding]:
    """Reads a little of a ledger from here, as a node would."""
    if ledger.kind == "callback" and ledger.call is None:
        how = "of each token whose session lives"
    else:
        try:
            source = source_of(settings, ledger)
            how = source.check()
            source.close()
        except SourceFailed as failed:
            told = f"ledger {ledger.name} cannot be read from here: {failed.why}"
            do = "check its url, table and columns, and what its role may SELECT"
            return [Finding("ledgers.unreadable", "warn", told, do)]
    every, bound = ledger.every.total_seconds(), standing.bound_s(ledger)
    told = (
        f"ledger {ledger.name}: asked every {every:g} s, {how}; what it revokes is refused "
        f"everywhere within {bound:g} s (that and the second of a revocation here)"
    )
    return [Finding("ledgers.read", "ok", told)]


def _standing(connection: Connection, settings: Settings) -> Iterator[Finding]:
    home = settings.database.schema
    found = standing.read(connection, home)
    now = connection.execute(select(func.clock_timestamp())).scalar_one()
    nodes = tables.in_schema(home).tables[f"{home}.nodes"]
    living = select(func.count()).where(nodes.c.lease_until > now)
    has_nodes = bool(connection.execute(living).scalar_one())
    for ledger, why in standing.faults(settings, found, now, has_nodes=has_nodes):
        told = f"ledger {ledger.name}: {why}"
        yield Finding(
            "ledgers.stale", "warn", told, "look at the logs of the nodes: ledger.failed"
        )
    for ledger in settings.ledgers:
        stands = found.get(ledger.name)
        if stands is not None and not stands.is_whole:
            told = f"ledger {ledger.name} has over {MOST_ROWS} rows: a reading takes several turns"
            do = (
                "map a column that a revocation sets as revoked_at: what is new is read first then"
            )
            yield Finding("ledgers.large", "warn", told, do)


def _told(path: Unwired) -> Finding:
    return Finding("ledgers.unwired", "warn" if path.is_sure else "info", path.what, path.do)
