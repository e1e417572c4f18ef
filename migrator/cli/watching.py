"""Showing status again and again: redrawn in place on a terminal, a line at a time elsewhere.

Looking ends when the operator says so, which is no failure: Ctrl-C ends it with 0. Whatever stands
in the way meanwhile, such as a database that is down, is shown like everything else.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from migrator.cli.context import as_json
from migrator.control.status import SCHEMA, report
from migrator.control.status.line import line
from migrator.control.status.screen import screen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from migrator.cli.context import Context

# People are counted anew by whoever watches, where that takes longer than a look may.
_COUNTED_EACH = timedelta(minutes=1)


def watch(context: Context, every: float, *, as_line: bool) -> None:
    """Show status every so many seconds until Ctrl-C."""
    try:
        if context.as_json:
            _print(_reports(context, every), _object)
        elif as_line or not sys.stdout.isatty():
            _print(_reports(context, every), line)
        else:
            _draw(_reports(context, every))
    except KeyboardInterrupt:
        return


def _reports(context: Context, every: float) -> Iterator[dict[str, Any]]:
    patient = False
    while True:
        found = report(
            context.settings, now=datetime.now(UTC), patient=patient, dry_run=context.dry_run
        )
        yield found
        patient = _is_old(found)
        time.sleep(every)


def _is_old(found: dict[str, Any]) -> bool:
    hit = found["if_cut_over"]
    if hit is None:
        return False
    return hit["as_of"] is None or found["generated_at"] - hit["as_of"] > _COUNTED_EACH


def _object(found: dict[str, Any]) -> str:
    head = {"schema": SCHEMA, "exit_code": found["exit_code"], "changed": False}
    return json.dumps(json.loads(as_json({**head, **found})), ensure_ascii=False)


def _print(reports: Iterator[dict[str, Any]], said: Callable[[dict[str, Any]], str]) -> None:
    for found in reports:
        click.echo(said(found))
        sys.stdout.flush()


def _draw(reports: Iterator[dict[str, Any]]) -> None:
    from rich.console import Console  # noqa: PLC0415 - 40 ms that plain text need not pay
    from rich.live import Live  # noqa: PLC0415 - as above
    from rich.text import Text  # noqa: PLC0415 - as above

    with Live(console=Console(file=sys.stdout), auto_refresh=False) as live:
        for found in reports:
            live.update(Text(screen(found), no_wrap=True, overflow="ellipsis"), refresh=True)
