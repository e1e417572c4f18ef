"""Introspection (RFC 7662) and revocation (RFC 7009)."""

from __future__ import annotations

import base64
import uuid
from urllib.parse import quote, urlencode

import pytest

from tests.apps.deployment import sign
from tests.http.servers import Answer, Line, bearer
from tests.serve.served import CLIENT, CLIENT_SECRET, Serve

pytestmark = pytest.mark.xdist_group("serve")

FORM = ("Content-Type", "application/x-www-form-urlencoded")


def basic(name: str = CLIENT, secret: str = CLIENT_SECRET) -> Line:
    pair = base64.b64encode(f"{name}:{secret}".encode()).decode()
    return ("Authorization", f"Basic {pair}")


def ask(serve: Serve, path: str, token: str, *lines: Line, **more: str) -> Answer:
    body = urlencode({"token": token, **more}).encode()
    return serve.send("POST", f"/oauth2/{path}", FORM, *(lines or [basic()]), body=body)


def fresh() -> str:
    return f"user-{uuid.uuid4().hex[:12]}"


def swapped(serve: Serve, user: str) -> str:
    token = serve.auth(bearer(sign(user))).get("session-token")
    assert token is not None
    return token


def test_a_session_token_is_active(serve: Serve) -> None:
    user = fresh()
    answer = ask(serve, "introspect", swapped(serve, user))
    assert answer.status == 200
    assert answer.get("cache-control") == "no-store"
    said = answer.json
    assert said["active"] is True
    assert (said["sub"], said["realm"], said["token_type"]) == (user, "users", "Bearer")
    assert said["exp"] > said["iat"]


def test_a_jwt_is_active_and_asking_about_it_makes_nothing_of_it(serve: Serve) -> None:
    user = fresh()
    jwt = sign(user)
    said = ask(serve, "introspect", jwt).json
    assert (said["active"], said["sub"]) == (True, user)
    assert serve.deployment.rig.count("sessions", f"subject = '{user}'") == 0
    handed = serve.auth(bearer(jwt)).get("session-token")
    assert handed is not None, "its client is swapped as ever"


@pytest.mark.parametrize(
    "token",
    [
        "sess_" + "0" * 49,
        "an-api-key",
        "7b8c0b52-58a3-4f2c-9a0e-0d9d7f9b9d11",
        sign("ann", lasts_s=-60),
        sign("ann", kind="refresh"),
        sign("ann")[:-4] + "AAAA",
        sign("ann") + "=",
        "eyJ.eyJ.x",
        "\x00\xff" * 40,
    ],
)
def test_whatever_is_not_active_is_exactly_that(serve: Serve, token: str) -> None:
    answer = ask(serve, "introspect", token)
    assert (answer.status, answer.json) == (200, {"active": False})


def test_a_revoked_token_is_not_active_any_more_and_nor_is_its_jwt(serve: Serve) -> None:
    user = fresh()
    jwt = sign(user)
    token = serve.auth(bearer(jwt)).get("session-token") or ""
    assert ask(serve, "revoke", token, token_type_hint="access_token").status == 200
    for each in (token, jwt):
        assert ask(serve, "introspect", each).json == {"active": False}
        assert serve.auth(bearer(each)).status == 401
    assert ask(serve, "revoke", token).status == 200, "repeating is safe"


def test_a_jwt_never_seen_before_can_be_revoked(serve: Serve) -> None:
    jwt = sign(fresh())
    assert ask(serve, "revoke", jwt).status == 200
    assert serve.auth(bearer(jwt)).json["reason"] == "revoked"


@pytest.mark.parametrize("token", ["an-api-key", "sess_" + "0" * 49, "a.b.c", sign("x") + "="])
def test_an_unknown_token_is_as_good_as_revoked(serve: Serve, token: str) -> None:
    assert ask(serve, "revoke", token).status == 200


def test_an_id_of_a_session_is_no_token(serve: Serve) -> None:
    token = swapped(serve, fresh())
    known = serve.get("/session", bearer(token)).json["session"]
    assert ask(serve, "revoke", known).status == 200
    assert serve.auth(bearer(token)).status == 200


@pytest.mark.parametrize("path", ["introspect", "revoke"])
@pytest.mark.parametrize(
    "lines",
    [
        [FORM],
        [basic(secret="wrong")],
        [basic(name="other")],
        [basic(secret="")],
        [("Authorization", "Basic not-base64")],
        [("Authorization", "Basic " + base64.b64encode(b"no-colon").decode())],
        [bearer("wrong")],
        [bearer("")],
        [basic(), basic()],
        [("Authorization", f"Digest {CLIENT_SECRET}")],
    ],
)
def test_only_its_clients_may_ask(serve: Serve, path: str, lines: list[Line]) -> None:
    token = swapped(serve, fresh())
    answer = ask(serve, path, token, *lines)
    assert (answer.status, answer.json) == (401, {"error": "invalid_client"})
    assert (answer.get("www-authenticate") or "").startswith("Basic ")
    assert serve.auth(bearer(token)).status == 200


def test_a_client_may_authenticate_in_any_of_the_usual_ways(serve: Serve) -> None:
    token = swapped(serve, fresh())
    encoded = basic(quote(CLIENT), quote(CLIENT_SECRET))
    for line in (
        basic(),
        encoded,
        bearer(CLIENT_SECRET),
        ("Authorization", basic()[1].lower()[:6] + basic()[1][6:]),
    ):
        assert ask(serve, "introspect", token, line).json["active"] is True


def test_a_request_that_names_no_token_or_two_is_400(serve: Serve) -> None:
    for body in (b"", b"token=", b"tok=x", b"token=a&token=b", b"token=" + b"a" * 40_000):
        answer = serve.send("POST", "/oauth2/introspect", FORM, basic(), body=body)
        assert (answer.status, answer.json) == (400, {"error": "invalid_request"})
    as_json = serve.post("/oauth2/introspect", {"token": "x"}, basic())
    assert as_json.status == 400
    assert serve.get("/oauth2/introspect?token=x", basic()).status == 405


def test_after_the_cutover_a_jwt_is_not_active(moved: Serve) -> None:
    jwt = sign(fresh())
    token = swapped(moved, fresh())
    for phase in ("observe", "swap", "drain"):
        moved.reach(phase)
        assert ask(moved, "introspect", jwt).json["active"] is True
    moved.reach("cutover")
    assert ask(moved, "introspect", jwt).json == {"active": False}
    assert ask(moved, "introspect", token).json["active"] is True
