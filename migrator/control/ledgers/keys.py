"""Blacklists in a Redis: keys that are named after a jti, or a collection of jtis.

Read by SCAN, some keys at a time, whatever else lives there. A key's own end says how long the app
means it; where that is shorter than a token of the issuer can live, the token's life decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError

from migrator.control.ledgers.reading import (
    MOST_ROWS,
    ROOM,
    Checkpoint,
    SourceFailed,
    Steps,
    Twice,
    as_text,
    denying,
    longest,
    until,
)
from migrator.core.facts import later
from migrator.stores import redis_clients
from migrator.stores.ledgers import Item, Ledgers, Terms
from migrator.stores.redis_clients import blocking_client, parse_address

if TYPE_CHECKING:
    from migrator.settings import Issuer, Ledger

_BUDGET_S: Final = 2.0
_SPECIAL: Final = str.maketrans({each: f"\\{each}" for each in "\\[]?"})
_STRING: Final = b"string"
_FOR_EVER: Final = -1
_MS: Final = timedelta(milliseconds=1)


class KeyList:
    """Keys, or one collection, of jtis that are not to be admitted."""

    def __init__(self, ledger: Ledger, issuer: Issuer, url: str, terms: Terms) -> None:
        self._ledger = ledger
        self._issuer = issuer
        self._url = url
        self._terms = terms
        self._twice = Twice()
        self._before, self._star, self._after = (ledger.keys or "").partition("*")

    def turn(self, ledgers: Ledgers, checkpoint: Checkpoint, now: datetime) -> Steps:
        """See `Source.turn`."""
        self._twice.begin(now)
        client = self._client()
        try:
            pages = self._named_keys if self._star else self._members
            found = pages(client, int(checkpoint.get("cursor", 0)), now)
            yield from denying(found, ledgers, self._terms, self._twice)
        except (RedisError, OSError) as error:
            raise SourceFailed(type(error).__name__) from None
        finally:
            redis_clients.close(client)

    def check(self) -> str:
        """See `Source.check`."""
        client = self._client()
        try:
            client.ping()
        except (RedisError, OSError) as error:
            raise SourceFailed(type(error).__name__) from None
        finally:
            redis_clients.close(client)
        return "all of it each time"

    def close(self) -> None:
        """See `Source.close`: nothing is held between two turns."""

    def _client(self) -> Any:
        try:
            address = parse_address(self._url)
        except ValueError:
            raise SourceFailed("its url cannot be read") from None
        if address.form == "cluster":
            raise SourceFailed("a cluster cannot be scanned as one; name one of its nodes")
        return blocking_client(address, budget_s=_BUDGET_S, connections=2)

    def _named_keys(
        self, client: Any, cursor: int, now: datetime
    ) -> Iterator[tuple[list[Item], Checkpoint, int]]:
        match = f"{self._before.translate(_SPECIAL)}*{self._after.translate(_SPECIAL)}"
        read = 0
        while True:
            cursor, keys = client.scan(cursor, match=match, count=ROOM)
            pipeline = client.pipeline(transaction=False)
            for key in keys:
                pipeline.type(key)
                pipeline.pttl(key)
                if self._ledger.value is not None:
                    pipeline.get(key)
            told = pipeline.execute(raise_on_error=False) if keys else []
            width = 2 if self._ledger.value is None else 3
            items = [
                self._item(key[len(self._before.encode()) :], told[at * width + 1], now)
                for at, key in enumerate(keys)
                if self._counts(told[at * width : (at + 1) * width])
            ]
            read += len(keys)
            yield self._jtis(items, self._after), {"cursor": cursor}, len(keys)
            if cursor == 0 or read >= MOST_ROWS:
                return

    def _counts(self, told: list[Any]) -> bool:
        if told[0] != _STRING:  # gone meanwhile, or somebody else's
            return False
        return self._ledger.value is None or told[2] == self._ledger.value.encode()

    def _members(
        self, client: Any, cursor: int, now: datetime
    ) -> Iterator[tuple[list[Item], Checkpoint, int]]:
        name = self._before
        kind = client.type(name)
        scan = {b"set": client.sscan, b"zset": client.zscan, b"hash": client.hscan}.get(kind)
        if scan is None:  # an empty collection has no key
            yield [], {"cursor": 0}, 0
            return
        read = 0
        while True:
            cursor, found = scan(name, cursor, count=ROOM)
            members = [each[0] if isinstance(each, tuple) else each for each in found]
            read += len(members)
            items = [self._item(member, _FOR_EVER, now) for member in members]
            yield self._jtis(items, ""), {"cursor": cursor}, len(members)
            if cursor == 0 or read >= MOST_ROWS:
                return

    def _item(self, name: bytes, ttl_ms: int, now: datetime) -> tuple[bytes, datetime | None]:
        lives = longest(self._issuer)
        if ttl_ms < 0 or lives is None:
            return name, None
        return name, until(later(now, max(ttl_ms * _MS, lives)), self._issuer)

    @staticmethod
    def _jtis(found: list[tuple[bytes, datetime | None]], suffix: str) -> list[Item]:
        items = []
        for name, ends_at in found:
            jti = as_text(name.removesuffix(suffix.encode()))
            if jti is not None:
                items.append(Item(jti=jti, until=ends_at))
        return items
