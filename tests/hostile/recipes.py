"""Every hostile token there is a recipe for, by the number it has on the public list.

A row belongs here if the token alone decides: it is refused whoever sends it, at the verifier
(tests/core/test_hostile.py) and on the wire (test_tokens.py). What needs a second header, a cookie
or a state is in requests.py.
"""

from __future__ import annotations

from typing import Any, Final

from tests.core.signers import plain
from tests.hostile import tokens
from tests.hostile.tokens import Recipe, ahead, changed, headers, payloads, raw_json, with_all

_TIMES: Final[list[Any]] = [
    *(None, True, False, [], {}, "9999999999", "9_999_999_999", " 1 ", "+9999999999", "1e10"),
    *(
        "\u0669\u0669\u0669\u0669\u0669\u0669\u0669\u0669\u0669\u0669",
        -1,
        2**63,
        10**15,
        "",
        "now",
    ),
    *([9999999999], {"$gt": 0}),
]
_ODD_TEXT: Final = ["", " ", "\t", "a\0b", "\x1b[0m", "\x7f", "\x85", "u" * 256, "é" * 128]
_NOT_TEXT: Final = [7, True, None, ["user-1"], {"$ne": 1}, 1.5, 0, -1]
_KINDS: Final = ["reset", "invite", "verify_email", "ID", 7, None, ["a"], "password_reset"]
_LOGOUT: Final[dict[str, object]] = {"http://schemas.openid.net/event/backchannel-logout": {}}

RECIPES: Final[dict[str, Recipe]] = {
    "PUB-001 PUB-002 none": tokens.unsigned,
    "PUB-003 PUB-004 public key as secret": tokens.confused,
    "PUB-005 PUB-006 guessed secret": tokens.guessed,
    "PUB-007 another algorithm of the same key": tokens.of_another_algorithm,
    "PUB-008 alg not text": headers(alg=[..., None, [], {}, ["RS256"], 5, True]),
    "PUB-009 unknown alg": headers(
        alg=["XX999", "ES256K", "RS1", "hs256", "Ed448", " RS256", "ES521", "A" * 300, "HS1"]
    ),
    "PUB-010 JWE": tokens.jwe,
    "PUB-011 PUB-012 PUB-013 PUB-014 PUB-016 signature": tokens.resigned,
    "PUB-015 padding": tokens.padded_otherwise,
    "PUB-017 key of another issuer": tokens.of_another_issuer,
    "PUB-019 PUB-020 PUB-021 PUB-022 PUB-023 PUB-025 spelling": tokens.respelt,
    "PUB-024 segments": tokens.segments,
    "PUB-024 detached": tokens.detached,
    "PUB-026 huge": tokens.huge,
    "PUB-027 PUB-028 repeated names": tokens.repeated,
    "PUB-029 PUB-030 encodings": tokens.other_encodings,
    "PUB-031 not an object": payloads(
        [], "x", 1, b"null", True, b"", b"{", b"{}x", [{"sub": "a"}], b"{}{}", b"{'sub':1}", b"{,}"
    ),
    "PUB-031 header not an object": lambda f: (
        f.token(None, h) for h in (b"[]", b"1", b"", b"null", b'"x"', b"{}", b"{}{}")
    ),
    "PUB-032 nesting": tokens.deep,
    "PUB-033 NaN": raw_json('"x": NaN'),
    "PUB-033 NaN deep": raw_json('"x": {"y": [0, NaN]}'),
    "PUB-033 Infinity": raw_json('"x": [-Infinity]'),
    "PUB-033 not JSON": raw_json('"x": 01'),
    "PUB-034 digits": raw_json(f'"x": {"9" * 5000}'),
    "PUB-034 2**63": raw_json(f'"x": {2**63}'),
    "PUB-034 -2**63": raw_json(f'"x": [{-(2**63)}]'),
    "PUB-035 PUB-036 key in token": tokens.own_key,
    "PUB-036 addresses in claims": tokens.addresses,
    "PUB-037 PUB-038 PUB-039 kid": headers(
        kid=[
            *("../../../../dev/null", "x' UNION SELECT 'k'--", "key|id", 1, None, [], {}, True),
            *("/proc/sys/kernel/randomize_va_space", "$(id)", "\r\nX: y", "k1\n", "*", ["k1"]),
        ]
    ),
    "PUB-037 kid and the empty key": lambda f: iter([tokens.keyed_with(f, b"")]),
    "kid bounds": headers(kid=["", "k\0", "k" * 200, "k2", "k1 ", "K1", "k" * 5000]),
    "PUB-041 crit": headers(crit=[["exp"], ["x"], [], None, "b64", [1], ["b64"], {}]),
    "PUB-042 typ": headers(
        typ=[
            *("logout+jwt", "dpop+jwt", "secevent+jwt", "at+jwt", "JOSE", "", None, 5, ["JWT"]),
            *("JWT ", "application/at+jwt", "jwt;v=1", "application/application/jwt"),
        ]
    ),
    "PUB-043 members": headers(
        cty=["JWT", "jwt", "", None],
        zip=["DEF"],
        enc=["A256GCM"],
        b64=[False, True, 0, None, "false"],
    ),
    "PUB-045 PUB-046 PUB-048 exp": changed(
        exp=[..., *_TIMES, lambda now_s: now_s * 1000, 1e300, 253402300800]
    ),
    "PUB-047 exp out of range": lambda f: (
        f.token(b'{"exp": ' + value + b", " + plain(f.claims(exp=...))[1:])
        for value in (b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"9e18")
    ),
    "PUB-049 not yet": changed(
        nbf=[ahead(900), ahead(86_400 * 365)], iat=[ahead(900), ahead(86_400 * 365)]
    ),
    "PUB-049 odd": changed(nbf=_TIMES, iat=_TIMES),
    "PUB-051 iss": lambda f: (
        f.token(f.claims(iss=each))
        for each in (
            *(f.iss + end for end in ("e", "e.evil", "/", "E", " ", "\0", "#", "?", ".", "%00")),
            *(f.iss.upper(), f.iss[:-1], f.iss.replace("https", "HTTPS"), f.iss[8:], f" {f.iss}"),
            *(
                f.iss.replace("https", "http"),
                f"{f.iss}@evil.example",
                f.iss.replace("e", "\u0435"),
            ),
        )
    ),
    "PUB-052 iss": lambda f: (
        f.token(f.claims(iss=each)) for each in (..., [], [f.iss], None, {}, 1, "", {f.iss: 1})
    ),
    "PUB-053 aud": changed(
        aud=[
            *("other", "ap", {"api": 1}, [["api"]], [], "", ..., None, ["x"], ["api", 1], "API"),
            *("api ", " api", "api api", "api,x", ["ap", "i"], "apis", True, ["api", None]),
        ]
    ),
    "PUB-054 PUB-055 sub": changed(sub=[..., *_ODD_TEXT]),
    "PUB-055 surrogate": raw_json('"y": "\\ud800"'),
    "PUB-055 surrogate in sub": lambda f: iter(
        [f.token(plain(f.claims(sub="u")).replace(b'"sub": "u"', b'"sub": "\\udfff"'))]
    ),
    "PUB-056 sub": changed(sub=_NOT_TEXT),
    "PUB-057 refresh": with_all(
        {"type": "refresh"},
        {"token_type": "refresh"},
        {"typ": "Refresh"},
        {"token_use": "refresh"},
    ),
    "PUB-058 ID token": with_all(
        {"nonce": "n", "at_hash": "h"},
        {"nonce": "n"},
        {"at_hash": "h"},
        {"c_hash": "h"},
        {"token_use": "id"},
        {"events": _LOGOUT},
        {"events": {}},
    ),
    "PUB-058 ID token for a client": with_all(
        {"nonce": "n", "at_hash": "h", "aud": "client-1"}, {"aud": "client-1", "azp": "client-1"}
    ),
    "other purposes": with_all(
        *({"type": kind} for kind in _KINDS), {"purpose": "file"}, {"token_type": ["access", "x"]}
    ),
    "PUB-059 jti": changed(jti=[1, [], None, "x" * 6000, "", "a\0"]),
}

