"""Apps of every habit, none of which knows of us: each is a row of facts, and lives as before."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qs

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from migrator.core.bridge import MARK
from tests.bridge.app import Answer, Asked, said
from tests.bridge.conftest import Deploy, Deployment
from tests.rig import ISSUER, SECRET, sign, sign_refresh

OTHER = "the second secret of an app that signs refresh tokens by it"
NOW = int(time.time())
HOUR = {"iat": NOW, "exp": NOW + 3600}


def _pem(private: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> tuple[str, str]:
    pkcs8 = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = private.public_key()
    spki = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pkcs8.decode(), spki.decode()


RSA, BRIDGE_RSA = (_pem(rsa.generate_private_key(65537, 2048)) for _ in range(2))
EC, BRIDGE_EC = (_pem(ec.generate_private_key(ec.SECP256R1())) for _ in range(2))


def _scheme(word: str) -> dict[str, Any]:
    return {"header": "Authorization", "scheme": word}


def _in_header(name: str, scheme: str = "") -> Callable[[Asked], str]:
    def read(asked: Asked) -> str:
        line = asked.headers[name]
        if not line.startswith(scheme):
            raise ValueError(line)
        return line.removeprefix(scheme)

    return read


def _in_cookie(asked: Asked) -> str:
    return SimpleCookie(asked.headers["cookie"])["token"].value


def _in_query(asked: Asked) -> str:
    return parse_qs(asked.query)["token"][0]


def _by_header(name: str, scheme: str = "") -> Callable[[str], dict[str, Any]]:
    return lambda token: {"headers": {name: scheme + token}}


_bearer_read = _in_header("authorization", "Bearer ")
_bearer_send = _by_header("Authorization", "Bearer ")


@dataclass(frozen=True)
class Shape:
    """One app.

    Args:
        claims: of its tokens, for ada.
        issuer, bridge: what the settings say of it besides.
        read, send: how it looks for a token, and how its clients present one.
        answer: how its login hands one out; `pick` finds it there.
        keys: by kid what it verifies with; `signs` what it signs with, under which algorithm.
    """

    claims: Mapping[str, object]
    issuer: Mapping[str, object]
    bridge: Mapping[str, object] = field(default_factory=dict)
    read: Callable[[Asked], str] = _bearer_read
    send: Callable[[str], dict[str, Any]] = _bearer_send
    answer: Callable[[str], Answer] = lambda token: said(200, {"access_token": token})
    pick: Callable[[Any], str] = lambda answer: str(answer.json()["access_token"])
    alg: str = "HS256"
    signs: str = SECRET
    keys: Mapping[str | None, str] = field(default_factory=lambda: {None: SECRET})
    headers: Mapping[str, str] = field(default_factory=dict)
    decode: Mapping[str, Any] = field(default_factory=dict)

    def token(self) -> str:
        headers = dict(self.headers)
        return jwt.encode(dict(self.claims), self.signs, algorithm=self.alg, headers=headers)

    def verified(self, token: str) -> dict[str, Any]:
        """As the app's library reads a token, or an exception of its own."""
        key = self.keys[jwt.get_unverified_header(token).get("kid")]
        options: Any = {"verify_sub": False, "verify_jti": False}
        claims: dict[str, Any] = jwt.decode(
            token, key, algorithms=[self.alg], options=options, **self.decode
        )
        return claims

    def login(self, _: Asked) -> Answer:
        return self.answer(self.token())

    def me(self, asked: Asked) -> Answer:
        token = self.read(asked)
        return said(200, {"claims": self.verified(token), "token": token})


def _cookie(token: str) -> Answer:
    return 200, [("Set-Cookie", f"token={token}; Path=/; HttpOnly"), ("Vary", "Origin")], [b"in"]


def _set_cookie(answer: Any) -> str:
    return str(answer.headers["set-cookie"].partition("=")[2].partition(";")[0])


def _fragment(token: str) -> Answer:
    return 302, [("Location", f"https://spa.example/#access_token={token}&state=1")], []


