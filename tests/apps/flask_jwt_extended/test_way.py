"""What else the notebook's clients live through, besides what clients of every app do.

That is in tests/apps/test_unupdatable.py: all phases to the end, racing tabs, lost answers, and
back out again, for programs with headers and for browsers with cookies.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from migrator import wiring
from tests.apps.flask_jwt_extended.deployment import COOKIES
from tests.apps.unupdatable import NOTEBOOK, NOTEBOOK_IN_COOKIES, Device, InFlask
from tests.rig import Rig

ON_THE_WAY = ("observe", "swap", "drain", "cutover", "drain", "swap", "cutover", "retired")


@pytest.fixture
def site(migrated: str, tmp_path: Path) -> Iterator[InFlask]:
    """The notebook for programs."""
    yield InFlask(Rig(migrated), tmp_path, {})
    wiring.stop()


@pytest.fixture
def page(migrated: str, tmp_path: Path) -> Iterator[InFlask]:
    """The notebook for browsers."""
    yield InFlask(Rig(migrated), tmp_path, COOKIES)
    wiring.stop()


def write(browser: Device, csrf: str | None) -> int:
    """The status of what a page sends that writes something."""
    headers = {} if csrf is None else {"X-CSRF-TOKEN": csrf}
    answer = browser.client.post("/notes", json={"text": "milk"}, headers=headers)
    return int(answer.status_code)


def test_the_double_submit_protects_in_every_phase(page: InFlask) -> None:
    page.deploy(None)
    browser = Device(NOTEBOOK_IN_COOKIES, page)
    browser.log_in()
    for phase in ON_THE_WAY:
        page.deploy(phase)
        browser.sleep()
        browser.open()
        csrf = browser.client.cookies["csrf_access_token"]
        assert write(browser, csrf) == 201, phase
        assert write(browser, "guessed") == write(browser, None) == 401, phase
    assert browser.logins == 1


def test_a_jwt_from_before_is_good_until_the_cutover_and_after_a_rollback(site: InFlask) -> None:
    site.deploy(None)
    device = Device(NOTEBOOK, site)
    device.log_in()
    seen = []
    for phase in ("observe", "swap", "drain", "cutover", "drain", "swap", "observe", None):
        site.deploy(phase)
        seen.append(device.ask().status_code)
    assert seen == [200, 200, 200, 401, 200, 200, 200, 200]


def test_a_login_on_the_way_is_a_session_to_the_end_and_logout_ends_it(site: InFlask) -> None:
    site.deploy("drain")
    device = Device(NOTEBOOK, site)
    device.log_in()
    token = device.held["access_token"]
    assert token.startswith("sess_")
    assert device.held["refresh_token"] == token
    for phase in ("cutover", "observe", "drain", "retired"):
        site.deploy(phase)
        assert device.ask().status_code == 200, phase
    headers = {"Authorization": f"Bearer {token}"}
    assert device.client.delete("/logout", headers=headers).status_code == 200
    gone = device.ask()
    assert (gone.status_code, gone.json()) == (401, {"msg": "Token has been revoked"})
    assert device.refresh().status_code == 401


def test_a_session_that_is_over_is_told_so_in_the_codes_that_clients_know(site: InFlask) -> None:
    """Clients refresh on "access", and show the login screen on "refresh"."""
    site.deploy("drain")
    device = Device(NOTEBOOK, site)
    device.log_in()
    site.horizon()
    site.deploy("drain")
    for answer, kind in ((device.ask(), "access"), (device.refresh(), "refresh")):
        expired = {"msg": "Token has expired", "code": "token_expired", "type": kind}
        assert (answer.status_code, answer.json()) == (401, expired)
    device.open()
    assert device.logins == 2


def test_a_session_crosses_by_the_cookie_of_the_app_alone(page: InFlask) -> None:
    """No page knows of a cookie of ours, and one that is lost costs nothing."""
    page.deploy(None)
    browser = Device(NOTEBOOK_IN_COOKIES, page)
    browser.log_in()
    page.deploy("swap")
    browser.open()
    browser.renew()
    for cookie in list(browser.client.cookies.jar):
        if cookie.name not in {"access_token_cookie", "csrf_access_token"}:
            browser.client.cookies.jar.clear(cookie.domain, cookie.path, cookie.name)
    for phase in ("drain", "cutover", "retired"):
        page.deploy(phase)
        assert browser.ask().status_code == 200, phase
