"""Taking the shim out again before the end: the steps of playbooks/35-rollback, on the desk."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from django.core.management import call_command

from tests.apps.django_simplejwt.clients import Device, as_, refreshed
from tests.apps.django_simplejwt.running import Deploy
from tests.rig import Rig

pytestmark = pytest.mark.xdist_group("desk")

Manage = Callable[..., Any]
Horizon = Callable[[], datetime | None]
BACK = {"swap": 1, "drain": 2, "cutover": 3}


@pytest.fixture
def manage(capsys: pytest.CaptureFixture[str]) -> Manage:
    """Runs `manage.py migrator … --json`; what it says."""

    def run(*arguments: str) -> Any:
        with pytest.raises(SystemExit) as left:
            call_command("migrator", *arguments, "--json")
        assert not left.value.code, capsys.readouterr()
        return json.loads(capsys.readouterr().out)

    return run


@pytest.fixture
def horizon(manage: Manage) -> Horizon:
    """When the shim may go, as `status` says it."""

    def said() -> datetime | None:
        found = manage("status")["removal_horizon"]
        return None if found is None else datetime.fromisoformat(found)

    return said


def holds(device: Device, beginning: str) -> bool:
    return all(each.startswith(beginning) for each in (device.access, device.refresh))


@pytest.mark.parametrize("start", BACK)
def test_nobody_who_refreshes_is_logged_out_by_taking_the_shim_out(
    deploy: Deploy, manage: Manage, horizon: Horizon, start: str
) -> None:
    """The refresh is what leads back: a session is no JWT to whoever never asks for another."""
    deploy(None)
    idle, moved = Device.logged_in(), Device.logged_in()
    deploy("swap")
    moved.renew()
    deploy(start)
    begun = Device.logged_in()
    assert holds(moved, "sess_")
    assert holds(begun, "sess_")

    for _ in range(BACK[start]):
        manage("rollback", "--reason", "out again")
    told = horizon()
    assert told is not None
    everybody = [idle, moved, begun, Device.logged_in()]
    for device in everybody:  # before the horizon, or its login was over in any case
        assert device.ask()
        device.renew()
        assert device.ask()
        assert holds(device, "eyJ")
    assert horizon() == told, "no refresh puts it off"

    deploy(None)
    for device in everybody:
        assert device.ask()
        device.renew()
        assert device.ask()


def test_lost_answer_on_the_way_back_costs_no_login(deploy: Deploy) -> None:
    deploy("swap")
    device = Device.logged_in()
    deploy("observe")
    lost, again = (refreshed(device.refresh).json() for _ in range(2))
    deploy(None)
    for pair in (lost, again):
        assert as_(pair["access"]).get("/api/me/").status_code == 200
        assert refreshed(pair["refresh"]).status_code == 200


def test_who_comes_after_the_horizon_is_told_what_an_old_jwt_is_told(
    deploy: Deploy, rig: Rig, horizon: Horizon
) -> None:
    deploy("swap")
    device = Device.logged_in()
    rig.execute(
        "UPDATE migrator.sessions SET expires_at = now(), last_seen_at = now() - interval '1 year'"
    )
    deploy("observe")
    assert horizon() is None, "no session lives: the shim may go"
    answer = refreshed(device.refresh)
    assert answer.status_code == 401
    assert answer.json() == {"detail": "Token is expired", "code": "token_not_valid"}
    device = Device.logged_in()
    deploy(None)
    assert device.ask()