SHAPES: dict[str, Shape] = {
    "the scheme Token, which is case-sensitive": Shape(
        {"id": 7, "exp": NOW + 5_000_000},
        {"claims": {"subject": "id"}, "integer_subject": True, "transport": [_scheme("Token")]},
        {"access": ["/user/token"]},
        _in_header("authorization", "Token "),
        _by_header("Authorization", "Token "),
        answer=lambda token: said(200, {"user": {"token": token, "email": "a@b.c"}}),
        pick=lambda answer: str(answer.json()["user"]["token"]),
    ),
    "a bare header": Shape(
        {"identity": "ada", **HOUR},
        {"claims": {"subject": "identity"}, "transport": [{"header": "Authorization"}]},
        read=_in_header("authorization"),
        send=_by_header("Authorization"),
    ),
    "a header of its own": Shape(
        {"user_id": 7, "admin": False, "perms": ["b", "a"], **HOUR},
        {
            "claims": {"subject": "user_id", "scopes": "perms"},
            "integer_subject": True,
            "transport": [{"header": "X-Access-Token"}],
        },
        read=_in_header("x-access-token"),
        send=_by_header("X-Access-Token"),
        answer=lambda token: said(200, {"data": {"token": "Bearer " + token}}),
        pick=lambda answer: str(answer.json()["data"]["token"].removeprefix("Bearer ")),
        bridge={"access": ["/data/token"]},
    ),
    "a cookie only": Shape(
        {"username": "ada", **HOUR},
        {"claims": {"subject": "username"}, "transport": [{"cookie": "token"}]},
        read=_in_cookie,
        send=lambda token: {"headers": {"Cookie": f"a=1; token={token}; b=2"}},
        answer=_cookie,
        pick=_set_cookie,
    ),
    "a query parameter": Shape(
        {"sub": "ada", **HOUR},
        {"transport": [{"query": "token"}]},
        read=_in_query,
        send=lambda token: {"params": {"a": "1", "token": token}},
    ),
    "a constant sub": Shape(
        {"sub": "auth", "username": "ada", **HOUR}, {"claims": {"subject": "username"}}
    ),
    "a nested subject": Shape(
        {"data": {"user": {"id": "7", "name": "Ada"}}, **HOUR},
        {"claims": {"subject": "data.user.id"}},
    ),
    "no end for thousands of years": Shape({"sub": "ada", "exp": 99_999_999_999}, {}),
    "no end at all": Shape({"sub": "ada", "iat": NOW}, {"max_age": "30d"}),
    "an issuer and an audience": Shape(
        {"sub": "ada", "iss": "https://a.example", "aud": "api", "type": "at", **HOUR},
        {
            "issuer": "https://a.example",
            "audience": ["api"],
            "typ": ["at+jwt"],
            "purpose": {"require": {"type": "at"}},
        },
        headers={"typ": "at+jwt"},
        decode={"issuer": "https://a.example", "audience": "api"},
    ),
    "RS256 and a key of the bridge's own": Shape(
        {"sub": "ada", **HOUR},
        {"algorithms": ["RS256"], "keys": [{"key": RSA[1], "kid": "k1"}]},
        {"key": {"key": BRIDGE_RSA[0], "kid": "b1"}},
        alg="RS256",
        signs=RSA[0],
        keys={"k1": RSA[1], "b1": BRIDGE_RSA[1]},
        headers={"kid": "k1"},
    ),
    "ES256 and a key of the bridge's own": Shape(
        {"sub": "ada", **HOUR},
        {"algorithms": ["ES256"], "keys": [EC[1]]},
        {"key": {"key": BRIDGE_EC[0], "kid": "b1", "alg": "ES256"}},
        alg="ES256",
        signs=EC[0],
        keys={None: EC[1], "b1": BRIDGE_EC[1]},
    ),
    "a redirect with the token in its fragment": Shape(
        {"sub": "ada", **HOUR},
        {},
        answer=_fragment,
        pick=lambda answer: str(
            parse_qs(answer.headers["location"].partition("#")[2])["access_token"][0]
        ),
    ),
}


