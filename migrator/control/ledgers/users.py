"""A table of users: who is not active any more, and whose tokens of before a moment are over.

A user who is not active is cut off and everything of theirs ended, in every turn again as long as
that lasts; active again, only the cutoff is lifted. A moment (a changed password, a forced logout)
becomes a cutoff of the subject, drawn where the app itself draws it: by the whole second.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Integer, and_, cast, not_, select

from migrator.control.ledgers.database import Database, Reader, beyond, condition
from migrator.control.ledgers.reading import (
    MOST_ROWS,
    ROOM,
    Checkpoint,
    Place,
    SourceFailed,
    Step,
    Steps,
    Twice,
    Walk,
    as_text,
    as_time,
)
from migrator.control.ledgers.tables import mapped
from migrator.stores.ledgers import Ledgers, Terms

if TYPE_CHECKING:
    from sqlalchemy import Select

    from migrator.settings import Ledger

_ASKED_AGAIN: Final = 1000  # of those held inactive, in one turn


class UserTable:
    """A table of users."""

    def __init__(
        self, ledger: Ledger, database: Database, terms: Terms, *, longest: timedelta | None
    ) -> None:
        """Take what is known.

        Args:
            longest: what was changed before such a time cuts no token off; None: not known.
        """
        self._ledger = ledger
        self._database = database
        self._terms = terms
        self._longest = longest
        self._twice = Twice()
        self._columns, self._origin = mapped(ledger)

    def turn(self, ledgers: Ledgers, checkpoint: Checkpoint, now: datetime) -> Steps:
        """See `Source.turn`."""
        self._twice.begin(now)
        kept = dict(checkpoint)
        with self._database.read() as reader:
            parts = []
            if self._says_inactive:
                parts += [self._back(reader, ledgers, kept), self._inactive(reader, ledgers, kept)]
            if "changed_at" in self._ledger.columns:
                parts.append(self._changed(reader, ledgers, kept, now))
            for part in parts:
                yield from part

    def check(self) -> str:
        """See `Source.check`."""
        with self._database.read() as reader:
            if self._says_inactive:
                reader.rows(self._users(self._not_active()).limit(1))
            if "changed_at" in self._ledger.columns:
                reader.rows(self._changes(None).limit(1))
        return "all that are not active each time, and what changed since"

    def close(self) -> None:
        """See `Source.close`."""
        self._database.close()

    @property
    def _says_inactive(self) -> bool:
        return self._ledger.inactive is not None or "active" in self._ledger.columns

    # Who is not active.

    def _inactive(self, reader: Reader, ledgers: Ledgers, kept: dict[str, Any]) -> Iterator[Step]:
        walk, read = Walk.of(kept.get("inactive", {})), 0
        after = walk.after
        while True:
            query = self._users(self._not_active())
            if after is not None:
                query = query.where(beyond((self._subject,), after))
            rows = reader.rows(query.order_by(self._subject).limit(ROOM))
            read += len(rows)
            after = tuple(rows[-1]) if len(rows) == ROOM else None
            walk.after = after
            kept["inactive"] = walk.kept()
            subjects = [found for row in rows if (found := as_text(row[0])) is not None]
            tally = ledgers.cut_inactive(subjects, self._terms)
            tally.read = len(rows)
            yield Step(dict(kept), tally)
            if after is None or read >= MOST_ROWS:
                return

    def _back(self, reader: Reader, ledgers: Ledgers, kept: dict[str, Any]) -> Iterator[Step]:
        """Those held inactive who are active again; a user who is gone is not."""
        after = str(kept.get("held_after", ""))
        held = ledgers.held_inactive(after, _ASKED_AGAIN, self._terms)
        kept["held_after"] = held[-1] if len(held) == _ASKED_AGAIN else ""
        if held:
            named = self._subject.in_(self._as_theirs(reader, held))
            rows = reader.rows(self._users(and_(named, not_(self._not_active()))))
            back = [found for row in rows if (found := as_text(row[0])) in set(held) and found]
            yield Step(dict(kept), ledgers.lift(back, self._terms))

    def _as_theirs(self, reader: Reader, subjects: Sequence[str]) -> list[Any]:
        """Subjects in the type of their column."""
        rows = reader.rows(select(self._subject).where(self._subject.is_not(None)).limit(1))
        kind = type(rows[0][0]) if rows else str
        return [_TYPES.get(kind, str)(each) for each in subjects]

    # What changed.

    def _changed(
        self, reader: Reader, ledgers: Ledgers, kept: dict[str, Any], now: datetime
    ) -> Iterator[Step]:
        walk, read = Walk.of(kept.get("changed", {})), 0
        newest = self._changes(None).with_only_columns(self._at)
        last = reader.rows(newest.order_by(None).order_by(self._at.desc()).limit(1))
        after = walk.begins(now, last[0] if last else None, has_cursor=True)
        while True:
            rows = reader.rows(self._changes(after).limit(ROOM))
            read += len(rows)
            walk.rows += len(rows)
            if rows:
                after = tuple(rows[-1])
            walk.after = after
            if len(rows) < ROOM:
                walk.ended(now, after, has_cursor=True)
            kept["changed"] = walk.kept()
            tally = ledgers.cut_changed(self._relevant(rows, now), self._terms)
            tally.read = len(rows)
            yield Step(dict(kept), tally)
            if len(rows) < ROOM or read >= MOST_ROWS:
                return

    def _relevant(self, rows: Sequence[Place], now: datetime) -> dict[str, datetime]:
        """Who changed when, but for what was told twice or can concern no token any more."""
        found: dict[str, datetime] = {}
        for value, subject in rows:
            at, who = as_time(value), as_text(subject)
            if at is None or who is None:
                continue
            if self._longest is None or at > now - self._longest:
                found[who] = max(at, found.get(who, at))
        changes = list(found.items())
        fresh = [changes[place] for place in self._twice.unseen(changes)]
        self._twice.wrote(fresh)
        return dict(fresh)

    # Their columns.

    @property
    def _subject(self) -> ColumnElement[Any]:
        return self._columns["subject"]

    @property
    def _at(self) -> ColumnElement[Any]:
        return self._columns["changed_at"]

    def _not_active(self) -> ColumnElement[bool]:
        """A flag that is null says nothing."""
        if self._ledger.inactive is not None:
            return and_(condition(self._ledger.inactive))
        return cast(self._columns["active"], Integer) == 0

    def _users(self, which: ColumnElement[bool]) -> Select[Any]:
        subject = self._subject
        query = select(subject).select_from(self._origin).where(which, subject.is_not(None))
        return query if self._ledger.where is None else query.where(condition(self._ledger.where))

    def _changes(self, after: Place | None) -> Select[Any]:
        order = (self._at, self._subject)
        are_said = (each.is_not(None) for each in order)
        query = select(*order).select_from(self._origin).where(*are_said)
        if self._ledger.where is not None:
            query = query.where(condition(self._ledger.where))
        if after is not None:
            query = query.where(beyond(order, after))
        return query.order_by(*order)


_TYPES: Final[dict[type, Any]] = {int: int, UUID: UUID}
__all__ = ["SourceFailed", "UserTable"]
