"""The diary's own tests: they know its routes, and nothing of us.

Each runs with a client that keeps a token for the header and with one that keeps a cookie.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from fastapi.testclient import TestClient
from httpx2 import Response

from tests.apps.fastapi_users.app import Settings

pytestmark = pytest.mark.xdist_group("diary")

PASSWORD = "correct horse"
COOKIE = "fastapiusersauth"
REFUSED = {"detail": "Unauthorized"}


class Browser:
    """A client of the diary that holds its login as `way` says."""

    def __init__(self, client: TestClient, way: str) -> None:
        self.client = client
        self.way = way
        self.headers: dict[str, str] = {}

    def register(self) -> str:
        email = f"{secrets.token_hex(4)}@example.com"
        answer = self.post("/auth/register", json={"email": email, "password": PASSWORD})
        assert answer.status_code == 201
        return email

    def log_in(self, email: str, password: str = PASSWORD) -> Response:
        form = {"username": email, "password": password}
        answer = self.post(f"/auth/{self.way}/login", data=form)
        if answer.status_code == 200:
            assert answer.json()["token_type"] == "bearer"
            self.show(answer.json()["access_token"])
        return answer

    def show(self, token: str) -> None:
        """Send `token` from now on, whatever it is."""
        if self.way == "jwt":
            self.headers = {"Authorization": f"Bearer {token}"}
        else:
            self.client.cookies.clear()
            self.client.cookies.set(COOKIE, token)

    def get(self, path: str) -> Response:
        return self.client.get(path, headers=self.headers)

    def post(self, path: str, **content: Any) -> Response:
        return self.client.post(path, headers=self.headers, **content)


Opens = Callable[[], Browser]


@pytest.fixture(params=["jwt", "cookie"], ids=["header", "cookie"])
def opens(request: pytest.FixtureRequest, client: TestClient) -> Opens:
    """Opens a browser with an empty cookie jar."""

    def opened() -> Browser:
        # Sharing the running app, its event loop included, but not its jar.
        fresh = TestClient(client.app, base_url=str(client.base_url))
        fresh.portal = client.portal
        return Browser(fresh, request.param)

    return opened


@pytest.fixture
def browser(opens: Opens) -> Browser:
    return opens()


@pytest.fixture
def email(browser: Browser) -> str:
    """Of a user who is logged in."""
    email = browser.register()
    assert browser.log_in(email).status_code in {200, 204}
    return email


def refused(answer: Response) -> bool:
    return (answer.status_code, answer.json()) == (401, REFUSED)


def minted(settings: Settings, user: str, lasts_s: int = 3600, **claims: Any) -> str:
    payload = {
        "sub": user,
        "aud": ["fastapi-users:auth"],
        "exp": datetime.now(UTC) + timedelta(seconds=lasts_s),
        **claims,
    }
    return jwt.encode(payload, settings.secret, algorithm="HS256")


def mailed(settings: Settings, email: str, kind: str) -> str:
    return next(token for to, what, token in settings.outbox if (to, what) == (email, kind))


def test_a_registered_user_logs_in(browser: Browser, email: str) -> None:
    me = browser.get("/users/me")
    assert me.status_code == 200
    said = {"email": email, "is_active": True, "is_superuser": False, "is_verified": False}
    assert me.json().items() >= said.items()


def test_an_address_is_registered_once(browser: Browser, email: str) -> None:
    answer = browser.post("/auth/register", json={"email": email, "password": PASSWORD})
    assert (answer.status_code, answer.json()["detail"]) == (400, "REGISTER_USER_ALREADY_EXISTS")


def test_wrong_password_is_no_login(browser: Browser) -> None:
    email = browser.register()
    for user, password in ((email, "wrong"), ("nobody@example.com", PASSWORD)):
        answer = browser.log_in(user, password)
        assert (answer.status_code, answer.json()) == (400, {"detail": "LOGIN_BAD_CREDENTIALS"})


@pytest.mark.parametrize("path", ["/users/me", "/pages", "/pages/1"])
def test_strangers_are_refused(browser: Browser, path: str) -> None:
    assert refused(browser.get(path))


def test_the_front_page_is_for_everybody(opens: Opens) -> None:
    browser = opens()
    assert browser.get("/").json() == {"for": None}
    email = browser.register()
    browser.log_in(email)
    assert browser.get("/").json() == {"for": email}


@pytest.mark.parametrize("token", ["nonsense", "a.b.c", "eyJhbGciOiJub25lIn0.e30."])
def test_nonsense_is_refused(browser: Browser, token: str) -> None:
    browser.show(token)
    assert refused(browser.get("/users/me"))


def test_forged_and_expired_tokens_are_refused(
    browser: Browser, settings: Settings, email: str
) -> None:
    user = browser.get("/users/me").json()["id"]
    other = Settings(database_url="", secret="the secret of somebody else altogether")
    for token in (minted(other, user), minted(settings, user, lasts_s=-60)):
        browser.show(token)
        assert refused(browser.get("/users/me"))


def test_a_token_of_another_purpose_is_no_login(
    browser: Browser, settings: Settings, email: str
) -> None:
    browser.post("/auth/forgot-password", json={"email": email})
    browser.post("/auth/request-verify-token", json={"email": email})
    for kind in ("reset", "verify"):
        browser.show(mailed(settings, email, kind))
        assert refused(browser.get("/users/me"))


def test_a_login_with_a_dead_token_attached_works(browser: Browser, settings: Settings) -> None:
    email = browser.register()
    browser.show(minted(settings, secrets.token_hex(16), lasts_s=-60))
    assert browser.log_in(email).status_code in {200, 204}
    assert browser.get("/users/me").json()["email"] == email


def test_a_password_is_reset_by_mail(opens: Opens, settings: Settings) -> None:
    browser = opens()
    email = browser.register()
    assert browser.post("/auth/forgot-password", json={"email": email}).status_code == 202
    body = {"token": mailed(settings, email, "reset"), "password": "a new one"}
    assert browser.post("/auth/reset-password", json=body).status_code == 200
    assert browser.log_in(email).status_code == 400
    assert browser.log_in(email, "a new one").status_code in {200, 204}
    again = browser.post("/auth/reset-password", json=body)
    assert (again.status_code, again.json()["detail"]) == (400, "RESET_PASSWORD_BAD_TOKEN")


def test_an_address_is_verified_by_mail(browser: Browser, settings: Settings, email: str) -> None:
    assert browser.post("/newsletter").status_code == 403
    assert browser.post("/auth/request-verify-token", json={"email": email}).status_code == 202
    body = {"token": mailed(settings, email, "verify")}
    assert browser.post("/auth/verify", json=body).json()["is_verified"] is True
    assert browser.post("/newsletter").json() == {"to": email}
    assert browser.post("/auth/verify", json=body).json() == {
        "detail": "VERIFY_USER_ALREADY_VERIFIED"
    }


def test_logging_out_is_answered_and_clears_the_cookie(browser: Browser, email: str) -> None:
    answer = browser.post(f"/auth/{browser.way}/logout")
    assert answer.status_code == 204
    if browser.way == "cookie":
        assert COOKIE not in browser.client.cookies
        assert refused(browser.get("/users/me"))
    browser.headers = {}
    assert refused(browser.post(f"/auth/{browser.way}/logout"))


def test_pages_are_their_writers(opens: Opens, browser: Browser, email: str) -> None:
    made = browser.post("/pages", json={"text": "rain"})
    assert made.status_code == 201
    path = f"/pages/{made.json()['id']}"
    assert browser.get("/pages").json() == ["rain"]
    assert browser.get(path).json() == "rain"
    other = opens()
    other.log_in(other.register())
    assert other.get(path).status_code == 404
    assert other.get("/pages").json() == []


def test_users_change_themselves_and_nobody_else(
    opens: Opens, browser: Browser, email: str
) -> None:
    mine = browser.get("/users/me").json()["id"]
    assert browser.get(f"/users/{mine}").status_code == 403
    new = f"new-{email}"
    changed = browser.client.patch("/users/me", json={"email": new}, headers=browser.headers)
    assert changed.json()["email"] == new
    assert browser.get("/users/me").json()["email"] == new
    assert opens().log_in(new).status_code in {200, 204}


def test_a_blocked_user_is_refused_at_once(
    browser: Browser, email: str, block: Callable[[str], None]
) -> None:
    assert browser.get("/pages").status_code == 200
    block(email)
    assert refused(browser.get("/pages"))
    assert browser.log_in(email).json() == {"detail": "LOGIN_BAD_CREDENTIALS"}
