"""The diary's clients on the way to sessions: browsers with cookies, programs without."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from migrator import wiring
from migrator.control import schema
from migrator.settings import Settings
from tests.apps.fastapi_users.deployment import BRIDGE, Diary
from tests.rig import Rig

pytestmark = pytest.mark.xdist_group("diary")

EMAIL, PASSWORD = "ann@example.com", "correct horse"
FORM = {"username": EMAIL, "password": PASSWORD}
COOKIE = "fastapiusersauth"
SITE = "https://testserver"
Deploy = Callable[[str | None], TestClient]


@pytest.fixture
def diary(migrated: str, redis_url: str, tmp_path: Path) -> Diary:
    return Diary(tmp_path, Rig(migrated), redis_url)


@pytest.fixture
def deploy(diary: Diary) -> Iterator[Deploy]:
    """Starts the app anew in a phase, over the bridge, or bare; the browser keeps its cookies."""
    jar = TestClient(diary.app(None)).cookies
    with ExitStack() as running:

        def deployed(phase: str | None) -> TestClient:
            running.close()
            wiring.stop()
            app = diary.app(phase, **BRIDGE)
            if phase == "retired":
                diary.rig.execute("UPDATE migrator.rollout SET legacy_removed_at = now()")
                schema.contract(diary.rig.url)
            return running.enter_context(TestClient(app, base_url=SITE, cookies=jar))

        def keeping(phase: str | None) -> TestClient:
            nonlocal jar
            client = deployed(phase)
            jar = client.cookies
            return client

        client = deployed(None)
        answer = client.post("/auth/register", json={"email": EMAIL, "password": PASSWORD})
        assert answer.status_code == 201
        yield keeping
    wiring.stop()


def log_in(client: TestClient) -> str:
    answer = client.post("/auth/jwt/login", data=FORM)
    assert answer.status_code == 200
    return str(answer.json()["access_token"])


def me(client: TestClient, token: str | None = None) -> int:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    answer = client.get("/users/me", headers=headers)
    assert "eyJ" not in answer.text + str(answer.headers), "a JWT of the bridge stays inside"
    right = answer.json().get("email") == EMAIL or answer.json() == {"detail": "Unauthorized"}
    assert right, answer.text
    return int(answer.status_code)


def test_a_browser_is_never_logged_out(deploy: Deploy) -> None:
    """It can do nothing but keep cookies, and that is enough."""
    client = deploy(None)
    assert client.post("/auth/cookie/login", data=FORM).status_code == 204
    assert client.cookies[COOKIE].startswith("eyJ")
    for phase in ("observe", "swap", "drain", "cutover", "drain", "swap", "drain", "cutover"):
        assert me(deploy(phase)) == 200, phase
    assert me(deploy("retired")) == 200


def test_a_browser_that_logs_in_on_the_way_holds_a_session_and_can_end_it(deploy: Deploy) -> None:
    client = deploy("drain")
    assert client.post("/auth/cookie/login", data=FORM).status_code == 204
    held = dict(client.cookies)
    assert not any(value.startswith("eyJ") for value in held.values())
    assert me(deploy("cutover")) == 200
    client = deploy("cutover")
    assert client.post("/auth/cookie/logout").status_code == 204
    assert me(client) == 401
    client.cookies.update(held)
    assert me(client) == 401, "a copy kept of the cookies is worth nothing after the logout"


def test_a_program_that_logs_in_on_the_way_holds_a_session_and_can_end_it(deploy: Deploy) -> None:
    client = deploy("swap")
    token = log_in(client)
    assert token.startswith("sess_")
    for phase in ("swap", "drain", "cutover", "observe", "retired"):
        assert me(deploy(phase), token) == 200, phase
    client = deploy("retired")
    headers = {"Authorization": f"Bearer {token}"}
    assert client.post("/auth/jwt/logout", headers=headers).status_code == 204
    assert me(client, token) == 401, "JWTStrategy alone could not do that"


def test_a_jwt_from_before_is_good_until_the_cutover_and_after_a_rollback(deploy: Deploy) -> None:
    token = log_in(deploy(None))
    phases = ("observe", "swap", "drain", "cutover", "drain", "observe", None)
    assert [me(deploy(phase), token) for phase in phases] == [200, 200, 200, 401, 200, 200, 200]


@pytest.mark.parametrize("phase", ["observe", "swap"])
def test_logging_out_everywhere_ends_what_the_app_alone_cannot(
    diary: Diary, deploy: Deploy, phase: str
) -> None:
    jwt = log_in(deploy(None))
    client = deploy(phase)
    user = client.get("/users/me", headers={"Authorization": f"Bearer {jwt}"}).json()["id"]
    sessions = wiring.operator(Settings.build(diary.settings() | BRIDGE, environ={}))
    sessions.end_all(user)
    wiring.stop()  # the next process has everything still to learn
    assert me(deploy(phase), jwt) == 401


@pytest.mark.parametrize("phase", ["observe", "swap", "drain", "cutover"])
def test_links_from_mails_work_and_are_no_logins(diary: Diary, deploy: Deploy, phase: str) -> None:
    client = deploy(phase)
    client.post("/auth/forgot-password", json={"email": EMAIL})
    client.post("/auth/request-verify-token", json={"email": EMAIL})
    reset, verify = (token for _, _, token in diary.outbox)
    for token in (reset, verify):
        assert me(client, token) == 401
    assert client.post("/auth/verify", json={"token": verify}).status_code == 200
    body = {"token": reset, "password": "a new one"}
    assert client.post("/auth/reset-password", json=body).status_code == 200
