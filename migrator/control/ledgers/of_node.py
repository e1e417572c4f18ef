"""All ledgers of one node: from its settings, and those that the app joins; see `Companion`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from migrator.control.ledgers.building import poller_of
from migrator.control.ledgers.poller import Poller, Pollers
from migrator.core.phases import Phase
from migrator.settings import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable

    from migrator.control.ledgers.callback import Asked
    from migrator.core.flow import Node
    from migrator.core.interfaces import Cache
    from migrator.settings import Settings


class LedgersOfNode:
    """Polls while the pulse beats; a callback is polled once the app has handed it over.

    Args:
        make_cache: a blocking cache, for the tombstones of what is ended.
    """

    def __init__(self, settings: Settings, node: Node, make_cache: Callable[[], Cache]) -> None:
        self._settings = settings
        self._node = node
        self._make_cache = make_cache
        self._asked: dict[str, Asked] = {}
        polled = [each for each in settings.ledgers if each.kind != "callback" or each.call]
        self._polled = polled
        self._pollers = Pollers(polled, self._make, self._has_legacy)

    def ask(self, asked: Asked, issuer: str | None) -> None:
        """Poll a function of the app, from now on or from the pulse's start on."""
        ids = [one.id for one in self._settings.issuers]
        if issuer is None and len(ids) == 1:
            issuer = ids[0]
        if issuer not in ids:
            raise ValueError("name the issuer whose tokens it knows by its id in [[issuers]]")
        ledger = next(
            (
                each
                for each in self._settings.ledgers
                if each.kind == "callback" and each.issuer == issuer
            ),
            Ledger(kind="callback", name=f"callback-{issuer}", issuer=issuer),
        )
        self._asked[ledger.name] = asked
        self._polled = [*self._polled, ledger]
        self._pollers.add(ledger)

    def learns_within_s(self) -> float:
        """How long after a ledger named a token it is denied here too; 0: there is no ledger."""
        slowest = max((each.every.total_seconds() for each in self._polled), default=0.0)
        return 2 * slowest  # another node may have read just before

    def start(self) -> None:
        """See `Companion.start`."""
        self._pollers.start()

    def stop(self) -> None:
        """See `Companion.stop`."""
        self._pollers.stop()

    def after_fork(self) -> None:
        """See `Companion.after_fork`."""
        self._pollers.after_fork()

    def _make(self, ledger: Ledger) -> Poller:
        asked = self._asked.get(ledger.name)
        return poller_of(self._settings, ledger, self._make_cache(), asked=asked)

    def _has_legacy(self) -> bool:
        rollout = self._node.rollout
        return rollout is not None and rollout.phase is not Phase.RETIRED
