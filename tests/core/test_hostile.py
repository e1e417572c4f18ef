"""Hostile tokens at the verifier, for each family of algorithms: none holds, none raises.

The ids are those of the public list of hostile credentials; what needs HTTP, a store or a fault is
tested where those are.
"""

import base64
import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc import jws as joserfc_jws
from joserfc.errors import JoseError
from joserfc.jwk import import_key
from jwt.algorithms import get_default_algorithms

from migrator.core.claims import Claims
from migrator.core.legacy import FOREIGN
from migrator.core.verdicts import Reason
from tests.core.signers import NOW_S, SECRET, SIGNERS, Signer, b64, claims, judge, plain

Recipe = Callable[[Signer], Iterator[bytes]]


def payloads(*bodies: object) -> Recipe:
    return lambda signer: (signer.token(body) for body in bodies)


def changed(**each: list[Any]) -> Recipe:
    bodies = [claims(**{name: value}) for name, values in each.items() for value in values]
    return payloads(*bodies)


def headers(**each: list[Any]) -> Recipe:
    return lambda signer: (
        signer.token(None, signer.header(**{name: value}))
        for name, values in each.items()
        for value in values
    )


def raw_json(template: str) -> Recipe:
    """A payload of good claims and one more member, as text."""
    good = json.dumps(claims())[:-1]
    return payloads(f"{good}, {template}}}".encode())


def parts(signer: Signer) -> list[bytes]:
    return signer.token().split(b".")


def unsigned(signer: Signer) -> Iterator[bytes]:
    for alg, signature in itertools.product(
        ("none", "nOnE", "NONE", "None", ""), (b"", b64(b"x" * 32))
    ):
        yield b".".join((b64(plain(signer.header(alg=alg))), b64(plain(claims())), signature))


def confused(signer: Signer) -> Iterator[bytes]:
    if isinstance(signer.public, bytes):
        return
    texts = [signer.pem(), signer.pem().strip(), b" " + signer.pem(), b"", b"secret"]
    jwk = json.loads(get_default_algorithms()[signer.alg].to_jwk(signer.public))
    texts += [json.dumps(jwk, sort_keys=True).encode(), json.dumps(jwk, indent=2).encode()]
    texts += [json.dumps(jwk, separators=(",", ":")).encode(), b"your-256-bit-secret"]
    hmac = get_default_algorithms()["HS256"]
    for text in texts:
        signing_input = b64(plain(signer.header(alg="HS256"))) + b"." + b64(plain(claims()))
        yield signing_input + b"." + b64(hmac.sign(signing_input, text))


def of_another_algorithm(signer: Signer) -> Iterator[bytes]:
    other = {"HS256": "HS512", "RS256": "RS512"}.get(signer.alg)
    if other:
        yield signer.token(None, signer.header(alg=other), alg=other)
    if signer.alg == "RS256":
        yield signer.token(None, signer.header(alg="PS256"), alg="PS256")


def jwe(signer: Signer) -> Iterator[bytes]:
    head = b64(plain({"alg": "dir", "enc": "A256GCM", "cty": "JWT"}))
    for inner in (plain(claims()), signer.token(), b64(b'{"alg":"none"}') + b".e30."):
        yield b".".join((head, b"", b64(b"i" * 12), b64(inner), b64(b"t" * 16)))


