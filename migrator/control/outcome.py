"""What a move says of itself: before it, as a plan with its price; after it, as a result."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from migrator.control import going_back, rollout, soaking
from migrator.control.brownouts.calibrating import calibrated
from migrator.control.status import gate_json, hit, place
from migrator.control.status.screen import gate_line
from migrator.control.words import at, counted, folded, span
from migrator.core.errors import Exit
from migrator.core.phases import Phase

if TYPE_CHECKING:
    from collections.abc import Mapping

    from migrator.control.acknowledged import Acknowledged
    from migrator.control.drilling import Drill, Drilled
    from migrator.control.flip import Order
    from migrator.control.moving import Plan
    from migrator.control.retiring import Loss
    from migrator.control.soaking import Asked, Baseline
    from migrator.core.phases import Exemption, Rollout
    from migrator.core.soaks import Soak
    from migrator.settings import Settings

SCHEMA = "migrator.move/1"
WHO_WAITS = "migrator nodes"
# What the way back to `swap` costs besides.
ENDS_DRAIN = (
    "ends the drain: its beginning, the announced end and the horizon are forgotten, and begin "
    "anew with the next `migrator advance drain`"
)


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
    soak: Soak | None = None,
    drill: Drill | None = None,
    drilled: Drilled | None = None,
) -> dict[str, Any]:
    """The JSON of a move: `from` and `to` are the same where everything was so already."""
    entering = Phase.CUTOVER if after.exceptions else after.phase
    return {
        "environment": settings.environment,
        "app": settings.app,
        "command": command,
        "from": place(before.phase.value, before.percent),
        "to": place(after.phase.value, after.percent),
        "title": title(before, after),
        "percent": after.percent,
        "epoch": after.epoch,
        "exceptions": [_exception(one) for one in after.exceptions],
        "dry_run": dry_run,
        "would_change": dry_run and (drill is not None or _would_move(plan)),
        "state": _state(seen),
        "in_effect_at": None if seen is None else seen.in_effect_at,
        "waiting_on": [] if seen is None else [node.id for node in seen.fleet.waiting],
        "gates": [gate_json(gate, entering) for gate in plan.gates] if plan else [],
        "if_cut_over": None if plan is None else forecast(plan),
        "rollback_cost_subjects": 0 if command.startswith("rollback") else None,
        "destroys": [{"table": loss.table, "rows": loss.rows} for loss in destroyed],
        "next": WHO_WAITS if seen is not None and not seen.is_settled else None,
        "plan": None,
        "soak": None if soak is None else soaking.as_json(soak),
        "drill": None if drill is None else _drill(drill, drilled),
    }


def _would_move(plan: Plan | None) -> bool:
    return plan is not None and plan.exit_code is Exit.DONE


def held_up_by(told: Mapping[str, Any]) -> str:
    """The gates that hold a move up, of its JSON or a plan's; empty: none."""
    return ", ".join(
        gate["id"]
        for gate in told["gates"]
        if gate["result"] != "pass" and gate["override"] is None
    )


def _drill(drill: Drill, drilled: Drilled | None) -> dict[str, Any]:
    took = (None, None) if drilled is None else (drilled.back_took, drilled.forward_took)
    back_s, forward_s = (None if one is None else round(one.total_seconds(), 3) for one in took)
    return {
        "resumed": drill.is_half,
        "finished": drilled is not None and drilled.is_finished,
        "back_s": back_s,
        "forward_s": forward_s,
    }


def forecast(plan: Plan) -> dict[str, Any] | None:
    """Who would be refused, by client, and how they come back; None: this is no cutover.

    What no brownout taught is None.
    """
    if plan.hit is None or plan.facts is None:
        return None
    return calibrated(hit(plan.hit), plan.facts.brownouts.lesson, {})


