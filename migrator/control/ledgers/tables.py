"""Tables that list tokens: simplejwt's token_blacklist, and any other by a mapping of its columns.

A raw token never leaves its database: on PostgreSQL it becomes a fingerprint there, and elsewhere
its column is not read at all, so that the jti alone has to name it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from sqlalchemy import (
    ColumnClause,
    ColumnElement,
    FromClause,
    column,
    func,
    literal_column,
    null,
    select,
    table,
)

from migrator.control.ledgers.database import Database, Reader, beyond, condition
from migrator.control.ledgers.reading import (
    MOST_ROWS,
    ROOM,
    Checkpoint,
    Place,
    SourceFailed,
    Steps,
    Twice,
    Walk,
    as_digest,
    as_text,
    as_time,
    denying,
    until,
)
from migrator.settings.ledgers import NAMING
from migrator.stores.ledgers import Item, Ledgers, Terms

if TYPE_CHECKING:
    from sqlalchemy import Select

    from migrator.settings import Issuer, Ledger

OUTSTANDING: Final = "token_blacklist_outstandingtoken"
BLACKLISTED: Final = "token_blacklist_blacklistedtoken"
_SIGNING_INPUT: Final = r"^(.*)\.[^.]*$"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Rows that name tokens.

    Args:
        rows: where they are, joined and filtered.
        order: how they are read; the first is the cursor where there is one.
        facts: SQL for jti, fingerprint, family and exp; what is absent is not said.
    """

    rows: Select[Any]
    order: tuple[ColumnElement[Any], ...]
    facts: dict[str, ColumnElement[Any]]
    has_cursor: bool


Shape: TypeAlias = Callable[["Ledger", "Issuer", bool], Listing]
"""From the settings, and whether it is a Postgres, what is read."""


class TokenTable:
    """A table of tokens that are not to be admitted."""

    def __init__(self, ledger: Ledger, issuer: Issuer, database: Database, terms: Terms) -> None:
        self._ledger = ledger
        self._issuer = issuer
        self._database = database
        self._terms = terms
        self._twice = Twice()

    def turn(self, ledgers: Ledgers, checkpoint: Checkpoint, now: datetime) -> Steps:
        """See `Source.turn`."""
        self._twice.begin(now)
        with self._database.read() as reader:
            pages = self._pages(reader, Walk.of(checkpoint), now)
            yield from denying(pages, ledgers, self._terms, self._twice)

    def check(self) -> str:
        """See `Source.check`."""
        with self._database.read() as reader:
            listing = self._listing(reader)
            reader.rows(self._query(listing, None).limit(1))
        return "by what is new" if listing.has_cursor else "all of it each time"

    def close(self) -> None:
        """See `Source.close`."""
        self._database.close()

    def _listing(self, reader: Reader) -> Listing:
        shape = SHAPES[self._ledger.kind]
        return shape(self._ledger, self._issuer, reader.is_postgres)

    def _pages(
        self, reader: Reader, walk: Walk, now: datetime
    ) -> Iterator[tuple[list[Item], Checkpoint, int]]:
        listing = self._listing(reader)
        last = self._last(reader, listing)
        has_cursor = listing.has_cursor
        after, read = walk.begins(now, last, has_cursor=has_cursor), 0
        while True:
            rows = reader.rows(self._query(listing, after).limit(ROOM))
            read += len(rows)
            walk.rows += len(rows)
            if rows:
                after = tuple(rows[-1][: len(listing.order)])
            walk.after = after
            if len(rows) < ROOM:
                walk.ended(now, after, has_cursor=has_cursor)
            items = [self._item(row[len(listing.order) :]) for row in rows]
            yield items, walk.kept(), len(rows)
            if len(rows) < ROOM or read >= MOST_ROWS:
                return

    @staticmethod
    def _last(reader: Reader, listing: Listing) -> Place | None:
        if not listing.has_cursor:
            return None
        # By its order and not max(): an index gives it either way, and a uuid has no max().
        newest = listing.rows.with_only_columns(listing.order[0])
        rows = reader.rows(newest.order_by(listing.order[0].desc()).limit(1))
        return rows[0] if rows else None

    @staticmethod
    def _query(listing: Listing, after: Place | None) -> Select[Any]:
        facts: list[ColumnElement[Any]] = [listing.facts.get(name, null()) for name in _FACTS]
        query = listing.rows.with_only_columns(*listing.order, *facts).order_by(*listing.order)
        return query if after is None else query.where(beyond(listing.order, after))

    def _item(self, row: Place) -> Item:
        jti, fingerprint, family, exp = row
        return Item(
            jti=as_text(jti),
            fingerprint=as_digest(fingerprint),
            family=as_text(family),
            until=until(as_time(exp), self._issuer),
        )


