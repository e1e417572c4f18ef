"""The cookies of dj-rest-auth on the way to ours, with the CSRF check they never had."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.conf import settings as project
from django.contrib.auth.models import User
from django.test import Client
from django.test.utils import override_settings

from migrator import wiring
from shims.django.checks import check
from tests.apps.django_simplejwt.running import dropped_in
from tests.rig import Rig
from tests.shims.django.test_project import TABLES

REST_AUTH = {
    "USE_JWT": True,
    "JWT_AUTH_COOKIE": "desk-access",
    "JWT_AUTH_REFRESH_COOKIE": "desk-refresh",
    "SESSION_LOGIN": False,
    "TOKEN_MODEL": None,
}
FORM = {"username": "ann", "password": "ann's password"}
OWN_PAGE = {"Sec-Fetch-Site": "same-origin"}
OTHER_SITE = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}


@pytest.fixture
def bare(desk_url: str) -> Iterator[Client]:
    """A browser that talks to the site as it always was."""
    url_conf = "tests.shims.django.cookie_site"
    with override_settings(REST_AUTH=REST_AUTH, ROOT_URLCONF=url_conf):
        User.objects.create_user("ann", password=FORM["password"])
        yield Client()


@pytest.fixture
def browser(bare: Client, desk_url: str, request: pytest.FixtureRequest) -> Iterator[Client]:
    """The same with the migration dropped in, in a phase and over the bridge."""
    Rig(desk_url).move(request.param)
    with override_settings(**dropped_in(SETTINGS=TABLES, BRIDGE=True)):
        yield Client()
        wiring.stop()


def test_bare_site_takes_what_another_site_made_the_browser_send(bare: Client) -> None:
    assert bare.post("/auth/login/", FORM).status_code == 200
    assert bare.post("/basket/", headers=OTHER_SITE).status_code == 200


@pytest.mark.parametrize("browser", ["swap", "drain", "cutover"], indirect=True)
def test_dropped_in_site_takes_it_from_its_own_pages_only(browser: Client) -> None:
    assert browser.post("/auth/login/", FORM).status_code == 200
    for name in ("desk-access", "desk-refresh"):
        assert browser.cookies[name].value.startswith("sess_")
    answer = browser.post("/basket/", headers=OWN_PAGE)
    assert (answer.status_code, answer.json()) == (200, {"basket": "ann"})
    forged = browser.post("/basket/", headers=OTHER_SITE)
    assert (forged.status_code, forged.json()) == (403, {"error": "csrf"})


@pytest.mark.parametrize("browser", ["swap"], indirect=True)
def test_refresh_by_cookie_keeps_the_session(browser: Client) -> None:
    browser.post("/auth/login/", FORM)
    held = browser.cookies["desk-refresh"].value
    answer = browser.post("/auth/token/refresh/", headers=OWN_PAGE)
    assert answer.status_code == 200
    assert "eyJ" not in answer.content.decode() + answer.cookies.output()
    assert browser.cookies["desk-refresh"].value == held
    assert browser.post("/basket/", headers=OWN_PAGE).status_code == 200


@pytest.mark.parametrize("browser", ["swap"], indirect=True)
def test_browser_from_before_keeps_its_login(browser: Client) -> None:
    ours = project.MIDDLEWARE
    with override_settings(MIDDLEWARE=ours[:-1]):
        before = Client()
        assert before.post("/auth/login/", FORM).status_code == 200
    browser.cookies.update(before.cookies)
    assert browser.cookies["desk-access"].value.startswith("eyJ")
    answer = browser.post("/basket/", headers=OWN_PAGE)
    assert (answer.status_code, answer.json()) == (200, {"basket": "ann"})
    assert browser.post("/basket/", headers=OTHER_SITE).status_code == 403


@pytest.mark.parametrize("browser", ["observe"], indirect=True)
def test_its_routes_are_found_though_they_are_regular_expressions(browser: Client) -> None:
    assert [each.id for each in check()] == []
