"""Kinds of arguments that several commands take. None of them repeats what it refuses.

What was typed in the wrong place may be a token.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import click
from pydantic_core import PydanticCustomError

from migrator.settings.values import parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable

_Any = TypeVar("_Any", bound="Callable[..., Any]")


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


def length(value: str) -> timedelta:
    """A length of time as the settings write it: 14d, 24h, 10m, 30s."""
    try:
        return parse_duration(value)
    except PydanticCustomError as error:
        raise click.BadParameter(f"{error.message()}, as in 24h.") from None


def words(value: str) -> str:
    """Words that say something: whoever reads them later has nothing else to go by."""
    if not value.strip():
        raise click.BadParameter("say it in words: a blank explains nothing.")
    return value.strip()


def term_options(command: _Any) -> _Any:
    """`--until TIME` and `--for DURATION`: how long a decision stands."""
    for option in (
        click.option("--until", type=moment, metavar="TIME", help="Until when, with its offset."),
        click.option(
            "--for", "lasting", type=length, metavar="DURATION", help="For how long: 24h, 3d."
        ),
    ):
        command = option(command)
    return command


def one_end(until: datetime | None, lasting: timedelta | None) -> None:
    """Refuse both and neither."""
    if (until is None) == (lasting is None):
        raise click.UsageError("say until when: --for 24h, or --until 2026-11-23T12:00:00Z")