# Right in all, and over: "expired", which behind the middleware goes on to the app.
EXPIRED: Final[dict[str, Recipe]] = {
    "PUB-044 exp": changed(exp=[ahead(-31), ahead(-3600), 1]),
}

# What must be let in, each as `user-1`, or the hostile ones prove nothing.
CONTROLS: Final[dict[str, Recipe]] = {
    "PUB-098 typ": headers(typ=[..., "JWT", "jwt", "application/jwt", "Application/JWT"]),
    "PUB-099 times": with_all(
        {"exp": ahead(3600.5), "nbf": ahead(-60.25)},
        {"exp": ahead(-5)},
        {"iat": ahead(5)},
        {"nbf": ahead(5)},
        {"exp": 4_000_000_000},
    ),
    "PUB-100 white space": lambda f: (
        f.token(body, head)
        for body, head in (
            (b" \r\n\t" + plain(f.claims()) + b"\n ", None),
            (plain(f.claims()).replace(b'"sub"', b'"\\u0073ub"'), None),
            (f.claims(unknown={"a": [1, None, "\u00e9\U0001f600"]}), None),
            (None, f.header(unknown="x", **{"https://x.example": [1]})),
            (plain(f.claims()), b" " + plain(f.header()) + b" "),
        )
    ),
    "PUB-101 high s": lambda f: iter([tokens.with_high_s(f, f.token())]),
    "PUB-102 no jti": changed(jti=[...]),
    "PUB-102 aud": changed(aud=[["api"], ["other", "api"], "api"]),
    "PUB-102 kid": headers(kid=[...]),
}
