"""`migrator advance | cutover | rollback | retire`: the moves of the rollout."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from migrator.cli import asked, confirming, progress
from migrator.cli import sunset as announced_end
from migrator.cli.context import Context, pass_context
from migrator.control import (
    drilling,
    flip,
    following,
    going_back,
    moving,
    outcome,
    planning,
    retiring,
    rollout,
    soaking,
    undoing,
)
from migrator.control.acknowledged import exit_of
from migrator.control.flip import Order
from migrator.control.moving import Plan
from migrator.control.outcome import SCHEMA
from migrator.control.planning import Saved
from migrator.control.words import folded
from migrator.core.errors import Exit
from migrator.core.phases import ORDER, Phase

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from migrator.cli.asked import Decide
    from migrator.control.acknowledged import Acknowledged
    from migrator.control.decisions import Override
    from migrator.control.retiring import Loss
    from migrator.core.phases import Rollout
    from migrator.core.soaks import Soak

_follow_option = click.option("--follow", is_flag=True, help="Show the soak until it is over.")


@click.group("advance")
def advance() -> None:
    """Go forward to `swap` or `drain`."""


@advance.command("swap", epilog="Example: migrator advance swap --percent 10 --reason CHG-4401")
@asked.percent_option
@asked.gated_options
@pass_context
def swap(context: Context, /, *, percent: int | None, plan: str | None, **options: Any) -> None:
    """Hand out sessions to PERCENT of the subjects; a cohort only grows."""
    decide = None if plan and percent is None else asked.swap_to(percent)
    _move(context, decide, "advance swap", plan=plan, **options)


@advance.command("drain", epilog="Example: migrator advance drain --reason CHG-4411")
@asked.sunset_option
@asked.soak_option
@_follow_option
@asked.gated_options
@pass_context
def drain(context: Context, /, *, sunset: datetime | None, **options: Any) -> None:
    """Issue sessions to everybody and legacy tokens to nobody.

    In drain, --sunset moves the announced end.
    """
    if sunset is not None and announced_end.moved(context, sunset, **options):
        return
    _move(context, rollout.drain, "advance drain", sunset_at=sunset, soaks=True, **options)


@click.command(
    "cutover", epilog="Example: migrator cutover --all --except client=robot --soak 15m"
)
@asked.whom_options
@asked.soak_option
@_follow_option
@asked.gated_options
@pass_context
def cutover(
    context: Context,
    /,
    *,
    everybody: bool,
    excepted: tuple[str, ...],
    segments: tuple[str, ...],
    unseen: bool,
    plan: str | None,
    **options: Any,
) -> None:
    """Stop accepting legacy tokens. A SEGMENT is issuer=ID, client=NAME or cohort=N."""
    decide = None
    if plan is None or everybody or segments:
        decide = asked.cutover_of(
            context, everybody=everybody, excepted=excepted, segments=segments, unseen=unseen
        )
    _move(context, decide, "cutover", plan=plan, soaks=True, **options)


@click.command("rollback", epilog="Example: migrator rollback --reason 'sign-ins doubled'")
@click.option("--drill", is_flag=True, help="Go back, then forward again to what stands.")
@click.option(
    "--to",
    type=click.Choice([phase.value for phase in ORDER[:-1]]),
    help="Where to: repeated after an interruption, it does not go back once more.",
)
@asked.after_options
@pass_context
def rollback(
    context: Context,
    /,
    *,
    drill: bool,
    to: str | None,
    reason: str | None,
    wait: float | None,
    plan: str | None,
) -> None:
    """Go one phase back, all together. Never asks, never gated."""
    if not drill:
        decide: Decide = partial(going_back.decide, context.settings)
        if plan is not None:
            decide = rollout.back
        if to is not None:
            decide = partial(rollout.back_to, phase=Phase(to))
        _move(context, decide, "rollback", reason=reason, wait=wait, plan=plan)
        return
    if plan is not None or to is not None or wait == 0:
        raise click.UsageError("a drill takes no --plan and no --to, and waits for the nodes")
    _drill(context, reason=reason, wait=wait)


@click.command("retire", epilog="Example: migrator retire --reason CHG-4600")
@asked.gated_options
@pass_context
def retire(context: Context, /, **options: Any) -> None:
    """Refuse legacy tokens unread and take their tables away. Irreversible."""
    _retire(context, **options)


def _move(
    context: Context,
    decide: Decide | None,
    command: str,
    *,
    reason: str | None = None,
    wait: float | None = None,
    confirm: str | None = None,
    nodes: int | None = None,
    wait_gates: float | None = None,
    sunset_at: datetime | None = None,
    plan: str | None = None,
    soak: timedelta | None = None,
    soaks: bool = False,
    follow: bool = False,
) -> None:
    settings = context.settings
    say = partial(outcome.result, settings, command=command, dry_run=context.dry_run)
    saved, planned = _planned(
        context, decide, command, plan=plan, nodes=nodes, wait_gates=wait_gates
    )
    if not isinstance(planned, Plan):
        seen = None if context.dry_run else _looked(context, planned, command, wait)
        found = say(planned, planned, seen=seen)
        _emit(context, found, changed=False, exit_code=exit_of(seen))
        return
    order = _order(context, command, planned, saved, reason=reason, sunset_at=sunset_at)
    order = replace(order, is_awaited=bool(_wait(context, wait)))
    if soaks and planned.target.gated:  # what lets more in is not taken back into letting in less
        kept = saved.wanted.soak if saved and soak is None else asked.soak_of(context, soak)
        order = replace(order, soak=kept)
    _announce(context, planned, order)
    if context.dry_run:
        after = planned.target.of(planned.before)
        found = say(planned.before, after, plan=planned)
        _emit(context, found, changed=False, exit_code=planned.exit_code)
        return
    planned, order = confirming.confirmed(context, planned, order, confirm)
    revoked: list[Override] = []

    def ended(ones: Sequence[Override]) -> None:
        revoked.extend(ones)
        if ones:
            context.talk(folded(undoing.said(ones), below=2))

    done = moving.make(
        settings,
        planned,
        order,
        wait=_wait(context, wait),
        committed=partial(progress.committed, context, back=command == going_back.COMMAND),
        revoked=ended,
        tell=progress.Waiting(context),
    )
    exit_code, taken_back = done.exit_code, None
    if follow and done.soak is not None and exit_code is Exit.DONE:
        taken_back = _followed(context, done.soak)
        exit_code = Exit.DONE if taken_back is None else Exit.LIMIT
    found = say(done.before, done.after, plan=planned, seen=done.seen, soak=done.soak)
    found |= {"plan": order.plan, "taken_back": taken_back}
    found["overrides_revoked"] = [one.id for one in revoked]
    _emit(context, found, changed=True, exit_code=exit_code)


def _looked(
    context: Context, stands: Rollout, command: str, wait: float | None
) -> Acknowledged | None:
    """Look once whether the nodes have come along; for a way back that is on its way, wait."""
    settings, who = context.settings, context.operator()
    row = going_back.on_its_way(settings, stands) if command == going_back.COMMAND else None
    if row is None or wait == 0:
        moving.look(settings, stands, who=who)
        return None
    context.talk(folded(going_back.said(row, stands), below=2))
    tell = progress.Waiting(context)
    return moving.settle(settings, stands, wait=_wait(context, wait), who=who, tell=tell)


def _retire(
    context: Context,
    *,
    reason: str | None,
    wait: float | None,
    confirm: str | None,
    nodes: int | None,
    wait_gates: float | None,
    plan: str | None,
) -> None:
    settings = context.settings
    say = partial(outcome.result, settings, command="retire", dry_run=context.dry_run)
    saved, planned = _planned(
        context, rollout.retire, "retire", plan=plan, nodes=nodes, wait_gates=wait_gates
    )
    losses: tuple[Loss, ...] = ()
    used = None if saved is None else saved.id
    if isinstance(planned, Plan):
        losses = retiring.losses(settings)
        order = _order(context, "retire", planned, saved, reason=reason)
        _announce(context, planned, order, losses)
        before = planned.before
        if context.dry_run:
            found = say(before, planned.target.of(before), plan=planned, destroyed=losses)
            _emit(context, found, changed=False, exit_code=planned.exit_code)
            return
        planned, order = confirming.confirmed(context, planned, order, confirm)
        after = moving.make(
            settings,
            planned,
            order,
            wait=timedelta(),
            committed=partial(progress.committed, context),
        ).after
    else:
        before = after = planned
        if context.dry_run or not retiring.remaining(settings):
            _emit(context, say(before, after), changed=False)
            return
        if confirm is not None:
            context.confirm(settings.environment, confirm)
        losses = retiring.losses(settings)
        context.talk("retired already; the legacy tables are still there: going on")
        progress.committed(context, after)
    seen = retiring.finish(
        settings,
        after,
        wait=_wait(context, wait),
        who=context.operator(),
        tell=progress.Waiting(context),
    )
    lonely = retiring.said(seen)
    if lonely is not None:
        context.talk(lonely)
    found = say(before, after, seen=seen, destroyed=losses) | {"plan": used}
    # Who asked not to wait is not told that it was too short; `waiting_on` says what is left.
    waited = wait != 0 and not retiring.is_over(seen)
    code = Exit.NOT_ACKNOWLEDGED if waited else Exit.DONE
    _emit(context, found, changed=True, exit_code=code)


def _drill(context: Context, *, reason: str | None, wait: float | None) -> None:
    settings = context.settings
    drill = drilling.plan(settings)
    context.talk(drilling.price(drill))
    say = partial(outcome.result, settings, drill.stands, command="rollback --drill", drill=drill)
    if context.dry_run:
        _emit(context, say(drill.stands, dry_run=True), changed=False)
        return
    done = drilling.run(
        settings,
        drill,
        who=context.operator(),
        why=reason,
        wait=_wait(context, wait),
        committed=partial(progress.committed, context),
        tell=progress.Waiting(context),
    )
    code = exit_of(done.seen) if done.is_finished or drill.is_half else Exit.NOT_ACKNOWLEDGED
    found = say(done.after, seen=done.seen, drilled=done)
    _emit(context, found, changed=True, exit_code=code)


def _planned(
    context: Context,
    decide: Decide | None,
    command: str,
    *,
    plan: str | None,
    nodes: int | None,
    wait_gates: float | None,
) -> tuple[Saved | None, Plan | Rollout]:
    """The move, judged, and the saved plan that it is made by, if it is by one."""
    settings, saved = context.settings, None
    if plan is not None:
        redeemed = planning.redeem(settings, plan, command)
        if not isinstance(redeemed, Saved):
            return None, redeemed
        saved = redeemed
        if decide is not None and decide(flip.read(settings)[0]) != saved.target:
            raise click.UsageError(f"plan {plan} is for: migrator {saved.wanted.typed}")
    target = None if saved is None else saved.target
    chosen = decide if target is None else lambda _: target
    if chosen is None:
        raise click.UsageError("say what to move, or --plan ID")
    planned = moving.plan(
        settings,
        chosen,
        expected=saved.wanted.nodes if saved and nodes is None else nodes,
        wait_gates=None if wait_gates is None else timedelta(seconds=wait_gates),
        tell=progress.Gating(context),
    )
    if saved is not None and isinstance(planned, Plan):
        planning.require_unmoved(saved, planned)
    return saved, planned


def _order(
    context: Context,
    command: str,
    planned: Plan,
    saved: Saved | None,
    *,
    reason: str | None,
    sunset_at: datetime | None = None,
) -> Order:
    wanted = None if saved is None else saved.wanted
    return Order(
        who=context.operator(),
        why=wanted.why if wanted and reason is None else reason,
        command=command,
        sunset_at=wanted.sunset_at if wanted and sunset_at is None else sunset_at,
        plan=None if saved is None else saved.id,
        overrides=planned.overrides,
    )


def _announce(
    context: Context, planned: Plan, order: Order, losses: tuple[Loss, ...] = ()
) -> None:
    usual = None if order.soak is None else soaking.usual(context.settings)
    context.talk(outcome.announced(context.settings, planned, order, losses, usual=usual))


def _wait(context: Context, seconds: float | None) -> timedelta:
    usual = context.settings.gates.ack_timeout
    return usual if seconds is None else timedelta(seconds=seconds)


def _followed(context: Context, soak: Soak) -> str | None:
    """Show the soak to its end: why it was ended early, if it was."""
    context.note_committed("the move is committed and stays; the nodes watch its soak, not this")
    seen = following.follow(context.settings, soak, tell=lambda one: context.talk(one.said()))
    other = seen.taken_back
    return None if other is None else f"`{other.command}` by {other.who}: {other.why or ''}"


def _emit(
    context: Context, found: dict[str, Any], *, changed: bool, exit_code: Exit = Exit.DONE
) -> None:
    shown = {**found, "changed": changed}
    context.emit(
        found, partial(outcome.said, shown), schema=SCHEMA, changed=changed, exit_code=exit_code
    )
