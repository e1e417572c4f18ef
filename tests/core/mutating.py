"""Mutants of legacy tokens, each derived from its number alone: whoever fails can be made again.

Three levels, as an attacker has them: what is signed (members, and how their JSON is spelt), the
signature over it, and the text on the wire. The first two are made with the issuer's own key: a
stranger's signature hides what a careless reader would take.
"""

from __future__ import annotations

import base64
import json
from random import Random
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from tests.core.signers import IDP, SIGNERS, Signer, b64

if TYPE_CHECKING:
    from collections.abc import Callable

FAMILIES = tuple(SIGNERS)
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

_NUMBERS: list[Any] = [0, -1, 1, 1.5, 2**31, 2**53, 2**53 + 1, 2**63, 10**15, 1e300, 10**400]
_ODD: list[Any] = [
    *(None, True, False, "", " ", "x", "é", "\ud800", "a\0b", "\x1b[0m", "x" * 300, "9999999999"),
    *([], {}, [None], [[]], {"a": {"b": [1]}}, ["api"], ["api", 1], ["api", "x"], "api", IDP),
    *_NUMBERS,
]
_CLAIMS = (
    *("iss", "aud", "sub", "iat", "exp", "nbf", "jti", "azp", "scope", "sid", "nonce", "events"),
    *("token_type", "type", "typ", "token_use", "auth_time", "amr", "crit", "name"),
)
_MEMBERS = (
    *("alg", "kid", "typ", "crit", "b64", "zip", "enc", "cty", "jku", "jwk", "x5u", "x5c", "x5t"),
    *("epk", "p2c", "iss", "name"),
)
# Not `Ed25519`: RFC 9864's name for EdDSA is taken here on purpose, and not by every library.
_HEADER_VALUES: dict[str, list[Any]] = {
    "alg": ["none", "None", "", "HS256", "RS256", "ES256", "EdDSA", "HS512", "PS256", "hs256"],
    "kid": ["k1", "k2", "", "k1 ", "../k1", "k\0", "k" * 128, "k" * 129],
    "typ": ["JWT", "jwt", "application/jwt", "at+jwt", "JOSE", "logout+jwt"],
    "cty": ["JWT"],
    "crit": [["exp"], ["b64"], []],
    "b64": [True, False],
}


def mutant(number: int, family: str, now: int) -> bytes:
    """The mutant of that number.

    Args:
        now: seconds; what its times are around.
    """
    random = Random(f"{family}:{number}")
    signer = SIGNERS[family]
    head: dict[str, Any] = {"alg": signer.alg, "kid": "k1", "typ": "JWT"}
    body: dict[str, Any] = {
        "iss": IDP,
        "aud": random.choice(["api", ["api"], ["x", "api"]]),
        "sub": random.choice(["user-1", "üser", "u" * 255, "1"]),
        "iat": now - 60,
        "exp": now + 3000,
        "jti": str(number),
    }
    for _ in range(random.choice((0, 0, 1, 1, 2))):
        _change_member(random, head, body, now)
    signing_input = b64(_spelt(random, head)) + b"." + b64(_spelt(random, body))
    signature = signer.sign(signing_input, _other_alg(random, signer, head))
    for _ in range(random.choice((0, 0, 0, 1))):
        signature = random.choice(_SIGNATURES)(random, signer, signature)
    token = signing_input + b"." + b64(signature)
    for _ in range(random.choice((0, 0, 0, 1, 2))):
        token = random.choice(_WIRE)(random, token)
    return token


# ---- what is signed ----------------------------------------------------------------------------


def _change_member(random: Random, head: dict[str, Any], body: dict[str, Any], now: int) -> None:
    times = [now + by for by in (-90, -31, -20, 0, 20, 40, 90, 10**6)]
    if random.random() < 0.4:
        name = random.choice(_MEMBERS)
        values, changed = [*_HEADER_VALUES.get(name, ()), random.choice(_ODD)], head
    else:
        name = random.choice(_CLAIMS)
        values, changed = [random.choice(_ODD), random.choice(times), "access", "Bearer"], body
    if random.random() < 0.15:
        changed.pop(name, None)
    else:
        changed[name] = random.choice(values)


def _spelt(random: Random, found: dict[str, Any]) -> bytes:
    """The same members as other JSON text: most of it is equal, some only to some readers."""
    text = json.dumps(found, ensure_ascii=True)
    match random.randrange(24):
        case 0:
            text = json.dumps(found, indent=random.choice((None, 1, "\t")))
        case 1:
            text = json.dumps(found, separators=(",", ":"))
        case 2:
            text = json.dumps(dict(reversed(found.items())))
        case 3:
            text = random.choice(
                (" {}", "{}\n", "\t{}\r\n", "\v{}", "{}\0", "{},", "[{}]")
            ).replace("{}", text)
        case 4:
            name = random.choice(list(found) or ["x"])
            text = f'{{"{name}": {json.dumps(random.choice(_ODD))}, {text[1:]}'
        case 5:
            name = random.choice(list(found) or ["x"])
            text = f'{text[:-1]}, "\\u{ord(name[0]):04x}{name[1:]}": "x"}}'
        case 6:
            first = random.choice(list(found) or ["x"])
            text = text.replace(f'"{first}"', f'"\\u{ord(first[0]):04x}{first[1:]}"', 1)
        case 7:
            number = random.choice(("NaN", "-Infinity", "1e999", "01", "+1", "1.", "0x1", "1_0"))
            text = f'{text[:-1]}, "n": {number}}}'
        case 8:
            levels = random.choice((8, 31, 32, 33, 100))
            text = f'{text[:-1]}, "n": {"[" * levels}{"]" * levels}}}'
        case 9:
            text = text.replace('"', "'") if random.random() < 0.5 else f"{text[:-1]},}}"
        case 10:
            text = f'{text[:-1]}, "n": "\\ud83d\\ude00\\u0000\\/"}}'
        case 11:
            return random.choice(_ENCODINGS)(json.dumps(found, ensure_ascii=True))
        case 12:
            return text.encode()[:-1] + random.choice(
                (b', "n": "\xff"}', b', "n": "\xed\xa0\x80"}', b', "n": "\xc0\xaf"}', b"", b"}}")
            )
        case _:
            pass
    return text.encode("utf-8", "surrogatepass")