def _stood(deploy: Deploy, shape: Shape, phase: str) -> Deployment:
    issuer = {**ISSUER, "purpose": {"require": {}}, "claims": {"subject": "sub"}, **shape.issuer}
    there = deploy(phase, issuers=[issuer], bridge=dict(shape.bridge))
    there.app.says |= {"/login": shape.login, "/me": shape.me}
    there.client.follow_redirects = False
    return there


@pytest.mark.parametrize("name", SHAPES)
def test_an_app_of_any_shape_understands_a_session(deploy: Deploy, name: str) -> None:
    shape = SHAPES[name]
    there = _stood(deploy, shape, "drain")
    token = shape.pick(there.ask("POST", "/login"))
    assert token.startswith("sess_"), token
    there.client.cookies.clear()
    answer = there.ask("GET", "/me", **shape.send(token))
    assert answer.status_code == 200, answer.text
    assert answer.json()["token"] == token  # an echo is the client's own
    shown = answer.json()["claims"]
    assert shown.pop(MARK) is True
    made_here = {"exp", "jti", "iat"} - ({"iat"} & shape.claims.keys())
    told = {claim: value for claim, value in shape.claims.items() if claim not in made_here}
    assert {claim: value for claim, value in shown.items() if claim not in made_here} == told
    assert [type(shown[claim]) for claim in told] == [type(value) for value in told.values()]
    assert list(there.app.seen[-1].headers).count("cookie") <= 1
    assert token not in str(there.app.seen[-1])


@pytest.mark.parametrize("name", SHAPES)
def test_a_jwt_of_any_shape_goes_through_byte_for_byte(deploy: Deploy, name: str) -> None:
    shape = SHAPES[name]
    there = _stood(deploy, shape, "swap")
    legacy = shape.token()
    answer = there.ask("GET", "/me", **shape.send(legacy))
    assert answer.status_code == 200, answer.text
    assert answer.json()["token"] == legacy
    assert answer.json()["claims"] == dict(shape.claims)


# Refresh tokens of other kinds.


def _second_secret(user: str) -> dict[str, str]:
    return {
        "access": sign(user, lasts_s=300),
        "refresh": sign(user, lasts_s=86_400, secret=OTHER),
    }


def test_a_refresh_token_under_a_second_secret_comes_as_bearer(deploy: Deploy) -> None:
    def refresh(asked: Asked) -> Answer:
        user = jwt.decode(asked.bearer, OTHER, algorithms=["HS256"])["sub"]
        return said(200, _second_secret(user))

    issuer = {**ISSUER, "refresh_keys": [OTHER], "purpose": {"require": {}}}
    there = deploy("swap", issuers=[issuer])
    there.app.says |= {"/login": lambda _: said(200, _second_secret("ada")), "/refresh": refresh}
    legacy = _second_secret("ada")["refresh"]
    answers = [there.ask("POST", "/refresh", legacy).json() for _ in range(2)]
    token = answers[0]["access"]
    assert token.startswith("sess_")
    assert answers == [{"access": token, "refresh": token}] * 2
    assert there.ask("POST", "/refresh", token).json()["access"] == token
    there.app.says["/logout"] = lambda _: (204, [], [])
    assert there.ask("POST", "/logout", legacy).status_code == 204
    before = len(there.app.seen)
    assert there.ask("POST", "/refresh", legacy).status_code == 401
    assert len(there.app.seen) == before


