"""The desk's clients on the way to sessions; none of them can be updated."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connections
from rest_framework_simplejwt.settings import api_settings
from rest_framework_simplejwt.tokens import RefreshToken

from migrator import wiring
from migrator.control import schema
from tests.apps.django_simplejwt.clients import as_, log_in, refreshed, someone, until
from tests.apps.django_simplejwt.running import dropped_in, running, tables
from tests.conftest import CacheServer, DatabaseServer
from tests.rig import Rig

pytestmark = pytest.mark.xdist_group("desk")

Deploy = Callable[[str | None], None]
ON_THE_WAY = ("observe", "swap", "drain", "cutover", "drain", "swap", "drain", "cutover")


@pytest.fixture
def deploy(
    postgres: DatabaseServer, desk_template: str, redis_server: CacheServer
) -> Iterator[Deploy]:
    """Starts the desk anew in a phase, over the bridge, or bare."""
    name = f"desk_{uuid.uuid4().hex}"
    url = postgres.create_database(name, desk_template)
    rig = Rig(url)
    with ExitStack() as stack:

        def deployed(phase: str | None) -> None:
            stack.close()
            wiring.stop()
            if phase is not None:
                rig.move(phase)
            if phase == "retired":
                rig.execute("UPDATE migrator.rollout SET legacy_removed_at = now()")
                schema.contract(url)
            often = {"every": "100ms"}
            ours = dropped_in(SETTINGS=tables(redis_server), BRIDGE=True, LEDGER=often)
            stack.enter_context(running(url, **({} if phase is None else ours)))

        yield deployed
    wiring.stop()
    postgres.drop_database(name)


@dataclass
class Device:
    """Stores `access` and `refresh`, refreshes on 401, decodes nothing."""

    user: User
    access: str
    refresh: str

    @classmethod
    def logged_in(cls) -> Device:
        user = someone()
        return cls(user, **log_in(user))

    def ask(self) -> bool:
        """Whether the desk knows its user, after a refresh if need be."""
        answer = as_(self.access).get("/api/me/")
        if answer.status_code == 401:
            self.renew()
            answer = as_(self.access).get("/api/me/")
        said: Any = answer.json()
        assert "eyJ" not in answer.content.decode()
        return bool(said == {"username": self.user.username, "team": "south"})

    def renew(self) -> None:
        pair = refreshed(self.refresh).json()
        self.access, self.refresh = pair["access"], pair["refresh"]


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
