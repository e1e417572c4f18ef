"""`migrator status`: where the rollout stands."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from migrator.cli.context import Context, pass_context
from migrator.control.status import SCHEMA, report
from migrator.control.status.detail import detail
from migrator.control.status.line import line
from migrator.control.status.screen import screen
from migrator.core.errors import Exit


@click.command("status")
@click.option("--line", "as_line", is_flag=True, help="One line of key=value.")
@click.option("--detail", "with_detail", is_flag=True, help="With the census below.")
@pass_context
def command(context: Context, *, as_line: bool, with_detail: bool) -> None:
    """One screen: phase, nodes, traffic, drain, readiness, and what a cutover would cost."""
    found = report(
        context.settings, now=datetime.now(UTC), detail=with_detail, dry_run=context.dry_run
    )

    def text() -> str:
        if as_line:
            return line(found)
        below = detail(found) if with_detail and found["phase"] is not None else ""
        return screen(found) + (f"\n{below}" if below else "")

    context.emit(found, text, schema=SCHEMA, exit_code=Exit(found["exit_code"]))