_FACTS: Final = ("jti", "fingerprint", "family", "exp")


def named(name: str) -> tuple[str | None, str]:
    """The schema of a table, where it is said, and its own name."""
    schema, _, bare = name.rpartition(".")
    return schema or None, bare


def _simplejwt(ledger: Ledger, issuer: Issuer, is_postgres: bool) -> Listing:  # noqa: FBT001 - `Shape`
    schema, name = named(ledger.table or OUTSTANDING)
    if not name.endswith("outstandingtoken"):
        raise SourceFailed("its table is not called …outstandingtoken")
    beside = name.removesuffix("outstandingtoken") + "blacklistedtoken"
    columns: list[ColumnClause[Any]] = [
        column(each) for each in ("id", "jti", "token", "expires_at")
    ]
    listed = table(name, *columns, schema=schema)
    denied = table(beside, column("id"), column("token_id"), schema=schema)
    facts: dict[str, ColumnElement[Any]] = {"jti": listed.c.jti, "exp": listed.c.expires_at}
    if is_postgres:
        facts["fingerprint"] = _fingerprint(listed.c.token, issuer.id)
    joined = denied.join(listed, listed.c.id == denied.c.token_id)
    return Listing(
        rows=select(denied.c.id).select_from(joined),
        order=(denied.c.id,),  # of a sequence, and its index is there
        facts=facts,
        has_cursor=True,
    )


def _mapped(ledger: Ledger, issuer: Issuer, is_postgres: bool) -> Listing:  # noqa: FBT001 - `Shape`
    theirs, origin = mapped(ledger)
    facts: dict[str, ColumnElement[Any]] = {
        ours: theirs[ours] for ours in _FACTS if ours in theirs
    }
    if "token" in theirs and is_postgres:
        facts["fingerprint"] = _fingerprint(theirs["token"], issuer.id)
    naming = next((facts[ours] for ours in NAMING if ours in facts), None)
    if naming is None:
        raise SourceFailed("outside PostgreSQL a token cannot be read; map its jti")
    cursor = theirs.get("revoked_at")
    rows = select(naming).select_from(origin).where(naming.is_not(None))
    if ledger.where is not None:
        rows = rows.where(condition(ledger.where))
    if cursor is None:
        return Listing(rows=rows, order=(naming,), facts=facts, has_cursor=False)
    rows = rows.where(cursor.is_not(None))
    return Listing(rows=rows, order=(cursor, naming), facts=facts, has_cursor=True)


def mapped(ledger: Ledger) -> tuple[dict[str, ColumnElement[Any]], FromClause]:
    """The columns of a ledger's table by our names, and the table."""
    schema, name = named(ledger.table or "")
    origin = table(name, *(column(each) for each in set(ledger.columns.values())), schema=schema)
    return {ours: origin.c[each] for ours, each in ledger.columns.items()}, origin


def _fingerprint(token: ColumnElement[Any], issuer_id: str) -> ColumnElement[Any]:
    """`tokens.fingerprint` in SQL: everything before the last dot, exactly as it was sent."""
    signed = func.convert_to(func.substring(token, _SIGNING_INPUT), "UTF8")
    start = func.convert_to(issuer_id, "UTF8").op("||")(literal_column(r"'\x00'::bytea"))
    return func.sha256(start.op("||")(signed))


SHAPES: Final[dict[str, Shape]] = {"simplejwt": _simplejwt, "table": _mapped}
