"""A verified legacy token as it is about to be asked for: what the phase makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from migrator.core.phases import RULES
from migrator.core.verdicts import Notice

if TYPE_CHECKING:
    from datetime import datetime

    from migrator.core.claims import Claims
    from migrator.core.phases import Rollout, Rule
    from migrator.core.recent import Mark

# A node issues legacy tokens until it has read of the drain; by then it has, or holds no lease.
_DRAIN_TAKES = timedelta(seconds=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One legacy token under one phase.

    Args:
        swaps: the phase gives it a session; opens: and its subject may have another one now.
        edge: when the phase may say otherwise; memory of the verdict ends there.
    """

    claims: Claims
    client: str | None
    bucket: int
    rule: Rule
    rollout: Rollout
    swaps: bool
    opens: bool
    edge: datetime
    mark: Mark

    def may_open_elsewhere(self) -> bool:
        """Whether it gets a session from another place or client, or where more are opened."""
        everywhere = {self.rollout.phase, *(each.phase for each in self.rollout.exceptions)}
        return any(self.rollout.includes(RULES[phase].swap, self.bucket) for phase in everywhere)

    def is_late(self) -> bool:
        """Whether it was issued after the drain took effect, by a signer that we do not see."""
        since, iat = self.rollout.drain_since, self.claims.iat
        if not self.rule.notice or since is None or iat is None:
            return False
        return iat > since + _DRAIN_TAKES

    def notice(self) -> Notice | None:
        """What its client is told of the end."""
        if not self.rule.notice or self.rollout.drain_since is None:
            return None
        return Notice(deprecated_at=self.rollout.drain_since, sunset_at=self.rollout.sunset_at)
