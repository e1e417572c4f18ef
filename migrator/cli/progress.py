"""What is said while a move is under way: gates that hold it up, the commit, the nodes."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from migrator.control import outcome
from migrator.control.words import span

if TYPE_CHECKING:
    from migrator.cli.context import Context
    from migrator.control.acknowledged import Acknowledged
    from migrator.core.phases import Rollout


def committed(context: Context, after: Rollout, *, back: bool = False) -> None:
    """Say that it is done for good, and what undoes it; of a way `back`, what waits for it."""
    context.note_committed(outcome.interrupted(after, back=back))
    then = outcome.next_of_committed(after, back=back)
    context.talk(f"✓ {_clock()} committed epoch {after.epoch}   ← {then}")


class Waiting:
    """Says how far the nodes are, whenever they have come further."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._epoch = -1
        self._since = 0.0
        self._said = 0
        self._done = False

    def __call__(self, seen: Acknowledged) -> None:
        """Take one look."""
        fleet = seen.fleet
        if fleet.epoch != self._epoch:  # a drill waits for two
            self._epoch, self._since, self._said, self._done = (
                *(fleet.epoch, time.monotonic(), 0),
                False,
            )
        acked = len(fleet.live) - len(fleet.waiting)
        took = span(timedelta(seconds=round(time.monotonic() - self._since, 1)))
        if acked > self._said:
            self._said = acked
            self._context.talk(f"  acks {acked}/{len(fleet.live)} in {took}")
        if seen.is_in_effect and fleet.live and not self._done:
            self._done = True
            self._context.talk(f"✓ {_clock()} in effect")


class Gating:
    """Says which gates hold a move up, whenever that changes."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._said: list[str] = []

    def __call__(self, gates: tuple[Any, ...]) -> None:
        """Take one look."""
        holding = [gate.id for gate in gates if gate.blocks]
        if holding != self._said:
            self._said = holding
            self._context.talk(f"  waiting for {', '.join(holding)}")


def _clock() -> str:
    return datetime.now(UTC).strftime("%H:%M:%S.%f")[:-3]
