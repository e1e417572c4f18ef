"""What a good legacy token becomes, whose a credential is, and what a token is for."""

from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import jwt
import pytest

from migrator.core.claims import Claims
from migrator.core.errors import Unavailable
from migrator.core.legacy import (
    FOREIGN,
    ClaimNames,
    Foreign,
    ForeignRule,
    Issuer,
    Key,
    Legacy,
    Wrong,
    resembles_jwt,
)
from migrator.core.tokens import fingerprint
from migrator.core.verdicts import Reason
from tests.core.signers import (
    IDP,
    NOW,
    NOW_S,
    SIGNERS,
    b64,
    claims,
    judge,
    plain,
    ring_of,
    verifier,
)

HS = SIGNERS["HS256"]


def held(token: bytes, issuer: Issuer, **options: Any) -> Claims:
    found = judge(token, issuer, **options)
    assert isinstance(found, Claims), found
    return found


@pytest.mark.parametrize("family", SIGNERS)
@pytest.mark.parametrize("typ", [..., "JWT", "jwt", "application/jwt", "application/JWT"])
def test_a_good_token_holds_whatever_the_case_of_its_typ(family: str, typ: object) -> None:
    signer = SIGNERS[family]
    token = signer.token(None, signer.header(typ=typ))
    found = held(token, signer.issuer())
    assert (found.subject, found.realm, found.issuer) == ("user-1", "users", "a1")
    assert found.fingerprint == fingerprint("a1", token.rpartition(b".")[0])


@pytest.mark.parametrize("family", SIGNERS)
@pytest.mark.parametrize(
    "changes",
    [
        {"exp": NOW_S + 0.5, "nbf": NOW_S - 0.5},
        {"exp": NOW_S + 1},
        {"exp": NOW_S - 29},
        {"iat": NOW_S + 5},
        {"nbf": NOW_S + 30},
        {"jti": ...},
        {"iat": ...},
        {"aud": ["other", "api"]},
        {"exp": 253402300799},
        {"unknown": {"x": [1, 2.5, None]}, "größe": "\U0001f600"},
        {"sub": "u" * 255},
        {"token_type": "Bearer"},
    ],
)
def test_an_odd_but_right_token_holds(family: str, changes: dict[str, Any]) -> None:
    signer = SIGNERS[family]
    assert held(signer.token(claims(**changes)), signer.issuer()).purpose == "access"


def test_white_space_escapes_and_unknown_header_members_are_json() -> None:
    body = b' {\r\n\t"sub" : "\\u0075ser-1", ' + plain(claims(sub=...))[1:] + b"\n"
    found = held(HS.token(body, HS.header(x={"y": 1}, jku="https://x", x5t="a")), HS.issuer())
    assert found.subject == "user-1"


def test_a_token_without_kid_is_tried_with_every_key_of_its_algorithm() -> None:
    keys = ring_of(Key("old", "HS256", b"o" * 32), Key("new", "HS256", HS.public))
    assert held(HS.token(None, HS.header(kid=...)), HS.issuer(keys=keys)).kid == "new"


def test_a_key_without_kid_is_meant_by_any_kid_that_is_not_named() -> None:
    keys = ring_of(Key("other", "HS256", b"o" * 32), Key(None, "HS256", HS.public))
    assert held(HS.token(), HS.issuer(keys=keys)).kid == "k1"
    assert judge(HS.token(None, HS.header(kid="other")), HS.issuer(keys=keys)) == "bad_signature"


def test_the_name_of_rfc_9864_means_the_same_key() -> None:
    signer = SIGNERS["EdDSA"]
    named = signer.token(None, signer.header(alg="Ed25519"))
    assert held(named, signer.issuer()).subject == "user-1"
    assert held(signer.token(), signer.issuer(algorithms=("Ed25519",))).subject == "user-1"


