"""What a move says of itself: before it, as a plan with its price; after it, as a result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from migrator.control.status import gate_json, hit, place
from migrator.control.status.screen import gate_line
from migrator.control.words import counted
from migrator.core.phases import Phase

if TYPE_CHECKING:
    from migrator.control.flip import Acknowledged
    from migrator.control.moving import Plan
    from migrator.control.retiring import Loss
    from migrator.core.phases import Exemption, Rollout
    from migrator.settings import Settings

SCHEMA = "migrator.move/1"


def result(
    settings: Settings,
    before: Rollout,
    after: Rollout,
    *,
    command: str,
    dry_run: bool = False,
    plan: Plan | None = None,
    seen: Acknowledged | None = None,
    destroyed: tuple[Loss, ...] = (),
) -> dict[str, Any]:
    """The JSON of a move: `from` and `to` are the same where everything was so already."""
    entering = Phase.CUTOVER if after.exceptions else after.phase
    return {
        "environment": settings.environment,
        "app": settings.app,
        "command": command,
        "from": place(before.phase.value, before.percent),
        "to": place(after.phase.value, after.percent),
        "percent": after.percent,
        "epoch": after.epoch,
        "exceptions": [_exception(one) for one in after.exceptions],
        "dry_run": dry_run,
        "would_change": dry_run and plan is not None,
        "state": _state(seen),
        "in_effect_at": None if seen is None else seen.in_effect_at,
        "waiting_on": [] if seen is None else [node.id for node in seen.fleet.waiting],
        "gates": [gate_json(gate, entering) for gate in plan.gates] if plan else [],
        "if_cut_over": hit(plan.hit) if plan and plan.hit is not None else None,
        "rollback_cost_subjects": 0 if command == "rollback" else None,
        "destroys": [{"table": loss.table, "rows": loss.rows} for loss in destroyed],
    }


def _exception(one: Exemption) -> dict[str, str]:
    return {"by": one.by, "value": one.value, "phase": one.phase.value}


def _state(seen: Acknowledged | None) -> str | None:
    if seen is None:
        return None
    return "in_effect" if seen.is_in_effect else "propagating"


def said(found: dict[str, Any]) -> str:
    """The result in one or two lines."""
    if found["dry_run"]:
        verb = "would move" if found["would_change"] else "nothing to do:"
        return f"{verb} {_path(found)}; nothing was written"
    if found["from"] == found["to"] and not found["changed"]:
        return f"already so: {found['to']}, epoch {found['epoch']}"
    state = {
        None: "committed, not waited for",
        "in_effect": "in effect on every living node",
        "propagating": f"committed; not acknowledged by {', '.join(found['waiting_on'])}",
    }[found["state"]]
    return f"{_path(found)}, epoch {found['epoch']}: {state}"


def _path(found: dict[str, Any]) -> str:
    exceptions = ", ".join(
        f"{one['by']}={one['value']} in {one['phase']}" for one in found["exceptions"]
    )
    return f"{found['from']} → {found['to']}" + (f" ({exceptions})" if exceptions else "")


def announced(settings: Settings, plan: Plan, who: str, losses: tuple[Loss, ...] = ()) -> str:
    """The plan as shown before anybody confirms it: what, the price, the way back, the gates."""
    before, after = plan.before, plan.target.of(plan.before)
    source = place(before.phase.value, before.percent)
    target = place(after.phase.value, after.percent)
    epochs = f"epoch {before.epoch} → {after.epoch}"
    lines = [f"{settings.environment} · {source} → {target} · by {who} · {epochs}"]
    lines += [f"  except {one.by}={one.value}: {one.phase}" for one in after.exceptions]
    if after.phase is Phase.RETIRED:
        rows = ", ".join(f"{loss.table} ({counted(loss.rows, 'row')})" for loss in losses)
        lines += ["  IRREVERSIBLE: no command leads back from retired", f"  destroys {rows}"]
    elif plan.target.gated:
        lines.append("  reversible with `migrator rollback`: instant, 0 users affected")
    else:
        lines.append("  price: 0 users logged out; sessions handed out so far stay good")
    if plan.hit is not None:
        users = counted(plan.hit.subjects, "user")
        lines.append(f"  if you do this now: {users} refused {plan.hit.clients}".rstrip())
    lines += [gate_line(gate_json(gate, Phase.CUTOVER)) for gate in plan.gates]
    return "\n".join(lines)


def interrupted(after: Rollout) -> str:
    """What whoever interrupts the wait is told."""
    return (
        f"epoch {after.epoch} ({after.phase}) is committed and stays; only the wait for the nodes "
        "was stopped. `migrator rollback` goes back"
    )
