"""How many sessions a subject's legacy tokens opened in this process within the minute.

Beyond `swap.per_minute` a legacy token is verified, checked and admitted as outside the cohort:
nobody is refused, only no row is made. What has its session keeps it: a session that was opened
before is no opening. Kept in memory, so each process counts for itself: no write, no question.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MINUTE_NS = 60 * 1_000_000_000
# More subjects than one process can open sessions for in a minute; whatever comes, it ends here.
MOST_SUBJECTS = 100_000


class Openings:
    """Counts of the minute that runs; may miss a few under threads."""

    __slots__ = ("_counts", "_ends_at", "_ticks")

    def __init__(self, ticks: Callable[[], int]) -> None:
        self._ticks = ticks
        self._ends_at = 0
        self._counts: dict[tuple[str, str], int] = {}

    def allows(self, realm: str, subject: str, *, most: int) -> bool:
        """Whether another session may be opened for the subject; `most` 0 = any number."""
        if not most:
            return True
        if self._ticks() >= self._ends_at:
            return True
        return self._counts.get((realm, subject), 0) < most

    def opened(self, realm: str, subject: str) -> None:
        """Count one that was opened."""
        now = self._ticks()
        if now >= self._ends_at:
            self._counts, self._ends_at = {}, now + MINUTE_NS
        counts, key = self._counts, (realm, subject)
        if key in counts or len(counts) < MOST_SUBJECTS:
            counts[key] = counts.get(key, 0) + 1

    def __len__(self) -> int:
        return len(self._counts)
