"""Options for how fast a backfill goes and when it stops; how progress is told meanwhile."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from migrator.control.backfill import health, summary
from migrator.control.backfill.pacing import MOST_WORKERS, Limits, auto_workers
from migrator.control.backfill.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.progress import Progress as Bar

    from migrator.cli.context import Context
    from migrator.control.backfill.board import Progress

# Elsewhere than on a terminal: often enough to see that it lives, seldom enough for a log.
_LINE_SECONDS = 30.0


def workers(value: str) -> int:
    """How many workers: a number, or `auto`."""
    if value == "auto":
        return auto_workers()
    if not value.isdecimal() or not 1 <= int(value) <= MOST_WORKERS:
        raise click.BadParameter(f"give 1 to {MOST_WORKERS}, or auto.")
    return int(value)


pace_options = (
    click.option("--limit-rows", type=click.IntRange(min=1), help="Stop after so many; exit 13."),
    click.option(
        "--max-seconds",
        type=click.FloatRange(min=0, min_open=True),
        help="Begin no page after so long, waiting included; exit 13.",
    ),
    click.option(
        "--batch",
        type=click.IntRange(1, 100_000),
        help="Rows in one transaction; else as many as a quarter of a second takes.",
    ),
    click.option(
        "--workers",
        type=workers,
        default="1",
        metavar="N|auto",
        help="Pages at once, of a table; a file or a Redis has one reader.",
    ),
    click.option(
        "--sleep",
        "sleep_ms",
        type=click.IntRange(min=0),
        default=0,
        metavar="MS",
        help="Rest after each page.",
    ),
    click.option(
        "--max-latency",
        type=click.FloatRange(min=0, min_open=True),
        default=health.LATENCY_MS,
        show_default=True,
        metavar="MS",
        help="What reading one session may take: slower from half of it, exit 13 over it.",
    ),
    click.option(
        "--max-lag",
        type=click.FloatRange(min=0, min_open=True),
        default=health.LAG_S,
        show_default=True,
        metavar="S",
        help="How far replicas may be behind: slower from half of it, exit 13 over it.",
    ),
    click.option(
        "--window", metavar="22:00-06:00", help="Work within these hours only, wait outside them."
    ),
    click.option("--tz", default="UTC", show_default=True, help="The zone of --window."),
)


def limits_of(given: dict[str, Any]) -> Limits:
    """The limits that the options name."""
    window = None
    if given["window"] is not None:
        try:
            window = Window.parse(given["window"], given["tz"])
        except ValueError as error:
            raise click.UsageError(str(error)) from None
    return Limits(
        rows=given["limit_rows"],
        seconds=given["max_seconds"],
        batch=given["batch"],
        workers=given["workers"],
        sleep_ms=given["sleep_ms"],
        health=health.Limits(latency_ms=given["max_latency"], lag_s=given["max_lag"]),
        window=window,
    )


@contextmanager
def told(context: Context) -> Iterator[Callable[[Progress], None]]:
    """Where progress goes: a bar on a terminal, else a line now and then."""
    if not context.interactive:
        yield _Lines(context).tell
        return
    from rich.console import Console  # noqa: PLC0415 - a pipe need not pay for it
    from rich.progress import BarColumn, TextColumn  # noqa: PLC0415 - as above
    from rich.progress import Progress as Bar  # noqa: PLC0415 - as above

    columns = (TextColumn("backfill"), BarColumn(), TextColumn("{task.fields[words]}"))
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None, words="")
        yield lambda progress: _draw(bar, task, progress)


def _draw(bar: Bar, task: Any, progress: Progress) -> None:
    over = progress.total is not None and progress.done > progress.total
    bar.update(
        task,
        completed=progress.done,
        total=None if over else progress.total,
        words=summary.line(progress),
    )


class _Lines:
    """One line after each half a minute, and at once when waiting begins or is over."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._next = time.monotonic() + _LINE_SECONDS
        self._waiting: tuple[str, ...] = ()

    def tell(self, progress: Progress) -> None:
        begins = progress.waiting_on != self._waiting
        if begins or time.monotonic() >= self._next:
            self._waiting = progress.waiting_on
            self._next = time.monotonic() + _LINE_SECONDS
            self._context.talk("backfill: " + summary.line(progress))
