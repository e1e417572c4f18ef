"""Every ledger read once, now, by a command: what came of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from migrator.control.ledgers.building import ours, poller_of
from migrator.control.ledgers.reading import SourceFailed
from migrator.stores.ledgers import NotDue, Tally

if TYPE_CHECKING:
    from migrator.core.interfaces import Cache
    from migrator.settings import Ledger, Settings

_ELSEWHERE: Final = "a node is reading it at this moment"


@dataclass(frozen=True, slots=True)
class Polled:
    """One ledger, and what its reading came to; with `why` it was not read."""

    ledger: Ledger
    tally: Tally
    why: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The ledger as `migrator.ledgers/1` has it."""
        tally = self.tally
        return {
            "name": self.ledger.name,
            "kind": self.ledger.kind,
            "read": tally.read,
            "denied": tally.denied,
            "ended": tally.ended,
            "lifted": tally.lifted,
            "why": self.why,
        }


def poll(settings: Settings, cache: Cache, *, dry_run: bool) -> list[Polled]:
    """Read every ledger of the settings to its end, whether it is due or not.

    Raises:
        Unavailable: our database could not be asked; run it again.
    """
    return [_polled(settings, ledger, cache, dry_run=dry_run) for ledger in settings.ledgers]


def _polled(settings: Settings, ledger: Ledger, cache: Cache, *, dry_run: bool) -> Polled:
    try:
        poller = poller_of(settings, ledger, cache)
    except SourceFailed as failed:
        return Polled(ledger, Tally(), failed.why)
    tally = Tally()
    try:
        if dry_run:
            turn = poller.rehearse(ours(settings, cache, rehearses=True))
            return Polled(ledger, turn.tally, turn.why)
        while True:
            turn = poller.turn(at_once=True)
            tally.add(turn.tally)
            if turn.is_whole:
                return Polled(ledger, tally, turn.why)
    except NotDue:
        return Polled(ledger, tally, _ELSEWHERE)
    finally:
        poller.close()