def test_an_app_goes_on_refreshing_by_tokens_that_are_no_jwts(deploy: Deploy) -> None:
    there = deploy()
    valid = {"r-0"}

    def issued(_: Asked | None = None) -> Answer:
        valid.add(f"r-{len(valid)}")
        access = sign("ada", lasts_s=300, claims={"token_type": "access"})
        return said(200, {"access": access, "refresh": f"r-{len(valid) - 1}"})

    def refresh(asked: Asked) -> Answer:
        return issued() if asked.json()["refresh"] in valid else said(422, {"why": "unknown"})

    there.app.says |= {"/login": issued, "/refresh": refresh}
    held = there.ask("POST", "/login").json()
    for _ in range(2):
        # Its access token is over, and goes along all the same.
        there.rig.execute("UPDATE migrator.sessions SET expires_at = now()")
        there.move("drain")
        answer = there.ask("POST", "/refresh", held["access"], json={"refresh": held["refresh"]})
        assert answer.status_code == 200
        held = answer.json()
        assert held["access"].startswith("sess_")
        assert held["refresh"].startswith("r-")
        assert there.ask("GET", "/me", held["access"]).json()["sub"] == "ada"
    answer = there.ask("POST", "/refresh", json={"refresh": "r-9"})
    assert (answer.status_code, answer.json()) == (422, {"why": "unknown"})


def test_one_endpoint_may_log_in_and_refresh(deploy: Deploy) -> None:
    there = deploy(routes={"login": [], "refresh": ["/token"]})

    def token(asked: Asked) -> Answer:
        form = {name: values[0] for name, values in parse_qs(asked.body.decode()).items()}
        if form["grant_type"] == "password":
            return said(200, there.app.pair(form["username"]))
        there.app.refreshes += 1
        return said(200, there.app.pair(there.app.read(form["refresh_token"], "refresh")["sub"]))

    there.app.says["/token"] = token
    form = {"grant_type": "password", "username": "ada", "password": "%&="}
    held = there.ask("POST", "/token", data=form).json()
    form = {"grant_type": "refresh_token", "refresh_token": held["refresh"]}
    assert there.ask("POST", "/token", data=form).json() == held
    form = {"grant_type": "password", "username": "eve", "password": "p"}
    other = there.ask("POST", "/token", held["access"], data=form).json()
    assert there.ask("GET", "/me", other["access"]).json()["sub"] == "eve"


# The app's own words.


@pytest.mark.parametrize("code", [401, 403, 422])
def test_an_error_of_the_app_is_the_apps_own_word_for_word(deploy: Deploy, code: int) -> None:
    there = deploy("swap")
    body = {"detail": "Signature has expired", "code": "token_not_valid", "messages": [{"a": 1}]}
    challenge = ("WWW-Authenticate", 'JWT realm="api"')
    there.app.says |= {
        path: lambda _: said(code, body, challenge) for path in ("/me", "/login", "/refresh")
    }
    over = sign("ada", lasts_s=-600, claims={"token_type": "access"})
    answers = [
        there.ask("GET", "/me"),
        there.ask("GET", "/me", over),
        there.ask("GET", "/me", sign("ada", claims={"token_type": "access"})),
        there.ask("POST", "/login", json={"user": "ada"}),
        there.ask("POST", "/refresh", json={"refresh": sign_refresh("ada", lasts_s=-600)}),
        there.ask("POST", "/refresh", json={"refresh": "nonsense"}),
        there.ask("POST", "/refresh"),
    ]
    for answer in answers:
        assert (answer.status_code, answer.text) == (code, json.dumps(body))
        assert answer.headers["www-authenticate"] == challenge[1]
    assert there.app.seen[1].bearer == over


def test_an_app_that_knows_its_tokens_by_heart_knows_no_session(deploy: Deploy) -> None:
    """What cannot work is the app's own refusal, and is counted: doctor says it."""
    there = deploy("swap")
    known: set[str] = set()

    def login(_: Asked) -> Answer:
        pair = there.app.pair("ada")
        known.add(pair["access"])
        return said(200, pair)

    def me(asked: Asked) -> Answer:
        if asked.bearer not in known:
            return said(401, {"detail": "not in the table"})
        return said(200, {"sub": "ada"})

    there.app.says |= {"/login": login, "/me": me}
    legacy = there.app.pair("ada")["access"]
    known.add(legacy)
    assert there.ask("GET", "/me", legacy).json() == {"sub": "ada"}
    answer = there.ask("GET", "/me", there.ask("POST", "/login").json()["access"])
    assert (answer.status_code, answer.json()) == (401, {"detail": "not in the table"})
    there.move("swap")  # what was counted is written
    rows = there.rig.execute(
        "SELECT sum(count) FROM migrator.legacy_usage WHERE outcome = 'bridge:refused'"
    )
    assert rows[0][0] == 1


