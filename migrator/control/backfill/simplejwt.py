"""djangorestframework-simplejwt's token_blacklist app: OutstandingToken and BlacklistedToken.

It holds refresh (and sliding) tokens as they were issued, raw. Here they become fingerprints
inside the database, and no token ever leaves it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from migrator.control.backfill import refusals
from migrator.control.backfill.ledger import Reader, describe
from migrator.control.backfill.reading import Values, of_tokens
from migrator.control.backfill.rows import Cursor, Page
from migrator.settings import Issuer

TABLE = "token_blacklist_outstandingtoken"
_OUTSTANDING, _BLACKLISTED = "outstandingtoken", "blacklistedtoken"
_COLUMNS = ("id", "user_id", "jti", "token", "created_at", "expires_at")

UNSEEDABLE = (
    (
        "access tokens",
        "never in this ledger: they become sessions when they are presented, or end by themselves",
    ),
    (
        "refresh tokens made by rotation before simplejwt 5.5.1",
        "they were not recorded (its issue 863): they become sessions at the refresh route",
    ),
)


@dataclass(frozen=True, slots=True)
class Ledger:
    """The ledger as a `rows.Source`."""

    kind: str
    place: str
    identity: Mapping[str, object]
    unseedable: tuple[tuple[str, str], ...]
    reader: Reader

    def total(self) -> int | None:
        """See `Source.total`."""
        return self.reader.total()

    def page(self, after: Cursor, size: int) -> Page | None:
        """See `Source.page`."""
        return self.reader.page(after, size)

    def bounds(self, rows: int) -> list[Cursor]:
        """See `Splittable.bounds`."""
        return self.reader.bounds(rows)

    @contextmanager
    def part(self, ours: Connection, up_to: Cursor) -> Iterator[Ledger]:
        """See `Splittable.part`."""
        with self.reader.part(ours, up_to) as reader:
            yield replace(self, reader=reader)


def source(
    connection: Connection, issuer: Issuer, *, name: str | None, elsewhere: str | None, room: int
) -> Ledger:
    """The ledger of `issuer`.

    Args:
        connection: to its database.
        name: of the table of outstanding tokens; the library's own by default.
        elsewhere: how its database was named, where it is not ours.
        room: the most bytes a token may have.

    Raises:
        Stopped: USAGE, a table is missing or not of this shape. Without the blacklist there is no
            telling what was revoked, so it may not be missing either.
    """
    outstanding = describe(connection, name or TABLE)
    bare = outstanding.name.removesuffix('"')
    if not bare.endswith(_OUTSTANDING):
        raise refusals.no_table(f"{_BLACKLISTED} beside {outstanding.name}")
    end = outstanding.name[len(bare) :]
    blacklisted = describe(connection, bare.removesuffix(_OUTSTANDING) + _BLACKLISTED + end)
    for table, wanted in ((outstanding, _COLUMNS), (blacklisted, ("token_id",))):
        missing = [column for column in wanted if column not in table.types]
        if missing:
            raise refusals.no_columns(table.name, missing)

    def select(key: str, where: str, values: Values) -> str:
        origin = (
            f"FROM {outstanding.name} l"
            f" LEFT JOIN {blacklisted.name} b ON b.token_id = l.id {where}"
        )
        columns = {
            "key": key,
            "token": "l.token",
            "jti": "l.jti::text",
            # Its iat is whole seconds; the column has the moment that iat was taken from.
            "iat": "date_trunc('second', l.created_at)",
            "exp": "l.expires_at",
            "revoked": "(b.token_id IS NOT NULL)",
            "fault": "CASE WHEN l.user_id IS NULL THEN 'no_user' END",
        }
        return of_tokens(origin, columns, issuer, values, room=room)

    return Ledger(
        kind="simplejwt",
        place=outstanding.name + (f" at {elsewhere}" if elsewhere else ""),
        identity={"table": outstanding.name, "source_url": elsewhere},
        unseedable=UNSEEDABLE,
        reader=Reader(connection, outstanding, select, elsewhere is not None),
    )