def test_padding_is_taken_where_the_issuer_says_so_and_only_in_its_right_form() -> None:
    """AWS ALB pads all three segments, and signs them so."""

    def padded(raw: bytes) -> bytes:
        return b64(raw) + b"=" * (-len(b64(raw)) % 4)

    signing_input = padded(plain(HS.header())) + b"." + padded(plain(claims(sub="u1")))
    token = signing_input + b"." + padded(HS.sign(signing_input))
    assert b"=." in token
    assert judge(token, HS.issuer()) is Reason.NOT_A_JWS
    found = held(token, HS.issuer(accept_padding=True))
    assert found.fingerprint == fingerprint("a1", signing_input)
    assert held(HS.token(), HS.issuer(accept_padding=True)).subject == "user-1"
    for wrong in (token + b"=", token[:-1] + b"==", HS.token() + b"=="):
        assert judge(wrong, HS.issuer(accept_padding=True)) is Reason.NOT_A_JWS


@pytest.mark.parametrize(
    ("value", "subject"),
    [(7, "7"), (2**62, str(2**62)), (0, "0"), ("7", "7")],
)
def test_an_integer_subject_is_text_where_the_issuer_opts_in(value: object, subject: str) -> None:
    assert held(HS.token(claims(sub=value)), HS.issuer(integer_subject=True)).subject == subject


@pytest.mark.parametrize("value", [True, False, 7.0, [7], {"id": 7}, None, 2**63])
def test_nothing_but_an_integer_is_an_integer_subject(value: object) -> None:
    found = judge(HS.token(claims(sub=value)), HS.issuer(integer_subject=True))
    assert found in {Reason.BAD_SUBJECT, Reason.BAD_PAYLOAD}


@pytest.mark.parametrize(
    ("expected", "aud", "verdict"),
    [
        ((), ..., None),
        ((), "api", Reason.WRONG_AUDIENCE),
        ((), [], Reason.WRONG_AUDIENCE),
        (("*",), ..., None),
        (("*",), {"odd": 1}, None),
        (("api", "web"), "web", None),
        (("api", "web"), "we", Reason.WRONG_AUDIENCE),
    ],
)
def test_the_audience_is_the_configured_one(
    expected: tuple[str, ...], aud: object, verdict: Reason | None
) -> None:
    found = judge(HS.token(claims(aud=aud)), HS.issuer(audience=expected))
    assert found is verdict if verdict else isinstance(found, Claims)


def test_claims_are_read_under_the_issuers_names() -> None:
    names = ClaimNames(
        subject="user.id", client="azp", scopes="scope", family="sid", keep=("name", "x.y", "no")
    )
    body = claims(
        sub=...,
        user={"id": "u7"},
        azp="web",
        scope="read write",
        sid="s1",
        name="Ann",
        x={"y": [1]},
        auth_time=NOW_S - 99,
        amr=["pwd", "otp"],
    )
    found = held(HS.token(body), HS.issuer(claims=names))
    assert (found.subject, found.client, found.family) == ("u7", "web", "s1")
    assert found.scopes == {"read", "write"}
    assert found.kept == {"name": "Ann", "x.y": [1]}
    assert found.auth_time == NOW - timedelta(seconds=99)
    assert found.amr == ("pwd", "otp")
    assert (found.jti, found.kid) == ("5f1d", "k1")


def test_odd_login_facts_are_unknown_and_not_a_refusal() -> None:
    found = held(HS.token(claims(auth_time="x", amr=[1])), HS.issuer())
    assert (found.auth_time, found.amr) == (None, ())


@pytest.mark.parametrize(
    "changes",
    [
        {"scope": 7},
        {"scope": ["a", 1]},
        {"scope": ["a\0"]},
        {"sid": "x" * 300},
        {"azp": ["web"]},
        {"name": "a\0b"},
        {"name": {"deep": ["a\0"]}},
    ],
)
def test_a_mapped_claim_that_no_store_can_hold_is_refused(changes: dict[str, Any]) -> None:
    names = ClaimNames(client="azp", scopes="scope", family="sid", keep=("name",))
    assert judge(HS.token(claims(**changes)), HS.issuer(claims=names)) is Reason.BAD_CLAIM


# Times.


def test_a_token_is_dated_by_its_iat_less_the_skew() -> None:
    found = held(HS.token(claims(iat=NOW_S - 100)), HS.issuer(skew=timedelta(seconds=7)))
    assert found.iat == NOW - timedelta(seconds=100)
    assert found.effective_iat == NOW - timedelta(seconds=107)
    assert found.keep_until == found.exp + timedelta(seconds=37)