# JWTs under the same secret that are no logins.


def _purposeful(**claims: object) -> str:
    made = {"sub": "ada", "exp": NOW + 600, "jti": secrets.token_hex(4), **claims}
    return jwt.encode(made, SECRET, algorithm="HS256")


def test_a_jwt_that_is_no_login_is_nobodys_business(deploy: Deploy) -> None:
    strict = {"require": {"token_type": "access"}, "refresh": {"token_type": "refresh"}}
    there = deploy("drain", issuers=[{**ISSUER, "purpose": strict}])
    reset, state = _purposeful(type="reset"), _purposeful(purpose="oauth_state")
    body = {"reset": reset, "link": f"/files/a?sig={state}"}
    lines = [("Location", f"https://idp.example/?state={state}"), ("X-Reset", reset)]
    cookie = ("Set-Cookie", f"oauth={state}; Path=/callback")
    there.client.follow_redirects = False
    for path in ("/login", "/refresh", "/other"):
        there.app.says[path] = lambda _: said(302, body, *lines, cookie)
        answer = there.ask(
            "POST",
            path,
            json={"token": reset, "next": state},
            headers={"Cookie": f"oauth={state}", "X-Reset": reset},
            params={"state": state},
        )
        assert answer.status_code == 302
        assert answer.json() == body
        assert answer.headers["location"] == lines[0][1]
        assert answer.headers["x-reset"] == reset
        assert answer.headers["set-cookie"] == cookie[1]
        asked = there.app.seen[-1]
        assert asked.json() == {"token": reset, "next": state}
        assert (asked.headers["cookie"], asked.headers["x-reset"]) == (f"oauth={state}", reset)
        assert asked.query == f"state={state}"
    assert there.rig.count("sessions") == 0


def test_a_jwt_that_is_no_login_stays_beside_one_that_is(deploy: Deploy) -> None:
    there = deploy()
    link = _purposeful(type="file")
    original = there.app.login
    there.app.says["/login"] = lambda asked: said(
        200, {**json.loads(b"".join(original(asked)[2])), "avatar": link}
    )
    answer = there.ask("POST", "/login", json={"user": "ada"}).json()
    assert answer["avatar"] == link
    assert answer["access"].startswith("sess_")
    body = {"refresh": answer["refresh"], "avatar": link}
    assert there.ask("POST", "/refresh", json=body).status_code == 200
    assert there.app.seen[-1].json()["avatar"] == link


# Logging out.


@pytest.mark.parametrize(
    ("method", "answer", "ends"),
    [
        ("POST", (204, [], []), True),
        ("POST", said(200, {"message": "bye"}), True),
        ("GET", said(200, {"message": "bye"}), True),
        ("GET", (302, [("Location", "/")], []), True),
        ("GET", (200, [("Content-Type", "text/html")], [b"<form>Sure?</form>"]), False),
        ("HEAD", (204, [], []), False),
        ("POST", said(403, {"detail": "csrf"}), False),
    ],
)
def test_a_session_ends_where_the_app_says_that_its_login_did(
    deploy: Deploy, method: str, answer: Answer, *, ends: bool
) -> None:
    there = deploy()
    there.client.follow_redirects = False
    token = there.login()["access"]
    there.app.says["/logout"] = lambda _: answer
    told = there.ask(method, "/logout", token)
    assert told.status_code == answer[0]
    assert told.content == (b"" if method == "HEAD" else b"".join(answer[2]))
    assert (there.ask("GET", "/me", token).status_code == 401) is ends