_ENCODINGS: tuple[Callable[[str], bytes], ...] = (
    lambda text: text.encode("utf-16"),
    lambda text: text.encode("utf-16-le"),
    lambda text: text.encode("utf-32"),
    lambda text: text.encode("utf-8-sig"),
    lambda text: text.encode("utf-7"),
)


def _other_alg(random: Random, signer: Signer, head: dict[str, Any]) -> str | None:
    """Sign by what the header says, where the key can, so that only the allow-list says no."""
    said = head.get("alg")
    can = {"HS256": ("HS512",), "RS256": ("PS256",)}.get(signer.alg, ())
    return said if said in can and random.random() < 0.7 else None


# ---- the signature -----------------------------------------------------------------------------


def _flip(random: Random, _signer: Signer, signature: bytes) -> bytes:
    bad = bytearray(signature or b"\0")
    bad[random.randrange(len(bad))] ^= 1 << random.randrange(8)
    return bytes(bad)


def _cut(random: Random, _signer: Signer, signature: bytes) -> bytes:
    return signature[: random.randrange(len(signature) + 1)]


def _grow(random: Random, _signer: Signer, signature: bytes) -> bytes:
    return random.choice((b"\0" + signature, signature + b"\0", signature * 2, bytes(64)))


def _mirror(_random: Random, signer: Signer, signature: bytes) -> bytes:
    """(r, n-s): as good as the first, and another text."""
    if signer.alg != "ES256" or len(signature) != 64:
        return signature
    s = int.from_bytes(signature[32:], "big")
    return signature[:32] + ((P256_ORDER - s) % P256_ORDER).to_bytes(32, "big")


def _as_der(_random: Random, signer: Signer, signature: bytes) -> bytes:
    if signer.alg != "ES256" or len(signature) != 64:
        return signature
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    return encode_dss_signature(r, s)


_SIGNATURES = (_flip, _cut, _grow, _mirror, _mirror, _as_der)


# ---- the text on the wire ----------------------------------------------------------------------


def _padded(random: Random, token: bytes) -> bytes:
    parts = token.split(b".")
    at = random.randrange(len(parts))
    missing = -len(parts[at]) % 4
    parts[at] += b"=" * random.choice((missing, 1, 2, 3, 4))
    return b".".join(parts)


def _spare_bits(random: Random, token: bytes) -> bytes:
    """Other characters for the same bytes, in a decoder that drops the bits left over."""
    parts = token.split(b".")
    at = random.randrange(len(parts))
    spare = {2: 16, 3: 4}.get(len(parts[at]) % 4)
    if spare is None or parts[at][-1] not in _ALPHABET:
        return token
    last = _ALPHABET.index(parts[at][-1]) | random.randrange(spare)
    parts[at] = parts[at][:-1] + _ALPHABET[last : last + 1]
    return b".".join(parts)


def _strange(random: Random, token: bytes) -> bytes:
    at = random.randrange(len(token) + 1)
    strange = (
        b" ",
        b"\n",
        b"\t",
        b"\0",
        b"\xff",
        b"\xc2\xad",
        b"!",
        b"=",
        b"A",
        b".",
        b"%2E",
        b"-",
    )
    return token[:at] + random.choice(strange) + token[at:]


def _dropped(random: Random, token: bytes) -> bytes:
    at = random.randrange(len(token) + 1)
    return token[:at] + token[at + random.randrange(4) :]


def _segments(random: Random, token: bytes) -> bytes:
    parts = token.split(b".")
    match random.randrange(5):
        case 0:
            random.shuffle(parts)
        case 1:
            parts.append(random.choice(parts))
        case 2:
            parts.pop(random.randrange(len(parts)))
        case 3:
            parts[random.randrange(len(parts))] = b""
        case _:
            parts.insert(0, b"")
    return b".".join(parts)


def _other_alphabet(_random: Random, token: bytes) -> bytes:
    return token.translate(bytes.maketrans(b"-_", b"+/"))


def _as_json(_random: Random, token: bytes) -> bytes:
    if token.count(b".") != 2:
        return token
    head, body, tail = (part.decode("ascii", "replace") for part in token.split(b"."))
    return json.dumps({"payload": body, "protected": head, "signature": tail}).encode()


def _decoded_twice(_random: Random, token: bytes) -> bytes:
    return base64.urlsafe_b64encode(token)


_WIRE = (
    *(_padded, _spare_bits, _strange, _strange, _dropped, _segments),
    *(_other_alphabet, _as_json, _decoded_twice),
)
