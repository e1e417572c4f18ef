"""`migrator brownout …`: refuse some legacy tokens for a while, as they all will be."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from migrator.cli.asked import unseen_option
from migrator.cli.context import Context, pass_context
from migrator.cli.parameters import moment, one_end, term_options
from migrator.control.brownouts import reporting, scheduling, words
from migrator.control.brownouts.asking import Asked
from migrator.control.rollout import Segment
from migrator.core.brownouts import Limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from migrator.control.brownouts.scheduling import Decided


def _start(value: str) -> datetime | None:
    return None if value == "now" else moment(value)


_reason = click.option("--reason", metavar="TEXT", help="Why; goes to the log.")
_wait = click.option(
    "--wait",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="How long to wait for the nodes; gates.ack_timeout unless given, 0: don't.",
)
_id = click.argument("number", metavar="ID", type=click.IntRange(min=1))
_id_or_all = click.argument("number", metavar="[ID]", type=click.IntRange(min=1), required=False)


@click.group("brownout")
def command() -> None:
    """Refuse some legacy tokens for a while, with the 401 they will all get after the cutover.

    A brownout takes effect in `drain` alone: a rollback ends it at once.
    """


@command.command(
    "schedule",
    epilog="Example: migrator brownout schedule --from 2026-12-01T09:00:00Z --for 15m --percent "
    "10 --reason CHG-12",
)
@click.option("--from", "start", required=True, metavar="TIME", help="A TIME, or `now`.")
@term_options
@click.option("--segment", metavar="SEGMENT", help="issuer=ID, client=NAME or cohort=N; else all.")
@unseen_option
@click.option(
    "--percent",
    type=click.IntRange(1, 100),
    required=True,
    help="Of whom it is about; others in each brownout.",
)
@click.option(
    "--abort-sign-ins",
    type=click.FloatRange(min=1, min_open=True),
    metavar="FACTOR",
    help="End it when more than so many times as many log in; gates.sign_ins unless given.",
)
@click.option(
    "--abort-subjects",
    type=click.IntRange(min=1),
    metavar="N",
    help="End it when it refused more subjects.",
)
@_reason
@_wait
@click.option("--confirm", metavar="ENV", help="The environment's name, not asked for.")
@pass_context
def schedule(
    context: Context,
    /,
    *,
    start: str,
    until: datetime | None,
    lasting: timedelta | None,
    segment: str | None,
    unseen: bool,
    percent: int,
    abort_sign_ins: float | None,
    abort_subjects: int | None,
    reason: str | None,
    wait: float | None,
    confirm: str | None,
) -> None:
    """Announce a window to every node; who would be refused is said before it is confirmed."""
    one_end(until, lasting)
    settings = context.settings
    factor = settings.gates.sign_ins if abort_sign_ins is None else abort_sign_ins
    asked = Asked(
        start=_start(start),
        until=until,
        lasting=lasting,
        segment=None if segment is None else _segment(context, segment),
        unseen=unseen,
        percent=percent,
        limits=Limits(sign_ins=factor, subjects=abort_subjects),
    )
    planned = scheduling.plan(settings, asked, who=context.operator(), why=reason)
    context.talk(words.announced(settings.environment, planned))
    if context.dry_run:
        _emit(context, scheduling.rehearsed(planned))
        return
    context.confirm(settings.environment, confirm)
    _settle(context, scheduling.schedule(settings, planned), wait)


@command.command("list")
@pass_context
def listed(context: Context) -> None:
    """Every brownout: to come, under way, and over."""
    found = scheduling.listed(context.settings)
    context.emit(found, partial(words.listed, found), schema=scheduling.LISTED)


@command.command("pause")
@_id_or_all
@_reason
@_wait
@pass_context
def pause(context: Context, number: int | None, reason: str | None, wait: float | None) -> None:
    """Take ID, or all that are ahead, away until they are resumed."""
    _decide(context, partial(scheduling.pause, number=number), reason, wait)


@command.command("resume")
@_id_or_all
@_reason
@_wait
@pass_context
def resume(context: Context, number: int | None, reason: str | None, wait: float | None) -> None:
    """Give ID, or all that are paused, back: what is left of the window."""
    _decide(context, partial(scheduling.resume, number=number), reason, wait)


@command.command("cancel")
@_id
@_reason
@_wait
@pass_context
def cancel(context: Context, number: int, reason: str | None, wait: float | None) -> None:
    """Call ID off; an open one ends at once."""
    _decide(context, partial(scheduling.cancel, number=number), reason, wait)


@command.command("abort")
@_id
@_reason
@_wait
@pass_context
def abort(context: Context, number: int, reason: str | None, wait: float | None) -> None:
    """End ID, which is open, at once: it went wrong, and counts for nothing."""
    _decide(context, partial(scheduling.abort, number=number), reason, wait)


@command.command("report")
@_id
@pass_context
def report(context: Context, number: int) -> None:
    """Forecast against what happened, and how whom it refused came back, by client."""
    found = reporting.report(context.settings, number)
    context.emit(found, partial(words.reported, found), schema=reporting.SCHEMA)


def _segment(context: Context, text: str) -> Segment:
    try:
        return Segment.parse(text, issuers=[issuer.id for issuer in context.settings.issuers])
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _decide(
    context: Context, decide: Callable[..., Decided], reason: str | None, wait: float | None
) -> None:
    found = decide(context.settings, who=context.operator(), why=reason, dry_run=context.dry_run)
    _settle(context, found, wait)


def _settle(context: Context, decided: Decided, wait: float | None) -> None:
    settings = context.settings
    if decided.changed:
        epoch = decided.rollout.epoch
        context.note_committed(f"epoch {epoch} is committed and stays; only the wait was stopped")
        context.talk(f"committed epoch {epoch}: Ctrl-C stops only the wait from here on")
    usual = settings.gates.ack_timeout
    limit = usual if wait is None else timedelta(seconds=wait)
    _emit(context, scheduling.settle(settings, decided, wait=limit, who=context.operator()))


def _emit(context: Context, found: Decided) -> None:
    result: dict[str, Any] = found.as_json()
    context.emit(
        result,
        partial(words.decided, found),
        schema=scheduling.DECIDED,
        changed=found.changed,
        exit_code=found.exit_code,
    )