def forecast_words(told: Mapping[str, Any]) -> str:
    """The forecast in a line."""
    back = ""
    if told["subjects"] and told["silent"] is not None:
        back = (
            f" ({told['silent']} come back silently / {told['sign_in']} sign in / "
            f"{told['breaks']} break)"
        )
    clients = told["clients"]
    named = " · ".join(
        f"{one['client'] or 'unknown client'} {one['subjects']}" for one in clients[:4]
    )
    more = f" · {len(clients) - 4} more" if len(clients) > 4 else ""
    verb = "gets" if told["subjects"] == 1 else "get"
    head = f"forecast: {counted(told['subjects'], 'user')} {verb} 401{back}"
    return f"{head}: {named}{more}" if named else head


def _exception(one: Exemption) -> dict[str, str]:
    return {"by": one.by, "value": one.value, "phase": one.phase.value}


def _state(seen: Acknowledged | None) -> str | None:
    return None if seen is None else seen.state


def said(found: dict[str, Any]) -> str:
    """The result in one or two lines."""
    if found["drill"] is not None:
        return _drilled(found)
    if found["dry_run"]:
        return folded(f"{_rehearsed(found)}; nothing was written", below=2)
    if found["from"] == found["to"] and not found["changed"]:
        so = f"already so: {found['to']}, epoch {found['epoch']}"
        return so if found["state"] is None else f"{so}: {_came(found)}"
    soak = f"\n{folded(soak_words(found['soak']), below=2)}" if found["soak"] else ""
    return f"{_path(found)}, epoch {found['epoch']}: {_came(found)}{soak}"


def _came(found: dict[str, Any]) -> str:
    """How far it has come among the nodes, and who says more of those that did not follow."""
    return {
        None: "committed, not waited for",
        "in_effect": "in effect on every living node",
        "committed": "committed; no node lives that would act under it",
        "propagating": f"committed; not acknowledged by {', '.join(found['waiting_on'])}   "
        f"{found['next']}",
    }[found["state"]]


def _rehearsed(found: dict[str, Any]) -> str:
    if found["would_change"]:
        return f"would move {_path(found)}"
    held = held_up_by(found)
    return f"would be refused: {held}" if held else f"nothing to do: {_path(found)}"


def soak_words(soak: dict[str, Any]) -> str:
    """For how long it lasts, and what would end it."""
    head = f"soak {span(soak['until'] - soak['since'])}, until {at(soak['until'])}"
    usual = soak["baseline_per_min"]
    if usual is None:
        return f"{head}; it will not go back by itself: no sign-ins to compare with"
    limit = f"{soak['sign_ins']:g}x the {usual:.1f} a minute before"
    return f"{head}: auto-rollback if sign-ins > {limit}"


def _drilled(found: dict[str, Any]) -> str:
    drill = found["drill"]
    if found["dry_run"]:
        return f"would drill the way back from {found['to']}; nothing was written"
    ways = [
        f"{name} in effect after {span(timedelta(seconds=drill[key]))}"
        if drill[key] is not None
        else f"{name} not acknowledged in time"
        for name, key in (("back", "back_s"), ("forward", "forward_s"))
    ]
    verdict = "drilled" if drill["finished"] else "not a finished drill"
    return f"{verdict}: {', '.join(ways)}; {found['to']} stands as before, epoch {found['epoch']}"


def _path(found: dict[str, Any]) -> str:
    if found["from"] == found["to"]:
        return str(found["title"])
    exceptions = ", ".join(
        f"{one['by']}={one['value']} in {one['phase']}" for one in found["exceptions"]
    )
    return str(found["title"]) + (f" ({exceptions})" if exceptions else "")


def title(before: Rollout, after: Rollout) -> str:
    """A move in a few words: from where to where, or who moves while everybody else stays."""
    source, target = (place(one.phase.value, one.percent) for one in (before, after))
    return rollout.titled(before, after) or f"{source} → {target}"


