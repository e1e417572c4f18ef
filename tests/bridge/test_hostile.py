"""The bridge held against whoever wants more from it than a session is worth."""

from __future__ import annotations

import gzip
import json
import time
from base64 import b64encode
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote_from_bytes

import jwt
import pytest

from tests.bridge.app import Answer, Asked, said
from tests.bridge.conftest import Deploy, Deployment, bridge_jwt
from tests.bridge.test_rewriting import SPELLINGS
from tests.rig import ISSUER, SECRET, sign, sign_refresh

PHASES = ("observe", "swap", "drain", "cutover", "retired")


def derived(bridge: str, **claims: object) -> str:
    """What simplejwt makes of a refresh token: it copies claims that it does not know."""
    copied = jwt.decode(bridge, SECRET, algorithms=["HS256"])
    whole = {"token_type": "access", "exp": int(time.time()) + 300, **copied, **claims}
    return jwt.encode(dict(sorted(whole.items())), SECRET, algorithm="HS256")


# A bridge JWT from outside.


@pytest.mark.parametrize("phase", PHASES)
def test_a_bridge_jwt_gets_nothing_in_any_place_at_any_route(deploy: Deploy, phase: str) -> None:
    there = deploy()
    bridge = bridge_jwt(there)
    there.move(phase)
    before = len(there.app.seen)
    for token in (bridge, derived(bridge), derived(bridge, token_type="refresh")):
        header, payload, signature = token.split(".")
        places: tuple[dict[str, Any], ...] = (
            {"headers": {"Authorization": f"Bearer {token}"}},
            {"headers": {"Authorization": f"Token {token}"}},
            {"headers": {"Authorization": token}},
            {"headers": {"Authorization": f"Bearer {sign('eve')}, Bearer {token}"}},
            {"headers": {"Cookie": f"jwt={token}"}},
            {"headers": {"Cookie": f'other=1; jwt="{token}"'}},
            {"headers": {"Cookie": f"jwt={token.replace('e', '%65')}"}},
            {"headers": {"Cookie": f"jwt={token.replace('.', '%252e')}"}},
            {"headers": {"Cookie": 'jwt="{}"'.format(token.replace("e", "\\145"))}},
            {"headers": {"Cookie": f"another={token}"}},
            {"headers": {"Cookie": f"jwt={sign('eve')}; jwt={token}"}},
            {"params": {"token": token}},
            {"headers": {"Authorization": f"Bearer {header}.{payload}.{signature}=="}},
        )
        for asked in places:
            answer = there.ask("GET", "/me", **asked)
            assert answer.status_code in {400, 401}, asked
            assert len(there.app.seen) == before, asked


@pytest.mark.parametrize("phase", PHASES)
def test_no_body_takes_a_bridge_jwt_to_the_app(deploy: Deploy, phase: str) -> None:
    there = deploy()
    bridge = bridge_jwt(there)
    there.move(phase)
    live = there.login()["refresh"]
    before = len(there.app.seen)
    for token in (bridge, derived(bridge, token_type="refresh")):
        for route in ("/refresh", "/logout"):
            for body in (
                {"refresh": token},
                {"refresh": token, "note": live},
                {"note": live, "refresh": token},
                {"refresh": live, "access": token},
                {"nested": [{"refresh": token}]},
            ):
                assert there.ask("POST", route, json=body).status_code == 401, (route, body)
            form = there.ask("POST", route, data={"refresh": token})
            assert form.status_code == 401
            for spelling, respelt in SPELLINGS.items():
                text = b'{"refresh": "%b"}' % respelt(token.encode())
                answer = there.ask("POST", route, content=text)
                assert answer.status_code in {400, 401}, spelling
    assert len(there.app.seen) == before
    assert there.app.refreshes == 0


def test_a_bridge_jwt_at_a_login_is_as_if_it_were_not_there(deploy: Deploy) -> None:
    there = deploy()
    bridge = bridge_jwt(there)
    answer = there.ask("POST", "/login", bridge, json={"user": "eve"})
    assert answer.status_code == 200
    assert "authorization" not in there.app.seen[-1].headers


