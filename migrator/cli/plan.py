"""`migrator plan …`: decide a move now, keep what it was decided on, and make it later."""

from __future__ import annotations

import shlex
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from migrator.cli import asked
from migrator.cli.context import Context, pass_context
from migrator.control import moving, planning, retiring, rollout, tickets
from migrator.control.moving import Plan
from migrator.control.planning import Wanted
from migrator.control.words import folded

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from migrator.cli.asked import Decide
    from migrator.control.planning import Saved


@click.group(
    "plan",
    epilog="Example: migrator plan cutover --all --reason CHG-4502; "
    "then migrator cutover --plan ID",
)
def command() -> None:
    """Decide a move without making it: its gates, its forecast, saved under an id."""


@command.group("advance")
def advance() -> None:
    """Plan to go forward to `swap` or `drain`."""


@advance.command("swap")
@asked.percent_option
@asked.reason_option
@asked.nodes_option
@pass_context
def swap(context: Context, /, *, percent: int | None, **options: Any) -> None:
    """Plan to hand out sessions to PERCENT of the subjects."""
    typed = ("--percent", str(percent))
    _plan(context, asked.swap_to(percent), "advance swap", typed, **options)


@advance.command("drain")
@asked.sunset_option
@asked.soak_option
@asked.reason_option
@asked.nodes_option
@pass_context
def drain(context: Context, /, **options: Any) -> None:
    """Plan to issue legacy tokens to nobody any more."""
    _plan(context, rollout.drain, "advance drain", (), soaks=True, **options)


@command.command("cutover")
@asked.whom_options
@asked.soak_option
@asked.reason_option
@asked.nodes_option
@pass_context
def cutover(
    context: Context,
    /,
    *,
    everybody: bool,
    excepted: tuple[str, ...],
    segments: tuple[str, ...],
    unseen: bool,
    **options: Any,
) -> None:
    """Plan to stop accepting legacy tokens."""
    decide = asked.cutover_of(
        context, everybody=everybody, excepted=excepted, segments=segments, unseen=unseen
    )
    typed = ["--all"] if everybody else []
    typed += [word for one in excepted for word in ("--except", one)]
    typed += [word for one in segments for word in ("--segment", one)]
    typed += ["--unseen"] if unseen else []
    _plan(context, decide, "cutover", typed, soaks=True, **options)


@command.command("rollback")
@asked.reason_option
@pass_context
def rollback(context: Context, /, *, reason: str | None) -> None:
    """Plan to go one phase back."""
    _plan(context, rollout.back, "rollback", (), reason=reason)


@command.command("retire")
@asked.reason_option
@asked.nodes_option
@pass_context
def retire(context: Context, /, **options: Any) -> None:
    """Plan the move without return: what it would destroy, and what it proves."""
    _plan(context, rollout.retire, "retire", (), **options)


@command.command("list")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@pass_context
def listed(context: Context, *, limit: int) -> None:
    """The last plans, the newest first."""
    saved, now = planning.listed(context.settings, limit=limit)
    plans = [one.as_json(now) for one in saved]
    context.emit(
        {"generated_at": now, "plans": plans},
        lambda: "\n".join(map(_line, plans)) or "no plans",
        schema=planning.LISTED,
    )


@command.command("show")
@click.argument("plan", metavar="ID")
@click.option("--markdown", is_flag=True, help="As the text of a change ticket.")
@pass_context
def show(context: Context, *, plan: str, markdown: bool) -> None:
    """One plan, as it was decided."""
    saved, now = planning.find(context.settings, plan)
    found = saved.as_json(now)
    text = tickets.markdown if markdown else tickets.lines
    context.emit({"plan": found, "dry_run": False}, partial(text, found), schema=planning.SCHEMA)


def _plan(
    context: Context,
    decide: Decide,
    move: str,
    typed: tuple[str, ...] | list[str],
    *,
    reason: str | None = None,
    nodes: int | None = None,
    sunset: datetime | None = None,
    soak: timedelta | None = None,
    soaks: bool = False,
) -> None:
    settings = context.settings
    planned = moving.plan(settings, decide, expected=nodes)
    if not isinstance(planned, Plan):
        words = f"already so: {planned.phase}, epoch {planned.epoch}; nothing to plan"
        found = {"plan": None, "dry_run": context.dry_run}
        context.emit(found, lambda: words, schema=planning.SCHEMA)
        return
    wanted = Wanted(
        command=move,
        typed=shlex.join([*move.split(), *typed]),
        why=reason,
        sunset_at=sunset,
        soak=asked.soak_of(context, soak) if soaks else None,
        nodes=nodes,
    )
    losses = retiring.losses(settings) if move == "retire" else ()
    told = tickets.told(settings, planned, wanted, losses)
    saved, now = planning.save(
        settings, planned, told, wanted, who=context.operator(), dry_run=context.dry_run
    )
    _emit(context, saved, now)


def _emit(context: Context, saved: Saved, now: datetime) -> None:
    found = saved.as_json(now)
    context.emit(
        {"plan": found, "dry_run": context.dry_run},
        partial(tickets.lines, found),
        schema=planning.SCHEMA,
        changed=not context.dry_run,
    )


def _line(plan: dict[str, Any]) -> str:
    why = "" if plan["why"] is None else f": {plan['why']}"
    line = f"{plan['id']:<8} {plan['state']:<8} {plan['command']:<32} by {plan['who']}{why}"
    return folded(line, below=9)
