"""`sweep`: delete what is over and decides nothing any more."""

from __future__ import annotations

import click

from migrator.cli.context import Context, pass_context
from migrator.control import reach, sweeping
from migrator.core.errors import Exit


@click.command()
@click.option(
    "--limit-seconds",
    type=click.FloatRange(min=0),
    metavar="N",
    help="Begin no batch after so long; exit 13 if something is left.",
)
@pass_context
def command(context: Context, limit_seconds: float | None) -> None:
    """Delete ended sessions, rows of legacy tokens that are over, old feed, usage and nodes.

    Safe to interrupt: each batch is kept, and the next run goes on.
    """
    settings = context.settings
    home, keep = settings.database.schema, settings.sessions.keep_ended
    with reach.reached(settings.database.url.get_secret_value(), home) as connection:
        if context.dry_run:
            swept = sweeping.rehearse(connection, home, keep_ended=keep)
        else:
            context.note_committed(
                "every batch deleted so far is gone; the next run goes on", surely=False
            )
            swept = sweeping.sweep(connection, home, keep_ended=keep, limit_seconds=limit_seconds)
    context.emit(
        {"deleted": dict(swept.counts), "finished": swept.finished},
        lambda: _lines(swept, dry_run=context.dry_run),
        schema="migrator.sweep/1",
        changed=not context.dry_run and any(swept.counts.values()),
        exit_code=Exit.DONE if swept.finished else Exit.LIMIT,
    )


def _lines(swept: sweeping.Swept, *, dry_run: bool) -> str:
    said = "would be deleted" if dry_run else "deleted"
    lines = [f"{name:<18}{count:>10,} {said}" for name, count in swept.counts.items()]
    if not swept.finished:
        lines.append("stopped by --limit-seconds: run it again, it goes on from here")
    return "\n".join(lines)
