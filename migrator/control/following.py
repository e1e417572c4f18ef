"""Following a soak: what the nodes count of it, for whoever likes to look on.

Looking changes nothing, and ending the look ends no soak: the nodes watch it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from migrator.control import journal
from migrator.control.deciding import at_desk
from migrator.control.words import span
from migrator.stores import tables as page

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from migrator.control.journal import Row
    from migrator.core.soaks import Soak
    from migrator.settings import Settings

_LOOK_S = 1.0
_TOLD_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look at a soak.

    Args:
        sign_ins, refused: counted by the nodes since it began, by the minute.
        taken_back: the journal's line of what ended it early; None: nothing did.
    """

    soak: Soak
    now: datetime
    sign_ins: int
    refused: int
    taken_back: Row | None

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left to look at."""
        return self.taken_back is not None or self.now >= self.soak.until

    def said(self) -> str:
        """One line."""
        elapsed = span(self.now - self.soak.since)
        if self.taken_back is not None:
            last = self.taken_back
            return f"  {elapsed}  `{last.command}` by {last.who}: {last.why or 'no reason given'}"
        counts = f"401s {self.refused} · sign-ins +{self.sign_ins}"
        return f"  {elapsed}  {counts}" + ("  soak over" if self.is_over else "")


def look(settings: Settings, soak: Soak) -> Look:
    """How the soak stands.

    Raises:
        Stopped: UNFIT; UNREACHABLE.
    """
    with at_desk(settings) as desk:
        table = desk.table("minutes")
        first = func.date_trunc("minute", soak.since)
        query = (
            select(table.c.outcome, func.sum(table.c.count))
            .where(table.c.minute >= first)
            .group_by(table.c.outcome)
        )
        counts = {outcome: int(count) for outcome, count in desk.connection.execute(query).all()}
        other = journal.overtook(desk.connection, page.in_schema(desk.home), desk.home, soak.epoch)
    return Look(
        soak=soak,
        now=desk.now,
        sign_ins=counts.get("sign_in", 0),
        refused=counts.get("refused", 0),
        taken_back=other,
    )


def follow(settings: Settings, soak: Soak, *, tell: Callable[[Look], None]) -> Look:
    """Look until the soak is over or something ended it; `tell` now and then.

    Raises:
        Stopped: UNFIT; UNREACHABLE.
    """
    told = 0.0
    while True:
        seen = look(settings, soak)
        if seen.is_over or time.monotonic() - told >= _TOLD_S:
            told = time.monotonic()
            tell(seen)
        if seen.is_over:
            return seen
        left = max((soak.until - seen.now) / timedelta(seconds=1), 0)
        time.sleep(min(_LOOK_S, left + 0.01))
