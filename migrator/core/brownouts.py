"""Brownouts: windows in which some legacy tokens are refused as all will be after the cutover.

What must live here: whom a window covers, when it is open, and what would end it early. It knows
nothing of phases: a window only ever bites where a credential's own phase is `drain`, and that is
phases.py's to say, so the way back to `swap` ends its effect at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from migrator.core.sign_ins import too_many

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta

By: TypeAlias = Literal["issuer", "client", "cohort"]

_HUNDRED = 100
# Prime to 100, so that successive brownouts meet different people first.
_STRIDE = 37


def covers(by: By, value: str, *, issuer: str | None, client: str | None, bucket: int) -> bool:
    """Whether a credential of these is in the segment `by` = `value`."""
    match by:
        case "issuer":
            return issuer == value
        case "client":  # `acme-ios` covers each of its versions, `acme-ios/7.2` that one
            return client is not None and value in {client, client.partition("/")[0]}
        case "cohort":  # pragma: no branch - mypy proves that there is no other
            return bucket < int(value)


@dataclass(frozen=True, slots=True)
class Brownout:
    """One window of the rollout row. `by` None: everybody. `percent` is of the segment."""

    id: int
    starts_at: datetime
    ends_at: datetime
    by: By | None = None
    value: str = ""
    percent: int = _HUNDRED

    def is_open(self, now: datetime) -> bool:
        """Whether its window is open at `now`: it begins with `starts_at`, and ends before."""
        return self.starts_at <= now < self.ends_at

    def includes(self, bucket: int) -> bool:
        """Whether a subject of `bucket` is in its share, which turns from brownout to brownout.

        What could not be verified has no bucket of its own, and is in no share but the whole.
        """
        if self.percent >= _HUNDRED:
            return True
        return 0 <= bucket < _HUNDRED and (bucket + _STRIDE * self.id) % _HUNDRED < self.percent

    def covers(self, *, issuer: str | None, client: str | None, bucket: int) -> bool:
        """Whether a credential of these is refused while it is open."""
        if not self.includes(bucket):
            return False
        return self.by is None or covers(
            self.by, self.value, issuer=issuer, client=client, bucket=bucket
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Beyond which a brownout ends itself; None: not watched.

    Args:
        sign_ins: how many times as many logins a minute as in the day before.
        subjects: how many people it may refuse.
    """

    sign_ins: float | None = None
    subjects: int | None = None

    @classmethod
    def of(cls, found: Mapping[str, object]) -> Limits:
        """What a row says."""
        sign_ins, subjects = found.get("sign_ins"), found.get("subjects")
        return cls(
            sign_ins=float(sign_ins) if isinstance(sign_ins, int | float) else None,
            subjects=subjects if isinstance(subjects, int) else None,
        )

    def as_json(self) -> dict[str, object]:
        """The same, for a row."""
        return {"sign_ins": self.sign_ins, "subjects": self.subjects}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """What was counted since a window began, and a minute of the day before.

    Args:
        minutes: how long it has been open.
        sign_ins: logins since then.
        baseline: logins a minute before; None: too little was counted to say.
        subjects: whom it has refused.
    """

    minutes: float
    sign_ins: int
    baseline: float | None
    subjects: int


def breach(limits: Limits, measure: Measure) -> str | None:
    """Why a brownout has to end now, for the journal; None while it may go on."""
    if limits.subjects is not None and measure.subjects > limits.subjects:
        return f"it refused {measure.subjects} subjects, and {limits.subjects} was the limit"
    if limits.sign_ins is None:
        return None
    rate = too_many(
        measure.sign_ins, measure.minutes, factor=limits.sign_ins, baseline=measure.baseline
    )
    if rate is None:
        return None
    return (
        f"{rate:.1f} sign-ins a minute, over {limits.sign_ins:g} times the "
        f"{measure.baseline:.1f} of the day before"
    )


def overlap(one: Brownout, other: Brownout) -> bool:
    """Whether two windows meet on the same segment: what each taught could not be told apart."""
    same = (one.by, one.value) == (other.by, other.value)
    return same and one.starts_at < other.ends_at and other.starts_at < one.ends_at


def length(one: Brownout) -> timedelta:
    """How long a window is."""
    return one.ends_at - one.starts_at