def test_a_token_without_iat_is_dated_by_the_issuers_lifetime() -> None:
    body = claims(iat=..., exp=NOW_S + 600)
    found = held(HS.token(body), HS.issuer(lifetime=timedelta(hours=1)))
    assert found.effective_iat == NOW + timedelta(seconds=600 - 3600 - 5)
    assert found.iat is None
    assert held(HS.token(body), HS.issuer(lifetime=None)).effective_iat is None


def test_a_token_without_exp_lives_for_max_age_from_its_iat() -> None:
    day = timedelta(days=1)
    found = held(HS.token(claims(exp=...)), HS.issuer(max_age=day))
    assert found.exp == NOW - timedelta(seconds=60) + day
    old = HS.token(claims(exp=..., iat=NOW_S - 90_000))
    assert judge(old, HS.issuer(max_age=day)) is Reason.LEGACY_EXPIRED
    undated = HS.token(claims(exp=..., iat=...))
    assert judge(undated, HS.issuer(max_age=day)) is Reason.NO_EXPIRY
    assert judge(HS.token(claims(exp=...)), HS.issuer()) is Reason.NO_EXPIRY
    forever = HS.issuer(max_age=timedelta(days=3_000_000))
    assert held(HS.token(claims(exp=...)), forever).exp.year == 9999


def test_the_last_time_there_is_can_still_be_kept() -> None:
    found = held(HS.token(claims(exp=253402300799, iat=0)), HS.issuer())
    assert found.keep_until <= datetime(9999, 12, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, Reason.LEGACY_EXPIRED),
        ({"sub": ""}, Reason.BAD_SUBJECT),
        ({"aud": "other"}, Reason.WRONG_AUDIENCE),
        ({"type": "refresh"}, Reason.WRONG_PURPOSE),
        ({"jti": 1}, Reason.BAD_CLAIM),
    ],
)
def test_expired_is_said_of_an_otherwise_right_token_only(
    changes: dict[str, Any], reason: Reason
) -> None:
    late = claims(exp=NOW_S - 900, iat=NOW_S - 4500, **changes)
    assert judge(HS.token(late), HS.issuer()) is reason
    forged = HS.token(late)[:-4] + b"AAAA"
    assert judge(forged, HS.issuer()) in {Reason.BAD_SIGNATURE, Reason.NOT_A_JWS}


# Purpose.

SIMPLEJWT = {"require": {"token_type": "access"}, "refresh": {"token_type": "refresh"}}


@pytest.mark.parametrize("kind", ["access", "refresh"])
@pytest.mark.parametrize("wanted", ["access", "refresh"])
def test_a_token_serves_its_own_purpose_only(
    kind: str, wanted: Literal["access", "refresh"]
) -> None:
    found = judge(HS.token(claims(token_type=kind)), HS.issuer(**SIMPLEJWT), purpose=wanted)
    if kind == wanted:
        assert isinstance(found, Claims)
        assert found.purpose == wanted
    else:
        assert found is Reason.WRONG_PURPOSE


@pytest.mark.parametrize(
    ("rule", "changes", "fits"),
    [
        ({"kind": ["login", "sso"]}, {"kind": "sso"}, True),
        ({"kind": ["login", "sso"]}, {"kind": "x"}, False),
        ({"email": "*"}, {"email": "a@b"}, True),
        ({"email": "*"}, {}, False),
        ({"file": None}, {}, True),
        ({"file": None}, {"file": "x"}, False),
        ({"file": []}, {"file": "x"}, False),
        ({"n": 1}, {"n": True}, False),
        ({"n": 1}, {"n": 1}, True),
        ({"groups": "staff"}, {"groups": ["staff", "x"]}, True),
        ({"app.kind": "login"}, {"app": {"kind": "login"}}, True),
        ({"email": "*"}, {"email": "a@b", "type": "password-reset"}, False),
        ({"email": "*"}, {"email": "a@b", "type": "member"}, True),
        ({"typ": "Bearer"}, {"typ": "Bearer", "nonce": "n"}, True),
        ({"typ": "Bearer"}, {"typ": "Bearer", "at_hash": "n"}, False),
        ({}, {"type": "member"}, False),
    ],
)
def test_the_rule_says_what_a_login_token_looks_like(
    rule: dict[str, Any], changes: dict[str, Any], fits: bool
) -> None:
    found = judge(HS.token(claims(**changes)), HS.issuer(require=rule))
    assert isinstance(found, Claims) if fits else found is Reason.WRONG_PURPOSE


