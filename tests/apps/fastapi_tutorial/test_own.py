"""The to-do list's own tests: they know its routes, and nothing of us."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from fastapi.testclient import TestClient
from httpx2 import Response
from starlette.websockets import WebSocketDisconnect

from tests.apps.fastapi_tutorial.app import ACCESS_TOKEN_EXPIRE, Database

pytestmark = pytest.mark.xdist_group("to-do list")

PASSWORD = "correct horse"
REFUSED = {"detail": "Could not validate credentials"}


def sign_up(client: TestClient) -> str:
    email = f"{secrets.token_hex(4)}@example.com"
    answer = client.post("/users/signup", json={"email": email, "password": PASSWORD})
    assert answer.status_code == 200
    return email


def log_in(client: TestClient, email: str, password: str = PASSWORD) -> dict[str, str]:
    answer = client.post("/token", data={"username": email, "password": password})
    assert answer.status_code == 200
    tokens: dict[str, str] = answer.json()
    assert tokens.keys() == {"access_token", "token_type"}
    assert tokens["token_type"] == "bearer"
    return {"Authorization": f"Bearer {tokens['access_token']}"}


@pytest.fixture
def email(client: TestClient) -> str:
    return sign_up(client)


@pytest.fixture
def headers(client: TestClient, email: str) -> dict[str, str]:
    return log_in(client, email)


def signed(secret: str, subject: object, lasts: timedelta = ACCESS_TOKEN_EXPIRE) -> dict[str, str]:
    claims = {"sub": subject, "exp": datetime.now(UTC) + lasts}
    return {"Authorization": f"Bearer {jwt.encode(claims, secret, algorithm='HS256')}"}


def refused(answer: Response) -> bool:
    return (answer.status_code, answer.json()) == (403, REFUSED)


def test_health_check_is_public(client: TestClient) -> None:
    assert client.get("/").json() is True


def test_login_gives_a_token_that_works(
    client: TestClient, email: str, headers: dict[str, str]
) -> None:
    me = client.get("/users/me", headers=headers)
    assert me.status_code == 200
    assert me.json().items() >= {"email": email, "is_active": True}.items()
    assert client.post("/token/test", headers=headers).json() == me.json()


def test_scheme_is_read_in_any_case(client: TestClient, headers: dict[str, str]) -> None:
    token = headers["Authorization"].partition(" ")[2]
    for scheme in ("bearer", "BEARER"):
        answer = client.get("/users/me", headers={"Authorization": f"{scheme} {token}"})
        assert answer.status_code == 200


@pytest.mark.parametrize("password", ["wrong", ""])
def test_wrong_password_is_no_login(client: TestClient, email: str, password: str) -> None:
    answer = client.post("/token", data={"username": email, "password": password})
    assert answer.status_code in {400, 422}
    assert client.post("/token", data={"username": "nobody", "password": "x"}).status_code == 400


def test_login_takes_a_form_and_no_json(client: TestClient, email: str) -> None:
    answer = client.post("/token", json={"username": email, "password": PASSWORD})
    assert answer.status_code == 422


@pytest.mark.parametrize("path", ["/users/me", "/items/", "/items/1", "/users/"])
def test_strangers_are_asked_to_log_in(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 401
    assert answer.json() == {"detail": "Not authenticated"}
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "authorization", ["Bearer nonsense", "Bearer a.b.c", "Bearer eyJhbGciOiJub25lIn0.e30."]
)
def test_nonsense_is_refused(client: TestClient, authorization: str) -> None:
    assert refused(client.get("/users/me", headers={"Authorization": authorization}))


def test_forged_and_expired_tokens_are_refused(
    client: TestClient, database: Database, secret_key: str, email: str
) -> None:
    user = database.by_email(email)
    assert user is not None
    forged = signed("the secret of somebody else altogether", str(user.id))
    expired = signed(secret_key, str(user.id), timedelta(seconds=-60))
    assert refused(client.get("/users/me", headers=forged))
    assert refused(client.get("/users/me", headers=expired))


def test_a_login_with_a_dead_token_attached_works(
    client: TestClient, secret_key: str, email: str
) -> None:
    expired = signed(secret_key, "1", timedelta(seconds=-60))
    form = {"username": email, "password": PASSWORD}
    assert client.post("/token", data=form, headers=expired).status_code == 200


def test_a_deleted_user_is_not_found(client: TestClient, headers: dict[str, str]) -> None:
    assert client.delete("/users/me", headers=headers).status_code == 200
    answer = client.get("/users/me", headers=headers)
    assert (answer.status_code, answer.json()) == (404, {"detail": "User not found"})


def test_an_inactive_user_is_told_so(
    client: TestClient, database: Database, email: str, headers: dict[str, str]
) -> None:
    user = database.by_email(email)
    assert user is not None
    user.is_active = False
    answer = client.get("/users/me", headers=headers)
    assert (answer.status_code, answer.json()) == (400, {"detail": "Inactive user"})
    form = {"username": email, "password": PASSWORD}
    assert client.post("/token", data=form).json() == {"detail": "Inactive user"}


def test_only_superusers_see_all_users(
    client: TestClient, database: Database, email: str, headers: dict[str, str]
) -> None:
    answer = client.get("/users/", headers=headers)
    assert answer.status_code == 403
    assert answer.json() == {"detail": "The user doesn't have enough privileges"}
    user = database.by_email(email)
    assert user is not None
    user.is_superuser = True
    listed = client.get("/users/", headers=headers)
    assert email in {each["email"] for each in listed.json()}
    assert client.delete("/users/me", headers=headers).status_code == 403


def test_items_are_their_owners(client: TestClient, headers: dict[str, str]) -> None:
    made = client.post("/items/", json={"title": "milk"}, headers=headers).json()
    assert client.get("/items/", headers=headers).json() == [made]
    path = f"/items/{made['id']}"
    assert client.get(path, headers=headers).json() == made
    other = log_in(client, sign_up(client))
    assert client.get(path, headers=other).status_code == 403
    assert client.get("/items/", headers=other).json() == []
    assert client.get("/items/999999", headers=headers).status_code == 404
    assert client.get("/items/milk", headers=headers).status_code == 422


def test_a_forgotten_password_is_reset_by_mail(
    client: TestClient, database: Database, email: str
) -> None:
    assert client.post(f"/password-recovery/{email}").status_code == 200
    to, token = database.outbox[-1]
    assert to == email
    body = {"token": token, "new_password": "a new one"}
    assert client.post("/reset-password/", json=body).status_code == 200
    log_in(client, email, "a new one")
    bad = {"token": "nonsense", "new_password": "x"}
    assert client.post("/reset-password/", json=bad).status_code == 400
    assert client.post("/password-recovery/nobody@example.com").status_code == 404


def test_a_reset_token_is_no_login(client: TestClient, database: Database, email: str) -> None:
    client.post(f"/password-recovery/{email}")
    headers = {"Authorization": f"Bearer {database.outbox[-1][1]}"}
    assert client.get("/users/me", headers=headers).is_client_error


def test_sockets_are_for_whoever_is_logged_in(
    client: TestClient, email: str, headers: dict[str, str]
) -> None:
    with client.websocket_connect("/live", headers=headers) as websocket:
        assert websocket.receive_json() == {"email": email}
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/live") as websocket:
        websocket.receive_json()


def test_the_document_describes_the_login(client: TestClient) -> None:
    schemes = client.get("/openapi.json").json()["components"]["securitySchemes"]
    assert schemes["OAuth2PasswordBearer"]["flows"]["password"]["tokenUrl"] == "/token"
