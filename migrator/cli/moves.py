"""`migrator advance | cutover | rollback | retire`: the moves of the rollout."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import click

from migrator.cli.context import Context, pass_context
from migrator.control import moving, outcome, retiring, rollout
from migrator.control.flip import Order
from migrator.control.moving import Plan
from migrator.control.outcome import SCHEMA
from migrator.control.rollout import Segment
from migrator.core.errors import Exit, Stopped

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from migrator.control.flip import Acknowledged
    from migrator.control.retiring import Loss
    from migrator.control.rollout import Target
    from migrator.core.phases import Rollout

_Any = TypeVar("_Any", bound="Callable[..., Any]")


def _after(command: _Any) -> _Any:
    """The options of every move."""
    for option in (
        click.option("--reason", help="Why; goes to the log."),
        click.option(
            "--wait",
            type=click.FloatRange(min=0),
            metavar="SECONDS",
            help="How long to wait for the nodes; gates.ack_timeout unless given, 0: don't.",
        ),
    ):
        command = option(command)
    return command


def _gated(command: _Any) -> _Any:
    """The options of every move that gates stand before."""
    for option in (
        click.option("--confirm", metavar="ENV", help="The environment's name, not asked for."),
        click.option(
            "--nodes", type=click.IntRange(min=1), help="How many nodes there should be."
        ),
        click.option(
            "--wait-gates",
            type=click.FloatRange(min=0),
            metavar="SECONDS",
            help="How long to wait for the gates before anything is committed.",
        ),
    ):
        command = option(command)
    return _after(command)


@click.group("advance")
def advance() -> None:
    """Go forward to `swap` or `drain`."""


@advance.command("swap")
@click.option("--percent", type=click.IntRange(0, 100), required=True, help="The cohort's size.")
@_gated
@pass_context
def swap(context: Context, /, *, percent: int, **options: Any) -> None:
    """Hand out sessions to PERCENT of the subjects; a cohort only grows."""
    _move(context, partial(rollout.swap, percent=percent), "advance swap", **options)


@advance.command("drain")
@click.option(
    "--sunset",
    type=click.DateTime(["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M%z"]),
    help="When the cutover is planned, with its offset: 2026-12-01T09:00+0000.",
)
@_gated
@pass_context
def drain(context: Context, /, *, sunset: datetime | None, **options: Any) -> None:
    """Issue sessions to everybody and legacy tokens to nobody."""
    _move(context, rollout.drain, "advance drain", sunset_at=sunset, **options)


@click.command("cutover")
@click.option("--all", "everybody", is_flag=True, help="Everybody but who is excepted.")
@click.option("--except", "excepted", multiple=True, metavar="SEGMENT", help="Stays in drain.")
@click.option("--segment", "segments", multiple=True, metavar="SEGMENT", help="Only this one.")
@_gated
@pass_context
def cutover(
    context: Context,
    /,
    *,
    everybody: bool,
    excepted: tuple[str, ...],
    segments: tuple[str, ...],
    **options: Any,
) -> None:
    """Stop accepting legacy tokens. A SEGMENT is issuer=ID, client=NAME or cohort=N."""
    if everybody == bool(segments):
        raise click.UsageError("say whom: --all, or --segment issuer=ID | client=NAME | cohort=N")
    if excepted and not everybody:
        raise click.UsageError("--except goes with --all")
    decide: Callable[[Rollout], Target | None]
    if everybody:
        decide = partial(rollout.cut_over, leaving=_segments(context, excepted))
    else:
        decide = partial(rollout.cut_over_segments, segments=_segments(context, segments))
    _move(context, decide, "cutover", **options)


@click.command("rollback")
@_after
@pass_context
def rollback(context: Context, *, reason: str | None, wait: float | None) -> None:
    """Go one phase back, all together. Never asks, never gated."""
    _move(context, rollout.back, "rollback", reason=reason, wait=wait)


@click.command("retire")
@_gated
@pass_context
def retire(context: Context, /, **options: Any) -> None:
    """Refuse legacy tokens unread and take their tables away. Irreversible."""
    _retire(context, **options)


def _segments(context: Context, texts: tuple[str, ...]) -> list[Segment]:
    issuers = [issuer.id for issuer in context.settings.issuers]
    try:
        return [Segment.parse(text, issuers=issuers) for text in texts]
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _move(
    context: Context,
    decide: Callable[[Rollout], Target | None],
    command: str,
    *,
    reason: str | None = None,
    wait: float | None = None,
    confirm: str | None = None,
    nodes: int | None = None,
    wait_gates: float | None = None,
    sunset_at: datetime | None = None,
) -> None:
    settings = context.settings
    say = partial(outcome.result, settings, command=command, dry_run=context.dry_run)
    planned = _planned(context, decide, nodes=nodes, wait_gates=wait_gates)
    if not isinstance(planned, Plan):
        if not context.dry_run:
            moving.look(settings, planned, who=context.operator())
        _emit(context, say(planned, planned), changed=False)
        return
    context.talk(outcome.announced(settings, planned, context.operator()))
    if context.dry_run:
        after = planned.target.of(planned.before)
        found = say(planned.before, after, plan=planned)
        _emit(context, found, changed=False, exit_code=planned.exit_code)
        return
    if confirm is not None:
        context.confirm(settings.environment, confirm)  # a wrong one: these may be wrong settings
    _hold(planned)
    if confirm is None and planned.target.gated:
        context.confirm(settings.environment, None)
    done = moving.make(
        settings,
        planned,
        Order(who=context.operator(), why=reason, command=command, sunset_at=sunset_at),
        wait=_wait(context, wait),
        committed=partial(_committed, context),
        tell=_Waiting(context),
    )
    found = say(done.before, done.after, plan=planned, seen=done.seen)
    _emit(context, found, changed=True, exit_code=done.exit_code)


def _retire(
    context: Context,
    *,
    reason: str | None,
    wait: float | None,
    confirm: str | None,
    nodes: int | None,
    wait_gates: float | None,
) -> None:
    settings = context.settings
    say = partial(outcome.result, settings, command="retire", dry_run=context.dry_run)
    planned = _planned(context, rollout.retire, nodes=nodes, wait_gates=wait_gates)
    losses: tuple[Loss, ...] = ()
    if isinstance(planned, Plan):
        losses = retiring.losses(settings)
        context.talk(outcome.announced(settings, planned, context.operator(), losses))
        before = planned.before
        if context.dry_run:
            found = say(before, planned.target.of(before), plan=planned, destroyed=losses)
            _emit(context, found, changed=False, exit_code=planned.exit_code)
            return
        if confirm is not None:
            context.confirm(settings.environment, confirm)
        _hold(planned)
        if confirm is None:
            context.confirm(settings.environment, None)
        order = Order(who=context.operator(), why=reason, command="retire")
        after = moving.make(
            settings, planned, order, wait=timedelta(), committed=partial(_committed, context)
        ).after
    else:
        before = after = planned
        if context.dry_run or not retiring.remaining(settings):
            _emit(context, say(before, after), changed=False)
            return
        losses = retiring.losses(settings)
        context.talk("retired already; the legacy tables are still there: going on")
        _committed(context, after)
    seen = retiring.finish(
        settings,
        after,
        wait=_wait(context, wait),
        who=context.operator(),
        tell=_Waiting(context),
    )
    found = say(before, after, seen=seen, destroyed=losses)
    code = Exit.DONE if seen.is_in_effect else Exit.NOT_ACKNOWLEDGED
    _emit(context, found, changed=True, exit_code=code)


def _planned(
    context: Context,
    decide: Callable[[Rollout], Target | None],
    *,
    nodes: int | None,
    wait_gates: float | None,
) -> Plan | Rollout:
    return moving.plan(
        context.settings,
        decide,
        expected=nodes,
        wait_gates=None if wait_gates is None else timedelta(seconds=wait_gates),
        tell=_Gating(context),
    )


def _hold(planned: Plan) -> None:
    if planned.exit_code is not Exit.DONE:
        raise Stopped(moving.refusal(planned), planned.exit_code)


def _wait(context: Context, seconds: float | None) -> timedelta:
    usual = context.settings.gates.ack_timeout
    return usual if seconds is None else timedelta(seconds=seconds)


def _committed(context: Context, after: Rollout) -> None:
    context.note_committed(outcome.interrupted(after))
    context.talk(f"committed epoch {after.epoch}: Ctrl-C stops only the wait from here on")


def _emit(
    context: Context, found: dict[str, Any], *, changed: bool, exit_code: Exit = Exit.DONE
) -> None:
    shown = {**found, "changed": changed}
    context.emit(
        found, partial(outcome.said, shown), schema=SCHEMA, changed=changed, exit_code=exit_code
    )


class _Waiting:
    """Says how far the nodes are, whenever they have come further."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._said = 0

    def __call__(self, seen: Acknowledged) -> None:
        fleet = seen.fleet
        acked = len(fleet.live) - len(fleet.waiting)
        if acked > self._said:
            self._said = acked
            self._context.talk(f"  acknowledged by {acked} of {len(fleet.live)}")


class _Gating:
    """Says which gates hold a move up, whenever that changes."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._said: list[str] = []

    def __call__(self, gates: tuple[Any, ...]) -> None:
        holding = [gate.id for gate in gates if gate.blocks]
        if holding != self._said:
            self._said = holding
            self._context.talk(f"  waiting for {', '.join(holding)}")
