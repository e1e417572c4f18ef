"""A blocklist in a Redis as a ledger: every jti it names becomes a denial, none a session.

It is read once, in bulk, as flask-jwt-extended documents it (`set(jti, "", ex=…)`), as Django
caches and Rails denylists hold it, or as one set, sorted set or hash. What the app adds from then
on, `[[ledgers]]` reads. A cursor of SCAN is good for as long as its server runs: after a restart
the reading begins again, which does nothing twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection

from migrator.control.backfill import refusals
from migrator.control.backfill.rows import Cursor, Here, Page, Row
from migrator.control.ledgers import keyspace
from migrator.control.ledgers.keyspace import Entry, Kind
from migrator.control.ledgers.reading import SourceFailed, is_sliding
from migrator.settings import Issuer

UNSEEDABLE: Final = (
    ("sessions", "a blocklist says who is refused, not who is logged in"),
    (
        "what the app blocks from now on",
        "a [[ledgers]] table of the settings reads it as it comes",
    ),
)
_END: Final = "0"


@dataclass(frozen=True, slots=True)
class Listing:
    """Where a Redis names jtis: a pattern of keys with one `*`, or one collection.

    Args:
        name: the pattern, or the key of the collection.
        kind: of the collection; None: it is a pattern.
    """

    name: str
    kind: Kind | None


@dataclass(slots=True)
class Blocklist:
    """The blocklist as a `rows.Source`; its cursor is the server's run and SCAN's own."""

    connection: Connection
    client: Any
    issuer: Issuer
    listing: Listing
    server: str
    place: str
    kind: str = "redis"
    unseedable: tuple[tuple[str, str], ...] = UNSEEDABLE

    @property
    def identity(self) -> Mapping[str, object]:
        """See `Source.identity`."""
        return {"keys": self.listing.name, "collection": self.listing.kind, "redis": self.place}

    def total(self) -> int | None:
        """How many a collection has; keys that fit a pattern nobody has counted."""
        kind, name = self.listing.kind, self.listing.name
        if kind is None:
            return None
        count = {"set": self.client.scard, "zset": self.client.zcard, "hash": self.client.hlen}
        with _told():
            return int(count[kind](name))

    def page(self, after: Cursor, size: int) -> Page | None:
        """The next entries; SCAN looks at about `size` and may find a few more."""
        same_server = bool(after) and after[0] == self.server
        if same_server and after[1] == _END:
            return None
        cursor = int(after[1]) if same_server else 0
        found: list[Entry] = []
        with _told():
            while True:
                cursor, found = self._some(cursor, size)
                if found or cursor == 0:
                    break
        now = self._now()
        rows = tuple(self._row(entry, now) for entry in found)
        return Here(rows, ((self.server, str(cursor)),) * len(rows)) if rows else None

    def _some(self, cursor: int, size: int) -> tuple[int, list[Entry]]:
        name, kind = self.listing.name, self.listing.kind
        if kind is not None:
            return keyspace.members(self.client, name, kind, cursor, room=size)
        cursor, _, entries = keyspace.named_keys(self.client, name, cursor, room=size)
        return cursor, entries

    def _row(self, entry: Entry, now: datetime) -> Row:
        named = keyspace.named(entry, self.issuer)
        ends_at = keyspace.ends_at(entry, self.issuer, now)
        lapses = ends_at is not None and not is_sliding(self.issuer)
        return Row(
            key=named.key,
            fault="bad_claim",  # of what names nothing; the others are revoked
            fingerprint=named.fingerprint,
            jti=named.jti,
            # Only of a refresh token does a denial by jti end with the token.
            purpose="refresh" if lapses else None,
            exp=ends_at,
            revoked=True,
        )

    def _now(self) -> datetime:
        now: datetime = self.connection.exec_driver_sql("SELECT clock_timestamp()").scalar_one()
        self.connection.rollback()
        return now


@contextmanager
def opened(
    connection: Connection, issuer: Issuer, listing: Listing, *, url: str, name: str
) -> Iterator[Blocklist]:
    """The blocklist of `issuer` in a Redis.

    Args:
        connection: to our database, for its clock.
        url: of the Redis; a secret.
        name: how the URL was named, which is none.

    Raises:
        Stopped: USAGE, it is not what was said; UNREACHABLE, the Redis did not answer.
    """
    try:
        client = keyspace.connected(url)
    except SourceFailed as failed:
        raise refusals.no_redis(name, failed.why, unreachable=False) from None
    try:
        with _told():
            server = _run_of(client)
            if listing.kind is not None:
                kind = keyspace.kind_of(client, listing.name)
                if kind != listing.kind and client.exists(listing.name):
                    raise refusals.no_collection(listing.name, listing.kind, kind)
        said = f"{listing.kind} {listing.name}" if listing.kind else listing.name
        yield Blocklist(connection, client, issuer, listing, server, f"{said} at {name}")
    finally:
        keyspace.close(client)


@contextmanager
def _told() -> Iterator[None]:
    """What a Redis fails with, by its kind alone: a message may quote the URL."""
    try:
        yield
    except keyspace.FAILURES as error:
        raise refusals.no_redis("the Redis", type(error).__name__, unreachable=True) from None


def _run_of(client: Any) -> str:
    """Which run of the server this is: another one may keep its keys in another order."""
    return str(client.info("server").get("run_id", ""))
