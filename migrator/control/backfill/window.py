"""The hours of a day in which a backfill may run. Outside of them it waits; it does not end.

`--max-seconds` ends it, whether it works or waits. The time is the database's, in the zone that
the window is given in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

_SHAPE: Final = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)-([01]?\d|2[0-3]):([0-5]\d)")


@dataclass(frozen=True, slots=True)
class Window:
    """From one time of day until another, which may be on the next day.

    Args:
        zone: whose clock the two are of.
    """

    opens: time
    closes: time
    zone: ZoneInfo

    @classmethod
    def parse(cls, text: str, zone: str = "UTC") -> Window:
        """From `22:00-06:00`.

        Raises:
            ValueError: it is no window, or the zone is not known.
        """
        found = _SHAPE.fullmatch(text.strip())
        if found is None:
            message = f"{text!r} is no window: give it as 22:00-06:00"
            raise ValueError(message)
        hours = [int(part) for part in found.groups()]
        opens, closes = time(hours[0], hours[1]), time(hours[2], hours[3])
        if opens == closes:
            message = f"{text!r} is no window: it ends where it begins"
            raise ValueError(message)
        try:
            return cls(opens, closes, ZoneInfo(zone))
        except (KeyError, ValueError, OSError):
            message = f"{zone!r} is no time zone: give it as Europe/Berlin"
            raise ValueError(message) from None

    def is_open(self, now: datetime) -> bool:
        """Whether `now`, which bears a zone, is within."""
        at = now.astimezone(self.zone).time()
        if self.opens < self.closes:
            return self.opens <= at < self.closes
        return at >= self.opens or at < self.closes

    def next_open(self, now: datetime) -> datetime:
        """When it opens next, in its own zone; where a clock change skips it, right after."""
        here = now.astimezone(self.zone)
        at = here.replace(
            hour=self.opens.hour, minute=self.opens.minute, second=0, microsecond=0, fold=0
        )
        return at if at > here else at + timedelta(days=1)

    def __str__(self) -> str:
        """As it was given."""
        return f"{self.opens:%H:%M}-{self.closes:%H:%M} {self.zone}"
