"""Gates about what is issued and still out.

swap-complete, issuing-routes, issuance-stopped, drain-horizon.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from migrator.control.gates.model import Gate
from migrator.control.words import at, counted, span
from migrator.core.phases import ORDER, Phase

if TYPE_CHECKING:
    from migrator.control.evidence import Evidence
    from migrator.control.gates.model import Result

# Usage is written by the second and dated when it is written, so what was issued just before the
# drain took effect may carry a moment just after.
_FLUSHED_LATE = timedelta(seconds=10)
# A route that is still used by anybody is used within an hour; later ones show as `late`.
_ROUTES_QUIET = timedelta(hours=1)
_MOST_NAMED = 3
ISSUES_LEGACY = "route:issues_legacy"


def swap_complete(evidence: Evidence) -> Gate:
    """Everybody is in the cohort."""
    rollout = evidence.rollout
    done = rollout.percent == 100 and ORDER.index(rollout.phase) >= ORDER.index(Phase.SWAP)
    return Gate(
        id="swap-complete",
        result="pass" if done else "fail",
        value=rollout.percent,
        threshold=100,
        as_of=evidence.now,
        ttl_s=60,
        overridable=False,
        detail=f"{rollout.phase} at {rollout.percent} %",
        command="migrator advance swap --percent 100",
    )


def issuing_routes(evidence: Evidence) -> Gate | None:
    """No route that the bridge does not rewrite answers with an issuer's JWT; None: no bridge."""
    if evidence.settings.bridge is None:
        return None
    lines = [line for line in evidence.usage or () if line.outcome == ISSUES_LEGACY]
    recent = [
        line
        for line in lines
        if line.last_at is not None and evidence.now - line.last_at < _ROUTES_QUIET
    ]
    named = ", ".join(sorted({line.client for line in recent})[:_MOST_NAMED])
    return Gate(
        id="issuing-routes",
        result="fail" if recent else "pass",
        value=len(recent),
        threshold=0,
        as_of=evidence.fleet.heard_at,
        ttl_s=30,
        overridable=True,
        detail=f"answers with JWTs of an issuer: {named}"
        if named
        else f"no other route than those of [routes] issued one for {span(_ROUTES_QUIET)}",
        command="migrator doctor",
    )


def issuance_stopped(evidence: Evidence) -> Gate:
    """No legacy token was issued since the drain took effect."""
    stop = evidence.horizon.stop
    result, detail = _judge_issuing(evidence)
    return Gate(
        id="issuance-stopped",
        result=result,
        value=None if stop.at is None else f"stopped {at(stop.at)}",
        threshold="none issued since",
        as_of=evidence.fleet.heard_at,
        ttl_s=30,
        overridable=False,
        detail=detail,
        command="migrator nodes",
    )


def _judge_issuing(evidence: Evidence) -> tuple[Result, str]:
    stop = evidence.horizon.stop
    if stop.at is None:
        return "fail", stop.why or "issuing has not stopped"
    for node in evidence.fleet.nodes:
        if node.last_jwt_issued_at is not None and node.last_jwt_issued_at > stop.at:
            return "fail", f"node {node.id} issued one at {at(node.last_jwt_issued_at)}"
    for line in evidence.usage or ():
        late = line.last_at is not None and line.last_at > stop.at + _FLUSHED_LATE
        if late and line.outcome == "issued:legacy":
            return "fail", f"nodes counted one issued at about {at(line.last_at)}"
        if late and line.outcome == "late":
            name = evidence.settings_name(line.issuer)
            return "fail", f"issuer {name} goes on: one of its was seen at {at(line.last_at)}"
    for issuer, iat in evidence.late_iats:
        name = evidence.settings_name(issuer)
        return "fail", f"issuer {name} signed one at {at(iat)}: a signer we do not see goes on"
    return "pass", f"none since {at(stop.at)}"


def drain_horizon(evidence: Evidence) -> Gate:
    """No legacy token can be good any more."""
    result, detail = _judge_horizon(evidence)
    found = evidence.horizon
    return Gate(
        id="drain-horizon",
        result=result,
        value=None if found.at is None else at(found.at),
        threshold=at(evidence.now),
        as_of=evidence.now,
        ttl_s=60,
        overridable=True,
        detail=detail,
        command="migrator status --detail",
    )


def _judge_horizon(evidence: Evidence) -> tuple[Result, str]:
    found, opened = evidence.horizon, evidence.open
    if evidence.is_contracted:
        return "pass", "the rollout is retired"
    named = ""
    if opened and opened.subjects:
        named = f"{counted(opened.subjects, 'subject')}: {opened.clients}"
    if found.stop.at is None:
        return "fail", found.why or "issuing has not stopped"
    if found.at is None:
        if named:
            return "fail", f"still good: {named}; and {found.why}"
        return "inconclusive", f"no end can be told: {found.why}"
    if evidence.now < found.at:
        left = span(found.at - evidence.now)
        return "fail", f"{left} left; still good: {named or 'none that was seen'}"
    return "pass", f"over since {at(found.at)} ({found.bound})"
