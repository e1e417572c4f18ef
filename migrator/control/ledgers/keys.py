"""Blacklists in a Redis: keys that are named after a jti, or a collection of jtis.

Read by SCAN, some keys at a time, whatever else lives there. A key's own end says how long the app
means it; where that is shorter than a token of the issuer can live, the token's life decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from migrator.control.ledgers import keyspace
from migrator.control.ledgers.keyspace import Entry
from migrator.control.ledgers.reading import (
    MOST_ROWS,
    ROOM,
    Checkpoint,
    SourceFailed,
    Steps,
    Twice,
    denying,
    until,
)
from migrator.stores.ledgers import Item, Ledgers, Terms

if TYPE_CHECKING:
    from migrator.settings import Issuer, Ledger


class KeyList:
    """Keys, or one collection, of jtis that are not to be admitted."""

    def __init__(self, ledger: Ledger, issuer: Issuer, url: str, terms: Terms) -> None:
        self._ledger = ledger
        self._issuer = issuer
        self._url = url
        self._terms = terms
        self._twice = Twice()
        self._keys = ledger.keys or ""

    def turn(self, ledgers: Ledgers, checkpoint: Checkpoint, now: datetime) -> Steps:
        """See `Source.turn`."""
        self._twice.begin(now)
        client = keyspace.connected(self._url)
        try:
            pages = self._named_keys if "*" in self._keys else self._members
            found = pages(client, int(checkpoint.get("cursor", 0)), now)
            yield from denying(found, ledgers, self._terms, self._twice)
        except keyspace.FAILURES as error:
            raise SourceFailed(type(error).__name__) from None
        finally:
            keyspace.close(client)

    def check(self) -> str:
        """See `Source.check`."""
        client = keyspace.connected(self._url)
        try:
            client.ping()
        except keyspace.FAILURES as error:
            raise SourceFailed(type(error).__name__) from None
        finally:
            keyspace.close(client)
        return "all of it each time"

    def close(self) -> None:
        """See `Source.close`: nothing is held between two turns."""

    def _named_keys(
        self, client: Any, cursor: int, now: datetime
    ) -> Iterator[tuple[list[Item], Checkpoint, int]]:
        read = 0
        while True:
            cursor, looked, entries = keyspace.named_keys(
                client, self._keys, cursor, room=ROOM, value=self._ledger.value
            )
            read += looked
            yield list(self._items(entries, now)), {"cursor": cursor}, looked
            if cursor == 0 or read >= MOST_ROWS:
                return

    def _members(
        self, client: Any, cursor: int, now: datetime
    ) -> Iterator[tuple[list[Item], Checkpoint, int]]:
        kind = keyspace.kind_of(client, self._keys)
        if kind is None:  # an empty collection has no key
            yield [], {"cursor": 0}, 0
            return
        read = 0
        while True:
            cursor, found = keyspace.members(client, self._keys, kind, cursor, room=ROOM)
            read += len(found)
            items = self._items([Entry(entry.name) for entry in found], now)
            yield list(items), {"cursor": cursor}, len(found)
            if cursor == 0 or read >= MOST_ROWS:
                return

    def _items(self, entries: list[Entry], now: datetime) -> Iterator[Item]:
        for entry in entries:
            named = keyspace.named(entry, self._issuer)
            if named.jti is not None or named.fingerprint is not None:
                ends_at = keyspace.ends_at(entry, self._issuer, now)
                yield Item(
                    jti=named.jti,
                    fingerprint=named.fingerprint,
                    until=until(ends_at, self._issuer),
                )
