"""`migrator status`: where the rollout stands."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from migrator.cli import watching
from migrator.cli.context import Context, pass_context
from migrator.control.status import SCHEMA, report
from migrator.control.status.detail import detail
from migrator.control.status.line import line
from migrator.control.status.screen import screen
from migrator.core.errors import Exit

_EVERY_S = 5.0


@click.command("status", epilog="watch a move from another terminal: migrator status --watch 2")
@click.option("--line", "as_line", is_flag=True, help="One line of key=value.")
@click.option("--detail", "with_detail", is_flag=True, help="Count anew; the census below.")
@click.option(
    "--watch",
    "every",
    is_flag=False,
    flag_value=_EVERY_S,
    type=click.FloatRange(min=0.1),
    metavar="[SECONDS]",
    help=f"Again and again until Ctrl-C; every {_EVERY_S:g} s unless said otherwise.",
)
@pass_context
def command(context: Context, *, as_line: bool, with_detail: bool, every: float | None) -> None:
    """One screen: phase, nodes, traffic, drain, readiness, and what a cutover would cost.

    It reads the database only, and answers within a second whatever the database holds.
    """
    if every is not None:
        if with_detail:
            raise click.UsageError("--watch shows one screen; --detail is longer: use one of them")
        watching.watch(context, every, as_line=as_line)
        return
    found = report(
        context.settings, now=datetime.now(UTC), detail=with_detail, dry_run=context.dry_run
    )

    def text() -> str:
        if as_line:
            return line(found)
        below = detail(found) if with_detail and found["phase"] is not None else ""
        return screen(found) + (f"\n{below}" if below else "")

    context.emit(found, text, schema=SCHEMA, exit_code=Exit(found["exit_code"]))