def test_without_a_refresh_rule_a_login_token_never_exchanges() -> None:
    assert judge(HS.token(), HS.issuer(), purpose="refresh") is Reason.WRONG_PURPOSE
    named = HS.token(claims(type="refresh"))
    assert isinstance(judge(named, HS.issuer(), purpose="refresh"), Claims)


def test_a_refresh_rule_tells_its_tokens_from_logins_that_have_no_rule() -> None:
    issuer = HS.issuer(refresh={"rt": True})
    assert judge(HS.token(claims(rt=True)), issuer) is Reason.WRONG_PURPOSE
    assert isinstance(judge(HS.token(claims(rt=True)), issuer, purpose="refresh"), Claims)


def test_refresh_keys_verify_refresh_tokens_and_nothing_else() -> None:
    own = ring_of(Key(None, "HS256", b"r" * 32))
    issuer = HS.issuer(refresh_keys=own)
    assert judge(HS.token(), issuer, purpose="refresh") is Reason.BAD_SIGNATURE
    signed = jwt.encode(claims(), b"r" * 32, "HS256").encode()
    assert isinstance(judge(signed, issuer, purpose="refresh"), Claims)
    assert judge(signed, issuer) is Reason.BAD_SIGNATURE


def test_rotated_refresh_tokens_say_for_how_long_they_can_be_carried_on() -> None:
    token = HS.token(claims(token_type="refresh", iat=...))
    rotating = HS.issuer(**SIMPLEJWT, rotates_refresh=True, refresh_lifetime=timedelta(days=2))
    found = held(token, rotating, purpose="refresh")
    assert found.rolling_seconds == 172_800
    assert found.effective_iat == found.exp - timedelta(days=2, seconds=5)
    assert held(token, HS.issuer(**SIMPLEJWT), purpose="refresh").rolling_seconds is None


# Whose is it.


def test_the_unverified_iss_tells_the_issuer() -> None:
    ours = HS.issuer()
    other = HS.issuer(id="b1", iss="https://other.example")
    silent = HS.issuer(id="c1", iss=None)
    judging = verifier(ours, other, silent)
    for iss, candidates in ((IDP, (ours,)), ("https://other.example", (other,)), (..., (silent,))):
        owner = judging.whose(HS.token(claims(iss=iss)), allowed=None, path="/")
        assert owner == Legacy(candidates)
    stranger = HS.token(claims(iss="https://stranger.example"))
    assert judging.whose(stranger, allowed=None, path="/") == Wrong(Reason.UNKNOWN_ISSUER)
    anything = HS.issuer(id="d1", iss="*")
    assert verifier(anything).whose(stranger, allowed=None, path="/") == Legacy((anything,))


def test_only_issuers_of_the_transport_are_asked() -> None:
    one, other = HS.issuer(), HS.issuer(id="b1")
    judging = verifier(one, other)
    assert judging.whose(HS.token(), allowed={"b1"}, path="/") == Legacy((other,))


def test_where_no_issuer_sends_anything_only_anothers_jwt_is_foreign() -> None:
    """Else a retired JWT under another scheme passes apps that never look at it (PUB-072)."""
    judging, nowhere = verifier(HS.issuer()), frozenset[str]()
    wrong = Wrong(Reason.UNKNOWN_ISSUER)
    assert judging.whose(HS.token(), allowed=nowhere, path="/") == wrong
    respelt = judging.whose(HS.token() + b"=", allowed=nowhere, path="/")
    assert respelt == Wrong(Reason.NOT_A_JWS)
    stranger = HS.token(claims(iss="https://stranger.example"))
    assert judging.whose(stranger, allowed=nowhere, path="/") is FOREIGN
    assert judging.whose(b"an-opaque-key", allowed=nowhere, path="/") is FOREIGN
    assert verifier().whose(HS.token(), allowed=nowhere, path="/") is FOREIGN