def announced(
    settings: Settings,
    plan: Plan,
    order: Order,
    losses: tuple[Loss, ...] = (),
    *,
    usual: Baseline | None = None,
) -> str:
    """The plan as shown before anybody confirms it: what, the way back, the price, the gates.

    Args:
        usual: sign-ins a minute before it, where it is to soak.
    """
    before, after = plan.before, plan.target.of(plan.before)
    head = [
        *([] if order.plan is None else [f"Plan {order.plan}"]),
        *(settings.environment, title(before, after), f"by {order.who}"),
        *([] if order.why is None else [order.why]),
        f"epoch {before.epoch} → {after.epoch}",
    ]
    lines = [" · ".join(head)]
    lines += [f"  except {one.by}={one.value}: {one.phase}" for one in after.exceptions]
    if after.phase is Phase.RETIRED:
        rows = ", ".join(f"{loss.table} ({counted(loss.rows, 'row')})" for loss in losses)
        lines += ["  IRREVERSIBLE: no command leads back from retired"]
        lines.append(f"  destroys {rows}")
    elif plan.target.gated:
        lines.append(
            "  reversible until `migrator retire`   "
            f"rollback: {rollout.way_back(after)}, 0 users affected{_estimate(plan)}"
        )
    else:
        lines.append("  price: 0 users logged out; sessions handed out so far stay good")
        if rollout.ends_drain(before, after):
            lines.append(f"  {ENDS_DRAIN}")
    told = forecast(plan)
    if told is not None:
        lines.append(f"  {forecast_words(told)}")
    if order.soak is not None and usual is not None:
        lines.append(_soaks(order.soak, usual))
    return "\n".join([*(folded(line, below=4) for line in lines), *_gates(plan)])


def _estimate(plan: Plan) -> str:
    took = None if plan.facts is None else plan.facts.propagated
    return "" if took is None else f", est. {span(took)}"


def _soaks(asked: Asked, usual: Baseline) -> str:
    head = f"  soak {span(asked.lasting)}"
    if usual.per_min is None:
        return f"{head}, no auto-rollback: {usual.why}"
    limit = f"{asked.sign_ins:g}x the usual {usual.per_min:.1f} a minute"
    return f"{head}: the nodes take it back if sign-ins > {limit}"


def _gates(plan: Plan) -> list[str]:
    """One line for those that pass, and each that does not."""
    if not plan.gates or plan.facts is None:
        return []
    passing = [gate for gate in plan.gates if gate.result == "pass"]
    now = plan.facts.now
    oldest = min((gate.as_of for gate in plan.gates if gate.as_of), default=now)
    lines = [
        f"  gates {len(passing)}/{len(plan.gates)} pass (oldest evidence {span(now - oldest)})"
    ]
    entering = plan.target.phase
    others = [gate for gate in plan.gates if gate.result != "pass"]
    return lines + [gate_line(gate_json(gate, entering)) for gate in others]


def next_of_committed(after: Rollout, *, back: bool) -> str:
    """What is left to type once it is done for good."""
    if back:
        return f"this stays; to wait on: {going_back.awaited_by(after)}"
    undone = rollout.way_back(after)
    return "from here on, Ctrl-C does not undo; " + (
        "nothing undoes it" if undone is None else f"use {undone.removeprefix('migrator ')}"
    )


def interrupted(after: Rollout, *, back: bool = False) -> str:
    """What whoever interrupts the wait is told."""
    if after.phase is Phase.RETIRED:
        return (
            f"epoch {after.epoch} ({after.phase}) is committed and stays: nothing leads back; "
            "`migrator retire` run again takes away the tables that are left"
        )
    then = (
        f"To wait on: `{going_back.awaited_by(after)}`"
        if back
        else f"`{rollout.way_back(after)}` goes back"
    )
    return (
        f"epoch {after.epoch} ({after.phase}) is committed and stays; only the wait for the nodes "
        f"was stopped. {then}"
    )
