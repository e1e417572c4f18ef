"""The memory of recent verdicts: what makes a hit cost less than reading a JWT ever did.

`peek` is the hit path: no I/O, no lock, no await. Four rules keep it honest, and each closes a
hole that was shown:

1. Nothing is believed after `trusted_until`, which only a poll of the feed moves (pulse.py). Feed
   silent means memory is not asked, and requests go one tier down.
2. A fill must not outrun an eviction: whoever fills takes a `Mark` before reading any store, and
   the fill is dropped if what it is about was evicted since.
3. What was evicted in the last two minutes is `suspect`: no cache's word on it is believed.
4. A legacy token's entry carries the `stamp` it was judged under and points at its session's
   entry; a change of epoch, cutoff or denial moves the stamp, and all of them are stale at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from threading import Lock
from typing import TYPE_CHECKING, TypeAlias

from migrator.core.clock import elapsed_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from migrator.core.claims import Claims
    from migrator.core.usage import Tally
    from migrator.core.verdicts import Admitted

SECOND_NS = 1_000_000_000
LIFE_NS = 60 * SECOND_NS
# Twice the life of anything that could bring a revoked session back: a fill, or a cached entry.
SUSPECT_NS = 120 * SECOND_NS
FOREVER = 2**63
# More revocations than two minutes of a large deployment bring; beyond it no cache is believed.
MOST_EVICTED = 100_000

# What an eviction names: a digest, ("subject", realm, subject), ("issuer", id), ("kid", issuer,
# kid); to listeners also every legacy token, or everything.
About: TypeAlias = bytes | tuple[str, ...]
ANY_LEGACY: About = ("legacy",)
ALL: About = ("all",)


@dataclass(frozen=True, slots=True)
class Mark:
    """Where memory stood before a store was read."""

    generation: int
    stamp: int


class Entry:
    """One remembered verdict. `used_at` is written by every hit, without a lock."""

    __slots__ = (
        "about",
        "claims",
        "filled_at",
        "stamp",
        "tally",
        "target",
        "until",
        "used_at",
        "verdict",
    )

    def __init__(
        self,
        verdict: Admitted,
        *,
        until: int,
        tally: Tally,
        about: tuple[About, ...],
        stamp: int | None = None,
        target: bytes | None = None,
        claims: Claims | None = None,
    ) -> None:
        self.verdict = verdict
        self.until = until
        self.tally = tally
        self.about = about
        self.stamp = stamp
        self.target = target
        self.claims = claims
        self.used_at = _UNUSED


class Recent:
    """Verdicts of the last minute, by SHA-256 of the exact bytes presented.

    Args:
        room: how many are kept; the oldest goes first.
        ticks: local nanoseconds.
    """

    def __init__(self, room: int, ticks: Callable[[], int] = elapsed_ns) -> None:
        self._room = room
        self._ticks = ticks
        self._entries: dict[bytes, Entry] = {}
        self._evicted: dict[About, tuple[int, int]] = {}
        self._floor = 0
        self._all_suspect_until = 0
        self._generation = 0
        self._unwritten: list[Entry] = []
        self._listeners: tuple[Callable[[About], None], ...] = ()
        self._lock = Lock()
        self.stamp = 0
        self.trusted_until = 0
        self.informed_until = 0

    def peek(self, presented: bytes, issuers: frozenset[str]) -> Admitted | None:
        """The verdict remembered for these bytes, if it may still be believed.

        Args:
            issuers: whose place the bytes were in; a legacy token counts only in its issuer's.
        """
        entry = self._entries.get(sha256(presented).digest())
        if entry is None:
            return None
        now = self._ticks()
        if now >= entry.until or now >= self.trusted_until:
            return None
        if entry.claims is not None and (
            entry.stamp != self.stamp
            or entry.claims.issuer not in issuers
            or (entry.target is not None and entry.target not in self._entries)
        ):
            return None
        entry.tally.count += 1
        entry.used_at = now
        return entry.verdict

    def mark(self) -> Mark:
        """Take note of where memory stands; to be called before any store is read."""
        return Mark(self._generation, self.stamp)

    def fill(
        self, presented_digest: bytes, entry: Entry, mark: Mark, *, used: bool = True
    ) -> bool:
        """Remember `entry`, unless what it is about was evicted since `mark`.

        Args:
            used: whether this very credential was presented; false for the session that a legacy
                token's entry points at.
        """
        with self._lock:
            if mark.generation < self._floor or any(
                self._evicted.get(about, _NEVER)[0] > mark.generation for about in entry.about
            ):
                return False
            entry.used_at = self._ticks() if used else _UNUSED
            old = self._entries.pop(presented_digest, None)
            if old is None and len(self._entries) >= self._room:
                old = self._entries.pop(next(iter(self._entries)))
            if old is not None:
                self._keep_use(old)
            self._entries[presented_digest] = entry
        return True

    def evict(self, about: About) -> None:
        """Forget what `about` names, for fills under way too: nothing admits it afterwards."""
        with self._lock:
            self._generation += 1
            now = self._ticks()
            self._evicted.pop(about, None)
            self._evicted[about] = (self._generation, now)
            for key in self._named(about):
                entry = self._entries.pop(key, None)
                if entry is not None:
                    self._keep_use(entry)
            self._prune(now)
            if len(self._evicted) > MOST_EVICTED:
                self._suspect_all(now)
                self._evicted.clear()
        self._tell(about)

    def _named(self, about: About) -> list[bytes]:
        # A digest names its session's entry, in one step. The legacy tokens that point there miss
        # by themselves, once their target is gone. Anything else is rare enough for a walk.
        if isinstance(about, bytes):
            return [about]
        return [key for key, entry in self._entries.items() if about in entry.about]

    def distrust_legacy(self) -> None:
        """Make every remembered legacy token stale: a denial, cutoff or the epoch changed."""
        with self._lock:
            self.stamp += 1
        self._tell(ANY_LEGACY)

    def evict_all(self) -> None:
        """Forget everything, drop every fill under way, and believe no cache for two minutes."""
        with self._lock:
            self._generation += 1
            self._suspect_all(self._ticks())
            self._empty()
        self._tell(ALL)

    def _suspect_all(self, now: int) -> None:
        self._floor = self._generation
        self._all_suspect_until = now + SUSPECT_NS

    def after_fork(self) -> None:
        """Begin anew in a child, whatever another thread of the parent was doing here."""
        self._lock = Lock()  # held at the fork, it would stay held in the child for ever
        self.clear()

    def clear(self) -> None:
        """Forget everything, and trust nothing until the feed is read: at start and fork."""
        with self._lock:
            self.trusted_until = self.informed_until = 0
            self._generation += 1
            self._floor = self._generation
            self._empty()
        self._tell(ALL)

    def listen(self, listener: Callable[[About], None]) -> None:
        """Tell `listener` of every eviction, once nothing is admitted by what it names.

        It is called by whichever thread evicts, and must neither raise nor wait.
        """
        with self._lock:
            self._listeners = (*self._listeners, listener)

    def _tell(self, about: About) -> None:
        for listener in self._listeners:
            listener(about)

    def names(self, presented: bytes) -> tuple[About, ...] | None:
        """What an eviction of the verdict remembered for these bytes may name; None: forgotten."""
        entry = self._entries.get(sha256(presented).digest())
        return None if entry is None else entry.about

    def _empty(self) -> None:
        self.stamp += 1
        for entry in self._entries.values():
            self._keep_use(entry)
        self._entries.clear()

    def informed(self) -> bool:
        """Whether `suspect` knows of everything that was evicted, as far as can be known.

        Not before the feed was read, nor after a sleep: what happened meanwhile is not known yet.
        """
        return self._ticks() < self.informed_until

    def suspect(self, *abouts: About) -> bool:
        """Whether any of these was evicted so recently that only the store may speak for it."""
        now = self._ticks()
        if now < self._all_suspect_until:
            return True
        horizon = now - SUSPECT_NS
        return any(self._evicted.get(about, _NEVER)[1] > horizon for about in abouts)

    def used_since(self, tick: int) -> Iterator[Entry]:
        """Every entry that was used at or after `tick`, those already gone included, once.

        What was only remembered was not used, however early the tick.
        """
        with self._lock:
            gone, self._unwritten = self._unwritten, []
            here = list(self._entries.values())
        for entry in (*gone, *here):
            if entry.used_at != _UNUSED and entry.used_at >= tick:
                yield entry

    def __len__(self) -> int:
        return len(self._entries)

    def _keep_use(self, entry: Entry) -> None:
        if len(self._unwritten) < self._room:
            self._unwritten.append(entry)

    def _prune(self, now: int) -> None:
        # Ends with what was evicted just now, at the latest.
        while self._evicted[oldest := next(iter(self._evicted))][1] <= now - SUSPECT_NS:
            del self._evicted[oldest]


# Before every generation, and before the clock's first tick.
_UNUSED = -1
_NEVER = (-1, -SUSPECT_NS * 1_000)
