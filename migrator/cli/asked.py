"""What a move is asked for on the command line: its options, and the decision they come to.

`migrator cutover …` and `migrator plan cutover …` take the same words and mean the same by them.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import click

from migrator.cli.parameters import length
from migrator.control import clients, rollout
from migrator.control.rollout import Segment
from migrator.control.soaking import Asked

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from migrator.cli.context import Context
    from migrator.control.rollout import Target
    from migrator.core.phases import Rollout

Decide: TypeAlias = "Callable[[Rollout], Target | None]"
_Any = TypeVar("_Any", bound="Callable[..., Any]")

percent_option = click.option("--percent", type=click.IntRange(0, 100), help="The cohort's size.")
reason_option = click.option("--reason", help="Why; goes to the log.")
nodes_option = click.option(
    "--nodes", type=click.IntRange(min=1), help="How many nodes there should be."
)
sunset_option = click.option(
    "--sunset",
    type=click.DateTime(["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M%z"]),
    help="When the cutover is planned, with its offset: 2026-12-01T09:00+0000.",
)
unseen_option = click.option(
    "--unseen", is_flag=True, help="A client=NAME that was never seen is no slip of the pen."
)
soak_option = click.option(
    "--soak",
    type=length,
    metavar="DURATION",
    help="Go back by itself if sign-ins rise within it; gates.soak unless given, 0s: don't.",
)


def whom_options(command: _Any) -> _Any:
    """`--all`, `--except` and `--segment`: whom a cutover is about."""
    for option in (
        unseen_option,
        click.option(
            "--segment", "segments", multiple=True, metavar="SEGMENT", help="Only this one."
        ),
        click.option(
            "--except", "excepted", multiple=True, metavar="SEGMENT", help="Stays in drain."
        ),
        click.option("--all", "everybody", is_flag=True, help="Everybody but who is excepted."),
    ):
        command = option(command)
    return command


def after_options(command: _Any) -> _Any:
    """The options of every move that is made."""
    for option in (
        reason_option,
        click.option(
            "--wait",
            type=click.FloatRange(min=0),
            metavar="SECONDS",
            help="How long to wait for the nodes; gates.ack_timeout unless given, 0: don't.",
        ),
        click.option("--plan", metavar="ID", help="Make the move of this saved plan."),
    ):
        command = option(command)
    return command


def gated_options(command: _Any) -> _Any:
    """The options of every move that gates stand before."""
    for option in (
        click.option("--confirm", metavar="ENV", help="The environment's name, not asked for."),
        nodes_option,
        click.option(
            "--wait-gates",
            type=click.FloatRange(min=0),
            metavar="SECONDS",
            help="How long to wait for the gates before anything is committed.",
        ),
    ):
        command = option(command)
    return after_options(command)


def swap_to(percent: int | None) -> Decide:
    """Enter `swap`, or raise its percent."""
    if percent is None:
        raise click.UsageError("say how many: --percent N")
    return partial(rollout.swap, percent=percent)


def cutover_of(
    context: Context,
    *,
    everybody: bool,
    excepted: tuple[str, ...],
    segments: tuple[str, ...],
    unseen: bool,
) -> Decide:
    """Cut over whom the options name; a name nearly that of a client is refused where it matters.

    Said again, a move that was made is one that was made.
    """
    if everybody == bool(segments):
        raise click.UsageError("say whom: --all, or --segment issuer=ID | client=NAME | cohort=N")
    if excepted and not everybody:
        raise click.UsageError("--except goes with --all")
    named = _segments(context, excepted or segments)
    decide: Decide = partial(rollout.cut_over_segments, segments=named)
    if everybody:
        decide = partial(rollout.cut_over, leaving=named)
    if unseen:
        return decide

    def of_seen(stands: Rollout) -> Target | None:
        target = decide(stands)
        if target is not None:
            for one in clients.require_seen(context.settings, named):
                context.talk(f"! {one}")
        return target

    return of_seen


def soak_of(context: Context, asked: timedelta | None) -> Asked | None:
    """The soak of a move: as asked for, else as the settings say; None: there is none."""
    lasting = context.settings.gates.soak if asked is None else asked
    return Asked(lasting=lasting, sign_ins=context.settings.gates.sign_ins) if lasting else None


def _segments(context: Context, texts: tuple[str, ...]) -> list[Segment]:
    issuers = [issuer.id for issuer in context.settings.issuers]
    try:
        return [Segment.parse(text, issuers=issuers) for text in texts]
    except ValueError as error:
        raise click.UsageError(str(error)) from None