def resigned(signer: Signer) -> Iterator[bytes]:
    """Changed, cut, emptied and re-encoded signatures."""
    head, body, tail = parts(signer)
    raw = base64.urlsafe_b64decode(tail + b"==")
    for at in (1, len(raw) // 2, len(raw) - 1):
        bad = bytearray(raw)
        bad[at] ^= 1
        yield b".".join((head, body, b64(bytes(bad))))
    for size in (0, 1, 8, 16):
        yield b".".join((head, body, b64(raw[:size])))
    yield head + b"." + body
    yield b".".join((head, body, b64(bytes(len(raw)))))
    if signer.alg == "ES256":
        numbers = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
        yield b".".join((head, body, b64(encode_dss_signature(*numbers))))


def respelt(signer: Signer) -> Iterator[bytes]:
    """A good token in other characters: one token must have one spelling."""
    good = signer.token()
    head, body, tail = good.split(b".")
    for end in (b"=", b"==", b"===", b"A", b".", b"%3D", b"!", b"\x00", b"\xc2\xad", b"\n"):
        yield good + end
    for at in (0, 3, len(head), len(good) // 2, len(good) - 1):
        for strange in (b" ", b"\t", b"\r\n", b"\0", b"\xc2\xad", b"\xff", b"\x80", b"!", b"="):
            yield good[:at] + strange + good[at:]
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spare = len(tail) % 4 and (2 if len(tail) % 4 == 3 else 4)
    for bits in range(1, 1 << spare):
        last = alphabet[alphabet.index(tail[-1:]) | bits]
        yield good[:-1] + bytes([last])
    for _ in range(50):  # until a signature has a character that the alphabets spell differently
        good = signer.token(claims(jti=f"{_}"))
        other = good.translate(bytes.maketrans(b"-_", b"+/"))
        if other != good:
            yield other
            break
    protected = {"payload": body.decode(), "protected": head.decode(), "signature": tail.decode()}
    yield json.dumps(protected).encode()
    signatures = [{"protected": head.decode(), "signature": tail.decode()}]
    yield json.dumps({"payload": body.decode(), "signatures": signatures}).encode()
    yield good.replace(b".", b"%2E")
    yield b'"' + good.replace(b".", b"\\056") + b'"'
    yield b"Bearer " + good
    yield b" " * 9000 + good


def segments(signer: Signer) -> Iterator[bytes]:
    head, body, tail = parts(signer)
    yield head + b"."
    yield b".".join((head, body, tail, tail))
    yield b".".join((head, body, tail, tail, tail))
    yield b".".join((head, body, tail, tail, tail, tail))
    yield b"." + signer.token()
    yield b".".join((head, b"", tail))


def other_encodings(signer: Signer) -> Iterator[bytes]:
    head, body = json.dumps(signer.header()), json.dumps(claims())
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"):
        yield signer.token(body.encode(encoding))
        yield signer.token(None, head.encode(encoding))
    for bad in (b"\xff", b"\xed\xa0\x80", b"\xc0\xaf"):
        yield signer.token(plain(claims())[:-1] + b', "x": "' + bad + b'"}')


def repeated(signer: Signer) -> Iterator[bytes]:
    good = json.dumps(claims())[1:]
    for first in ('"sub": "admin"', '"exp": 9999999999', '"s\\u0075b": "admin"', '"x": 1, "x": 2'):
        yield signer.token(f"{{{first}, {good}".encode())
    yield signer.token(b'{"x": {"y": 1, "y": 2}, ' + good.encode())
    for first in ('"alg": "none"', f'"alg": "{signer.alg}"', '"kid": "k1"', '"\\u0061lg": "x"'):
        yield signer.token(None, f"{{{first}, {json.dumps(signer.header())[1:]}".encode())


def deep(signer: Signer) -> Iterator[bytes]:
    for levels in (33, 900, 2500):
        nested = "[" * levels + "]" * levels
        yield signer.token(f'{json.dumps(claims())[:-1]}, "x": {nested}}}'.encode())
        yield signer.token(f'{json.dumps(claims())[:-1]}, "x": {"[" * levels}'.encode())
        yield signer.token(None, f'{json.dumps(signer.header())[:-1]}, "x": {nested}}}'.encode())


def huge(signer: Signer) -> Iterator[bytes]:
    yield signer.token(claims(x="x" * 9000))
    yield signer.token(None, signer.header(x="x" * 9000))
    yield signer.token() + b"A" * 9000
    yield b64(plain(signer.header())) + b"A" * 5_000_000 + b".e30.x"


def own_key(signer: Signer) -> Iterator[bytes]:
    """Keys and addresses inside the token, signed with a key of the attacker's."""
    stranger = next(each for each in SIGNERS.values() if each.alg == "ES256")
    if stranger.alg == signer.alg:
        stranger = SIGNERS["RS256"]
    jwk = json.loads(get_default_algorithms()[stranger.alg].to_jwk(stranger.public))
    for member in ({"jwk": jwk}, {"jku": "http://127.0.0.1:9/k"}, {"x5u": "file:///etc/passwd"}):
        yield stranger.token(None, stranger.header(kid="k1", **member))
        yield stranger.token(None, stranger.header(kid="k1", alg=signer.alg, **member))


LOGIN = {"require": {"token_type": "access"}, "refresh": {"token_type": "refresh"}}
TIMES: list[Any] = [
    None,
    True,
    False,
    [],
    {},
    "9999999999",
    "9_999_999_999",
    " 1 ",
    -1,
    2**63,
    10**15,
]
ODD_TEXT = ["", " ", "\t", "a\0b", "\x1b[0m", "\x7f", "\x85", "u" * 256, "é" * 128]
NOT_TEXT = [7, True, None, ["user-1"], {"$ne": 1}, 1.5]

RECIPES: dict[str, Recipe] = {
    "PUB-001-002 none": unsigned,
    "PUB-003-006 public key as secret": confused,
    "PUB-007 another algorithm": of_another_algorithm,
    "PUB-008 alg not text": headers(alg=[..., None, [], {}, ["RS256"], 5, True]),
    "PUB-009 unknown alg": headers(alg=["XX999", "ES256K", "RS1", "hs256", "Ed448", " RS256"]),
    "PUB-010 JWE": jwe,
    "PUB-011-016 signature": resigned,
    "PUB-019-025 spelling": respelt,
    "PUB-024 segments": segments,
    "PUB-026 huge": huge,
    "PUB-027-028 repeated names": repeated,
    "PUB-029-030 encodings": other_encodings,
    "PUB-031 not an object": payloads([], "x", 1, b"null", True, b"", b"{", b"{}x", [claims()]),
    "PUB-031 header not an object": lambda s: (s.token(None, h) for h in (b"[]", b"1", b"")),
    "PUB-032 nesting": deep,
    "PUB-033 NaN": raw_json('"x": NaN'),
    "PUB-033 Infinity": raw_json('"x": [-Infinity]'),
    "PUB-034 digits": raw_json(f'"x": {"9" * 5000}'),
    "PUB-034 2**63": raw_json(f'"x": {2**63}'),
    "PUB-035-036 key in token": own_key,
    "PUB-037-039 kid": headers(
        kid=["../../../../dev/null", "x' UNION SELECT 'k'--", "key|id", 1, None, [], {}, True]
    ),
    "kid bounds": headers(kid=["", "k\0", "k" * 200, "k2", "k1 "]),
    "PUB-041 crit": headers(crit=[["exp"], ["x"], [], None, "b64", [1]]),
    "PUB-043 members": headers(
        cty=["JWT"], zip=["DEF"], enc=["A256GCM"], b64=[False, True, 0, None, "false"]
    ),
    "PUB-042 typ": headers(
        typ=["logout+jwt", "dpop+jwt", "secevent+jwt", "at+jwt", "JOSE", "", None, 5, ["JWT"]]
    ),
    "PUB-044 exp": changed(exp=[NOW_S - 31, NOW_S - 30, 0]),
    "PUB-045-048 exp": changed(exp=[..., *TIMES, NOW_S * 1000, 1e300, 253402300800]),
    "PUB-047 exp out of range": lambda s: (
        s.token(json.dumps(claims(exp=1)).replace("1}", f"{value}}}").encode())
        for value in ("NaN", "Infinity", "1e999", "-1e999")
    ),
    "PUB-049 not yet": changed(nbf=[NOW_S + 31, NOW_S + 900], iat=[NOW_S + 36, NOW_S + 900]),
    "PUB-049 odd": changed(nbf=TIMES, iat=TIMES),
    "PUB-051 iss": changed(
        iss=[f"https://idp.exampl{end}" for end in ("", "e.evil", "e/", "E", "e ", "e\0")]
    ),
    "PUB-051 iss case": changed(iss=["https://IDP.example", "HTTPS://idp.example", "idp.example"]),
    "PUB-052 iss": changed(iss=[..., [], ["https://idp.example"], None, {}, 1, ""]),
    "PUB-053 aud": changed(
        aud=["other", "ap", {"api": 1}, [["api"]], [], "", ..., None, ["x"], ["api", 1], "API"]
    ),
    "PUB-054-055 sub": changed(sub=[..., *ODD_TEXT]),
    "PUB-055 surrogate": raw_json('"y": "\\ud800"'),
    "PUB-055 surrogate in sub": payloads(plain(claims(sub="u")).replace(b'"u"', b'"\\udfff"')),
    "PUB-056 sub": changed(sub=NOT_TEXT),
    "PUB-057 refresh": payloads(
        claims(type="refresh"), claims(token_type="refresh"), claims(typ="Refresh")
    ),
    "PUB-058 ID token": payloads(
        claims(nonce="n", at_hash="h"),
        claims(nonce="n"),
        claims(at_hash="h"),
        claims(token_use="id"),
        claims(events={"http://schemas.openid.net/event/backchannel-logout": {}}),
    ),
    "other purposes": payloads(
        *(claims(type=kind) for kind in ("reset", "invite", "verify_email", "ID", 7, None, ["a"])),
        claims(purpose="file"),
    ),
    "PUB-059 jti": changed(jti=[1, [], None, "x" * 6000, "", "a\0"]),
}


@pytest.mark.parametrize("family", SIGNERS)
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_hostile_token_is_refused(recipe: str, family: str) -> None:
    signer = SIGNERS[family]
    for token in RECIPES[recipe](signer):
        found = judge(token, signer.issuer())
        assert isinstance(found, Reason), (recipe, token[:300], found)


def test_a_token_of_another_issuers_key_is_refused() -> None:
    """PUB-017: keys belong to an issuer (RFC 8725 section 3.8)."""
    ours, theirs = SIGNERS["RS256"], SIGNERS["ES256"]
    other = theirs.issuer(id="b1", iss="https://other.example")
    assert isinstance(judge(theirs.token(claims(iss=other.iss)), ours.issuer(), other), Claims)
    assert judge(theirs.token(), ours.issuer(), other) is Reason.WRONG_ALGORITHM


@pytest.mark.parametrize(
    "text",
    [b"", b".", b"..", b"...", b"a.b.c", b"sk_live_4eC39HqLyjW", b"Zm9v", b"\xff" * 40, b"{}"],
)
def test_what_is_no_jwt_is_the_apps_business(text: bytes) -> None:
    assert judge(text, SIGNERS["HS256"].issuer()) is FOREIGN


@pytest.mark.parametrize("family", SIGNERS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_mutated_token_never_raises_and_never_holds(family: str, data: st.DataObject) -> None:
    good = SIGNERS[family].token()
    at = data.draw(st.integers(0, len(good)))
    cut = data.draw(st.integers(0, 4))
    put = data.draw(st.binary(max_size=6) | st.sampled_from([b".", b"=", b"A", b"e30", b"-_"]))
    mutant = good[:at] + put + good[at + cut :]
    found = judge(mutant, SIGNERS[family].issuer())
    assert not isinstance(found, Claims) or mutant == good


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400) | st.text(max_size=200).map(lambda text: text.encode()))
def test_any_bytes_are_judged_without_raising(text: bytes) -> None:
    for signed in (text, SIGNERS["HS256"].token(text), SIGNERS["HS256"].token(None, text)):
        assert not isinstance(judge(signed, SIGNERS["HS256"].issuer()), Claims)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["sub", "exp", "iat", "nbf", "jti", "aud", "x"]), json_values),
    st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit"]), json_values),
)
def test_what_holds_here_holds_for_pyjwt_and_joserfc(
    body: dict[str, Any], head: dict[str, Any]
) -> None:
    """The accepted set lies inside the intersection of theirs."""
    signer = SIGNERS["HS256"]
    token = signer.token(claims() | body, signer.header() | head)
    if isinstance(judge(token, signer.issuer()), Claims):
        off = dict.fromkeys(("verify_exp", "verify_nbf", "verify_iat"), False)
        jwt.decode(token, SECRET, algorithms=["HS256"], audience="api", options=off)  # type: ignore[arg-type]  # a plain dict is what it takes
        joserfc_jws.deserialize_compact(token, import_key(SECRET, "oct"), algorithms=["HS256"])


