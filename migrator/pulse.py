"""One background thread per process: the feed in; heartbeat, usage and last-seen out.

Only a poll of the feed makes memory trustworthy: trust reaches from the moment the poll was
*sent*, for as long as the settings say. So when the feed falls silent nothing is wrong, only
slower: memory is not asked, and requests go one tier down. A hint (Redis PUBLISH) only wakes the
poll early.

On start, after a fork and when another server answers (a failover, a restart): memory is emptied,
a position is taken, and only then trusted.
"""

from __future__ import annotations

import os
import platform
import secrets
import socket
import threading
import time
import weakref
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Protocol, TypeVar

from migrator.core.errors import Unavailable
from migrator.core.phases import Phase
from migrator.core.recent import FOREVER, SECOND_NS
from migrator.core.usage import MOST_SUBJECTS
from migrator.redacting import logger
from migrator.stores.feed import Beat
from migrator.stores.guards import is_due

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from uuid import UUID

    from migrator.core.claims import Claims
    from migrator.core.flow import Node
    from migrator.stores.feed import Carrying, Event, Feed, Reading

_Taken = TypeVar("_Taken")
_log = logger("migrator.pulse")

LEASE_S = 10
_STOP_S = 3.0
# Between two polls, however many hints arrive.
_LEAST_GAP_S = 0.01
# For so long after a poll the last evictions are known; in strict mode too, where trust is 0.
_INFORMED_S = 0.9


class Hints(Protocol):
    """What wakes the poll early; see stores/hints.py."""

    def wait(self, timeout_s: float) -> bool:
        """Wait for a hint; False when none came in time."""
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...


class Companion(Protocol):
    """What lives as long as the pulse does, in threads of its own."""

    def start(self) -> None:
        """Start what does not run."""
        ...

    def stop(self) -> None:
        """End it; `start` begins anew."""
        ...

    def after_fork(self) -> None:
        """Begin anew in a child."""
        ...


class NoHints:
    """Runs without Redis: the poll's own rhythm is all there is."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop

    def wait(self, timeout_s: float) -> bool:
        """Wait out the time, or until stopped."""
        self._stop.wait(timeout_s)
        return False

    def close(self) -> None:
        """Nothing to let go of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rhythm:
    """How often the pulse beats, in seconds.

    trust_s 0 is strict mode: memory is never trusted.
    """

    poll_s: float
    trust_s: float
    beat_s: float = 2.0
    flush_s: float = 1.0
    guard_s: float = 2.0


