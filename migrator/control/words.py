"""How times, spans and counts are said to an operator: the same way on every screen."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from textwrap import fill

UNKNOWN = "unknown"
WIDTH = 100


def at(moment: datetime | None) -> str:
    """A moment in UTC, to the second."""
    return UNKNOWN if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def span(length: timedelta) -> str:
    """A length in its two largest units; never negative."""
    seconds = max(length.total_seconds(), 0)
    if seconds < 10:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    for size, unit, smaller, below in (
        (86_400, "d", 3_600, "h"),
        (3_600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit}" + (f" {rest} {below}" if rest else "")
    return f"{whole} s"


def age(moment: datetime | None, now: datetime) -> str:
    """How long ago."""
    return UNKNOWN if moment is None else f"{span(now - moment)} ago"


def count(number: int | None) -> str:
    """A number with its thousands apart."""
    return UNKNOWN if number is None else f"{number:,}".replace(",", " ")


def counted(number: int | None, one: str) -> str:
    """A number of things, with an s unless there is just one."""
    return f"{count(number)} {one}" + ("" if number == 1 else "s")


def folded(line: str, *, below: int) -> str:
    """A line that is longer than a screen is wide, gone on with below, so many columns in."""
    if len(line) <= WIDTH:
        return line
    return fill(line, WIDTH, subsequent_indent=" " * below, break_on_hyphens=False)
