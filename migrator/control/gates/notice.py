"""Gates about those who will be cut off, asked for by settings: brownout-done, notice-given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from migrator.control import notices
from migrator.control.gates.model import Gate
from migrator.control.words import at, counted, span

if TYPE_CHECKING:
    from migrator.control.evidence import Evidence
    from migrator.control.gates.model import Result

_TTL_S = 60


def brownout_done(evidence: Evidence) -> Gate | None:
    """As many brownouts as asked for ran to their end since drain; None: none is asked for."""
    wanted = evidence.settings.gates.brownouts
    if not wanted:
        return None
    done = evidence.brownouts.done_since(evidence.rollout.drain_since, evidence.now)
    numbers = ", ".join(f"#{row.id}" for row in done)
    since = " since drain" if evidence.rollout.drain_since else ": drain was not entered yet"
    detail = f"{counted(len(done), 'brownout')} ran to the end{since}"
    return Gate(
        id="brownout-done",
        result="pass" if len(done) >= wanted else "fail",
        value=len(done),
        threshold=wanted,
        as_of=max((row.over_at for row in done), default=None),
        ttl_s=_TTL_S,
        overridable=True,
        detail=f"{detail}: {numbers}" if numbers else detail,
        command="migrator brownout schedule --from TIME --for 15m --percent 10",
    )


def notice_given(evidence: Evidence) -> Gate | None:
    """The end was announced long enough ago; None: no notice is asked for."""
    wanted = evidence.settings.gates.notice
    if wanted is None:
        return None
    result, detail = _judged(evidence)
    told = notices.given_since(evidence.brownouts.notices)
    return Gate(
        id="notice-given",
        result=result,
        value=None if told is None else span(evidence.now - told),
        threshold=span(wanted),
        as_of=told,
        ttl_s=_TTL_S,
        overridable=True,
        detail=detail,
        command="migrator advance drain --sunset TIME",
    )


def _judged(evidence: Evidence) -> tuple[Result, str]:
    wanted, announced = evidence.settings.gates.notice, evidence.brownouts.notices
    told = notices.given_since(announced)
    if told is None or wanted is None or evidence.rollout.sunset_at is None:
        return "fail", "no end was announced: Sunset is not a date that somebody set"
    # Nobody was told before the drain was in effect, whatever had been written.
    stop = evidence.horizon.stop
    if stop.at is None:
        return "inconclusive", f"since when clients were told is not known: {stop.why}"
    since = max(told, stop.at)
    out = evidence.now - since
    end = at(announced[-1].sunset_at)
    if out < wanted:
        return "fail", f"{end} was announced {span(out)} ago, {span(wanted)} is asked for"
    early = evidence.now < announced[-1].sunset_at
    ahead = "; that end is still to come" if early else ""
    return "pass", f"{end} was announced {span(out)} ago{ahead}"
