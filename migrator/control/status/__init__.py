"""Where the rollout stands, as one object: the JSON of `migrator status`, and what its text reads.

Everything comes from one snapshot of the database and never from a process that might hang. What
is not known is None, with the reason under `unknown` by its path; it is never 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from migrator.control import counts, evidence, flip, gates, moving, presence, rollout, sunset
from migrator.control.brownouts.calibrating import calibrated
from migrator.control.fleet import propagation_s
from migrator.control.status import compared, flow, standing
from migrator.control.status.warnings import warnings_of
from migrator.core.errors import Exit, Stopped
from migrator.core.phases import RULES, Phase, back_of, next_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from migrator.control.census import Census
    from migrator.control.decisions import Override
    from migrator.control.evidence import Evidence
    from migrator.control.gates import Gate
    from migrator.settings import Settings

SCHEMA = "migrator.status/1"

_UNREAD = (
    "phase",
    "exceptions",
    "knobs",
    "nodes",
    "traffic",
    "drain",
    "backfill",
    "compare",
    "store",
    "ready",
    "gates",
    "if_cut_over",
    "rollback",
    "removal_horizon",
    "waiting_on",
    "last_change",
    "holds",
    "overrides",
    "soak",
)


_UNHEARD = "no node was ever heard, and only nodes see who comes with a JWT"


def report(
    settings: Settings,
    *,
    now: datetime,
    detail: bool = False,
    patient: bool = False,
    dry_run: bool = False,
) -> dict[str, Any]:
    """The whole of it; with `exit_code` UNFIT or UNREACHABLE, all that could not be read is None.

    Args:
        now: this machine's clock, for when no other can be asked.
        detail: with the census.
        patient: count people anew, however many they are; `detail` does.
        dry_run: leave the announced end as it is, and no count behind; else it is brought into
            step.
    """
    head = {"environment": settings.environment, "app": settings.app}
    try:
        found = _gather(settings, patient=patient or detail)
    except Stopped as stopped:
        if stopped.exit_code not in {Exit.UNFIT, Exit.UNREACHABLE}:
            raise
        return head | _unread(stopped, now)
    if not dry_run:
        sunset.keep(found)
        counts.keep(settings, found.counted)
    body = head | _read(found)
    return body | {"census": _census(found)} if detail else body


def _gather(settings: Settings, *, patient: bool) -> Evidence:
    """The evidence for the next move."""
    evidence.fit(settings)
    rollout, _ = flip.read(settings)
    following = next_of(rollout.phase)
    entering = following or rollout.phase
    return moving.gather_for(settings, entering, before=rollout, patient=patient)


def _unread(stopped: Stopped, now: datetime) -> dict[str, Any]:
    problem = stopped.problem
    return {
        "generated_at": now,
        **dict.fromkeys(_UNREAD),
        "unknown": dict.fromkeys(_UNREAD, f"{problem.id}: {problem.what}"),
        "warnings": [{"id": problem.id, "text": problem.what, "command": problem.do}],
        "exit_code": int(stopped.exit_code),
    }


def _read(found: Evidence) -> dict[str, Any]:
    unknown: dict[str, str] = {}
    following = next_of(found.rollout.phase)
    judged = gates.evaluate(following, found) if following else ()
    body: dict[str, Any] = {
        "generated_at": found.now,
        "phase": _phase(found),
        "exceptions": [
            {"by": one.by, "value": one.value, "phase": one.phase.value}
            for one in found.rollout.exceptions
        ],
        "knobs": _knobs(found),
        "nodes": _nodes(found, unknown),
        "traffic": flow.traffic(found, unknown),
        "drain": flow.drain(found, unknown),
        "backfill": _backfill(found),
        "compare": compared.compare(found, unknown),
        "store": compared.store(found, unknown),
        "ready": _ready(following, judged),
        "gates": [gate_json(gate, following) for gate in judged if following],
        "if_cut_over": _if_cut_over(found, unknown),
        "rollback": _rollback(found),
        "removal_horizon": _removal(found, unknown),
        "waiting_on": _waiting_on(found),
        "unknown": unknown,
        "last_change": _last_change(found, unknown),
        "warnings": warnings_of(found),
        **standing.decided(found),
        "brownouts": found.brownouts.as_json(found.now),
        "exit_code": int(Exit.DONE),
    }
    body["if_cut_over"]["then"] = flow.then(body)
    return body


def _phase(found: Evidence) -> dict[str, Any]:
    rollout = found.rollout
    return {
        "name": rollout.phase.value,
        "epoch": rollout.epoch,
        "since": rollout.since,
        "state": state_of(found),
        "percent": rollout.percent if rollout.phase is Phase.SWAP else None,
    }


def state_of(found: Evidence) -> str:
    """How far the epoch that stands has come: only `in_effect` satisfies a gate."""
    fleet = found.fleet
    if not fleet.live:
        return "committed"
    if not fleet.waiting and not fleet.rogue:
        return "in_effect"
    since = found.epoch_since or found.rollout.since
    late = found.now - since > found.settings.gates.ack_timeout
    return "stalled" if late else "propagating"


def _knobs(found: Evidence) -> dict[str, Any]:
    rollout = found.rollout
    rule = RULES[rollout.phase]
    issue = {"none": "legacy", "cohort": "cohort", "all": "session"}
    percent = {"none": 0, "cohort": rollout.percent, "all": 100}
    return {
        "verify_jwt": rule.legacy != "unread",
        "verify_session": True,
        "swap_percent": percent[rule.swap],
        "issue": issue[rule.issue],
    }


def _nodes(found: Evidence, unknown: dict[str, str]) -> dict[str, Any]:
    fleet = found.fleet
    if fleet.expected is None:
        unknown["nodes.expected"] = "the settings do not say expected_nodes"
    if fleet.heard_at is None:
        unknown["nodes.heard_at"] = _UNHEARD
    return {
        "expected": fleet.expected,
        "live": len(fleet.live),
        "acked": len(fleet.acked),
        "gone": len(fleet.gone),
        "stale": len(fleet.stale),
        "rogue": len(fleet.rogue),
        "old_build": len(fleet.old_build),
        "waiting": [
            {"id": node.id, "epoch": node.epoch, "seen_at": node.seen_at} for node in fleet.waiting
        ],
        "propagation_s": propagation_s(fleet, found.moves[0] if found.moves else None),
        "heard_at": fleet.heard_at,
        "as_of": found.now,
    }


def _backfill(found: Evidence) -> list[dict[str, Any]]:
    verified = {one.job: one for one in found.verified if one.at is not None}
    return [
        {
            "source": job.source,
            "state": job.state,
            "done": job.done,
            "total": job.total,
            "rejected": job.rejected,
            "as_of": job.updated_at,
            "name": job.name,
            "verified": {
                "at": verified[job.name].at,
                "rows": verified[job.name].rows,
                "differences": verified[job.name].differences,
            }
            if job.name in verified
            else None,
        }
        for job in found.jobs
    ]


def _ready(following: Phase | None, judged: tuple[Gate, ...]) -> dict[str, Any]:
    return {
        "for": None if following is None else following.value,
        "ok": following is not None and gates.exit_of(judged) is Exit.DONE,
        "failing": gates.those(judged, "fail"),
        "stale": gates.those(judged, "stale"),
        "inconclusive": gates.those(judged, "inconclusive"),
        "overridden": [gate.id for gate in judged if gate.override is not None],
    }


def gate_json(gate: Gate, entering: Phase) -> dict[str, Any]:
    """A gate as JSON has it."""
    return {
        "id": gate.id,
        "result": gate.result,
        "value": gate.value,
        "threshold": gate.threshold,
        "as_of": gate.as_of,
        "ttl_s": gate.ttl_s,
        "overridable": gate.overridable,
        "detail": gate.detail,
        "command": gate.command,
        "playbook": gate.playbook(entering),
        "override": None if gate.override is None else _override(gate.override),
    }


def _override(one: Override) -> dict[str, Any]:
    return {"id": one.id, "who": one.who, "until": one.until, "reason": one.reason}


def _if_cut_over(found: Evidence, unknown: dict[str, str]) -> dict[str, Any]:
    """The people a cutover of everybody would hit; `as_of` is when they were counted."""
    census, lesson = found.would_be_hit, found.brownouts.lesson
    why = None if found.is_contracted else _uncounted(found, census)
    if why is not None:
        unknown["if_cut_over.subjects"] = why
        return calibrated({"subjects": None, "clients": [], "as_of": None}, lesson, unknown)
    as_of = found.now if census is None else census.as_of
    counted = {"subjects": 0, "clients": []} | hit(census) | {"as_of": as_of}
    return calibrated(counted, lesson, unknown)


def _uncounted(found: Evidence, census: Census | None) -> str | None:
    """Why nobody knows whom it would hit; None where somebody does."""
    if census is None:
        return counts.UNCOUNTED
    # Nobody looked, so that nobody was found says nothing.
    is_unseen = found.fleet.heard_at is None and found.watching_since is None
    return _UNHEARD if is_unseen and not census.subjects else None


def hit(census: Census | None) -> dict[str, Any]:
    """Subjects by client, as JSON has them."""
    if census is None:
        return {}
    return {
        "subjects": census.subjects,
        "clients": [
            {
                "client": group.client or None,
                "issuer": group.issuer,
                "subjects": group.subjects,
                "last_seen_at": group.last_seen_at,
            }
            for group in census.groups
        ],
    }


def _rollback(found: Evidence) -> dict[str, Any]:
    phase = found.rollout.phase
    to = back_of(phase)
    why = {
        Phase.OBSERVE: "observe is the first phase",
        Phase.RETIRED: "retired has no way back",
    }.get(phase)
    # Sessions are admitted in every phase, so going back logs nobody out.
    cost = None if to is None else 0
    return {
        "to": None if to is None else to.value,
        "command": rollout.way_back(found.rollout),
        "cost_subjects": cost,
        "possible": to is not None,
        "why": why,
        "drilled_at": found.drilled_at,
    }


def _removal(found: Evidence, unknown: dict[str, str]) -> datetime | None:
    """When the shim may be taken out: sessions handed out are sessions only to us."""
    if RULES[found.rollout.phase].issue != "none":
        unknown["removal_horizon"] = "sessions are still issued; it begins once observe is back"
    elif found.has_endless:
        unknown["removal_horizon"] = "an API token lives that has no end"
    elif found.last_session_end is None:
        unknown["removal_horizon"] = "no session lives: the shim may go now"
    else:
        return found.last_session_end
    return None


def _waiting_on(found: Evidence) -> list[str]:
    fleet = found.fleet
    waiting = [f"node {node.id} to acknowledge epoch {fleet.epoch}" for node in fleet.waiting]
    waiting += [f"rogue node {node.id} to stop, or to renew its lease" for node in fleet.rogue]
    waiting += [
        f"hold {one.id} of {one.who} to be released, or over"
        for one in found.holds
        if one.state(found.now) == "in force"
    ]
    if found.legacy_removed_at is not None and not found.is_contracted:
        waiting.append("`migrator retire`, run again, to take the legacy tables away")
    return waiting


def _last_change(found: Evidence, unknown: dict[str, str]) -> Mapping[str, Any] | None:
    if not found.moves:
        unknown["last_change"] = "nothing was moved yet"
        return None
    last = found.moves[0]
    return {
        "at": last.at,
        "who": last.who,
        "why": last.why,
        "from": place(last.from_phase, last.from_percent),
        "to": place(last.to_phase, last.to_percent),
        "epoch": last.epoch,
        "command": last.command,
    }


def place(phase: str | None, percent: int | None) -> str | None:
    """A phase as the journal says it, with the percent where that matters."""
    return f"swap {percent} %" if phase == Phase.SWAP and percent is not None else phase


def _census(found: Evidence) -> dict[str, Any]:
    """What `--detail` adds: a day's outcomes, whose legacy tokens are open, how they come."""
    lines = found.usage or ()
    return {
        "usage": [
            {
                "issuer": line.issuer or None,
                "client": line.client or None,
                "outcome": line.outcome,
                "day": line.day,
                "last_at": line.last_at,
            }
            for line in lines
        ],
        "open": [
            {
                "issuer": group.issuer,
                "client": group.client or None,
                "subjects": group.subjects,
                "last_seen_at": group.last_seen_at,
                "ends_at": group.ends_at,
            }
            for group in (found.open.groups if found.open else ())
        ],
        **({} if found.is_contracted else presence.read(found.settings, found.now)),
    }
