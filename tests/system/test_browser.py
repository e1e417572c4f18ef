"""The move from JWTs to sessions as a real browser lives through it: its jar, CORS, cache, tabs.

Pages and the API are on different ports of different hosts of one site (`shop.test`), as usual;
`blog.shop.test` is a sibling that somebody else may run, `evil.test` another site.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from migrator import wiring
from migrator.core.app import Sessions
from migrator.settings import Settings
from tests.apps.deployment import Deployment, sign
from tests.conftest import DatabaseServer
from tests.rig import Rig
from tests.system.browser.chromium import Browser, chromium
from tests.system.browser.servers import Certificate, api, free_port, pages

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("browser")]

CLEAR = [
    {"name": "access_token"},
    {"name": "access_token", "domain": "shop.test"},
    {"name": "refresh_token", "path": "/auth"},
]
COOKIE: dict[str, Any] = {"hint": "session_hint", "hint_domain": "shop.test", "clear": CLEAR}
API_HOST = "api.shop.test"
OURS = ("__Host-session", API_HOST, "/")
HINT = ("session_hint", ".shop.test", "/")


@dataclass(frozen=True, slots=True)
class Site:
    """Where everything is. `rig` moves the rollout of every deployment here."""

    rig: Rig
    certificate: Certificate
    pages_port: int
    api: str
    deployment: Deployment

    def page(self, host: str = "app.shop.test", api_url: str | None = None) -> str:
        """The URL of the client on a host, told where the API is."""
        return f"{self.origin(host)}/?api={api_url or self.api}"

    def origin(self, host: str) -> str:
        """The origin of pages of a host."""
        return f"https://{host}:{self.pages_port}"

    def sessions(self) -> Sessions:
        """What an operator's script, or another process of the app, does."""
        environ = self.deployment.environ()
        return wiring.sessions(Settings.load(environ["MIGRATOR_CONFIG"], environ=environ))

    def move(self, phase: str) -> None:
        """Move the rollout, and wait until every node has read of it."""
        self.rig.move(phase)
        deadline = time.monotonic() + 10
        behind = "epoch IS DISTINCT FROM (SELECT epoch FROM migrator.rollout)"
        while self.rig.count("nodes", f"lease_until > now() AND {behind}"):
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate.made(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def database_url(postgres: DatabaseServer, migrated_template: str) -> Iterator[str]:
    name = f"browser_{uuid.uuid4().hex}"
    yield postgres.create_database(name, migrated_template)
    postgres.drop_database(name)


@pytest.fixture(scope="module")
def pages_port(certificate: Certificate) -> Iterator[int]:
    with pages(certificate) as port:
        yield port


@contextmanager
def deployed(
    folder: Path, url: str, certificate: Certificate, pages_port: int, cookie: dict[str, Any]
) -> Iterator[Site]:
    app, partner = (f"https://{host}.test:{pages_port}" for host in ("app.shop", "partner"))
    http = {"allowed_origins": [app]}  # the partner's pages bring a bearer token, never a cookie
    deployment = Deployment(folder, url, None, {"cookie": cookie, "http": http})
    port = free_port()
    with api(deployment, port, [app, partner], certificate):
        where = f"https://{API_HOST}:{port}"
        yield Site(deployment.rig, certificate, pages_port, where, deployment)


@pytest.fixture(scope="module")
def shop(
    tmp_path_factory: pytest.TempPathFactory,
    database_url: str,
    certificate: Certificate,
    pages_port: int,
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("shop")
    with deployed(folder, database_url, certificate, pages_port, COOKIE) as site:
        yield site


@pytest.fixture(scope="module")
def chrome(certificate: Certificate) -> Iterator[Browser]:
    with chromium(certificate.spki) as browser:
        yield browser


@pytest.fixture
def site(shop: Site) -> Site:
    shop.move("swap")
    return shop


@pytest.fixture
def browser(chrome: Browser, shop: Site) -> Browser:
    chrome.forget(shop.api, shop.origin("app.shop.test"), shop.origin("partner.test"))
    return chrome


def with_jwt_cookie(browser: Browser, site: Site, **given: Any) -> str:
    """A visitor whom the app has given a JWT cookie, on the app's page; the JWT."""
    jwt = sign("ann")
    browser.put("access_token", jwt, site.api, secure=True, httpOnly=True, **given)
    browser.open(site.page())
    return jwt


def adopted(browser: Browser, site: Site) -> str:
    """A visitor whose browser holds our cookie; its value."""
    with_jwt_cookie(browser, site)
    browser.run("return withCookie('/me')")
    assert browser.run("return withCookie('/me')")["body"] == {"user": "ann", "via": "session"}
    return str(browser.cookies()[OURS]["value"])


def logged_in(browser: Browser, site: Site) -> str:
    """A visitor to whom the app itself gave our cookie at its login, and no other; its value."""
    browser.open(site.page())
    browser.run("return withCookie('/login', post({ user: 'ann', cookie: true }))")
    return str(browser.cookies()[OURS]["value"])


def transferred(browser: Browser, site: Site) -> int:
    """How many transfers the API has made, asked without a credential."""
    browser.open(site.page())
    return len(browser.run("return (await fetch(API + '/transferred')).json()"))


# A client with a token in its storage.


def test_a_jwt_client_reads_its_session_token_across_origins(browser: Browser, site: Site) -> None:
    browser.open(site.page())
    browser.run(f"localStorage.setItem('access', '{sign('ann')}')")
    first, second = (browser.run("return me()") for _ in range(2))
    assert first["body"] == {"user": "ann", "via": "legacy"}
    assert first["handed"] == browser.run("return localStorage.getItem('access')")
    assert first["handed"].startswith("sess_")
    assert second == {"status": 200, "handed": None, "body": {"user": "ann", "via": "session"}}


def test_no_other_header_is_exposed_by_us(browser: Browser, site: Site) -> None:
    browser.open(site.page())
    browser.run(f"localStorage.setItem('access', '{sign('ann')}')")
    names = browser.run("return [...(await ask('/me')).headers.keys()]")
    assert "session-token" in names
    assert "x-hidden" not in names


def test_two_tabs_that_refresh_at_once_stay_logged_in(browser: Browser, site: Site) -> None:
    browser.open(site.page())
    tabs = [str(browser.driver.current_window_handle)]
    over, refresh = sign("ann", lasts_s=-60), sign("ann", kind="refresh", lasts_s=86_400)
    browser.run(f"localStorage.setItem('access', '{over}')")
    browser.run(f"localStorage.setItem('refresh', '{refresh}')")
    for _ in range(2):
        tabs.append(browser.tab())
        browser.open(site.page())
    browser.run("const t = new BroadcastChannel('tabs'); t.postMessage('now'); t.close()")
    for tab in tabs:
        browser.turn_to(tab)
        said = browser.run("return together")
        assert (said["status"], said["body"]) == (200, {"user": "ann", "via": "session"})
    held = browser.run("return [localStorage.getItem('access'), localStorage.getItem('refresh')]")
    assert held[0] == held[1]
    assert held[0].startswith("sess_")
    family = "origin = 'exchange' AND revoked_at IS NULL"
    assert site.rig.count("sessions", family) == 1


def test_a_bearer_token_is_no_business_of_csrf(browser: Browser, site: Site) -> None:
    before = transferred(browser, site)
    browser.open(site.page("partner.test"))
    browser.run(f"localStorage.setItem('access', '{sign('ann')}')")
    assert browser.run("return said(await ask('/transfer', post({})))")["status"] == 201
    assert transferred(browser, site) == before + 1


# A client whose credential is a cookie.


def test_a_cookie_client_adopts_a_host_cookie_that_no_script_reads(
    browser: Browser, site: Site
) -> None:
    with_jwt_cookie(browser, site)
    first = browser.run("return withCookie('/me')")
    assert first == {"status": 200, "handed": None, "body": {"user": "ann", "via": "legacy"}}
    ours = browser.cookies()[OURS]
    assert (ours["secure"], ours["httpOnly"], ours["sameSite"]) == (True, True, "Lax")
    assert browser.run("return withCookie('/me')")["body"] == {"user": "ann", "via": "session"}
    browser.open(f"{site.api}/page")
    assert browser.text().startswith("hello ann")
    assert "sess_" not in browser.run("return document.cookie")


def test_a_page_sees_by_the_hint_that_there_is_a_session(browser: Browser, site: Site) -> None:
    adopted(browser, site)
    ours, hint = browser.cookies()[OURS], browser.cookies()[HINT]
    assert hint["value"] == "1"
    assert abs(hint["expires"] - ours["expires"]) < 2
    assert browser.run("return document.cookie") == "session_hint=1"


def test_a_login_by_the_app_itself_gets_its_hint_with_the_next_answer(
    browser: Browser, site: Site
) -> None:
    logged_in(browser, site)
    assert browser.names() == ["__Host-session"]
    browser.run("return withCookie('/me')")
    assert set(browser.cookies()) == {OURS, HINT}


def test_cookies_are_for_the_exact_origin_alone(browser: Browser, site: Site) -> None:
    adopted(browser, site)
    for host in ("blog.shop.test", "evil.test"):
        browser.open(site.page(host))
        with pytest.raises(AssertionError, match="Failed to fetch"):
            browser.run("return withCookie('/me')")
        with pytest.raises(AssertionError, match="Failed to fetch"):
            browser.run("return withCookie('/transfer', post({}))")


@pytest.mark.parametrize("held", ["session", "jwt"])
@pytest.mark.parametrize("host", ["blog.shop.test", "evil.test"])
def test_a_form_of_another_origin_does_nothing(
    browser: Browser, site: Site, held: str, host: str
) -> None:
    before = transferred(browser, site)
    if held == "session":
        logged_in(browser, site)
    else:
        # Of a cookie without SameSite a browser says Lax, and sends it along for two minutes.
        with_jwt_cookie(browser, site)
    browser.open(site.page(host))
    browser.run("submit('/transfer')")
    browser.until(lambda: browser.driver.current_url == f"{site.api}/transfer")
    # SameSite=Lax keeps our cookie from another site, and from a sibling it does not.
    is_sent = held == "jwt" or host == "blog.shop.test"
    assert browser.text() == ('{"error":"csrf"}' if is_sent else '{"user":null}')
    assert transferred(browser, site) == before


def test_a_form_of_the_apps_own_page_works(browser: Browser, site: Site) -> None:
    before = transferred(browser, site)
    adopted(browser, site)
    browser.run("submit('/transfer')")  # an allowed origin, though of another host and port
    browser.until(lambda: browser.driver.current_url == f"{site.api}/transfer")
    assert browser.text() == '{"user":"ann"}'
    assert transferred(browser, site) == before + 1


def test_a_websocket_of_another_origin_is_refused(browser: Browser, site: Site) -> None:
    adopted(browser, site)
    assert browser.run("return talk()") == {"user": "ann"}
    browser.open(site.page("blog.shop.test"))
    assert browser.run("return talk()") == {"closed": 1006}
    browser.open(site.page("evil.test"))
    assert browser.run("return talk()") in ({"user": None}, {"closed": 1006})


def test_a_stale_cookie_does_not_block_signing_up(browser: Browser, site: Site) -> None:
    token = logged_in(browser, site)
    assert site.sessions().end(token) == 1
    browser.until(lambda: bool(browser.run("return withCookie('/me')")["status"] == 401))
    said = browser.run("return withCookie('/signup', post({}))")
    assert (said["status"], said["body"]["known"]) == (201, False)
    assert OURS in browser.cookies(), "a late answer must not clear what a login may have set"
    browser.open(f"{site.api}/page")
    assert browser.text().startswith("hello nobody")
    assert {OURS, HINT}.isdisjoint(browser.cookies())


def test_a_revoked_jwt_cookie_goes_with_the_first_page_that_is_asked(
    browser: Browser, site: Site
) -> None:
    jwt = with_jwt_cookie(browser, site)
    site.sessions().end(jwt)
    assert browser.run("return withCookie('/signup', post({}))")["status"] == 401
    assert "access_token" in browser.names(), "a late answer must not clear what is newer"
    browser.open(f"{site.api}/page")
    assert "revoked" in browser.text()
    assert browser.names() == []
    browser.open(site.page())
    assert browser.run("return withCookie('/signup', post({}))")["status"] == 201


# Caches.


def test_an_answer_with_a_token_is_not_kept(browser: Browser, site: Site) -> None:
    with_jwt_cookie(browser, site)
    handed, adopting, kept = (browser.run("return withCookie('/counted')") for _ in range(3))
    assert adopting["body"]["hit"] == handed["body"]["hit"] + 1, "asked again"
    assert kept["body"] == adopting["body"], "and what the app lets caches keep is kept"


def test_going_back_after_the_logout_shows_nobody_s_page(browser: Browser, site: Site) -> None:
    browser.put("access_token", sign("ann"), site.api, secure=True, httpOnly=True)
    browser.open(f"{site.api}/page")
    assert browser.text().startswith("hello ann")
    browser.driver.execute_script("document.forms[0].submit()")
    browser.until(lambda: browser.driver.current_url == f"{site.api}/page?out")
    assert browser.text().startswith("hello nobody")
    assert browser.names() == []
    browser.driver.back()
    browser.until(lambda: browser.driver.current_url == f"{site.api}/page")
    assert browser.text().startswith("hello nobody")


# Old copies.


def test_logging_out_clears_the_session_its_hint_and_every_old_copy(
    browser: Browser, site: Site
) -> None:
    adopted(browser, site)
    browser.put("access_token", sign("ann"), site.api, domain=".shop.test", secure=True)
    browser.put("refresh_token", "old", site.api, path="/auth", secure=True)
    names = ["__Host-session", "access_token", "access_token", "refresh_token", "session_hint"]
    assert browser.names() == names
    assert browser.run("return withCookie('/logout', post({}))")["status"] == 204
    assert browser.names() == []


def test_a_jwt_cookie_waits_for_the_cutover(browser: Browser, site: Site) -> None:
    adopted(browser, site)
    browser.put("access_token", sign("ann"), site.api, domain=".shop.test", secure=True)
    site.move("drain")
    browser.run("return withCookie('/me')")
    assert browser.names().count("access_token") == 2
    site.move("cutover")
    assert browser.run("return withCookie('/me')")["body"]["user"] == "ann"
    assert browser.names() == ["__Host-session", "session_hint"]
    site.move("drain")
    assert browser.run("return withCookie('/me')")["body"]["user"] == "ann", "a rollback"


@pytest.mark.parametrize("stale_first", [True, False])
def test_a_jwt_cookie_on_an_old_domain_locks_nobody_out(
    browser: Browser, site: Site, stale_first: bool
) -> None:
    stale, fresh = sign("ann", lasts_s=-60), sign("ann")
    on_domain, on_host = (stale, fresh) if stale_first else (fresh, stale)
    browser.put("access_token", on_domain, site.api, domain=".shop.test", secure=True)
    browser.put("access_token", on_host, site.api, secure=True)
    browser.open(site.page())
    assert browser.run("return withCookie('/me')")["body"] == {"user": "ann", "via": "legacy"}
    assert browser.run("return withCookie('/me')")["body"] == {"user": "ann", "via": "session"}


@pytest.fixture(scope="module")
def plain_name(
    tmp_path_factory: pytest.TempPathFactory,
    database_url: str,
    certificate: Certificate,
    pages_port: int,
    shop: Site,
) -> Iterator[Site]:
    """The same shop under a cookie name without a prefix, which a Domain cookie may have too."""
    folder, cookie = tmp_path_factory.mktemp("plain"), {"name": "sid"}
    with deployed(folder, database_url, certificate, pages_port, cookie) as site:
        yield site


def test_an_old_copy_of_our_cookie_is_found_and_goes_by_itself(
    browser: Browser, plain_name: Site
) -> None:
    old, path = {"domain": ".shop.test", "secure": True}, f"{plain_name.api}/me"
    plain_name.move("swap")
    browser.put("sid", "of-an-older-deployment", path, **old)
    browser.open(plain_name.page())
    browser.run("return withCookie('/login', post({ user: 'ann', cookie: true }))")
    assert browser.names() == ["sid", "sid"]
    assert browser.run("return withCookie('/me')")["body"] == {"user": "ann", "via": "session"}
    assert set(browser.cookies()) == {("sid", API_HOST, "/")}

    theirs = plain_name.sessions().login("bob", legacy=dict).token
    browser.put("sid", str(theirs), path, **old)
    refused = browser.run("return fetch(API + '/me', { credentials: 'include' }).then(said)")
    assert (refused["status"], refused["body"]) == (400, {"error": "invalid_request"})
    assert browser.run("return withCookie('/me')")["body"] == {"user": "ann", "via": "session"}

    browser.put("sid", str(theirs), path, **old)
    again = browser.run("return withCookie('/login', post({ user: 'ann', cookie: true }))")
    assert again["status"] == 200, "two people's cookies lock nobody out of logging in"
    assert browser.run("return withCookie('/me')")["body"] == {"user": "ann", "via": "session"}


# Development without TLS.


@pytest.mark.parametrize(
    ("host", "secure", "name"),
    [
        ("localhost", True, "__Host-session"),  # which Chromium trusts like https
        ("localhost", False, "session"),
        ("127.0.0.1", False, "session"),
    ],
)
def test_a_page_and_an_api_on_two_ports_of_this_machine(
    browser: Browser,
    database_url: str,
    shop: Site,
    tmp_path: Path,
    host: str,
    secure: bool,
    name: str,
) -> None:
    with pages(None) as pages_port:
        origin, port = f"http://{host}:{pages_port}", free_port()
        tables: dict[str, dict[str, Any]] = {
            "cookie": {"secure": secure},
            "http": {"allowed_origins": [origin]},
        }
        deployment = Deployment(tmp_path, database_url, None, tables)
        with api(deployment, port, [origin], None):
            shop.move("swap")
            where = f"http://{host}:{port}"
            browser.put("access_token", sign("ann"), where)
            browser.open(f"{origin}/?api={where}")
            for via in ("legacy", "session"):
                said = browser.run("return withCookie('/me')")
                assert said["body"] == {"user": "ann", "via": via}
            assert name in browser.names()
            browser.run("return withCookie('/transfer', post({}))")
            browser.run("return withCookie('/logout', post({}))")
            assert name not in browser.names()
