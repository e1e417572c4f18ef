"""The bridge held against whoever wants more from it than a session is worth."""

from __future__ import annotations

import gzip
import json
import logging
import threading
import time
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote_from_bytes

import jwt
import pytest

from migrator.core.bridge import MARK, Minter, Shape, Signer, Style, is_marked
from migrator.core.ids import uuid7
from migrator.core.refreshing import Carried
from migrator.core.sessions import Session
from shims.bridge import Answered, Asking, Inbound
from tests.bridge.app import Answer, Asked, said
from tests.bridge.conftest import BRIDGED, Deployment
from tests.bridge.test_rewriting import SPELLINGS
from tests.rig import ISSUER, SECRET, sign, sign_refresh

Deploy = Callable[..., Deployment]
PHASES = ("observe", "swap", "drain", "cutover", "retired")


def bridge_jwt(there: Deployment) -> str:
    """The JWT that the app is shown, as it might have leaked from its log."""
    there.ask("GET", "/me", there.login()["access"])
    return there.app.seen[-1].bearer


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


# Two people in one request or answer.


def test_two_peoples_refresh_tokens_in_one_body_are_nobodys(deploy: Deploy) -> None:
    there = deploy()
    ada, eve = there.login("ada")["refresh"], there.login("eve")["refresh"]
    body = {"refresh": ada, "other": eve}
    assert there.ask("POST", "/refresh", json=body).status_code == 400
    assert there.app.refreshes == 0


def test_whose_refresh_token_it_is_decides_beside_anothers_session(deploy: Deploy) -> None:
    there = deploy()
    ada, eve = there.login("ada")["access"], there.login("eve")["refresh"]
    answer = there.ask("POST", "/refresh", ada, json={"refresh": eve})
    assert answer.json() == {"access": eve, "refresh": eve}
    seen = there.app.seen[-1]
    assert jwt.decode(seen.bearer, SECRET, algorithms=["HS256"])["sub"] == "eve"


def test_a_login_while_another_session_lives_is_the_new_persons(deploy: Deploy) -> None:
    there = deploy()
    ada = there.login("ada")["access"]
    for asked in ({"token": ada}, {"headers": {"Cookie": f"session={ada}"}}):
        answer = there.ask("POST", "/login", json={"user": "eve"}, **asked)
        eve = answer.json()["access"]
        assert eve != ada
        assert there.ask("GET", "/me", eve).json()["sub"] == "eve"
        assert there.ask("GET", "/me", ada).json()["sub"] == "ada"


def test_an_answer_with_two_peoples_tokens_lends_neither_the_others_life(deploy: Deploy) -> None:
    there = deploy()

    def impersonates(_: Asked) -> Answer:
        acting = sign("ada", lasts_s=300, claims={"token_type": "access"})
        return said(200, {"access": acting, "refresh": sign_refresh("root")})

    there.app.says["/login"] = impersonates
    answer = there.ask("POST", "/login").json()
    assert there.ask("GET", "/me", answer["access"]).json()["sub"] == "ada"
    assert there.ask("GET", "/me", answer["refresh"]).json()["sub"] == "root"
    lasts = dict(
        there.rig.execute(
            "SELECT subject, extract(epoch FROM expires_at - now())::int FROM migrator.sessions"
        )
    )
    assert lasts["ada"] <= 300
    assert lasts["root"] > 80_000


@pytest.mark.parametrize("refresh_s", [None, 7200])
def test_a_login_session_ends_with_the_tokens_it_stands_for(
    deploy: Deploy, refresh_s: int | None
) -> None:
    there = deploy()

    def short(_: Asked) -> Answer:
        pair = {"access": sign("ada", lasts_s=900, claims={"token_type": "access"})}
        if refresh_s is not None:
            pair["refresh"] = sign_refresh("ada", lasts_s=refresh_s)
        return said(200, pair)

    there.app.says["/login"] = short
    there.ask("POST", "/login")
    left = there.rig.execute("SELECT max(expires_at) - now() FROM migrator.sessions")[0][0]
    assert timedelta() < left <= timedelta(seconds=refresh_s or 900)