def test_mutants_that_hold_for_joserfc_alone_are_known() -> None:
    """The differential is not empty: repeated names hold there and not here."""
    token = next(iter(repeated(SIGNERS["HS256"])))
    try:
        joserfc_jws.deserialize_compact(token, import_key(SECRET, "oct"), algorithms=["HS256"])
    except JoseError:
        pytest.fail("joserfc became stricter: this claim is out of date")
    assert judge(token, SIGNERS["HS256"].issuer()) is Reason.BAD_PAYLOAD


def test_the_other_spelling_of_an_es256_signature_is_the_same_token() -> None:
    """PUB-084, PUB-101: (r, n-s) holds, some signers write it, and has the same fingerprint."""
    signer = SIGNERS["ES256"]
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    head, body, tail = parts(signer)
    raw = base64.urlsafe_b64decode(tail + b"==")
    flipped = raw[:32] + (order - int.from_bytes(raw[32:], "big")).to_bytes(32, "big")
    one = judge(b".".join((head, body, tail)), signer.issuer())
    other = judge(b".".join((head, body, b64(flipped))), signer.issuer())
    assert isinstance(one, Claims)
    assert isinstance(other, Claims)
    assert one.fingerprint == other.fingerprint
    assert decode_dss_signature(encode_dss_signature(1, 2)) == (1, 2)