def test_what_the_app_makes_of_a_bridge_jwt_never_leaves_on_any_route(deploy: Deploy) -> None:
    there = deploy()
    token = there.login()["access"]

    def other_refresh(asked: Asked) -> Answer:
        return said(200, {"access": derived(asked.bearer), "user": "ada"})

    there.app.says["/other-login"] = other_refresh
    answer = there.ask("POST", "/other-login", token)
    assert answer.json() == {"access": token, "user": "ada"}
    assert answer.headers["content-length"] == str(len(answer.content))


@pytest.mark.parametrize("phase", PHASES[:4])
def test_no_header_of_a_client_says_who_it_is(deploy: Deploy, phase: str) -> None:
    there = deploy()
    token = there.login()["access"]
    there.move(phase)
    lies = ("X-User-Id", "x_user_id", "Remote-User", "X-Forwarded-User", "X-AUTH_USER")
    for name in lies:
        assert there.ask("GET", "/me", token, headers={name: "root"}).json()["sub"] == "ada"
        seen = there.app.seen[-1]
        assert "root" not in str(seen.headers)


# A revoked refresh token.


@pytest.fixture
def revoked(deploy: Deploy) -> tuple[Deployment, str]:
    """A deployment in `swap`, and a refresh token of eve's that her logout denied."""
    there = deploy("observe")
    legacy = there.login("eve")["refresh"]
    there.move("swap")
    token = there.ask("POST", "/refresh", json={"refresh": legacy}).json()["access"]
    assert there.ask("POST", "/logout", token, json={"refresh": token}).status_code == 204
    there.app.blocked.clear()  # the app itself forgets, as apps without a list do
    there.app.refreshes = 0
    return there, legacy


def hidden_in_bodies(token: bytes) -> Iterator[tuple[str, bytes, dict[str, str]]]:
    """Requests by which some app would read `token`: what hides it, body, headers."""
    as_json = {"Content-Type": "application/json"}
    for name, spelt in SPELLINGS.items():
        yield name, b'{"refresh": "%b"}' % spelt(token), as_json
        yield f"{name}, twice", b'{"refresh": "%b", "refresh": 1}' % spelt(token), as_json
        yield f"{name}, laxly", b"{'refresh': '%b',}" % spelt(token), as_json
    body = b'{"refresh": "%b"}' % token
    yield "plainly", body, as_json
    yield "under another type", body, {"Content-Type": "image/png"}
    yield "under no type", body, {}
    yield "with a charset", body, {"Content-Type": "application/json; charset=utf-8"}
    for charset in ("utf-7", "cp037", "utf-16-le"):
        encoded = body.decode().encode(charset)
        yield charset, encoded, {"Content-Type": f"application/json;charset={charset}"}
    yield "compressed", gzip.compress(body), {**as_json, "Content-Encoding": "gzip"}
    yield "compressed somehow", b"\x0b" + body, {**as_json, "Content-Encoding": "br"}
    yield "with room to spare", body + b" " * (65_536 - len(body)), as_json
    yield "with no room", body + b" " * 65_536, as_json
    decoys = b",".join(b'"eyJ%d.a.b"' % at for at in range(40))
    yield "behind decoys", b'{"a": [%b], "refresh": "%b"}' % (decoys, token), as_json
    yield "padded", b'{"refresh": "%b="}' % token, as_json
    last = bytes([token[-1] + 1])  # in the two bits that 32 bytes of signature do not need
    yield "with other unused bits", b'{"refresh": "%b"}' % (token[:-1] + last), as_json
    yield "in a form", b"refresh=%b" % token, {}
    yield "in a form, coded", quote_from_bytes(b"%b" % token).replace("e", "%65").encode(), {}
    part = b'--b\r\nContent-Disposition: form-data; name="refresh"\r\n%b\r\n%b\r\n--b--\r\n'
    multipart = {"Content-Type": "multipart/form-data; boundary=b"}
    yield "in a part", part % (b"", token), multipart
    coding = b"Content-Transfer-Encoding: base64\r\n"
    yield "in a coded part", part % (coding, b64encode(token)), multipart


