"""The command line: which commands there are, and how whatever ends one early is told.

A command is parse → one call into `migrator.control` → print, one file per group. Each is imported
when it is asked for, so that `status` in a loop does not pay for the demo. The options `--config`,
`--json` and `--dry-run` are taken before and after any command's name; `context.py` adds them.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from migrator.cli.context import Context, accept_everywhere, interruptible, told

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["COMMANDS", "main"]


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a command is, under which heading help shows it, and in how many words."""

    target: str
    heading: str
    help: str


COMMANDS: Mapping[str, Entry] = {
    name: Entry(f"migrator.cli.{target}", heading, words)
    for heading, rows in {
        "Set up": (
            ("init", "init:command", "Write a commented migrator.toml and make the swap key."),
            ("doctor", "doctor:command", "Check settings, servers, keys and clocks."),
            ("inspect", "inspect:command", "Say what would happen to a JWT, and why."),
            ("db", "db:command", "Bring our tables, and say how they stand."),
            ("serve", "serve:command", "Answer proxies and services that ask about a credential."),
            ("demo", "demo.command:demo", "Run a whole migration on servers of its own."),
        ),
        "Where it stands": (
            ("status", "status:command", "One screen: phase, nodes, traffic, readiness."),
            ("nodes", "nodes:command", "Every process that runs the shim, and its epoch."),
            ("gates", "gates:command", "May I enter this phase, and what is missing?"),
            ("compare", "compare:command", "Where the app and the shim would differ."),
            ("log", "log:command", "Who moved what, when and why."),
            ("playbook", "playbook:command", "Read the playbooks."),
        ),
        "Move": (
            ("advance", "moves:advance", "Go on to swap (or raise its percent), or to drain."),
            ("cutover", "moves:cutover", "Stop accepting legacy tokens. Reversible."),
            ("rollback", "moves:rollback", "Go one phase back. Never asks, never gated."),
            ("retire", "moves:retire", "Take the legacy tables away. Irreversible."),
            ("brownout", "brownout:command", "Refuse some JWTs for a while, as all will be."),
            ("plan", "plan:command", "Decide a move now, by its evidence; make it later."),
            ("hold", "hold:command", "Keep moves forward back, with a reason and an end."),
            ("override", "override:command", "Let a gate pass on your name, until a time."),
            (
                "backfill",
                "backfill_sources:command",
                "Make sessions of a ledger of legacy tokens.",
            ),
        ),
        "Sessions": (
            ("sessions", "sessions:command", "List, show, revoke, regenerate, expire sessions."),
            ("revoke-subject", "revoke_subject:command", "End everything a subject has."),
            ("cutoff", "cutoff:command", "Refuse legacy tokens of a subject, key or issuer."),
            ("sweep", "sweep:command", "Delete what is over and decides nothing any more."),
        ),
    }.items()
    for name, target, words in rows
}


class Commands(click.Group):
    """The top of the command line: loads a command when it is named, and tells every ending."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - Click's signature
        """Every name, in the order help shows them."""
        return [*COMMANDS]

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002 - as above
        cmd_name: str,
    ) -> click.Command | None:
        """The command called `cmd_name`, imported now."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module, _, attribute = entry.target.partition(":")
        found: click.Command = getattr(import_module(module), attribute)
        return accept_everywhere(found)

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002 - as above
        formatter: click.HelpFormatter,
    ) -> None:
        """Write the table: help must not import what it only names."""
        for heading in dict.fromkeys(entry.heading for entry in COMMANDS.values()):
            with formatter.section(heading):
                rows: Sequence[tuple[str, str]] = [
                    (name, entry.help)
                    for name, entry in COMMANDS.items()
                    if entry.heading == heading
                ]
                formatter.write_dl(rows)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command; a process that is ours alone ends deaf to Ctrl-C once it has answered."""
        if not args and not kwargs:
            return super().main()
        with interruptible():
            return super().main(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command that was named."""
        with told(ctx.ensure_object(Context)):
            return super().invoke(ctx)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="jwt-way-out", prog_name="migrator")
def main() -> None:
    """Move a running app from JWTs to opaque sessions, with nobody logged out."""


accept_everywhere(main)
