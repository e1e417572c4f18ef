"""The to-do list's clients on the way from JWTs to sessions; none of them can be updated."""

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
from tests.apps.fastapi_tutorial.deployment import BRIDGE, TodoList
from tests.cli.deployment import Deployment as Operator
from tests.conftest import CacheServer
from tests.rig import Rig

pytestmark = pytest.mark.xdist_group("to-do list")

PASSWORD = "correct horse"
Deploy = Callable[[str | None], TestClient]


@pytest.fixture
def todo(migrated: str, redis_url: str) -> TodoList:
    made = TodoList(Rig(migrated), redis_url)
    made.database.add_user("ann@example.com", PASSWORD)
    return made


@pytest.fixture
def deploy(todo: TodoList) -> Iterator[Deploy]:
    """Starts the app anew in a phase, over the bridge, or bare."""
    with ExitStack() as running:

        def deployed(phase: str | None) -> TestClient:
            running.close()
            wiring.stop()
            app = todo.app(phase, **BRIDGE)
            if phase == "retired":
                todo.rig.execute("UPDATE migrator.rollout SET legacy_removed_at = now()")
                schema.contract(todo.rig.url)
            return running.enter_context(TestClient(app))

        yield deployed
    wiring.stop()


def log_in(client: TestClient) -> str:
    form = {"username": "ann@example.com", "password": PASSWORD}
    answer = client.post("/token", data=form)
    assert answer.status_code == 200
    assert answer.json()["token_type"] == "bearer"
    return str(answer.json()["access_token"])


def me(client: TestClient, token: str) -> int:
    answer = client.get("/users/me", headers={"Authorization": f"Bearer {token}"})
    assert "eyJ" not in answer.text + str(answer.headers), "a JWT of the bridge stays inside"
    if answer.status_code == 403:
        assert answer.json() == {"detail": "Could not validate credentials"}
    else:
        assert answer.json()["email"] == "ann@example.com"
    return int(answer.status_code)


def test_a_jwt_from_before_is_good_until_the_cutover_and_after_a_rollback(deploy: Deploy) -> None:
    token = log_in(deploy(None))
    assert token.startswith("eyJ")
    phases = ("observe", "swap", "drain", "cutover", "drain", "swap", "observe", None)
    answered = [me(deploy(phase), token) for phase in phases]
    assert answered == [200, 200, 200, 403, 200, 200, 200, 200]


def test_a_login_made_on_the_way_holds_to_the_end(deploy: Deploy) -> None:
    client = deploy("swap")
    token = log_in(client)
    assert token.startswith("sess_")
    assert me(client, token) == 200
    for phase in ("drain", "cutover", "drain", "observe", "swap", "drain", "cutover", "retired"):
        assert me(deploy(phase), token) == 200, phase


@pytest.mark.parametrize(("start", "back"), [("swap", 1), ("drain", 2)])
def test_taking_the_shim_out_at_the_horizon_logs_nobody_out_before_their_time(
    todo: TodoList,
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
    assert held.startswith("sess_")
    operator = Operator(todo.rig.url, tmp_path)
    for _ in range(back):
        operator.json("rollback", "--reason", "out again")
    client = deploy("observe")
    after = log_in(client)
    assert after.startswith("eyJ")
    assert [me(client, token) for token in (before, held, after)] == [200] * 3
    ((ends,),) = todo.rig.execute("SELECT max(expires_at) FROM migrator.sessions")
    assert end_of(before) <= ends <= end_of(after)
    horizon = operator.json("status")["removal_horizon"]
    assert abs((datetime.fromisoformat(horizon) - ends).total_seconds()) < 1

    todo.rig.execute("UPDATE migrator.sessions SET expires_at = now()")
    redis_server.flush()
    assert me(deploy("observe"), held) == 403, "as to a JWT that is over"
    assert me(deploy(None), aged(before, todo.secret_key)) == 403, "who never met us, that day"
    assert "the shim may go now" in operator.json("status")["unknown"]["removal_horizon"]
    todo.rig.execute("DROP SCHEMA migrator CASCADE")
    assert me(deploy(None), after) == 200


def end_of(token: str) -> datetime:
    claims = jwt.decode(token, options={"verify_signature": False})
    return datetime.fromtimestamp(claims["exp"], UTC)


def aged(token: str, secret: str) -> str:
    claims = jwt.decode(token, options={"verify_signature": False})
    return jwt.encode(claims | {"exp": int(time.time()) - 60}, secret, algorithm="HS256")


def test_a_client_that_adopts_what_it_is_handed_holds_to_the_end(deploy: Deploy) -> None:
    token = log_in(deploy(None))
    for phase in ("observe", "swap", "drain", "cutover", "retired"):
        client = deploy(phase)
        answer = client.get("/users/me", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 200, phase
        token = answer.headers.get("Session-Token", token)
    assert token.startswith("sess_")


@pytest.mark.parametrize("phase", ["observe", "swap", "drain"])
def test_logging_out_everywhere_ends_what_the_app_alone_cannot(
    todo: TodoList, deploy: Deploy, phase: str
) -> None:
    """The app has no way to refuse a JWT that it signed; ours is one call, in every phase."""
    jwt = log_in(deploy(None))
    client = deploy(phase)
    token = log_in(client)
    assert me(client, jwt) == me(client, token) == 200
    (user,) = todo.database.users.values()
    sessions = wiring.operator(Settings.build(todo.settings() | BRIDGE, environ={}))
    sessions.end_all(str(user.id))
    wiring.stop()  # the next process has everything still to learn
    client = deploy(phase)
    assert me(client, jwt) == me(client, token) == 403
    assert me(deploy(None), jwt) == 200, "as it always was without us"


def test_a_reset_link_works_in_every_phase_and_is_a_login_in_none(
    todo: TodoList, deploy: Deploy
) -> None:
    for number, phase in enumerate((None, "observe", "swap", "drain", "cutover", "retired")):
        client = deploy(phase)
        client.post("/password-recovery/ann@example.com")
        token = todo.database.outbox[-1][1]
        headers = {"Authorization": f"Bearer {token}"}
        assert client.get("/users/me", headers=headers).is_client_error, phase
        body = {"token": token, "new_password": f"number {number}"}
        assert client.post("/reset-password/", json=body).status_code == 200, phase
