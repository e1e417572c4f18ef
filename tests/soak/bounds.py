"""The table of design section 8, as code: how long what was revoked may still be let in.

Pure. A situation is what was away, for the node that answered and for whoever revoked; the longest
of what the table allows is granted only where the history shows the fault that it is granted for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from tests.soak.history import Ending, Fault, Read, Store

Situation: TypeAlias = Literal[
    "same process", "everything up", "Redis away or wiped", "cut off, tombstone", "cut off"
]

BOUND_S: Final[dict[Situation, float]] = {
    "same process": 0.0,
    "everything up": 1.0,  # 50 ms is its 99th percentile, and measured; the law is the feed's
    "Redis away or wiped": 1.0,
    "cut off, tombstone": 1.0,
    "cut off": 61.0,  # the life of an entry, and the second that memory has on top
}
# A store that is back is a store that was found again: pools reconnect, the pulse polls.
RECOVERY_S: Final = 2.0
# The breaker leaves a Redis that was away alone for up to two seconds more, then probes.
BREAKER_S: Final = 4.0


@dataclass(frozen=True, slots=True)
class Faults:
    """All that was hurt in a run."""

    all: tuple[Fault, ...]

    @classmethod
    def of(cls, faults: Iterable[Fault]) -> Faults:
        """In the order in which they began."""
        return cls(tuple(sorted(faults, key=lambda fault: fault.began)))

    def hurt(
        self,
        worker: str,
        stores: Iterable[Store],
        began: float,
        ended: float,
        *,
        after_s: float = RECOVERY_S,
    ) -> bool:
        """Whether one of these stores was away for `worker` between the two, or just before."""
        wanted = frozenset(stores)
        return any(
            fault.store in wanted
            and fault.strikes(worker)
            and fault.began <= ended
            and began <= fault.ended + after_s
            for fault in self.all
        )

    def excuse_503(self, worker: str, began: float, ended: float) -> bool:
        """Whether a store that is needed was away, or the process itself, or the machine."""
        return any(
            fault.excuses
            and fault.store != "redis"
            and fault.strikes(worker)
            and fault.began <= ended
            and began <= fault.ended + RECOVERY_S
            for fault in self.all
        )

    def wiped(self, began: float, ended: float) -> bool:
        """Whether Redis lost what it held between the two."""
        return any(
            fault.wipes and fault.began <= ended and began <= fault.ended for fault in self.all
        )

    def situation(self, ending: Ending, read: Read) -> Situation:
        """What the table calls a read that came after an ending was acknowledged."""
        if ending.pid is not None and ending.pid == read.pid:
            return "same process"
        since, until = ending.began, read.ended
        # A tombstone that was never written, or wiped: only then does an old entry speak.
        untold = self.wiped(since, until) or self.hurt(
            ending.worker, ("redis", "worker"), since, ending.ended, after_s=BREAKER_S
        )
        if self.hurt(read.worker, ("postgres", "worker"), since, until):
            return "cut off" if untold else "cut off, tombstone"
        if untold or self.hurt(read.worker, ("redis",), since, until):
            return "Redis away or wiped"
        return "everything up"