def test_a_denied_refresh_token_reaches_the_app_in_no_spelling(
    revoked: tuple[Deployment, str],
) -> None:
    there, legacy = revoked
    before = len(there.app.seen)
    for phase in ("swap", "drain", "observe"):
        there.move(phase)
        for name, body, headers in hidden_in_bodies(legacy.encode()):
            answer = there.ask("POST", "/refresh", content=body, headers=headers)
            assert answer.status_code in {400, 401}, (phase, name)
            assert len(there.app.seen) == before, (phase, name)
    assert there.app.refreshes == 0


def test_a_denied_refresh_token_gets_nothing_beside_one_that_holds(
    revoked: tuple[Deployment, str],
) -> None:
    there, legacy = revoked
    good = sign_refresh("ada")
    for body in (
        {"note": good, "refresh": legacy},
        {"refresh": legacy, "note": good},
        {"refresh": good, "access": legacy},
    ):
        answer = there.ask("POST", "/refresh", json=body)
        assert answer.status_code == 200
        assert legacy.encode() not in there.app.seen[-1].body
        token = answer.json()["access"]
        assert there.ask("GET", "/me", token).json()["sub"] == "ada"
    assert there.rig.count("sessions", "subject = 'eve' AND revoked_at IS NULL") == 0


@pytest.mark.parametrize("phase", ["swap", "observe"])
def test_a_denied_refresh_token_gets_nothing_outside_the_body(
    revoked: tuple[Deployment, str], phase: str
) -> None:
    there, legacy = revoked
    there.move(phase)
    before = len(there.app.seen)
    harmless = sign("ada", claims={"token_type": "access"})
    places: tuple[dict[str, Any], ...] = (
        {"headers": {"Authorization": f"Bearer {legacy}"}},
        {"headers": {"Authorization": f"Bearer {legacy}"}, "json": {"access": harmless}},
        {"headers": {"X-Refresh-Token": legacy}},
        {"headers": {"X-Refresh-Token": f"Bearer {legacy}"}, "json": {"access": harmless}},
        {"params": {"refresh": legacy}},
        {"params": {"refresh": legacy}, "json": {"access": harmless}},
        {"headers": {"Cookie": f"jwt={legacy}"}},
    )
    for asked in places:
        answer = there.ask("POST", "/refresh", **asked)
        assert answer.status_code == 401, asked
        assert len(there.app.seen) == before, asked
    there.ask("POST", "/refresh", headers={"X-Refresh-Token": legacy}, json={"refresh": "x"})
    assert len(there.app.seen) == before


@pytest.mark.parametrize("phase", ["swap", "observe"])
def test_a_denied_refresh_cookie_gets_nothing_however_it_is_quoted(
    deploy: Deploy, phase: str
) -> None:
    there = deploy("observe", bridge={"refresh_cookies": ["rt"]})
    legacy = there.login("eve")["refresh"]
    there.move("swap")
    token = there.ask("POST", "/refresh", json={"refresh": legacy}).json()["access"]
    there.ask("POST", "/logout", token, json={"refresh": token})
    there.move(phase)
    before = len(there.app.seen)
    for value in (
        legacy,
        f'"{legacy}"',
        legacy.replace("e", "%65"),
        legacy.replace(".", "%252e"),
        '"{}"'.format(legacy.replace("e", "\\145")),
        f"{legacy}=",
        f"{legacy}%3D",
    ):
        answer = there.ask("POST", "/refresh", headers={"Cookie": f"rt={value}"})
        assert answer.status_code == 401, value
        assert len(there.app.seen) == before, value


