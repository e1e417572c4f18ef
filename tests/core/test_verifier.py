"""The edges of the verifier: its caps, its order, and what it says of tokens it does not judge."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from migrator.core import strict
from migrator.core.claims import Claims
from migrator.core.issuers import ForeignRule
from migrator.core.legacy import (
    FOREIGN,
    Foreign,
    Key,
    Legacy,
    Verifier,
    Wrong,
    signed_by,
)
from migrator.core.verdicts import Reason, Refused
from tests.core.signers import NOW, NOW_S, SIGNERS, b64, claims, judge, ring_of, verifier

HS, RS = SIGNERS["HS256"], SIGNERS["RS256"]
OURS = HS.issuer()
MARKED = b64(b'{"alg":"HS256"}') + b"." + b64(b'{"urn:migrator:bridge":true,"sub":"u"}') + b".AAAA"


def test_a_token_is_read_up_to_its_cap_and_not_one_byte_beyond() -> None:
    token = HS.token()
    fits = Verifier([OURS], max_bytes=len(token))
    assert fits.whose(token) == Legacy((OURS,))
    assert isinstance(fits.verify(token, [OURS], now=NOW), Claims)
    assert fits.exp_of(token) is not None
    short = Verifier([OURS], max_bytes=len(token) - 1)
    assert short.whose(token) == Wrong(Reason.OVERSIZED)
    assert short.verify(token, [OURS], now=NOW) == Refused(Reason.OVERSIZED)
    assert short.exp_of(token) is None
    assert short.whose(b"x" * len(token)) is FOREIGN


def test_a_bridge_jwt_is_nobodys_credential_but_in_the_apps_own_answer() -> None:
    assert verifier(OURS).whose(MARKED) == Wrong(Reason.BRIDGE_TOKEN)
    assert verifier(OURS).whose(MARKED, allowed=()) == Wrong(Reason.BRIDGE_TOKEN)
    answered = verifier(replace(OURS, iss=None)).whose(MARKED, marked=True)
    assert isinstance(answered, Legacy)


def test_whoever_judges_without_an_issuer_refuses() -> None:
    assert verifier(OURS).verify(HS.token(), [], now=NOW) == Refused(Reason.UNKNOWN_ISSUER)


@pytest.mark.parametrize("credential", [b"", b"a.b", HS.token() + b"=", b"{}"])
def test_what_is_no_jws_is_verified_for_nobody(credential: bytes) -> None:
    assert verifier(OURS).verify(credential, [OURS], now=NOW) == Refused(Reason.NOT_A_JWS)


@pytest.mark.parametrize("payload", [b"{}", b"[]", b"x", b'{"iss":1,"iss":2}'])
def test_a_payload_that_says_nothing_is_nobodys(payload: bytes) -> None:
    assert verifier(OURS).whose(HS.token(payload)) == Wrong(Reason.BAD_PAYLOAD)


@pytest.mark.parametrize(
    ("iss", "configured", "is_ours"),
    [
        (None, None, False),  # null is there, and no name
        (None, "*", False),
        (..., None, True),
        (..., "*", True),
        ("x", "*", True),
        (7, "*", False),
        ("", None, False),
        ("x", "x", True),
        (["x"], "x", False),
        (..., "x", False),
    ],
)
def test_an_issuer_signs_under_its_own_name(
    iss: object, configured: str | None, is_ours: bool
) -> None:
    issuer, token = replace(OURS, iss=configured), HS.token(claims(iss=iss))
    judging = verifier(issuer)
    wanted = Legacy((issuer,)) if is_ours else Wrong(Reason.UNKNOWN_ISSUER)
    assert judging.whose(token) == wanted
    found = judging.verify(token, [issuer], now=NOW)
    assert isinstance(found, Claims) if is_ours else found == Refused(Reason.UNKNOWN_ISSUER)


def test_padding_is_read_for_the_issuers_that_pad_and_for_no_other() -> None:
    padding, plain = HS.issuer(id="b1", accept_padding=True), OURS
    judging = verifier(plain, padding)
    payload = claims(sub="user-12")
    padded = HS.token(payload)
    assert judging.whose(padded) == Legacy((plain, padding))
    segments = [part + b"=" * (-len(part) % 4) for part in padded.split(b".")]
    spelt = b".".join(segments)
    assert b"=" in spelt
    assert judging.whose(spelt) == Legacy((padding,))
    assert judging.whose(spelt, allowed={"a1"}) == Wrong(Reason.NOT_A_JWS)
    assert judging.whose(b"=" + padded) == Wrong(Reason.NOT_A_JWS)


FILES = ForeignRule(path="/files/**")


def test_a_rule_by_path_means_what_is_sent_there_by_any_transport() -> None:
    judging = verifier(OURS, foreign=(FILES,))
    for allowed in (None, frozenset[str](), frozenset({"a1"})):
        found = judging.whose(HS.token(), allowed=allowed, path="/files/7")
        assert found == Foreign(named=True)
    assert judging.whose(HS.token(), path="/other") == Legacy((OURS,))
    assert judging.whose(b"an-opaque-key", path="/files/7") is FOREIGN
    assert judging.whose(HS.token() + b"=", path="/files/7") == Foreign(named=True)


@pytest.mark.parametrize(
    ("rule", "path", "means"),
    [
        ({"path": "/a/*/c"}, "/a/b/c", True),
        ({"path": "/a/*/c"}, "/a/b/b/c", False),
        ({"path": "/a/**"}, "/a/", True),
        ({"path": "/a/**"}, "/ab", False),
        ({"path": "/a/**"}, "/a/x\ny", True),
        ({"path": "/a/*"}, "/a/x\ny", True),
        ({"path": "/a.b"}, "/axb", False),
        ({"path": "/a"}, "/a/", False),
        ({"iss": "x"}, "/", True),
        ({"iss": "y"}, "/", False),
        ({"iss": "x", "path": "/a"}, "/a", True),
        ({"iss": "x", "path": "/a"}, "/b", False),
        ({"iss": "x", "claims": {"k": 1}}, "/", True),
        ({"iss": "x", "claims": {"k": 2}}, "/", False),
        ({"iss": "y", "claims": {"k": 1}}, "/", False),
        ({"claims": {"k": 1}}, "/", True),
        ({}, "/", False),
    ],
)
def test_a_foreign_rule_means_what_matches_all_it_gives(
    rule: dict[str, Any], path: str, means: bool
) -> None:
    assert ForeignRule(**rule).names({"iss": "x", "k": 1}, path) is means


@pytest.mark.parametrize(
    ("rule", "means"),
    [
        ({"path": "/a"}, True),
        ({"iss": "x", "path": "/a"}, False),
        ({"claims": {"k": None}}, False),
    ],
)
def test_what_cannot_be_read_is_named_by_its_path_alone(rule: dict[str, Any], means: bool) -> None:
    assert ForeignRule(**rule).names(None, "/a") is means


@pytest.mark.parametrize(
    ("exp", "told"),
    [
        (NOW_S + 3600, datetime(2026, 11, 23, 13, 0, tzinfo=UTC)),
        (..., None),
        ("x", None),
        (-1, None),
    ],
)
def test_when_an_issued_token_ends_is_told_by_its_own_word(
    exp: object, told: datetime | None
) -> None:
    assert verifier(OURS).exp_of(HS.token(claims(exp=exp))) == told
    assert verifier(OURS).exp_of(b"opaque") is None


def test_when_a_token_ends_that_is_not_spelt_as_signers_do_is_not_told() -> None:
    spelt = b".".join(part + b"=" * (-len(part) % 4) for part in HS.token().split(b"."))
    assert b"=" in spelt
    assert verifier(OURS).exp_of(spelt) is None


@pytest.mark.parametrize(
    ("typ", "expected", "holds"),
    [
        (..., ("at+jwt",), True),
        ("at+jwt", ("at+jwt",), True),
        ("AT+JWT", ("at+jwt",), True),
        ("application/at+jwt", ("at+jwt",), True),
        ("at+jwt", ("application/AT+JWT",), True),
        ("JWT", ("at+jwt",), False),
        ("JWT", ("at+jwt", "JWT"), True),
        ("anything", ("*",), True),
        ("jwt/application/", ("JWT",), False),
        ("", ("JWT",), False),
    ],
)
def test_a_typ_is_a_media_type_with_or_without_application(
    typ: object, expected: tuple[str, ...], holds: bool
) -> None:
    """RFC 7515 section 4.1.9, RFC 8725 section 3.11."""
    found = judge(HS.token(None, HS.header(typ=typ)), HS.issuer(typ=expected))
    assert isinstance(found, Claims) if holds else found is Reason.WRONG_TYPE


@pytest.mark.parametrize(
    ("aud", "is_meant"),
    [
        ("api", True),
        (["api"], True),
        (["x", "api"], True),
        (["api", 7], False),
        (["x"], False),
        ([], False),
        ({"api": 1}, False),
        (None, False),
        (7, False),
        (..., False),
    ],
)
def test_a_token_is_meant_for_us_by_a_text_or_a_list_of_texts(aud: object, is_meant: bool) -> None:
    found = judge(HS.token(claims(aud=aud)), OURS)
    assert isinstance(found, Claims) if is_meant else found is Reason.WRONG_AUDIENCE


def jws_of(token: bytes) -> strict.Compact:
    found = strict.parse(token)
    assert isinstance(found, strict.Compact)
    return found


@pytest.mark.parametrize(
    ("alg", "algorithms"),
    [
        ("none", ("none", "HS256")),
        ("hs256", ("hs256", "HS256")),
        ("RS256", ("HS256",)),
        ("ES256K", ("ES256K",)),
        ("", ("",)),
    ],
)
def test_an_algorithm_that_is_not_listed_or_not_known_asks_for_no_key(
    alg: str, algorithms: tuple[str, ...]
) -> None:
    """RFC 8725 section 3.1: the header chooses among what the issuer lists, never beyond it."""

    class Untouched:
        def find(self, kid: str | None, alg: str) -> tuple[Key, ...]:
            raise AssertionError((kid, alg))

    jws = jws_of(HS.token(None, HS.header(alg=alg)))
    assert signed_by(jws, algorithms, Untouched()) is Reason.WRONG_ALGORITHM


def test_the_key_that_signed_is_told_and_none_that_did_not() -> None:
    jws = jws_of(HS.token())
    right, wrong = Key("k1", "HS256", HS.public), Key("k1", "HS256", b"w" * 32)

    class Both:
        def find(self, kid: str | None, alg: str) -> tuple[Key, ...]:
            assert (kid, alg) == ("k1", "HS256")
            return (Key("k1", "RS256", RS.public), Key("k1", "HS256", None), wrong, right)

    assert signed_by(jws, ("HS256",), Both()) is right
    assert signed_by(jws, ("HS256",), ring_of(wrong)) is Reason.BAD_SIGNATURE
    assert signed_by(jws, ("HS256",), ring_of(Key("k2", "HS256", b"w" * 32))) is Reason.UNKNOWN_KEY


def test_of_several_refusals_the_one_that_came_furthest_is_told() -> None:
    token = HS.token(claims(exp=NOW_S - 900))
    stranger = HS.issuer(id="b1", audience=("other",))
    unknown = HS.issuer(id="c1", algorithms=("RS256",))
    for order in ((OURS, stranger, unknown), (unknown, stranger, OURS)):
        found = verifier(*order).verify(token, order, now=NOW)
        assert found == Refused(Reason.LEGACY_EXPIRED)


def test_integers_beyond_a_double_are_read_only_where_a_subject_may_be_one() -> None:
    token = HS.token(claims(sub=2**60))
    assert judge(token, OURS) is Reason.BAD_PAYLOAD
    found = judge(token, HS.issuer(integer_subject=True))
    assert isinstance(found, Claims)
    assert found.subject == str(2**60)
