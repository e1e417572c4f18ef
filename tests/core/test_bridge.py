"""A session as a JWT for an unchanged app: what it says, and that nobody else presents one."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID

import jwt as pyjwt
import pytest

from migrator.core import bridge
from migrator.core.bridge import MARK, Minter, Shape, Signer, Style, is_marked
from migrator.core.claims import Purpose
from migrator.core.ids import uuid7
from migrator.core.legacy import ClaimNames
from migrator.core.sessions import Session
from tests.core.deployment import DAY, HOUR, SHAPE
from tests.core.signers import IDP, NOW, NOW_S, SECRET

MINUTE = timedelta(minutes=1)
SIGNER = Signer("HS256", "k1", SECRET)


def session(**changes: Any) -> Session:
    made = Session(
        id=uuid7(),
        kind="session",
        realm="users",
        subject="ann",
        created_at=NOW - MINUTE,
        expires_at=NOW + DAY,
        origin="login",
        scopes=frozenset({"read", "write"}),
    )
    return replace(made, **changes)


def shape(**changes: Any) -> Shape:
    return replace(SHAPE, claims=ClaimNames(client="azp", scopes="scope"), **changes)


def minted(
    by: Minter | Shape,
    of: Session,
    purpose: Purpose = "access",
    **more: Any,
) -> bytes:
    minter = by if isinstance(by, Minter) else Minter(by)
    arguments = {"scopes": of.scopes, "cookies": {}, "now": NOW, **more}
    return minter.mint(of, purpose, **arguments)


def read(token: bytes) -> dict[str, Any]:
    found: dict[str, Any] = pyjwt.decode(
        token.decode(),
        SECRET,
        algorithms=["HS256"],
        options={"verify_exp": False, "verify_aud": False, "verify_iat": False},
    )
    return found


def told(token: bytes) -> dict[str, Any]:
    """Without what every one of them says."""
    usual = {MARK, "iss", "aud", "iat", "exp", "jti", "token_type", "sub", "scope"}
    return {name: value for name, value in read(token).items() if name not in usual}


# ---- what it says ------------------------------------------------------------------------------


def test_a_bridge_jwt_has_the_shape_of_the_issuers_tokens() -> None:
    of = session(client="ios")
    token = minted(shape(), of)
    assert pyjwt.get_unverified_header(token.decode()) == {
        "alg": "HS256",
        "typ": "JWT",
        "kid": "k1",
    }
    assert read(token) == {
        MARK: True,
        "token_type": "access",
        "sub": "ann",
        "azp": "ios",
        "scope": "read write",
        "iss": IDP,
        "aud": "api",
        "jti": of.id.hex,
        "iat": NOW_S - 60,
        "exp": NOW_S + 300,
    }


def test_what_the_issuers_tokens_have_not_it_has_not() -> None:
    style = Style(signer=Signer("HS256", None, SECRET))
    bare = Shape(
        issuer="a1",
        realm="users",
        styles={"access": style},
        lifetime=MINUTE,
        typ=None,
    )
    token = minted(bare, session(client="ios"))
    assert pyjwt.get_unverified_header(token.decode()) == {"alg": "HS256"}
    assert {*read(token)} == {MARK, "sub", "jti", "iat", "exp"}


def test_p3_it_never_outlives_its_session() -> None:
    assert read(minted(shape(), session(expires_at=NOW + MINUTE)))["exp"] == NOW_S + 60
    assert read(minted(shape(), session(expires_at=None)))["exp"] == NOW_S + 300


def test_a_login_keeps_its_jti_and_iat() -> None:
    of = session(claims={"jti": "j1", "iat": 7})
    found = read(minted(shape(), of))
    assert (found["jti"], found["iat"]) == ("j1", 7)


def test_a_refresh_token_has_a_jti_of_its_own_each_time() -> None:
    minter = Minter(shape())
    of = session(claims={"jti": "j1"})
    both = [read(minted(minter, of, "refresh")) for _ in range(2)]
    assert both[0]["jti"] != both[1]["jti"]
    assert {len(each["jti"]) for each in both} == {32}
    assert {each["token_type"] for each in both} == {"refresh"}


@pytest.mark.parametrize(
    ("subject", "integers", "claim"),
    [
        ("7", True, 7),
        ("-7", True, -7),
        ("0", True, 0),
        ("007", True, "007"),
        ("ann", True, "ann"),
        ("7" * 20, True, "7" * 20),
        ("7", False, "7"),
    ],
)
def test_a_subject_of_digits_is_a_number_where_the_app_has_numbers(
    subject: str, integers: bool, claim: object
) -> None:
    found = minted(shape(integer_subject=integers), session(subject=subject))
    payload = json.loads(urlsafe_b64decode(found.split(b".")[1] + b"=="))
    assert payload["sub"] == claim


def test_what_a_session_echoes_wins_over_constants_and_not_over_the_purpose() -> None:
    style = Style(
        signer=SIGNER, constants={"a": 1, "b": 1, "token_type": "x"}, purpose={"token_type": "t"}
    )
    by = shape(styles={"access": style})
    found = read(minted(by, session(claims={"b": 2, "token_type": "y", "sub": "eve"})))
    assert (found["a"], found["b"], found["token_type"], found["sub"]) == (1, 2, "t", "ann")


def test_a_dotted_name_goes_one_level_down_and_stays_as_it_is_too() -> None:
    of = session(claims={"user.id": 7, "user.name": "Ann", "x.y.z": 1})
    assert told(minted(shape(), of)) == {
        "user": {"id": 7, "name": "Ann"},
        "user.id": 7,
        "user.name": "Ann",
        "x": {"y": {"z": 1}},
        "x.y.z": 1,
    }
    of = session(claims={"user": {"role": "a"}, "user.id": 7})
    assert told(minted(shape(), of)) == {"user": {"role": "a"}, "user.id": 7}
    of = session(claims={"https://x.example/id": 7})
    assert told(minted(shape(), of)) == {"https://x.example/id": 7}


def test_a_nested_subject_or_client_is_put_where_the_issuer_has_it() -> None:
    names = ClaimNames(subject="user.id", client="user.client")
    style = Style(signer=SIGNER, constants={"user": {"role": "a"}})
    by = replace(SHAPE, claims=names, styles={"access": style})
    found = read(minted(by, session(client="ios")))
    assert found["user"] == {"role": "a", "id": "ann", "client": "ios"}
    style = Style(signer=SIGNER, constants={"user": "text"})
    found = read(minted(replace(by, styles={"access": style}), session()))
    assert found["user"] == {"id": "ann"}


def test_a_client_is_told_where_it_is_known_and_the_login_did_not_say_it() -> None:
    assert "azp" not in read(minted(shape(), session()))
    found = read(minted(shape(), session(client="ios", claims={"azp": "app"})))
    assert found["azp"] == "app"


@pytest.mark.parametrize(
    ("claim", "kept", "scopes", "told_as"),
    [
        ("scope", {}, {"b", "a"}, "a b"),
        ("scope", {"scope": ["a"]}, {"b", "a"}, ["a", "b"]),
        ("scope", {"scope": "b a"}, {"a", "b"}, "b a"),
        ("scope", {"scope": "b a"}, {"a"}, "a"),
        ("scp", {}, {"b", "a"}, ["a", "b"]),
        ("scp", {"scp": "x"}, {"b", "a"}, "a b"),
        ("scp", {"scp": 7}, set[str](), []),
    ],
)
def test_scopes_are_said_as_the_login_had_them(
    claim: str, kept: dict[str, object], scopes: set[str], told_as: object
) -> None:
    by = replace(SHAPE, claims=ClaimNames(scopes=claim))
    found = read(minted(by, session(claims=kept), scopes=frozenset(scopes)))
    assert found[claim] == told_as


def test_no_scopes_need_no_claim() -> None:
    assert "scope" not in read(minted(shape(), session(), scopes=frozenset[str]()))
    by = replace(SHAPE, claims=ClaimNames())
    assert "scope" not in read(minted(by, session()))


def test_a_mirrored_cookie_is_repeated_as_far_as_it_came() -> None:
    style = Style(signer=SIGNER, mirrors={"csrf": "csrf_cookie", "other": "other_cookie"})
    by = shape(styles={"access": style})
    cookies = {"csrf_cookie": "v1", "unrelated": "x"}
    assert told(minted(by, session(), cookies=cookies)) == {"csrf": "v1"}


def test_what_only_a_fresh_login_may_claim_is_over_in_time() -> None:
    style = Style(signer=SIGNER, constants={"fresh": True})
    by = shape(styles={"access": style}, expiring={"fresh": False}, access_lifetime=HOUR)
    of = session(created_at=NOW)
    assert told(minted(by, of))["fresh"] is True
    assert told(minted(by, of, now=NOW + HOUR - MINUTE))["fresh"] is True
    assert told(minted(by, of, now=NOW + HOUR))["fresh"] is False
    never = replace(by, access_lifetime=None)
    assert told(minted(never, of))["fresh"] is False
    plain = replace(by, styles={"access": Style(signer=SIGNER)})
    assert "fresh" not in told(minted(plain, of, now=NOW + HOUR))


# ---- one for half its life ---------------------------------------------------------------------


def test_a_jwt_is_handed_out_again_for_half_its_life() -> None:
    minter = Minter(shape())
    of = session()
    first = minted(minter, of)
    assert minted(minter, of, now=NOW + 2.5 * MINUTE - timedelta(seconds=1)) is first
    assert minted(minter, replace(of), now=NOW + MINUTE) is first
    second = minted(minter, of, now=NOW + 2.5 * MINUTE)
    assert second != first
    assert read(second)["exp"] == NOW_S + 150 + 300


def test_a_jwt_is_made_anew_where_what_it_says_changed() -> None:
    style = Style(signer=SIGNER, mirrors={"csrf": "c"})
    minter = Minter(shape(styles={"access": style}))
    of = session()
    first = minted(minter, of)
    changed = replace(of, claims={"n": 1})
    assert told(minted(minter, changed))["n"] == 1
    assert minted(minter, of, scopes=frozenset({"read"})) != first
    one = minted(minter, of, cookies={"c": "1"})
    two = minted(minter, of, cookies={"c": "2"})
    assert one != two
    assert minted(minter, of, cookies={"c": "1"}) is one
    assert minted(minter, of, cookies={"c": "2"}) is two


def test_a_jwt_that_claims_freshness_is_not_kept_past_it() -> None:
    style = Style(signer=SIGNER, constants={"fresh": True})
    by = shape(styles={"access": style}, expiring={"fresh": False}, access_lifetime=2 * MINUTE)
    minter = Minter(by)
    of = session(created_at=NOW - MINUTE)
    assert told(minted(minter, of))["fresh"] is True
    assert told(minted(minter, of, now=NOW + MINUTE - timedelta(seconds=1)))["fresh"] is True
    assert told(minted(minter, of, now=NOW + MINUTE))["fresh"] is False
    later = NOW + MINUTE
    last = minted(minter, of, now=later)
    assert minted(minter, of, now=later + 2 * MINUTE) is last


def test_what_is_kept_is_bounded_and_the_oldest_goes_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bridge, "_MOST_KEPT", 2)
    minter = Minter(shape())
    several = [session() for _ in range(3)]
    made = [minted(minter, each) for each in several]
    assert len(minter._kept) == 2
    assert minted(minter, several[2]) is made[2]
    assert minted(minter, several[1]) is made[1]
    assert minted(minter, several[0]) is not made[0]


# ---- the mark ----------------------------------------------------------------------------------


def test_a_bridge_jwt_is_known_in_every_spelling() -> None:
    token = minted(shape(), session())
    head, body, signature = token.split(b".")
    assert is_marked(token)
    assert is_marked(b"Bearer " + token)
    assert is_marked(token.replace(b".", b"%2E"))
    assert is_marked(token.replace(b".", b"%252e"))
    assert is_marked(quote(token).encode())
    assert is_marked(b"".join([head, b".", body, b"==.", signature]))
    assert is_marked(b" ".join([head, b"." + body[:9], body[9:] + b".", signature]))
    assert is_marked(minted(shape(), session(), "refresh"))


def test_what_a_library_copied_from_a_bridge_jwt_is_one_too() -> None:
    payload = json.dumps({"sub": "ann", "jti": "x", MARK: True}).encode()
    copied = b"e30." + urlsafe_b64encode(payload).rstrip(b"=") + b".c2ln"
    assert is_marked(copied)
    padded = b"e30." + urlsafe_b64encode(payload) + b"=.c2ln"
    assert is_marked(padded)


def test_what_is_not_marked_is_nobodys_bridge_jwt() -> None:
    assert not is_marked(minted(shape(), session(), "refresh", marked=False))
    assert is_marked(minted(shape(), session(), "refresh", marked=True))
    assert MARK not in read(minted(shape(), session(), "refresh", marked=False))
    assert not is_marked(b"")
    assert not is_marked(b"sess_" + b"0" * 200)
    payload = json.dumps({"sub": "urn:migrator:bridges", "more": "x" * 99}).encode()
    assert not is_marked(b"e30." + urlsafe_b64encode(payload) + b".c2ln")


def test_a_segment_that_could_only_just_bear_the_mark_is_looked_into() -> None:
    payload = ('{"' + MARK + '":1}').encode()
    assert is_marked(b"e30." + urlsafe_b64encode(payload).rstrip(b"=") + b".")
    inner = ('"' + MARK + '"').encode()
    assert is_marked(b"." * 20 + urlsafe_b64encode(inner).rstrip(b"="))


def test_it_is_signed_over_text_as_it_is() -> None:
    of = session(subject="ann\u00e9", claims={"n": "\u2603"})
    token = minted(shape(), of)
    assert read(token)["n"] == "\u2603"
    assert "\u2603".encode() in urlsafe_b64decode(token.split(b".")[1] + b"==")
    assert b"=" not in token


# ---- as libraries write them -------------------------------------------------------------------


def test_what_is_made_anew_is_the_newest_of_those_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge, "_MOST_KEPT", 2)
    minter = Minter(shape())
    one, two, three = session(), session(), session()
    minted(minter, one)
    second = minted(minter, two)
    later = NOW + 3 * MINUTE
    anew = minted(minter, one, now=later)
    minted(minter, three, now=later)
    assert minted(minter, one, now=later) is anew
    assert minted(minter, two) is not second


def test_what_is_made_anew_pushes_nothing_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge, "_MOST_KEPT", 2)
    minter = Minter(shape())
    one, two = session(), session()
    first = minted(minter, one)
    minted(minter, two)
    minted(minter, two, now=NOW + 3 * MINUTE)
    assert minted(minter, one) is first


def test_a_name_of_several_dots_does_not_reach_into_a_claim_that_is_there() -> None:
    of = session(claims={"a": {"x": 1}, "a.b.c": 2})
    assert told(minted(shape(), of)) == {"a": {"x": 1}, "a.b.c": 2}


def test_what_expires_takes_no_other_claim_with_it() -> None:
    style = Style(signer=SIGNER, constants={"fresh": True, "kind": "web"})
    by = shape(styles={"access": style}, expiring={"fresh": False}, access_lifetime=HOUR)
    of = session(created_at=NOW, claims={"n": 1})
    late = told(minted(by, of, now=NOW + HOUR))
    assert late == {"fresh": False, "kind": "web", "n": 1}


def test_it_is_written_without_blanks() -> None:
    head, body, _ = minted(shape(), session(scopes=frozenset({"read"}))).split(b".")
    for segment in (head, body):
        assert b" " not in urlsafe_b64decode(segment + b"=" * (-len(segment) % 4))


def test_every_signature_is_whole_whatever_it_ends_with() -> None:
    """48 bytes fill their last quantum, so any character may be the last."""
    signer = Signer("HS384", "k1", SECRET)
    minter = Minter(shape(styles={"access": Style(signer=signer)}))
    for number in range(400):
        of = session(id=UUID(int=number), subject=f"s{number}")
        assert len(minted(minter, of).rpartition(b".")[2]) == 64
