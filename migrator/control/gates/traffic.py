"""Gates about who still comes: legacy-seen, foreign-seen, no-exceptions.

Silence proves something only while somebody listens: without a node heard lately the evidence is
stale, and a window longer than anybody watched is inconclusive.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from migrator.control.census import Census
from migrator.control.gates.model import Gate
from migrator.control.outcomes import ADMITTED, DEAD, FOREIGN
from migrator.control.words import counted, span
from migrator.core.comparing import PAIR

if TYPE_CHECKING:
    from datetime import datetime

    from migrator.control.census import Line
    from migrator.control.evidence import Evidence
    from migrator.control.gates.model import Result

# Nodes write usage every second.
_HEARD_WITHIN = timedelta(seconds=30)


def legacy_seen(evidence: Evidence) -> Gate:
    """No legacy token was seen for as long as it has to be quiet."""
    since = evidence.now - evidence.quiet
    seen = living(evidence, since)
    lines = [
        line
        for line in evidence.usage or ()
        if line.outcome in ADMITTED
        and _is_within(line, since)
        and evidence.scope.concerns(line.issuer, line.client)
    ]
    if seen.subjects:
        subjects = counted(seen.subjects, "subject")
        detail = f"{subjects} within {span(evidence.quiet)}: {seen.clients}"
    elif lines:
        known = sorted(lines, key=lambda line: not line.client)
        clients = list(dict.fromkeys(line.client or "unknown client" for line in known))
        named = " · ".join(clients[:4])
        detail = f"within {span(evidence.quiet)}: {named}"
    else:
        detail = ""
    return _quiet(
        evidence,
        "legacy-seen",
        detail,
        quiet=evidence.quiet,
        value=seen.subjects,
        command="migrator status --detail",
    )


def foreign_seen(evidence: Evidence) -> Gate:
    """No bearer credential was seen that is neither ours nor a configured issuer's."""
    quiet = evidence.settings.gates.foreign_quiet
    since = evidence.now - quiet
    lines = [
        line
        for line in evidence.usage or ()
        if line.outcome == FOREIGN and _is_within(line, since)
    ]
    detail = (
        f"seen within {span(quiet)}: a forgotten issuer looks like this; "
        "if it is not, name it under [[foreign]]"
        if lines
        else ""
    )
    count = sum(line.day for line in lines)
    return _quiet(
        evidence,
        "foreign-seen",
        detail,
        quiet=quiet,
        value=count,
        command="migrator status --detail",
    )


def no_exceptions(evidence: Evidence) -> Gate:
    """Nobody stands in another phase than the rest."""
    there = evidence.rollout.exceptions
    listed = ", ".join(f"{one.by}={one.value} in {one.phase}" for one in there)
    return Gate(
        id="no-exceptions",
        result="fail" if there else "pass",
        value=len(there),
        threshold=0,
        as_of=evidence.now,
        ttl_s=60,
        overridable=False,
        detail=listed or "everybody stands in the same phase",
        command="migrator cutover --all",
    )


def living(evidence: Evidence, since: datetime) -> Census:
    """Who was seen, without those whose tokens were refused for good already."""
    seen = evidence.seen or Census(subjects=0, groups=())
    answers: dict[tuple[str, str], set[str]] = {}
    for line in evidence.usage or ():
        if _is_within(line, since) and not line.outcome.startswith(PAIR):
            answers.setdefault((line.issuer, line.client), set()).add(line.outcome)
    groups = tuple(
        group for group in seen.groups if not _only_dead(answers.get((group.issuer, group.client)))
    )
    if len(groups) == len(seen.groups):
        return seen
    return Census(subjects=sum(group.subjects for group in groups), groups=groups)


def _only_dead(outcomes: set[str] | None) -> bool:
    return bool(outcomes) and outcomes is not None and outcomes <= DEAD


def _is_within(line: Line, since: datetime) -> bool:
    return line.last_at is not None and line.last_at > since


def _quiet(
    evidence: Evidence, gate: str, detail: str, *, quiet: timedelta, value: int, command: str
) -> Gate:
    heard = evidence.fleet.heard_at
    watched = evidence.watching_since
    result: Result = "pass"
    if detail:
        result = "fail"
    elif evidence.is_contracted:
        detail = "the rollout is retired"
    elif heard is None:
        result, detail = "inconclusive", "no node was ever there to see one"
    elif evidence.now - heard > _HEARD_WITHIN:
        result, detail = "stale", f"no node was heard for {span(evidence.now - heard)}"
    elif watched is not None and watched > evidence.now - quiet:
        result = "inconclusive"
        detail = f"none seen, but watched for {span(evidence.now - watched)} of {span(quiet)} only"
    else:
        detail = f"none for {span(quiet)}"
    return Gate(
        id=gate,
        result=result,
        value=value,
        threshold=f"0 in {span(quiet)}",
        as_of=heard,
        ttl_s=int(_HEARD_WITHIN.total_seconds()),
        overridable=True,
        detail=detail,
        command=command,
    )
