"""How far a move has come among the nodes: what whoever waits for it looks at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from migrator.core.errors import Exit

if TYPE_CHECKING:
    from datetime import datetime

    from migrator.control.nodes import Fleet


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged:
    """One look at the nodes after a move."""

    fleet: Fleet
    in_effect_at: datetime | None

    @property
    def is_in_effect(self) -> bool:
        """Whether every living node has said so; not where none lives."""
        return self.in_effect_at is not None

    @property
    def is_settled(self) -> bool:
        """Whether nobody is left to wait for: it is in effect, or no node acts at all."""
        return self.is_in_effect or not (self.fleet.live or self.fleet.rogue)

    @property
    def state(self) -> str:
        """As JSON says it: in_effect, propagating, or committed where no node lives."""
        if self.is_in_effect:
            return "in_effect"
        return "committed" if self.is_settled else "propagating"


def exit_of(seen: Acknowledged | None) -> Exit:
    """How a command ends that waited, or did not: NOT_ACKNOWLEDGED where somebody is missing."""
    return Exit.DONE if seen is None or seen.is_settled else Exit.NOT_ACKNOWLEDGED
