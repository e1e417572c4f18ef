"""`manage.py migrator …`: the command line, with the settings of this project.

Everything behind the name goes to it as it is, but for the two options that Django itself reads
there; its exit codes are what `manage.py` exits with.
"""

from __future__ import annotations

import argparse
from functools import cached_property
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from migrator import cli
from migrator.cli.context import Context
from migrator.settings import Settings
from shims.django.configuration import configuration

PROGRAM = "manage.py migrator"


class ProjectContext(Context):
    """One run of the command line in a project."""

    @cached_property
    def settings(self) -> Settings:
        """Those of `--config` where it is given, else the project's.

        Raises:
            BadSettings: with every problem; told as exit 5.
        """
        return configuration().settings if self.config is None else Settings.load(self.config)

    @property
    def has_settings(self) -> bool:
        """A project always has some."""
        return True if self.config is None else super().has_settings


class Command(BaseCommand):
    """`migrator`, for `manage.py` and `call_command`."""

    help = "Move this app from JWTs to opaque sessions: the migrator command line."
    # It reports what is wrong with the settings itself, and must run where a check fails.
    requires_system_checks = ()
    requires_migrations_checks = False

    def run_from_argv(self, argv: list[str]) -> None:
        """Hand everything behind the command's name to the command line."""
        self._run(_without_djangos(argv[2:]))

    def print_help(self, prog_name: str, subcommand: str) -> None:  # noqa: ARG002 - Django's signature
        """Its help, and not that of Django's options, which it does not take."""
        self._run(["--help"])

    def add_arguments(self, parser: CommandParser) -> None:
        """Let `call_command` pass any."""
        parser.add_argument("arguments", nargs=argparse.REMAINDER)

    def handle(self, *arguments: Any, **options: Any) -> None:
        """Run it; leaves by SystemExit with its exit code."""
        self._run([str(each) for each in (*arguments, *options.get("arguments", ()))])

    def _run(self, arguments: list[str]) -> None:
        cli.main.main(args=arguments, prog_name=PROGRAM, obj=ProjectContext())


def _without_djangos(arguments: list[str]) -> list[str]:
    """What is left once `--settings` and `--pythonpath`, which Django has obeyed, are gone."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--settings")
    parser.add_argument("--pythonpath")
    return parser.parse_known_args(arguments)[1]
