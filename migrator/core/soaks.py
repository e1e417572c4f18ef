"""A soak: for how long after a move, and by what, it is taken back by itself.

The shape here is the contract between whoever makes a move (it writes the soak in the same
transaction) and the nodes, which measure and go back. It belongs to no terminal: whoever made the
move may be gone. Nothing here measures, reads or writes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from migrator.core.phases import Exemption, Phase
from migrator.core.sign_ins import too_many

if TYPE_CHECKING:
    from collections.abc import Mapping

    from migrator.core.phases import Rollout

_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Back:
    """What would stand again."""

    phase: Phase
    percent: int
    exceptions: tuple[Exemption, ...] = ()
    drain_since: datetime | None = None
    sunset_at: datetime | None = None

    @classmethod
    def to(cls, rollout: Rollout) -> Back:
        """The way back to where `rollout` stands."""
        return cls(
            phase=rollout.phase,
            percent=rollout.percent,
            exceptions=rollout.exceptions,
            drain_since=rollout.drain_since,
            sunset_at=rollout.sunset_at,
        )

    def as_json(self) -> dict[str, Any]:
        """As the column has it."""
        return {
            "phase": self.phase.value,
            "percent": self.percent,
            "exceptions": [
                {"by": one.by, "value": one.value, "phase": one.phase.value}
                for one in self.exceptions
            ],
            "drain_since": _written(self.drain_since),
            "sunset_at": _written(self.sunset_at),
        }

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Back:
        """Read from what `as_json` wrote."""
        return cls(
            phase=Phase(found["phase"]),
            percent=found["percent"],
            exceptions=tuple(
                Exemption(by=one["by"], value=str(one["value"]), phase=Phase(one["phase"]))
                for one in found["exceptions"]
            ),
            drain_since=_read(found["drain_since"]),
            sunset_at=_read(found["sunset_at"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """What was counted of a soak.

    Args:
        at: until when, by the database's clock.
        sign_ins: how many logged in since the soak began.
    """

    at: datetime
    sign_ins: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Soak:
    """The column `rollout.soak`.

    Args:
        since, until: while it lasts.
        sign_ins: how many times as many sign-ins as before are too many.
        baseline_per_min: sign-ins a minute before the move; None: not known, and nothing can be
            compared.
        epoch: of the move that it watches.
        back: what would stand again.
    """

    since: datetime
    until: datetime
    sign_ins: float
    baseline_per_min: float | None
    epoch: int
    back: Back = field(repr=False)

    def lasts(self, now: datetime, *, epoch: int) -> bool:
        """Whether it still watches at `now` under `epoch`."""
        return self.epoch == epoch and self.since <= now < self.until

    def breach(self, measure: Measure) -> str | None:
        """Why the move has to be taken back, None while it need not."""
        if measure.at >= self.until:
            return None
        minutes, usual = (measure.at - self.since) / _MINUTE, self.baseline_per_min
        rate = too_many(measure.sign_ins, minutes, factor=self.sign_ins, baseline=usual)
        if rate is None:
            return None
        return (
            f"{rate:.1f} sign-ins a minute, {self.baseline_per_min:.1f} before: "
            f"more than {self.sign_ins:g} times as many"
        )

    def as_json(self) -> dict[str, Any]:
        """As the column has it."""
        return {
            "since": _written(self.since),
            "until": _written(self.until),
            "sign_ins": self.sign_ins,
            "baseline_per_min": self.baseline_per_min,
            "epoch": self.epoch,
            "back": self.back.as_json(),
        }

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Soak:
        """Read from what `as_json` wrote."""
        return cls(
            since=datetime.fromisoformat(found["since"]),
            until=datetime.fromisoformat(found["until"]),
            sign_ins=found["sign_ins"],
            baseline_per_min=found["baseline_per_min"],
            epoch=found["epoch"],
            back=Back.of(found["back"]),
        )


def _written(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat()


def _read(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
