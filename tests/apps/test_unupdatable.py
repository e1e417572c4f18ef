"""Whoever logged in before us never sees the login screen again, to the end or back out of it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import jwt
import pytest

from migrator import wiring
from tests.apps.unupdatable import APPS, Device, Facts, Site, installed
from tests.cli.deployment import Deployment as Operator
from tests.rig import Rig


@pytest.fixture(params=APPS, ids=lambda facts: str(facts.kind))
def facts(request: pytest.FixtureRequest) -> Facts:
    facts: Facts = request.param
    return facts


@pytest.fixture
def site(facts: Facts, migrated: str, tmp_path: Path) -> Iterator[Site]:
    """The app, before us."""
    site = installed(facts, Rig(migrated), tmp_path)
    site.deploy(None)
    yield site
    wiring.stop()


@pytest.fixture
def device(facts: Facts, site: Site) -> Device:
    """A client that logged in before us."""
    device = Device(facts, site)
    device.log_in()
    return device


def test_whoever_logged_in_before_lives_through_every_phase(site: Site, device: Device) -> None:
    for phase in ("observe", "swap", "drain", "cutover", "drain", "cutover", "retired"):
        site.deploy(phase)
        device.open()
        device.sleep()
        device.open()
        site.night()
    assert device.logins == 1
    assert device.holds_session


@pytest.mark.parametrize("phase", ["swap", "drain"])
def test_neither_racing_tabs_nor_lost_answers_cost_a_login(
    site: Site, device: Device, phase: str
) -> None:
    site.deploy(phase)
    for _ in ("with JWTs", "with sessions"):
        tabs = [device.tab() for _ in range(2)]
        with ThreadPoolExecutor(2) as racing:
            list(racing.map(Device.renew, tabs))
        lost = device.refresh()
        assert lost.status_code == 200
        device = device.tab()
        device.renew()
        for each in (*tabs, device):
            each.sleep()
            each.open()
            assert each.logins == 0
            assert each.holds_session
            assert each.held == device.held
    assert site.rig.count("sessions", "origin = 'exchange'") == 1


def ends(site: Site) -> list[datetime]:
    """When the sessions end that took the place of refresh tokens."""
    query = "SELECT expires_at FROM migrator.sessions WHERE origin = 'exchange'"
    return [end for (end,) in site.rig.execute(query)]


@pytest.mark.parametrize("phase", ["swap", "drain"])
def test_taking_the_shim_out_again_logs_nobody_out(
    site: Site, facts: Facts, device: Device, phase: str, tmp_path: Path
) -> None:
    """By the steps of 35-rollback; whoever refreshes meanwhile goes back to JWTs."""
    away, late = Device(facts, site), Device(facts, site)
    away.log_in()
    promised = jwt.decode(device.held[facts.named[1]], options={"verify_signature": False})["exp"]
    site.deploy(phase)
    late.log_in()
    device.renew()
    assert late.holds_session
    assert device.holds_session
    operator = Operator(site.rig.url, tmp_path)
    for _ in range({"swap": 1, "drain": 2}[phase]):
        operator.json("rollback", "--reason", "out again")
    users = (device, away, late)
    for each in users:
        each.sleep()
        each.open()
    device.renew()
    assert [each.holds_session for each in users] == [False, False, True]
    assert [each.logins for each in users] == [1, 1, 1]
    horizon = datetime.fromisoformat(operator.json("status")["removal_horizon"])
    assert abs(horizon - max(ends(site))) < timedelta(milliseconds=1)
    assert min(ends(site)).timestamp() >= promised, "no sooner than the app itself would have"

    site.horizon()
    site.deploy("observe")
    for each in users:
        each.open()
    assert "the shim may go now" in operator.json("status")["unknown"]["removal_horizon"]

    site.deploy(None)
    site.rig.execute("DROP SCHEMA migrator CASCADE")
    for each in users:
        each.open()
        each.sleep()
        each.open()
    assert [each.logins for each in users] == [1, 1, 2], "a session lasts to its end, as told"
