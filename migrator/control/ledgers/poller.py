"""Whose turn it is to read a ledger, and when: a thread for each ledger of a node.

One node at a time: the turn is a row that is due at a time (`jobs`), never a lock. Who has read
last is a little earlier than the others at the next one, so that a ledger keeps its reader; a
reader that died is followed once its lease is over. Two at once would do no harm, only the same
work. Nothing here raises: what fails is written into the row, logged, and tried again.
"""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from migrator.control.ledgers.reading import SourceFailed
from migrator.core.errors import Unavailable
from migrator.redacting import logger
from migrator.stores.ledgers import Ledgers, NotDue, Tally

if TYPE_CHECKING:
    from migrator.control.ledgers.reading import Checkpoint, Source
    from migrator.settings import Ledger

_log = logger("migrator.ledgers")

# Longer than any page takes: who is silent for so long in the middle of a turn has died.
LEASE_S: Final = 45.0
_STOP_S: Final = 3.0
_LOOK_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 15.0  # after failures; part of the bound once it answers again
# Due a little after the last turn began: a reader that is early would have to queue.
_MARGIN_S: Final = 0.02
JOB: Final = "ledger:"


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn came to: `why` None: it went well; `is_whole` False: the next goes on."""

    tally: Tally
    is_whole: bool = True
    why: str | None = None


class Poller:
    """One ledger, read turn by turn.

    Args:
        source: what is read.
        ledgers: our side.
    """

    def __init__(self, ledger: Ledger, source: Source, ledgers: Ledgers) -> None:
        self.ledger = ledger
        self.source = source
        self._ledgers = ledgers
        self._name = JOB + ledger.name
        self._every_s = ledger.every.total_seconds()
        self._run_id = secrets.token_hex(8)

    def turn(self, *, at_once: bool = False) -> Turn:
        """Have the turn, if it is due, or `at_once` if only nobody has it.

        Raises:
            NotDue: it is not, or another node has it.
            Unavailable: our database could not be asked.
        """
        run_id = self._run_id
        checkpoint, now = self._ledgers.claim(self._name, run_id, LEASE_S, at_once=at_once)
        tally, why, after = Tally(), None, checkpoint
        try:
            with closing(self.source.turn(self._ledgers, checkpoint, now)) as steps:
                for step in steps:
                    tally.add(step.tally)
                    after = step.checkpoint
                    self._keep(run_id, after, step.tally.read)
        except (Unavailable, NotDue):
            raise
        except SourceFailed as failed:
            why = failed.why
        except Exception as error:  # noqa: BLE001 - whatever a source does, the next turn comes
            why = type(error).__name__
        turn = Turn(tally, is_whole=why is not None or _is_whole(after), why=why)
        every_s = self._every_s if turn.is_whole else 0.0
        detail = {"why": why, "rows": tally.read, "whole": turn.is_whole}
        self._ledgers.leave(self._name, run_id, every_s, tally, detail)
        return turn

    def rehearse(self, ledgers: Ledgers) -> Turn:
        """Read everything and write nothing; `ledgers` rehearses."""
        tally = Tally()
        try:
            with closing(self.source.turn(ledgers, {}, ledgers.now())) as steps:
                for step in steps:
                    tally.add(step.tally)
        except SourceFailed as failed:
            return Turn(tally, why=failed.why)
        return Turn(tally)

    def _keep(self, run_id: str, checkpoint: Checkpoint, read: int) -> None:
        kept = self._ledgers.keep(self._name, run_id, LEASE_S, checkpoint, read)
        if not kept:  # another node has taken over
            raise NotDue(self._every_s)

    def close(self) -> None:
        """Let go of what it reads."""
        self.source.close()
        self._ledgers.close()


def _is_whole(checkpoint: Checkpoint) -> bool:
    """Whether the end was reached: nothing says where to go on."""
    inner = [each for each in checkpoint.values() if isinstance(each, dict)]
    places = [each.get("after") for each in (checkpoint, *inner)]
    return not any(places) and not checkpoint.get("cursor")


class Pollers:
    """The ledgers of one node; their threads live as long as its pulse does.

    Args:
        make: builds one ledger's poller, in the thread that uses it.
        has_legacy: whether the rollout is known and legacy tokens are not retired: with them goes
            what ledgers are for.
    """

    def __init__(
        self,
        ledgers: Sequence[Ledger],
        make: Callable[[Ledger], Poller],
        has_legacy: Callable[[], bool],
    ) -> None:
        self._ledgers = list(ledgers)
        self._make = make
        self._has_legacy = has_legacy
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads: dict[str, threading.Thread] = {}
        self._runs = False

    def start(self) -> None:
        """Start the threads that do not run."""
        with self._lock:
            self._runs = True
            for ledger in self._ledgers:
                self._start(ledger)

    def _start(self, ledger: Ledger) -> None:
        if ledger.name not in self._threads:
            thread = threading.Thread(
                target=self._run,
                args=(ledger, self._stop),
                name=f"migrator-ledger-{ledger.name}",
                daemon=True,
            )
            self._threads[ledger.name] = thread
            thread.start()

    def add(self, ledger: Ledger) -> None:
        """One more, unless there is one of that name."""
        with self._lock:
            if all(one.name != ledger.name for one in self._ledgers):
                self._ledgers.append(ledger)
            if self._runs:
                self._start(ledger)

    def stop(self) -> None:
        """End the threads; `start` begins anew."""
        with self._lock:
            threads = list(self._threads.values())
            self._stop.set()
        for thread in threads:
            thread.join(_STOP_S)
        self._begin()

    def after_fork(self) -> None:
        """Begin anew in a child: the threads are the parent's."""
        self._begin()

    def _run(self, ledger: Ledger, stop: threading.Event) -> None:
        poller: Poller | None = None
        pause_s, faults = 0.0, 0
        while not stop.wait(pause_s):
            began, every_s = time.monotonic(), ledger.every.total_seconds()
            pause_s = every_s
            if not self._has_legacy():
                pause_s = min(every_s, _LOOK_S)
                continue
            try:
                poller = poller or self._make(ledger)
                turn = poller.turn()
                _tell(ledger, turn)
                faults = 0 if turn.why is None else min(faults + 1, 8)
                spent_s = time.monotonic() - began - _MARGIN_S
                pause_s = max(every_s - spent_s, 0.0) if turn.is_whole else 0.0
            except NotDue as due:
                # Behind the one who read last, so that it goes on reading.
                later_s = random.uniform(0.1, 0.3) * every_s  # noqa: S311 - a rhythm, no secret
                pause_s = min(max(due.seconds, 0.0), every_s) + later_s
            except Unavailable as error:
                faults = min(faults + 1, 8)
                _log.warning(
                    "ledger.unwritten",
                    extra={"event": "ledger.unwritten", "ledger": ledger.name, "why": error.why},
                )
            except Exception as error:  # noqa: BLE001 - a thread that dies would go unnoticed
                faults = min(faults + 1, 8)
                _log.warning(
                    "ledger.failed",
                    extra={
                        "event": "ledger.failed",
                        "ledger": ledger.name,
                        "why": getattr(error, "why", type(error).__name__),
                    },
                )
            if faults:
                pause_s = min(every_s * 2**faults, max(_LONGEST_PAUSE_S, every_s))
        if poller is not None:
            with suppress(Exception):
                poller.close()


def _tell(ledger: Ledger, turn: Turn) -> None:
    facts = {"ledger": ledger.name, "denied": turn.tally.denied, "ended": turn.tally.ended}
    if turn.why is not None:
        event = "ledger.failed"
        _log.warning(event, extra={"event": event, "why": turn.why, **facts})
    elif turn.tally.denied or turn.tally.ended or turn.tally.lifted:
        event = "ledger.read"
        _log.info(event, extra={"event": event, **facts})
