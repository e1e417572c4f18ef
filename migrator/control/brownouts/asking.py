"""Which brownouts may be scheduled: decided from what stands; nothing is read or written here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from migrator.control.words import at, span
from migrator.core.brownouts import Brownout, Limits, overlap
from migrator.core.errors import Exit, Problem, Stopped
from migrator.core.phases import Phase

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from migrator.control.brownouts.rows import Row
    from migrator.control.rollout import Segment
    from migrator.core.phases import Rollout

MOST = timedelta(hours=24)
# What is typed takes a moment; further back is a slip of the pen.
_SLACK = timedelta(minutes=1)
_FROM_HERE = frozenset({Phase.OBSERVE, Phase.SWAP, Phase.DRAIN})


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What an operator asks for.

    Args:
        start: None: now.
        until, lasting: its end, or its length.
        segment: None: everybody who still presents legacy tokens.
        unseen: its client may be one that nobody saw.
    """

    start: datetime | None
    until: datetime | None = None
    lasting: timedelta | None = None
    segment: Segment | None = None
    unseen: bool = False
    percent: int = 100
    limits: Limits

    def window(self, now: datetime) -> Brownout:
        """The window it comes to."""
        start = now if self.start is None else self.start
        end = self.until if self.lasting is None else start + self.lasting
        return Brownout(
            id=0,
            starts_at=start,
            ends_at=start if end is None else end,
            by=None if self.segment is None else self.segment.by,
            value="" if self.segment is None else self.segment.value,
            percent=self.percent,
        )


def require(
    window: Brownout,
    rollout: Rollout,
    there: Sequence[Row],
    now: datetime,
    *,
    announced: datetime | None,
) -> None:
    """See that this window may be scheduled.

    Args:
        there: those on record that are still ahead.
        announced: the end that an operator announced, if one did.

    Raises:
        Stopped: GATE_FAILED, with the page that says why not; IRREVERSIBLE once retired.
    """
    if rollout.phase is Phase.RETIRED:
        raise Stopped(_RETIRED, Exit.IRREVERSIBLE)
    for problem in _problems(window, rollout, there, now, announced):
        raise Stopped(problem, Exit.GATE_FAILED)


def _problems(
    window: Brownout,
    rollout: Rollout,
    there: Sequence[Row],
    now: datetime,
    announced: datetime | None,
) -> Iterator[Problem]:
    lasts = window.ends_at - window.starts_at
    if rollout.phase not in _FROM_HERE:
        yield _CUT_OVER
    if window.starts_at < now - _SLACK or window.ends_at <= now:
        yield _past(window, now)
    if lasts <= timedelta():
        yield _backwards(window)
    if lasts > MOST:
        yield _too_long(lasts)
    for row in there:
        if overlap(window, row.window):
            yield _overlapping(row)
    if announced is not None and window.ends_at > announced:
        yield _after_sunset(window, announced)


def warnings(rollout: Rollout, window: Brownout) -> list[str]:
    """Why it may not do what it seems to, although it may be scheduled."""
    said = []
    if rollout.phase is not Phase.DRAIN:
        said.append(
            f"the phase is {rollout.phase}: a brownout takes effect in drain alone, so this one "
            "does nothing unless drain is entered before"
        )
    if window.percent >= 100 and window.by is None:
        said.append("it is for everybody: a smaller percent first teaches as much")
    return said


# ---- refusals ----------------------------------------------------------------------------------

_RETIRED = Problem(
    id="brownout.retired",
    what="this rollout is retired",
    why="no legacy token is read any more",
    do="migrator brownout list",
)

_CUT_OVER = Problem(
    id="brownout.cut_over",
    what="everybody is cut over already",
    why="a brownout refuses for a while what a cutover refuses for good",
    do="migrator status",
)


def _past(window: Brownout, now: datetime) -> Problem:
    return Problem(
        id="brownout.past",
        what=f"from {at(window.starts_at)} to {at(window.ends_at)}, and it is {at(now)}",
        why="what is past can be announced to nobody",
        do="migrator brownout schedule --from TIME --for 15m, with a TIME to come, or --from now",
    )


def _backwards(window: Brownout) -> Problem:
    return Problem(
        id="brownout.empty",
        what=f"it would end at {at(window.ends_at)} and begin at {at(window.starts_at)}",
        why="what ends before it begins refuses nobody",
        do="migrator brownout schedule --from TIME --for 15m",
    )


def _too_long(lasts: timedelta) -> Problem:
    return Problem(
        id="brownout.too_long",
        what=f"{span(lasts)} is no brownout: {span(MOST)} is the most",
        why="who is refused for days is cut over, without the gates of a cutover",
        do="migrator brownout schedule with a shorter --for; or migrator gates cutover",
    )


def _overlapping(row: Row) -> Problem:
    return Problem(
        id="brownout.overlap",
        what=f"brownout {row.id} is for the same segment, {at(row.starts_at)} to "
        f"{at(row.ends_at)}",
        why="what each of two at once taught could not be told apart",
        do=f"migrator brownout cancel {row.id}, or another time",
    )


def _after_sunset(window: Brownout, announced: datetime) -> Problem:
    return Problem(
        id="brownout.after_sunset",
        what=f"it would end at {at(window.ends_at)}, and clients are told that {at(announced)} "
        "is the end",
        why="Sunset is what clients plan by: nothing is tried out after it",
        do="migrator advance drain --sunset TIME moves the end, or choose an earlier window",
    )
