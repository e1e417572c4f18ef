"""The diary's clients on the way to sessions: browsers with cookies, programs without."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import jwt
import pytest
from fastapi.testclient import TestClient

from migrator import wiring
from migrator.control import schema
from migrator.settings import Settings
from tests.apps.fastapi_users.deployment import BRIDGE, Diary
from tests.cli.deployment import Deployment as Operator
from tests.conftest import CacheServer
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


@pytest.mark.parametrize(("start", "back"), [("swap", 1), ("drain", 2)])
def test_taking_the_shim_out_at_the_horizon_logs_nobody_out_before_their_time(
    diary: Diary,
    deploy: Deploy,
    redis_server: CacheServer,
    start: str,
    back: int,
    tmp_path: Path,
) -> None:
    """There is no refresh here: a session ends when the JWT in its place would have."""
    before = log_in(deploy(None))
    client = deploy(start)
    held = log_in(client)
    client.post("/auth/cookie/login", data=FORM)
    assert held.startswith("sess_")
    assert client.cookies[COOKIE].startswith("sess_")
    operator = Operator(diary.rig.url, tmp_path)
    for _ in range(back):
        operator.json("rollback", "--reason", "out again")
    client = deploy("observe")
    after = log_in(client)
    assert after.startswith("eyJ")
    assert [me(client, token) for token in (before, held, after, None)] == [200] * 4
    ((ends,),) = diary.rig.execute("SELECT max(expires_at) FROM migrator.sessions")
    assert end_of(before) <= ends <= end_of(after)
    horizon = operator.json("status")["removal_horizon"]
    assert abs((datetime.fromisoformat(horizon) - ends).total_seconds()) < 1

    diary.rig.execute("UPDATE migrator.sessions SET expires_at = now()")
    redis_server.flush()
    client = deploy("observe")
    assert [me(client, token) for token in (held, None)] == [401] * 2, "as to a JWT that is over"
    over = aged(before, diary.secret)
    assert me(deploy(None), over) == 401, "who never met us, that day"
    assert "the shim may go now" in operator.json("status")["unknown"]["removal_horizon"]
    client = deploy("observe")
    assert client.post("/auth/cookie/login", data=FORM).status_code == 204
    diary.rig.execute("DROP SCHEMA migrator CASCADE")
    client = deploy(None)
    assert [me(client, token) for token in (after, None)] == [200] * 2


@pytest.mark.parametrize(("start", "back"), [("swap", 1), ("drain", 2)])
def test_a_browser_that_was_swapped_knows_nothing_of_it_when_the_shim_is_gone(
    diary: Diary, deploy: Deploy, start: str, back: int, tmp_path: Path
) -> None:
    """It has kept its JWT beside the session that it was handed."""
    deploy(None).post("/auth/cookie/login", data=FORM)
    client = deploy(start)
    assert me(client) == 200
    assert any(value.startswith("sess_") for value in client.cookies.values())
    for _ in range(back):
        Operator(diary.rig.url, tmp_path).json("rollback", "--reason", "out again")
    assert me(deploy("observe")) == 200
    assert me(deploy(None)) == 200


def end_of(token: str) -> datetime:
    claims = jwt.decode(token, options={"verify_signature": False})
    return datetime.fromtimestamp(claims["exp"], UTC)


def aged(token: str, secret: str) -> str:
    claims = jwt.decode(token, options={"verify_signature": False})
    return jwt.encode(claims | {"exp": int(time.time()) - 60}, secret, algorithm="HS256")


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
