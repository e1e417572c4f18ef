"""Which JWT the app is shown, for how long it is kept, and what nothing shows."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import jwt
import pytest

from migrator.core.bridge import MARK, Minter, Shape, Signer, Style
from migrator.core.ids import uuid7
from migrator.core.refreshing import Carried
from migrator.core.sessions import Session
from shims.bridge import Answered, Asking, Inbound
from tests.bridge.conftest import Deploy
from tests.rig import SECRET, sign


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
