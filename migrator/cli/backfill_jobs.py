"""`backfill list`, `pause` and `tune`: backfills that run elsewhere, through their rows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from migrator.cli.backfill_pace import workers as workers_of
from migrator.cli.context import Context, pass_context
from migrator.control.backfill import summary, tuning

if TYPE_CHECKING:
    from migrator.control.backfill.tuning import Standing

_SCHEMA = "migrator.backfills/1"
_job = click.argument("job", metavar="JOB")


@click.command("list")
@pass_context
def list_jobs(context: Context) -> None:
    """Every backfill, how far it is, and what it waits for."""
    _emit(context, tuning.standing(context.settings), changed=False)


@click.command()
@_job
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=tuning.PAUSE_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="How long it may take; then nothing was changed, exit 6.",
)
@pass_context
def pause(context: Context, job: str, wait: float) -> None:
    """Have a backfill that runs elsewhere end after its page; its command exits 13.

    It goes on where it stopped when that command is run again.
    """
    found, changed = tuning.pause(
        context.settings, job, who=context.operator(), patience=wait, dry_run=context.dry_run
    )
    _emit(context, [found], changed=changed)


@click.command()
@_job
@click.option("--batch", type=click.IntRange(1, 100_000), help="Rows in one transaction.")
@click.option("--workers", type=workers_of, metavar="N|auto", help="Pages at once.")
@click.option("--sleep", "sleep_ms", type=click.IntRange(min=0), metavar="MS", help="Rest.")
@pass_context
def tune(
    context: Context, job: str, batch: int | None, workers: int | None, sleep_ms: int | None
) -> None:
    """Change the pace of a backfill that runs elsewhere, from its next page on."""
    given = {"batch": batch, "workers": workers, "sleep_ms": sleep_ms}
    turned = {key: value for key, value in given.items() if value is not None}
    if not turned:
        raise click.UsageError("say what: --batch N, --workers N or --sleep MS.")
    found, changed = tuning.tune(context.settings, job, turned, dry_run=context.dry_run)
    _emit(context, [found], changed=changed)


def _emit(context: Context, found: list[Standing], *, changed: bool) -> None:
    context.emit(
        {"generated_at": datetime.now(UTC), "backfills": [each.as_json() for each in found]},
        lambda: "\n".join(map(summary.standing, found)) or "there was no backfill yet",
        schema=_SCHEMA,
        changed=changed,
    )
