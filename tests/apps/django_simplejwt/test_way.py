"""The desk's clients on the way to sessions; none of them can be updated."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections
from rest_framework_simplejwt.settings import api_settings
from rest_framework_simplejwt.tokens import RefreshToken

from tests.apps.django_simplejwt.clients import Device, as_, refreshed, until
from tests.apps.django_simplejwt.running import Deploy

pytestmark = pytest.mark.xdist_group("desk")

ON_THE_WAY = ("observe", "swap", "drain", "cutover", "drain", "swap", "drain", "cutover")


def test_a_device_from_before_lives_through_every_phase(deploy: Deploy) -> None:
    deploy(None)
    device = Device.logged_in()
    for phase in (*ON_THE_WAY, "retired"):
        deploy(phase)
        assert device.ask(), phase
        device.renew()
        assert device.ask(), phase
    assert device.refresh.startswith("sess_")


def test_a_device_that_comes_back_late_is_let_in_by_its_refresh_token(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(None)
    monkeypatch.setattr(api_settings, "ACCESS_TOKEN_LIFETIME", timedelta(seconds=-60))
    device = Device.logged_in()  # its access token is over, as after a night
    monkeypatch.undo()
    for phase in ON_THE_WAY[:3]:
        deploy(phase)
        assert device.ask(), phase


def test_login_on_the_way_is_a_session_and_logout_ends_it(deploy: Deploy) -> None:
    deploy("drain")
    device = Device.logged_in()
    assert device.access.startswith("sess_")
    for phase in ("cutover", "observe", "drain", "retired"):
        deploy(phase)
        assert device.ask(), phase
    body = {"refresh": device.refresh}
    assert as_(device.access).post("/api/token/blacklist/", body).status_code == 200
    assert as_(device.access).get("/api/me/").status_code == 401, "simplejwt alone cannot do that"
    assert refreshed(device.refresh).status_code == 401


def test_what_the_desk_blacklists_ends_what_became_of_it(deploy: Deploy) -> None:
    deploy(None)
    device, other = Device.logged_in(), Device.logged_in()
    before = RefreshToken(device.refresh)  # type: ignore[arg-type] # its stubs want bytes and take both
    deploy("swap")
    device.renew()
    assert device.ask()
    before.blacklist()  # by the desk's own admin, who knows nothing of sessions
    until(lambda: as_(device.access).get("/api/me/").status_code == 401)
    assert refreshed(device.refresh).status_code == 401
    assert other.ask()


def test_lost_answer_of_a_refresh_costs_no_login(deploy: Deploy) -> None:
    deploy(None)
    device = Device.logged_in()
    deploy("swap")
    lost, again = (refreshed(device.refresh) for _ in range(2))
    assert (lost.status_code, again.status_code) == (200, 200)
    assert lost.json() == again.json()


def test_two_tabs_refreshing_at_once_get_one_session(deploy: Deploy) -> None:
    deploy(None)
    device = Device.logged_in()
    deploy("swap")

    def tab(_: int) -> Any:
        try:
            return refreshed(device.refresh).json()["refresh"]
        finally:
            connections.close_all()

    with ThreadPoolExecutor(2) as tabs:
        one, other = tabs.map(tab, range(2))
    assert one == other
    assert one.startswith("sess_")


def test_a_jwt_from_before_is_good_until_the_cutover_and_after_a_rollback(deploy: Deploy) -> None:
    deploy(None)
    device = Device.logged_in()
    seen = []
    for phase in (*ON_THE_WAY[:5], None):
        deploy(phase)
        seen.append(as_(device.access).get("/api/me/").status_code)
    assert seen == [200, 200, 200, 401, 200, 200]
