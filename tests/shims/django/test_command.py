"""`manage.py migrator`: the command line over the project's settings, exit codes kept."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import ManagementUtility, call_command
from django.test.utils import override_settings
from rest_framework_simplejwt.tokens import AccessToken

from tests.apps.django_simplejwt.running import dropped_in
from tests.rig import Rig
from tests.shims.django.test_project import TABLES


@pytest.fixture
def manage(desk_url: str, capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    """Runs `manage.py migrator …`; what it exits with and prints."""

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            ManagementUtility(["manage.py", "migrator", *arguments]).execute()
        printed = capsys.readouterr()
        return int(left.value.code or 0), printed.out, printed.err

    with override_settings(**dropped_in(SETTINGS=TABLES)):
        yield run


def test_status_is_that_of_the_projects_own_database(manage: Any, desk_url: str) -> None:
    Rig(desk_url).move("drain")
    code, out, _ = manage("status", "--json")
    assert code == 0
    assert json.loads(out)["phase"]["name"] == "drain"


def test_exit_codes_are_kept(manage: Any) -> None:
    assert manage("cutover", "--all", "--confirm", "test")[0] == 3
    assert manage("cutover")[0] == 2
    assert manage("rollback")[0] == 3


def test_options_of_django_are_not_ours(manage: Any) -> None:
    code, out, _ = manage("status", "--settings", "desk.settings", "--json", "--pythonpath=lib")
    assert code == 0
    assert json.loads(out)["phase"]["name"] == "observe"


def test_broken_settings_are_told_as_everywhere(manage: Any) -> None:
    with override_settings(MIGRATOR={"SIMPLEJWT": True, "SETTINGS": {"memory": {"polls": 3}}}):
        code, _, err = manage("status")
    assert code == 5
    assert "settings.unknown-key" in err


def test_help_is_the_command_lines_own(manage: Any) -> None:
    assert "advance" in manage("--help")[1]


def test_file_named_on_the_line_is_read_instead(manage: Any) -> None:
    code, _, err = manage("status", "--config", "none-such.toml")
    assert code == 5
    assert "settings.missing-file" in err


def test_inspect_knows_the_issuer_that_the_project_is(
    manage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    jwt = str(AccessToken.for_user(User.objects.create_user("ann")))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(jwt.encode())))
    code, out, _ = manage("inspect", "--json")
    assert code == 0
    found = json.loads(out)
    assert (found["issuer"]["id"], found["verified"]) == ("simplejwt", True)


def test_programs_may_call_it_too(manage: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        call_command("migrator", "status", "--json")
    assert not left.value.code
    assert json.loads(capsys.readouterr().out)["schema"] == "migrator.status/1"
