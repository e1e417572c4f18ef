"""`playbook list|show NAME[#anchor]`: what to type, what to expect, and when to stop."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from migrator.cli.context import Context, pass_context
from migrator.control import playbooks

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
@pass_context
def show(context: Context, name: str) -> None:
    """Print a playbook, or one passage of it: rendered on a terminal, as written elsewhere."""
    found, text = playbooks.passage(name)
    result = {"name": found.name, "anchor": name.partition("#")[2] or None, "text": text}
    context.emit(result, lambda: _rendered(text), schema="migrator.playbook/1")


def _rendered(text: str) -> RenderableType:
    if not sys.stdout.isatty():
        return text.rstrip("\n")
    from rich.markdown import Markdown  # noqa: PLC0415 - 60 ms that other commands need not pay

    return Markdown(text)
