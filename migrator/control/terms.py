"""For how long a decision stands: from when, and until when, by the database's clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from migrator.control.words import at, span
from migrator.core.errors import Exit, Problem, Stopped

if TYPE_CHECKING:
    from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """What was asked for: a beginning (None: now), and an end or a length."""

    start: datetime | None = None
    until: datetime | None = None
    lasting: timedelta | None = None

    def of(self, now: datetime, *, most: timedelta) -> tuple[datetime, datetime]:
        """When it begins and when it ends.

        Raises:
            Stopped: USAGE, where it would be over before it began, or before now, or would last
                longer than `most`.
        """
        start = now if self.start is None else max(self.start, now)
        until = self.until if self.lasting is None else start + self.lasting
        if until is None or until <= start:
            raise Stopped(_never(start, until), Exit.USAGE)
        if until - start > most:
            raise Stopped(_too_long(start, most), Exit.USAGE)
        return start, until


def _never(start: datetime, until: datetime | None) -> Problem:
    return Problem(
        id="term.over",
        what=f"it would end at {at(until)} and begin at {at(start)}",
        why="what ends before it begins decides nothing",
        do="say --for 24h, or --until with a later time and its offset",
    )


def _too_long(start: datetime, most: timedelta) -> Problem:
    return Problem(
        id="term.too_long",
        what=f"it lasts {span(most)} at the most, that is until {at(start + most)}",
        why="whoever still knows the reason then decides it again",
        do=f"say --for {most.days}d, or less",
    )
