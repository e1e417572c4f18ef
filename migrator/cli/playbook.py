"""`playbook list|show NAME[#anchor]`: what to type, what to expect, and when to stop."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from migrator.cli.context import Context, pass_context
from migrator.control import playbooks, right_now

if TYPE_CHECKING:
    from rich.console import RenderableType


@click.group()
def command() -> None:
    """Read the playbooks; they are shipped with this release and numbered in rollout order."""


@command.command("list")
@pass_context
def list_(context: Context) -> None:
    """Name every playbook."""
    found = playbooks.listed()
    result = {
        "playbooks": [
            {"name": each.name, "title": each.title, "path": each.path} for each in found
        ]
    }
    context.emit(
        result,
        lambda: "\n".join(f"{each.name:<24}{each.title}"[:100] for each in found),
        schema="migrator.playbooks/1",
    )


@command.command()
@click.argument("name", metavar="NAME[#ANCHOR]")
@click.option("--bare", is_flag=True, help="The text alone, without where this rollout stands.")
@pass_context
def show(context: Context, name: str, bare: bool) -> None:  # noqa: FBT001 - click's signature
    """Print a playbook, or one passage of it: rendered on a terminal, as written elsewhere.

    Where there are settings, this rollout's own numbers stand above it, read from the database.
    For example: migrator playbook show 30-cutover#gate-legacy-seen
    """
    found, text = playbooks.passage(name)
    anchor = name.partition("#")[2] or None
    whole = found.text()
    live = None
    if not bare and context.has_settings and right_now.matters_to(whole, anchor):
        live = right_now.read(lambda: context.settings, whole, anchor, now=datetime.now(UTC))
        text = right_now.here(text, live["environment"])
    result = {"name": found.name, "anchor": anchor, "live": live, "text": text}
    context.emit(result, lambda: _rendered(text, live), schema="migrator.playbook/1")


def _rendered(text: str, live: right_now.Live | None) -> RenderableType:
    above = "" if live is None else f"```text\n{live['text']}\n```\n\n"
    if not sys.stdout.isatty():
        return (above + text).rstrip("\n")
    from rich.markdown import Markdown  # noqa: PLC0415 - 60 ms that other commands need not pay

    return Markdown(above + _without_header(text))


def _without_header(text: str) -> str:
    """A page without the lines that machines read, which a terminal would run into one."""
    return text.partition("\n---\n")[2] if text.startswith("---\n") else text
