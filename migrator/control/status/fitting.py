"""How a screen is kept within its size: which rows give way first, and how a long one is cut.

Problems never give way to numbers, and numbers never to their details. What gave way is counted in
the last line, which says where all of it is. A row that ends with a command keeps it.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

WIDTH = 100
HEIGHT = 30
_COMMAND = "   migrator "


class Rank(IntEnum):
    """What gives way last stands first."""

    FRAME = 0
    PROBLEM = 1
    DOUBT = 2
    FACT = 3
    DETAIL = 4
    SPACE = 5


class Row(NamedTuple):
    """A line of the screen."""

    rank: Rank
    text: str


def fit(rows: Iterable[Row]) -> str:
    """The rows within HEIGHT lines of WIDTH columns, in their order."""
    kept = list(rows)
    dropped = 0
    while len(kept) + (dropped > 0) > HEIGHT:
        weakest = max(row.rank for row in kept)
        last = max(place for place, row in enumerate(kept) if row.rank == weakest)
        dropped += kept.pop(last).rank is not Rank.SPACE
    lines = [cut_row(row.text.rstrip()) for row in kept]
    if dropped:
        lines.append(
            f"  … {dropped} more {'line' if dropped == 1 else 'lines'}: migrator status --json"
        )
    return "\n".join(lines)


def cut_row(line: str) -> str:
    """The line within WIDTH; what is cut is said before its command."""
    said, mark, command = line.rpartition(_COMMAND)
    if len(line) <= WIDTH or not mark:
        return cut(line, WIDTH)
    tail = mark + command
    return cut(said, WIDTH - len(tail)) + tail


def cut(words: str, room: int) -> str:
    """The words within so many columns."""
    return words if len(words) <= room else words[: max(room - 1, 0)] + "…"