class Pulse:
    """The thread, started by the first request that needs it and again in each forked child.

    Args:
        node: what this process remembers and counts.
        feed: its side of Postgres.
        make_hints: builds the subscriber, in the thread that uses it.
        key_ids: the swap keys this node holds.
        carrying: where use extends an exchanged session.
        companion: starts and ends with it.
    """

    def __init__(
        self,
        node: Node,
        feed: Feed,
        *,
        rhythm: Rhythm,
        make_hints: type[NoHints] | HintsMaker,
        key_ids: tuple[str, ...],
        carrying: Carrying,
        companion: Companion | None = None,
    ) -> None:
        self._node = node
        self._companion = companion
        self._feed = feed
        self._rhythm = rhythm
        self._make_hints = make_hints
        self._key_ids = key_ids
        self._carrying = carrying
        self._starting = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._reset()
        _living.add(self)

    def _reset(self) -> None:
        self.id = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"
        self._node.id, self._node.heard_until = self.id, None
        self._xmin: str | None = None
        self._server: str | None = None
        self._seen_ids: frozenset[int] = frozenset()
        self._has_legacy = True
        self._acked: int | None = None
        self._skew_ms: int | None = None
        self._beaten_at = self._flushed_at = self._guarded_at = 0.0
        self._flushed_tick = 0
        self._used: dict[UUID, bool] = {}
        self._used_legacy: dict[bytes, Claims] = {}

    # The thread's life.

    def ensure(self) -> None:
        """Start the thread unless it runs. Costs a comparison when it does."""
        if self._thread is None:
            self._start()

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="migrator-pulse", daemon=True
                )
                self._thread.start()
                if self._companion is not None:
                    self._companion.start()

    def stop(self) -> None:
        """Flush what is buffered, end the lease, and end the thread; `ensure` begins anew."""
        with self._starting:
            self._stop.set()
            if self._companion is not None:
                self._companion.stop()
            if self._thread is not None:
                self._thread.join(_STOP_S)
            self._node.recent.clear()
            self._thread, self._stop = None, threading.Event()
            self._reset()

    def after_fork(self) -> None:
        """Begin anew in a child: what the parent remembers and counts is the parent's."""
        self._starting = threading.Lock()
        self._stop = threading.Event()
        self._thread = None
        self._node.recent.after_fork()
        self._node.usage.forget()
        if self._companion is not None:
            self._companion.after_fork()
        self._reset()

    def _run(self) -> None:
        stop = self._stop
        hints = self._make_hints(stop)
        while not stop.is_set():
            self.beat()
            if not stop.is_set():
                time.sleep(_LEAST_GAP_S)
                hints.wait(self._rhythm.poll_s)
        hints.close()
        with suppress(Unavailable):
            self._flush()
            self._feed.leave(self.id)
        self._feed.close()

    # One beat.

    def beat(self) -> None:
        """Poll, apply, trust; then write what is due. Never raises: an outage ends the trust."""
        self._node.turn()  # windows open and close by the clock, whoever can be asked
        try:
            self._poll()
        except Unavailable as error:
            _log.warning("feed.silent", extra={"event": "feed.silent", "why": str(error)})
            # Nobody can be asked: until the feed speaks again a cache's word is the best there is.
            self._node.recent.informed_until = FOREVER
            return
        except Exception:  # noqa: BLE001 - a thread that dies takes all trust with it
            _log.exception("pulse.failed", extra={"event": "pulse.failed"})
            return
        try:
            self._write_what_is_due()
        except Unavailable as error:
            _log.warning("usage.unwritten", extra={"event": "usage.unwritten", "why": str(error)})
        except Exception:  # noqa: BLE001 - see above
            _log.exception("pulse.failed", extra={"event": "pulse.failed"})

    def _poll(self) -> None:
        node = self._node
        sent = node.clock.ticks()
        reading = self._feed.read(self._xmin)
        if reading.server != self._server:
            if self._server is not None:
                # Another server, another history: its xids may be behind our position.
                reading = self._feed.read(None)
            node.recent.clear()
            self._server, self._seen_ids = reading.server, frozenset()
        self._apply(reading)
        # A lease may be as old as the beat is long: by the time it is over, so is this.
        node.heard_until = sent + round((LEASE_S - self._rhythm.beat_s) * SECOND_NS)
        node.recent.informed_until = sent + round(
            max(self._rhythm.trust_s, _INFORMED_S) * SECOND_NS
        )
        node.recent.trusted_until = (
            sent + round(self._rhythm.trust_s * SECOND_NS) if self._rhythm.trust_s > 0 else 0
        )

    def _apply(self, reading: Reading) -> None:
        node = self._node
        node.clock.learn(reading.now)
        self._skew_ms = round((time.time() - reading.now.timestamp()) * 1000)
        for event in reading.events:
            if event.id not in self._seen_ids:
                self._apply_event(event)
        self._seen_ids = frozenset(event.id for event in reading.events)
        self._xmin, self._has_legacy = reading.xmin, reading.has_legacy
        node.follow(reading.rollout, reading.now)

    def _apply_event(self, event: Event) -> None:
        recent = self._node.recent
        match event.kind:
            case "session":
                recent.evict(bytes.fromhex(event.key))
            case "subject":
                realm, _, subject = event.key.partition(SEPARATOR)
                recent.evict(("subject", realm, subject))
            case "legacy":
                recent.distrust_legacy()
            case _:
                # `all`, and whatever a newer release may say: forget everything rather than guess.
                recent.evict_all()

    def _write_what_is_due(self) -> None:
        now = time.monotonic()
        rollout = self._node.rollout
        epoch = rollout.epoch if rollout else None
        if epoch != self._acked or now - self._beaten_at >= self._rhythm.beat_s:
            self._feed.beat(self._beat_of(epoch))
            self._acked, self._beaten_at = epoch, now
        if now - self._flushed_at >= self._rhythm.flush_s:
            self._flushed_at = now
            self._flush()
        if now - self._guarded_at >= self._rhythm.guard_s:
            self._guarded_at = now
            self._guard()

    def _beat_of(self, epoch: int | None) -> Beat:
        usage = self._node.usage
        return Beat(
            id=self.id,
            build=_build(),
            host=platform.node(),
            pid=os.getpid(),
            epoch=epoch,
            lease_s=LEASE_S,
            has_keys=bool(self._key_ids),
            key_ids=self._key_ids,
            clock_skew_ms=self._skew_ms,
            last_issued_at=usage.last_issued_at,
            issued_horizon=usage.issued_horizon,
        )

    def _guard(self) -> None:
        rollout = self._node.rollout
        if rollout is None or not is_due(rollout, self._node.clock.now()):
            return
        for ended in self._feed.guard(rollout):
            facts = {"event": "guard.ended", "who": ended.who, "epoch": ended.epoch}
            _log.warning("guard.ended", extra={**facts, "why": ended.why})

    def _flush(self) -> None:
        self._collect()
        usage = self._node.usage
        by_token = [session_id for session_id, presented in self._used.items() if presented]
        self._feed.seen(list(self._used), by_token=by_token, has_legacy=self._has_legacy)
        rollout = self._node.rollout
        if self._carrying.in_observe or (rollout and rollout.phase is not Phase.OBSERVE):
            self._feed.carry_on(by_token, self._carrying)
        self._used.clear()
        if not self._has_legacy:
            usage.drop()
            self._used_legacy.clear()
            return
        self._feed.legacy_seen(list(self._used_legacy.values()))
        self._used_legacy.clear()
        seen = usage.take_sightings()
        with _or_else(usage.give_back_sightings, seen):
            self._feed.sight(seen)
        hits = usage.take_hits()
        with _or_else(usage.give_back_hits, hits):
            self._feed.hit(hits)
        self._feed.compare(usage, FOREVER if self._stop.is_set() else self._flushed_tick)
        counted = usage.take_tallies()
        minutes = usage.take_minutes(counted)
        with _or_else(usage.give_back, counted), _or_else(usage.give_back_minutes, minutes):
            self._feed.count(counted, minutes, usage.last_issued_at)

    def _collect(self) -> None:
        """Gather who was here since the last flush; kept until a flush succeeds."""
        since, self._flushed_tick = self._flushed_tick, self._node.clock.ticks()
        usage = self._node.usage
        usage.count_routes()
        if len(self._used) + len(self._used_legacy) > MOST_SUBJECTS:
            return  # writes have failed for long: who was here is kept no longer
        for entry in self._node.recent.used_since(since):
            session = entry.verdict.principal.session
            if entry.claims is not None:
                self._used_legacy[entry.claims.fingerprint] = entry.claims
                usage.saw(entry.claims, entry.verdict.principal.client)
            if session is not None:
                presented = entry.claims is None
                self._used[session.id] = presented or self._used.get(session.id, False)


class HintsMaker(Protocol):
    """Builds a subscriber that gives up waiting when `stop` is set."""

    def __call__(self, stop: threading.Event) -> Hints:
        """The subscriber, with nothing connected yet."""
        ...


# Between realm and subject in a feed row; no subject holds a control character.
SEPARATOR = "\x1f"


@contextmanager
def _or_else(give_back: Callable[[_Taken], None], taken: _Taken) -> Iterator[None]:
    """Give back what could not be written."""
    try:
        yield
    except Unavailable:
        give_back(taken)
        raise


def _build() -> str:
    try:
        return version("jwt-way-out")
    except PackageNotFoundError:
        return "unknown"


_living: weakref.WeakSet[Pulse] = weakref.WeakSet()


def _after_fork() -> None:
    for pulse in list(_living):
        pulse.after_fork()


os.register_at_fork(after_in_child=_after_fork)