# What it may cost.


def test_thousands_of_tokens_in_an_answer_cost_a_few_sessions_and_signatures(
    deploy: Deploy,
) -> None:
    there = deploy()
    many = [sign(f"user-{at}", claims={"token_type": "access"}) for at in range(400)]
    there.app.says["/login"] = lambda _: said(200, {"many": many})
    assert there.ask("POST", "/login").status_code == 200
    assert there.rig.count("sessions") <= 32


def test_more_tokens_than_a_client_has_are_refused_before_any_is_verified(
    deploy: Deploy,
) -> None:
    there = deploy("swap")
    many = [sign_refresh(f"user-{at}") for at in range(33)]
    answer = there.ask("POST", "/refresh", json={"refresh": many[-1], "more": many})
    assert answer.status_code == 400
    assert there.rig.count("sessions") == 0


# What is kept, and what is told.


def _minter(**shape: object) -> Minter:
    signer = Signer("HS256", None, SECRET.encode())
    style = Style(signer=signer, mirrors={"csrf": "csrf_a", "csrf2": "csrf_b"})
    whole = {"issuer": "a1", "realm": "users", "lifetime": timedelta(seconds=60), **shape}
    return Minter(Shape(styles={"access": style, "refresh": style}, **whole))  # type: ignore[arg-type]


def _session(**more: object) -> Session:
    now = datetime.now(UTC)
    whole = {
        "kind": "session",
        "realm": "users",
        "subject": "ada",
        "created_at": now,
        "expires_at": now + timedelta(hours=1),
        "origin": "login",
        **more,
    }
    return Session(id=uuid7(), **whole)  # type: ignore[arg-type]


def _claims(minted: bytes) -> dict[str, object]:
    claims: dict[str, object] = jwt.decode(minted, SECRET, algorithms=["HS256"])
    return claims


def test_a_kept_jwt_is_shown_for_nothing_that_differs() -> None:
    minter, session, now = _minter(), _session(claims={"role": "reader"}), datetime.now(UTC)
    none: frozenset[str] = frozenset()

    def minted(session: Session, cookies: dict[str, str], scopes: frozenset[str] = none) -> bytes:
        return minter.mint(session, "access", scopes=scopes, cookies=cookies, now=now)

    first = minted(session, {"csrf_a": "x"})
    assert minted(session, {"csrf_a": "x"}) is first
    second = _claims(minted(session, {"csrf_b": "x"}))
    assert (second.get("csrf"), second["csrf2"]) == (None, "x")
    both = _claims(minted(session, {"csrf_a": "x", "csrf_b": "y"}))
    assert (both["csrf"], both["csrf2"]) == ("x", "y")
    other = _session(claims={"role": "admin"})
    as_other = Session(**{**{n: getattr(other, n) for n in other.__slots__}, "id": session.id})
    assert _claims(minted(as_other, {"csrf_a": "x"}))["role"] == "admin"


def test_a_jwt_never_outlives_its_session() -> None:
    now = datetime.now(UTC)
    session = _session(expires_at=now + timedelta(seconds=7))
    minted = _minter().mint(session, "access", scopes=frozenset(), cookies={}, now=now)
    assert _claims(minted)["exp"] <= (now + timedelta(seconds=7)).timestamp()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("subject", "shown"),
    [("7", 7), ("007", "007"), ("-5", -5), ("0", 0), ("-0", "-0"), ("٧", "٧"), ("7e1", "7e1")],
)
def test_a_number_is_shown_for_the_one_spelling_that_it_has(subject: str, shown: object) -> None:
    session, now = _session(subject=subject), datetime.now(UTC)
    minter = _minter(integer_subject=True)
    minted = minter.mint(session, "access", scopes=frozenset(), cookies={}, now=now)
    options = {"verify_sub": False}
    claims = jwt.decode(minted, SECRET, algorithms=["HS256"], options=options)  # type: ignore[arg-type]
    assert claims["sub"] == shown


