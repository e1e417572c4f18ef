"""Kinds of arguments that several commands take. None of them repeats what it refuses.

What was typed in the wrong place may be a token.
"""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import click


def session_id(value: str) -> UUID:
    """The id of a session; a token is never one."""
    try:
        return UUID(value)
    except ValueError:
        raise click.BadParameter(
            "that is no session id (`migrator sessions list` shows them). A token is read from "
            "stdin with --stdin, never from the command line."
        ) from None


def moment(value: str) -> datetime:
    """A time that says its offset, such as 2026-11-23T12:00:00Z."""
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        raise click.BadParameter("a time is written like 2026-11-23T12:00:00Z.") from None
    if found.tzinfo is None:
        raise click.BadParameter("say the offset too, as in 2026-11-23T12:00:00Z.")
    return found.astimezone(UTC)


reason_option = click.option(
    "--reason",
    default="revoked",
    show_default=True,
    metavar="TEXT",
    help="Why; stands in the rows it changes.",
)
