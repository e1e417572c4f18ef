"""The command table: all it names is there, and takes the options that all commands take."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from migrator.cli import COMMANDS, main


def every(command: click.Command) -> list[click.Command]:
    below = list(command.commands.values()) if isinstance(command, click.Group) else []
    return [command, *(one for each in below for one in every(each))]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_table_exists_and_takes_the_global_options(name: str) -> None:
    found = main.get_command(click.Context(main), name)
    assert found is not None
    for one in every(found):
        options = {option for parameter in one.params for option in parameter.opts}
        assert {"--config", "--json", "--dry-run"} <= options, one.name
        assert one.help, one.name


def test_help_names_every_command() -> None:
    text = CliRunner().invoke(main, ["--help"]).stdout
    assert all(f"  {name} " in text for name in COMMANDS)