def test_what_a_session_claims_is_never_the_mark_or_a_purpose(deploy: Deploy) -> None:
    there = deploy("swap")
    crafted = {"token_type": "access", MARK: False, "aud": None, "urn:migrator:bridge2": 1}
    legacy = sign("ada", claims=crafted)
    assert there.ask("GET", "/me", legacy).status_code == 401  # our mark is nobody else's to use
    assert there.app.seen == []


def test_nothing_shows_a_secret_when_it_is_printed(
    deploy: Deploy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    there = deploy("swap")
    legacy = there.ask("POST", "/other-login", json={"user": "ada"}).json()
    pair = there.login()
    token = pair["access"]
    there.ask("GET", "/me", token)
    bridge = there.app.seen[-1].bearer
    there.ask("POST", "/refresh", json={"refresh": legacy["refresh"]})
    there.ask("POST", "/refresh", json={"refresh": bridge})
    there.rig.execute("ALTER TABLE migrator.sessions RENAME TO gone")
    there.ask("POST", "/login", json={"user": "ada"})
    there.ask("POST", "/refresh", json={"refresh": legacy["refresh"]})
    there.rig.execute("ALTER TABLE migrator.gone RENAME TO sessions")
    session = _session()
    line = [(b"authorization", bridge.encode())]
    printed = [
        repr(Carried(token.encode(), session, frozenset())),
        repr(Asking(method="GET", path="/", headers=line, query=b"", route=None, body=b"eyJ")),
        repr(Inbound(line, bridge.encode(), bridge.encode())),
        repr(Answered(line, bridge.encode())),
        repr(Signer("HS256", None, SECRET.encode())),
        repr(vars(_minter())["_kept"]),
        caplog.text,
    ]
    for text in printed:
        for secret in (token, bridge, SECRET, "eyJ", *legacy.values()):
            assert secret not in text


# Outages and races.


def test_a_session_that_is_revoked_while_it_crosses_is_not_admitted_again(deploy: Deploy) -> None:
    there = deploy()
    token = there.login()["access"]
    original = there.app.refresh

    def revoked_meanwhile(asked: Asked) -> Answer:
        answer = original(asked)
        there.rig.execute("UPDATE migrator.sessions SET revoked_at = now()")
        return answer

    there.app.says["/refresh"] = revoked_meanwhile
    there.ask("POST", "/refresh", json={"refresh": token})
    there.move("drain")
    assert there.ask("GET", "/me", token).status_code == 401
    assert there.rig.count("sessions", "revoked_at IS NULL") == 0


@pytest.mark.parametrize("table", ["sessions", "legacy_tokens", "denials"])
def test_an_outage_at_the_refresh_route_is_503_and_the_app_is_not_asked(
    deploy: Deploy, table: str
) -> None:
    there = deploy("swap")
    legacy = sign_refresh("ada")
    there.rig.execute(f"ALTER TABLE migrator.{table} RENAME TO gone")
    answer = there.ask("POST", "/refresh", json={"refresh": legacy})
    assert answer.status_code == 503
    assert there.app.refreshes == 0
    there.rig.execute(f"ALTER TABLE migrator.gone RENAME TO {table}")
    assert there.ask("POST", "/refresh", json={"refresh": legacy}).status_code == 200


def test_an_outage_while_an_answer_is_judged_lets_no_jwt_out(deploy: Deploy) -> None:
    there = deploy()
    token = there.login()["access"]
    original = there.app.refresh

    def goes_away(asked: Asked) -> Answer:
        there.rig.execute("ALTER TABLE migrator.sessions RENAME TO gone")
        return original(asked)

    there.app.says["/refresh"] = goes_away
    answer = there.ask("POST", "/refresh", json={"refresh": token})
    there.rig.execute("ALTER TABLE migrator.gone RENAME TO sessions")
    assert (answer.status_code, answer.json()) == (503, {"error": "temporarily_unavailable"})
    assert "eyJ" not in answer.text + str(answer.headers)
    assert there.ask("GET", "/me", token).json()["sub"] == "ada"


def test_an_outage_at_logout_is_503_and_the_session_is_not_said_to_be_over(
    deploy: Deploy,
) -> None:
    there = deploy()
    token = there.login()["access"]
    assert there.ask("GET", "/me", token).status_code == 200
    there.rig.execute("ALTER TABLE migrator.sessions RENAME TO gone")
    assert there.ask("POST", "/logout", token).status_code == 503
    there.rig.execute("ALTER TABLE migrator.gone RENAME TO sessions")
    assert there.ask("POST", "/logout", token).status_code == 204
    assert there.ask("GET", "/me", token).status_code == 401


def test_without_redis_everything_crosses_a_little_slower(deploy: Deploy) -> None:
    there = deploy(redis={"url": "redis://127.0.0.1:1/0"})
    token = there.login()["access"]
    assert there.ask("GET", "/me", token).json()["sub"] == "ada"
    assert there.ask("POST", "/refresh", json={"refresh": token}).json()["access"] == token
    assert there.ask("POST", "/logout", token).status_code == 204
    assert there.ask("GET", "/me", token).status_code == 401


def test_one_legacy_refresh_token_in_two_processes_at_once_is_one_session(deploy: Deploy) -> None:
    there = deploy("swap")
    # Settings that differ in nothing that matters share nothing: as two processes do.
    beside = Deployment(there.rig, there.colour, {"memory": {"poll_ms": 101, "trust_ms": 900}})
    legacy = sign_refresh("ada")
    barrier = threading.Barrier(8)

    def refresh(at: int) -> str:
        barrier.wait()
        answer = (there, beside)[at % 2].ask("POST", "/refresh", json={"refresh": legacy})
        token: str = answer.json()["access"]
        return token

    with ThreadPoolExecutor(8) as tabs:
        tokens = set(tabs.map(refresh, range(8)))
    beside.stop()
    assert len(tokens) == 1
    assert there.rig.count("sessions") == 1


def test_scopes_that_the_app_takes_away_at_a_refresh_are_gone(deploy: Deploy) -> None:
    issuer = {**BRIDGED, "claims": {**ISSUER["claims"], "scopes": "perms"}}
    there = deploy(issuers=[issuer])
    original = there.app.pair
    perms = ["write", "read"]

    def pair(user: str) -> dict[str, str]:
        made = original(user)
        for kind, token in made.items():
            claims = {**jwt.decode(token, SECRET, algorithms=["HS256"]), "perms": perms}
            made[kind] = jwt.encode(claims, SECRET, algorithm="HS256")
        return made

    there.app.pair = pair  # type: ignore[method-assign]
    token = there.login()["access"]
    assert there.ask("GET", "/me", token).json()["perms"] == ["write", "read"]
    perms.remove("write")
    there.ask("POST", "/refresh", json={"refresh": token})
    assert there.ask("GET", "/me", token).json()["perms"] == ["read"]
    assert there.rig.execute("SELECT scopes FROM migrator.sessions")[0][0] == ["read"]


def test_a_dotted_claim_is_shown_where_the_app_looks_for_it(deploy: Deploy) -> None:
    there = deploy("swap")
    claims = {"token_type": "access", "kubernetes.io": {"pod": "a"}, "user": {"id": 5, "a": 1}}
    token = there.ask("GET", "/me", sign("ada", claims=claims)).headers["session-token"]
    shown = there.ask("GET", "/me", token).json()
    assert shown["kubernetes.io"] == {"pod": "a"}
    assert shown["user"] == {"id": 5, "a": 1}


def test_a_bridge_jwt_is_no_spelling_of_itself(deploy: Deploy) -> None:
    there = deploy()
    head, payload, signature = bridge_jwt(there).split(".")
    raw = urlsafe_b64decode(payload + "==")
    spaced = json.dumps(json.loads(raw), indent=1).encode()
    respelt = urlsafe_b64encode(spaced).rstrip(b"=").decode()
    assert is_marked(f"{head}.{respelt}.{signature}".encode())