@pytest.mark.parametrize("phase", ["swap", "observe"])
def test_a_denied_access_token_is_nothing_to_refresh_by(deploy: Deploy, phase: str) -> None:
    there = deploy("swap")
    legacy = sign("eve", claims={"token_type": "access"})
    token = there.ask("GET", "/me", legacy).headers["session-token"]
    assert there.ask("POST", "/logout", token).status_code == 204
    there.move(phase)
    before = len(there.app.seen)
    for member in ("token", "refresh"):
        assert there.ask("POST", "/refresh", json={member: legacy}).status_code == 401
    assert len(there.app.seen) == before


@pytest.mark.parametrize("phase", ["cutover", "retired"])
def test_no_legacy_token_is_refreshed_after_the_cutover(deploy: Deploy, phase: str) -> None:
    there = deploy(phase)
    sliding = sign("eve", claims={"token_type": "access"})
    for token in (sign_refresh("eve"), sliding):
        answer = there.ask("POST", "/refresh", json={"refresh": token})
        assert answer.status_code == 401
        assert answer.json()["reason"] == "legacy_retired"
    assert there.app.seen == []


def test_what_the_app_issues_to_a_denied_family_is_no_session(deploy: Deploy) -> None:
    """The app refreshes by an opaque token, which nobody but itself can read."""
    there = deploy("swap")

    def opaque(_: Asked) -> Answer:
        return said(200, {"access": sign("eve", claims={"token_type": "access", "sid": "f1"})})

    there.app.says["/refresh"] = opaque
    first = there.ask("POST", "/refresh", json={"refresh": "opaque"}).json()["access"]
    assert first.startswith("sess_")
    legacy = sign("eve", claims={"token_type": "access", "sid": "f1"})
    token = there.ask("GET", "/me", legacy).headers["session-token"]
    assert there.ask("POST", "/logout", token).status_code == 204
    answer = there.ask("POST", "/refresh", json={"refresh": "opaque"})
    assert (answer.status_code, answer.json()["reason"]) == (401, "revoked")
    assert "eyJ" not in answer.text


def test_a_revoked_jwt_reaches_the_app_beside_no_living_one(deploy: Deploy) -> None:
    there = deploy("swap")
    dead = sign("eve", claims={"token_type": "access"})
    token = there.ask("GET", "/me", dead).headers["session-token"]
    there.ask("POST", "/logout", token)
    live = sign("ada", claims={"token_type": "access"})
    for _ in range(3):  # a remembered verdict decides no less
        answer = there.ask("GET", "/me", live, headers={"Cookie": f"jwt={dead}; theme=dark"})
        assert answer.json()["sub"] == "ada"
        assert there.app.seen[-1].headers["cookie"] == "theme=dark"


def test_a_revoked_jwt_in_a_body_is_refused_beside_any_credential(deploy: Deploy) -> None:
    places = [{"header": "Authorization", "scheme": "Bearer"}, {"json": "access_token"}]
    there = deploy("swap", issuers=[{**ISSUER, "transport": places}])
    dead = sign("eve", claims={"token_type": "access"})
    token = there.ask("GET", "/me", dead).headers["session-token"]
    there.ask("POST", "/logout", token)
    before = len(there.app.seen)
    body = {"access_token": dead, "note": ""}
    for bearer in (sign("ada", claims={"token_type": "access"}), None):
        assert there.ask("POST", "/in-body", bearer, json=body).status_code == 401
    basic = {"Authorization": "Basic dTpw"}
    assert there.ask("POST", "/in-body", json=body, headers=basic).status_code == 401
    assert len(there.app.seen) == before
    live = there.login("ada")["access"]
    answer = there.ask("POST", "/in-body", live, json=body)
    assert answer.json()["sub"] == "ada"  # the session alone speaks
    escaped = json.dumps({"access_token": dead, "note": ""}).replace("eyJ", "\\u0065yJ", 1)
    as_json = {"Content-Type": "application/json"}
    answer = there.ask("POST", "/in-body", live, content=escaped, headers=as_json)
    assert answer.status_code == 400
