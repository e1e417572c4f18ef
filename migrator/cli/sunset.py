"""`migrator advance drain --sunset TIME`, again: the announced end is moved on every node."""

from __future__ import annotations

from datetime import UTC, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from migrator.cli import progress
from migrator.control import announcing, moving, outcome
from migrator.control.acknowledged import exit_of
from migrator.control.outcome import SCHEMA
from migrator.control.words import at
from migrator.core.errors import Exit
from migrator.core.phases import Phase

if TYPE_CHECKING:
    from datetime import datetime

    from migrator.cli.context import Context


def moved(
    context: Context,
    end: datetime,
    *,
    reason: str | None,
    wait: float | None,
    confirm: str | None,
    **_: Any,
) -> bool:
    """Whether this was about the announced end alone: drain stands already.

    Raises:
        Stopped: the end cannot be announced; CONFLICT; UNREACHABLE.
    """
    settings, end = context.settings, end.astimezone(UTC)
    before = announcing.checked(settings, end)
    if before.phase is not Phase.DRAIN:
        return False
    say = partial(outcome.result, settings, command="advance drain", dry_run=context.dry_run)
    context.talk(f"{settings.environment} · Sunset {at(before.sunset_at)} → {at(end)}")
    if before.sunset_at == end or context.dry_run:
        found = say(before, before) | {"would_change": before.sunset_at != end}
        _emit(context, found, end, changed=False)
        return True
    context.confirm(settings.environment, confirm)
    done = announcing.announce(settings, before, end, who=context.operator(), why=reason)
    progress.committed(context, done.after)
    seen = moving.settle(
        settings,
        done.after,
        wait=settings.gates.ack_timeout if wait is None else timedelta(seconds=wait),
        who=context.operator(),
        tell=progress.Waiting(context),
    )
    shown = say(before, done.after, seen=seen)
    _emit(context, shown, end, changed=True, exit_code=exit_of(seen))
    return True


def _emit(
    context: Context,
    found: dict[str, Any],
    end: datetime,
    *,
    changed: bool,
    exit_code: Exit = Exit.DONE,
) -> None:
    shown = {**found, "changed": changed}
    context.emit(
        {**found, "sunset_at": end},
        lambda: f"{outcome.said(shown)}; Sunset {at(end)}",
        schema=SCHEMA,
        changed=changed,
        exit_code=exit_code,
    )