@pytest.mark.parametrize(
    ("rule", "path", "foreign"),
    [
        (ForeignRule(iss="https://files.example"), "/", True),
        (ForeignRule(iss="https://other.example"), "/", False),
        (ForeignRule(claims={"purpose": "file"}), "/", True),
        (ForeignRule(claims={"purpose": "file"}, path="/files/*"), "/files/7", True),
        (ForeignRule(claims={"purpose": "file"}, path="/files/*"), "/files/7/8", False),
        (ForeignRule(path="/files/**"), "/files/7/8", True),
        (ForeignRule(path="/files/*"), "/other", False),
        (ForeignRule(), "/", False),
    ],
)
def test_a_foreign_rule_names_tokens_that_are_no_logins(
    rule: ForeignRule, path: str, foreign: bool
) -> None:
    token = HS.token(claims(iss="https://files.example", purpose="file"))
    owner = verifier(HS.issuer(), foreign=(rule,)).whose(token, allowed=None, path=path)
    assert owner == (Foreign(named=True) if foreign else Wrong(Reason.UNKNOWN_ISSUER))


def test_a_foreign_rule_by_claims_never_means_an_unreadable_token() -> None:
    rule = ForeignRule(claims={"purpose": None})
    owner = verifier(HS.issuer(), foreign=(rule,)).whose(HS.token() + b"=", allowed=None, path="/")
    assert owner == Wrong(Reason.NOT_A_JWS)


def test_of_several_candidates_the_one_that_signed_has_it() -> None:
    old, new = HS.issuer(), SIGNERS["RS256"].issuer(id="b1")
    assert held(HS.token(), old).issuer == "a1"
    found = judge(SIGNERS["RS256"].token(), old, new)
    assert isinstance(found, Claims)
    assert found.issuer == "b1"
    late = SIGNERS["RS256"].token(claims(exp=NOW_S - 900))
    assert judge(late, old, new) is Reason.LEGACY_EXPIRED


class NeverFetched:
    def find(self, kid: str | None, alg: str) -> tuple[Key, ...]:
        raise Unavailable(f"the key set of {kid} and {alg}")


def test_keys_that_were_never_fetched_are_unknown_and_not_a_refusal() -> None:
    away = HS.issuer(id="b1", keys=NeverFetched())
    with pytest.raises(Unavailable):
        judge(HS.token(), away)
    assert isinstance(judge(HS.token(), away, HS.issuer()), Claims)
    wrong = HS.issuer(keys=ring_of(Key("k1", "HS256", b"w" * 32)))
    with pytest.raises(Unavailable):
        judge(HS.token(), away, wrong)
    late = HS.token(claims(exp=NOW_S - 900))
    assert judge(late, away, HS.issuer()) is Reason.LEGACY_EXPIRED
    assert judge(HS.token(None, HS.header(alg="none")), away) is Reason.WRONG_ALGORITHM


def test_a_key_is_used_with_its_own_algorithm_and_family_only() -> None:
    """A ring that answers wrongly costs a refusal, never an exception."""
    rsa = SIGNERS["RS256"]

    class Careless:
        def find(self, kid: str | None, alg: str) -> tuple[Key, ...]:
            assert (kid, alg) in {("k1", "HS256"), ("k1", "RS256")}
            return (Key("k1", "HS256", rsa.public), Key("k1", "RS256", HS.public))

    issuer = HS.issuer(keys=Careless(), algorithms=("HS256", "RS256"))
    for token in (HS.token(), rsa.token()):
        assert judge(token, issuer) is Reason.BAD_SIGNATURE


def test_no_key_is_shown() -> None:
    key = Key("k1", "HS256", HS.public)
    assert "\\x" not in repr(key)
    assert "\\x" not in repr(HS.issuer())


def test_resembling_a_jwt_is_told_by_a_header_and_not_by_dots() -> None:
    assert resembles_jwt(HS.token())
    assert not resembles_jwt(b"eyJ1c2VyIjoxfQ.Zx-Y_A.c2lnbmF0dXJl")  # signed by itsdangerous
    assert not resembles_jwt(b"sess_" + b"a" * 49)
    assert not resembles_jwt(b"." * 60_000)
