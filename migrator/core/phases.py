"""THE table: what each phase does with a legacy token, and which moves are legal.

Everything that says where a rollout stands reads this file: the gate, the CLI, the playbooks'
tests. It knows nothing of requests, stores or commands.

    observe ⇄ swap ⇄ drain ⇄ cutover → retired

Two orders are kept by the neighbour rule alone, and are why it may not be relaxed:
accept before emit (a session is admitted in every phase, so in each one before any hands it out),
and stop emitting before stop accepting (`drain` issues no legacy token, `cutover` accepts none).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, TypeAlias

from migrator.core.brownouts import Brownout, By, covers

if TYPE_CHECKING:
    from datetime import datetime


class Phase(StrEnum):
    """Where a rollout stands, in order."""

    OBSERVE = "observe"
    SWAP = "swap"
    DRAIN = "drain"
    CUTOVER = "cutover"
    RETIRED = "retired"


ORDER = tuple(Phase)

Reading: TypeAlias = Literal["shadow", "verify", "verify_then_refuse", "unread"]
Share: TypeAlias = Literal["none", "cohort", "all"]


@dataclass(frozen=True, slots=True)
class Rule:
    """What a phase does.

    legacy: how a legacy token is treated; in "shadow" the app decides.
    swap: whose legacy tokens become sessions.
    issue: who gets a session at login and refresh; everybody else gets what the app issues.
    notice: whether answers to legacy tokens carry Deprecation and Sunset.
    """

    legacy: Reading
    swap: Share
    issue: Share
    notice: bool = False


RULES: dict[Phase, Rule] = {
    Phase.OBSERVE: Rule(legacy="shadow", swap="none", issue="none"),
    Phase.SWAP: Rule(legacy="verify", swap="cohort", issue="cohort"),
    Phase.DRAIN: Rule(legacy="verify", swap="all", issue="all", notice=True),
    Phase.CUTOVER: Rule(legacy="verify_then_refuse", swap="none", issue="all"),
    Phase.RETIRED: Rule(legacy="unread", swap="none", issue="all"),
}


def next_of(phase: Phase) -> Phase | None:
    """The phase a move forward leads to, None from the last."""
    return None if phase is Phase.RETIRED else ORDER[ORDER.index(phase) + 1]


def back_of(phase: Phase) -> Phase | None:
    """The phase a rollback leads to; None from the first, and from the one without return."""
    return None if phase in {Phase.OBSERVE, Phase.RETIRED} else ORDER[ORDER.index(phase) - 1]


def is_legal(source: Phase, target: Phase) -> bool:
    """Moves go to the neighbour, and never away from `retired`."""
    return target in {next_of(source), back_of(source)}


def bucket_of(subject: str, realm: str) -> int:
    """The sticky hundredth, 0 to 99, that a subject belongs to on every node and for ever."""
    seen = hashlib.sha256(f"{realm}\0{subject}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(seen[:8], "big") % 100


@dataclass(frozen=True, slots=True)
class Exemption:
    """A segment that stands in another phase than the rest: an `exception` of the rollout row.

    For `by="cohort"`, `value` is a percentage and the segment is the subjects below it.
    """

    by: By
    value: str
    phase: Phase

    def covers(self, *, issuer: str | None, client: str | None, bucket: int) -> bool:
        """Whether a credential of these is in the segment."""
        return covers(self.by, self.value, issuer=issuer, client=client, bucket=bucket)


@dataclass(frozen=True, slots=True)
class Rollout:
    """The one row that says where everybody stands, under one epoch.

    Args:
        brownouts: the windows to come, and those under way.
        open: which of them are open, as of the moment it was asked `at`.
        soak_until: until when the last move may still be taken back by itself.
    """

    phase: Phase
    epoch: int
    percent: int
    since: datetime
    exceptions: tuple[Exemption, ...] = ()
    drain_since: datetime | None = None
    sunset_at: datetime | None = None
    brownouts: tuple[Brownout, ...] = ()
    open: tuple[Brownout, ...] = ()
    soak_until: datetime | None = None

    def at(self, now: datetime) -> Rollout:
        """The same with the windows that are open at `now`."""
        opened = tuple(one for one in self.brownouts if one.is_open(now))
        return self if opened == self.open else replace(self, open=opened)

    def edge_after(self, now: datetime) -> datetime | None:
        """When the next window opens or closes; None: no window does any more."""
        edges = (edge for one in self.brownouts for edge in (one.starts_at, one.ends_at))
        return min((edge for edge in edges if edge > now), default=None)

    def phase_for(self, *, issuer: str | None, client: str | None, bucket: int) -> Phase:
        """The phase of one credential: the first exception that covers it, else the default.

        An open brownout turns `drain` into `cutover`, and nothing else into anything.
        """
        if self.brownout_of(issuer=issuer, client=client, bucket=bucket) is not None:
            return Phase.CUTOVER
        return self._own_phase(issuer=issuer, client=client, bucket=bucket)

    def brownout_of(
        self, *, issuer: str | None, client: str | None, bucket: int
    ) -> Brownout | None:
        """The open window by which a credential of these is refused, if that is why it is."""
        for one in self.open:
            if one.covers(issuer=issuer, client=client, bucket=bucket):
                own = self._own_phase(issuer=issuer, client=client, bucket=bucket)
                return one if own is Phase.DRAIN else None
        return None

    def _own_phase(self, *, issuer: str | None, client: str | None, bucket: int) -> Phase:
        if self.phase is Phase.RETIRED:
            return Phase.RETIRED
        for exception in self.exceptions:
            if exception.covers(issuer=issuer, client=client, bucket=bucket):
                return exception.phase
        return self.phase

    def is_over_for(self, *, client: str | None, bucket: int) -> bool:
        """Whether a subject's legacy tokens are refused for good, whichever issuer they are of.

        A brownout is not: by this old cookies are taken away, and no end of a window gives them
        back.
        """
        if self.phase is Phase.RETIRED:
            return True
        for exception in self.exceptions:
            is_over = _refuses(exception.phase)
            if exception.by == "issuer":
                if not is_over:
                    return False
            elif exception.covers(issuer=None, client=client, bucket=bucket):
                return is_over
        return _refuses(self.phase)

    def includes(self, share: Share, bucket: int) -> bool:
        """Whether a subject of `bucket` is within `share` of this rollout."""
        return share == "all" or (share == "cohort" and bucket < self.percent)


def _refuses(phase: Phase) -> bool:
    return RULES[phase].legacy in {"verify_then_refuse", "unread"}
