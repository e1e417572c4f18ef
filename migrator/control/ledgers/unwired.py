"""How an app ends logins without our hearing of it: what looks like it, and is read by nobody.

Only our own database can be looked at from here; what an app keeps elsewhere is for its owners.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from migrator.control.ledgers.tables import BLACKLISTED, named

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from migrator.settings import Settings

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


@dataclass(frozen=True, slots=True)
class Unwired:
    """One way by which the app may end logins, and how to wire it.

    Args:
        is_sure: it is one, and not only looks like one.
    """

    name: str
    what: str
    do: str
    is_sure: bool = False


def read(connection: Connection, settings: Settings) -> tuple[Unwired, ...]:
    """Everything that can be told: by the settings alone, and by the tables in our database."""
    return (*by_tables(connection, settings), *by_library(settings), *by_route(settings))


def by_tables(connection: Connection, settings: Settings) -> Iterator[Unwired]:
    """Tables in our own database that look like the app's revocations."""
    wired = {named(each.table or "")[1] for each in settings.ledgers}
    kinds = {each.kind for each in settings.ledgers}
    asked = {"home": settings.database.schema}
    if connection.execute(text(f"SELECT to_regclass('{BLACKLISTED}')")).scalar_one() is not None:
        if "simplejwt" not in kinds:
            what = f"{BLACKLISTED} is here and no ledger reads it: a logout there ends no session"
            do = 'add [[ledgers]] with kind = "simplejwt"'
            yield Unwired(BLACKLISTED, what, do, is_sure=True)
        wired.add(BLACKLISTED)
    for schema, name in connection.execute(_JTI_TABLES, asked).all()[:_MOST_NAMED]:
        if name not in wired:
            what = (
                f"{schema}.{name} has a jti and no ledger reads it: does it list revoked tokens?"
            )
            do = f'[[ledgers]] kind = "table", table = "{schema}.{name}", columns = {{ jti = … }}'
            yield Unwired(f"{schema}.{name}", what, do)
    if "users" in kinds:
        return
    for schema, name, columns in connection.execute(_USER_TABLES, asked).all()[:_MOST_NAMED]:
        what = f"{schema}.{name} has {columns}, which no ledger reads: sessions outlive a change"
        do = 'add [[ledgers]] with kind = "users", or give the middleware resolve_subject'
        yield Unwired(f"{schema}.{name}", what, do)


def by_library(settings: Settings) -> Iterator[Unwired]:
    """Issuers whose library asks a function of the app, where none is asked."""
    asked = {each.issuer for each in settings.ledgers if each.kind != "users"}
    for issuer in settings.issuers:
        if issuer.preset == _PRESET_WITH_CALLBACK and issuer.id not in asked:
            what = f"issuer {issuer.name}: a token_in_blocklist_loader would not be asked"
            do = "hand it to migrator.wiring.blocklist, or name its table or Redis in [[ledgers]]"
            yield Unwired(f"issuer {issuer.name}", what, do)


def by_route(settings: Settings) -> Iterator[Unwired]:
    """A logout of the app that no route of the settings names."""
    if settings.issuers and not settings.routes.logout:
        what = "routes.logout is empty: a logout of the app's own ends no session"
        do = "name the route in routes.logout, or call `end` there"
        yield Unwired("routes.logout", what, do)
