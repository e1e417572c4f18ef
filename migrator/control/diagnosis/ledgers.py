"""Whether the app's own revocations reach us: ledgers that are read, and such as nobody wired."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import func, select, text

from migrator.control import reach, roster
from migrator.control.diagnosis.finding import Finding
from migrator.control.ledgers import standing
from migrator.control.ledgers.building import source_of
from migrator.control.ledgers.reading import MOST_ROWS, SourceFailed
from migrator.control.ledgers.tables import BLACKLISTED, named
from migrator.core.errors import Stopped
from migrator.stores import tables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from migrator.settings import Ledger, Settings

_MOST_NAMED: Final = 8
_PRESET_WITH_CALLBACK: Final = "flask-jwt-extended"

# What apps call such tables; a table that lists every token it issued has a jti too, and says so
# by a column of its own. Ours, and the servers' own, are not asked.
_JTI_TABLES: Final = text("""
SELECT c.table_schema, c.table_name FROM information_schema.columns c
JOIN information_schema.tables t USING (table_schema, table_name)
WHERE c.column_name = 'jti' AND t.table_type = 'BASE TABLE' AND c.table_schema <> :home
  AND c.table_schema NOT IN ('pg_catalog', 'information_schema')
  AND c.table_name NOT LIKE '%outstandingtoken'
ORDER BY 1, 2""")

_USER_TABLES: Final = text("""
SELECT c.table_schema, c.table_name, string_agg(c.column_name, ', ' ORDER BY c.column_name)
FROM information_schema.columns c JOIN information_schema.tables t USING (table_schema, table_name)
WHERE c.column_name IN ('is_active', 'active', 'disabled', 'is_disabled', 'password_changed_at',
    'tokens_valid_from', 'tokens_valid_after', 'last_logout_at')
  AND t.table_type = 'BASE TABLE' AND c.table_schema <> :home
  AND c.table_schema NOT IN ('pg_catalog', 'information_schema') AND c.table_name LIKE '%user%'
GROUP BY 1, 2 ORDER BY 1, 2""")


def looks(settings: Settings) -> list[Finding]:
    """The ledgers of the settings, and what looks like one and is in none of them."""
    try:
        with reach.reached(
            settings.database.url.get_secret_value(), settings.database.schema
        ) as connection:
            if not roster.has_legacy(connection, settings.database.schema):
                return []
            unwired = list(_unwired(connection, settings))
            connection.rollback()
            stand = list(_standing(connection, settings))
            connection.rollback()
    except Stopped:
        return unwired_callbacks(settings)  # the database's own look tells why
    read = [finding for ledger in settings.ledgers for finding in _read(settings, ledger)]
    return [*read, *stand, *unwired, *unwired_callbacks(settings)]


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


def _unwired(connection: Connection, settings: Settings) -> Iterator[Finding]:
    """Tables in our own database that look like the app's revocations."""
    wired = {named(each.table or "")[1] for each in settings.ledgers}
    kinds = {each.kind for each in settings.ledgers}
    asked = {"home": settings.database.schema}
    if connection.execute(text(f"SELECT to_regclass('{BLACKLISTED}')")).scalar_one() is not None:
        if "simplejwt" not in kinds:
            told = f"{BLACKLISTED} is here and no ledger reads it: a logout there ends no session"
            do = 'add [[ledgers]] with kind = "simplejwt"'
            yield Finding("ledgers.unwired", "warn", told, do)
        wired.add(BLACKLISTED)
    for schema, name in connection.execute(_JTI_TABLES, asked).all()[:_MOST_NAMED]:
        if name not in wired:
            told = (
                f"{schema}.{name} has a jti and no ledger reads it: does it list revoked tokens?"
            )
            do = f'[[ledgers]] kind = "table", table = "{schema}.{name}", columns = {{ jti = … }}'
            yield Finding("ledgers.unwired", "info", told, do)
    if "users" in kinds:
        return
    for schema, name, columns in connection.execute(_USER_TABLES, asked).all()[:_MOST_NAMED]:
        told = f"{schema}.{name} has {columns}, which no ledger reads: sessions outlive a change"
        do = 'add [[ledgers]] with kind = "users", or give the middleware resolve_subject'
        yield Finding("ledgers.unwired", "info", told, do)


def unwired_callbacks(settings: Settings) -> list[Finding]:
    """Issuers whose library asks a function of the app, where none is asked."""
    asked = {each.issuer for each in settings.ledgers if each.kind != "users"}
    return [
        Finding(
            "ledgers.unwired",
            "info",
            f"issuer {issuer.name}: a token_in_blocklist_loader of the app would not be asked",
            "hand it to migrator.wiring.blocklist, or name its table or Redis under [[ledgers]]",
        )
        for issuer in settings.issuers
        if issuer.preset == _PRESET_WITH_CALLBACK and issuer.id not in asked
    ]
