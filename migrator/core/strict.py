"""Reading a compact JWS more strictly than any library does: bytes in, facts or a reason out.

What must live here: which bytes are a JWS at all (RFC 7515 section 3.1), and which JSON is JSON
(RFC 8259, RFC 7519 section 4). What this file must not know: keys, issuers, claims, time.

PyJWT 2.15.1, joserfc 1.8 and jwcrypto 1.6 all take duplicate names, other encodings than UTF-8 and
numbers that no database holds; PyJWT takes a trailing `=` as well (CVE-2026-102269). Whatever two
readers may read differently is refused here, before any key is looked at.
"""

import binascii
import json
import math
import re
from base64 import urlsafe_b64decode
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from migrator.core.verdicts import Reason

DEEPEST: Final = 32
LARGEST_INT: Final = 2**53  # beyond it, readers that keep numbers as doubles see another one
_INT_CHARS: Final = 20  # of 2**63 with a sign; int() of thousands of digits is a refusal's price
_HEADER_CACHE_CHARS: Final = 512
_MOST_HEADERS: Final = 256  # an issuer signs all its tokens under a handful of headers

_COMPACT = re.compile(rb"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)\.([A-Za-z0-9_-]*)")
_PADDED = re.compile(
    rb"([A-Za-z0-9_-]+={0,2})\.([A-Za-z0-9_-]*={0,2})\.([A-Za-z0-9_-]*={0,2})",
)
# Bits that no byte needs must be zero, else one signature has several spellings.
_LAST_CHARS: Final = {1: frozenset(b"AEIMQUYcgkosw048"), 2: frozenset(b"AQgw")}
_KID = re.compile(r"[A-Za-z0-9._~:/+=@#-]{1,128}")
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_STEPS: Final = {"[": 1, "{": 1, "]": -1, "}": -1}
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")

# crit and b64 change what is signed (RFC 7797); zip, enc and cty say that there is more inside
# (CVE-2026-29000). A login token has none of them.
_REFUSED_MEMBERS = frozenset({"crit", "b64", "zip", "enc", "cty"})


@dataclass(frozen=True, slots=True)
class Header:
    """The protected header, as far as it is believed. jku, x5u, jwk and x5c are never read."""

    alg: str
    kid: str | None
    typ: str | None


@dataclass(frozen=True, slots=True)
class Compact:
    """The parts of a compact JWS whose signature nobody has checked yet."""

    header: Header
    payload: bytes
    signature: bytes
    signing_input: bytes

    def __repr__(self) -> str:
        return f"Compact({self.header!r}, {len(self.payload)} bytes)"


class NotStrictError(ValueError):
    """This is not the JSON that one reader reads like any other."""


def parse(credential: bytes, *, accept_padding: bool = False) -> Compact | Reason:
    """The parts of `credential`, or why it is not a JWS that could be one of ours.

    Args:
        credential: within the size cap already.
        accept_padding: take segments padded with the `=` they need, as AWS ALB writes them.
    """
    match = (_PADDED if accept_padding else _COMPACT).fullmatch(credential)
    if match is None:
        return Reason.NOT_A_JWS
    head, body, tail = match.groups()
    header = (_cached_header if len(head) <= _HEADER_CACHE_CHARS else _header)(head)
    if isinstance(header, Reason):
        return header
    payload, signature = decode(body), decode(tail)
    if payload is None or signature is None:
        return Reason.NOT_A_JWS
    return Compact(header, payload, signature, credential[: match.end(2)])


def decode(segment: bytes) -> bytes | None:
    """The bytes of a base64url segment in its one canonical spelling; None for any other."""
    bare = segment.rstrip(b"=")
    missing = -len(bare) % 4
    if missing == 3 or (bare != segment and len(segment) % 4):
        return None
    try:
        found = urlsafe_b64decode(bare + b"=" * missing)
    except binascii.Error:
        return None
    return found if not missing or bare[-1] in _LAST_CHARS[missing] else None


def read_object(raw: bytes, *, largest_int: int = LARGEST_INT) -> dict[str, object] | None:
    """The JSON object in `raw`, None if it is anything that two readers may read differently.

    Refused: other encodings than UTF-8, a byte order mark, lone surrogates, repeated names, NaN
    and Infinity, integers beyond `largest_int`, more than 32 levels.
    """
    try:
        text = raw.decode("utf-8")
        if text.count("{") + text.count("[") > DEEPEST and _depth(text) > DEEPEST:
            return None
        found = (_JSON if largest_int == LARGEST_INT else _decoder(largest_int)).decode(text)
        if "\\u" in text and _SURROGATE.search(text):
            json.dumps(found, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):  # UnicodeError is a ValueError
        return None
    return found if isinstance(found, dict) else None


def _depth(text: str) -> int:
    deepest = depth = 0
    for mark in _BRACKETS.findall(text):
        depth += _STEPS.get(mark, 0)
        deepest = max(deepest, depth)
    return deepest


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise NotStrictError
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise NotStrictError
    return number


def _constant(_text: str) -> object:  # NaN and Infinity are not JSON
    raise NotStrictError


@lru_cache(maxsize=4)
def _decoder(largest_int: int) -> json.JSONDecoder:
    def bounded(text: str) -> int:
        if len(text) > _INT_CHARS or abs(int(text)) > largest_int:
            raise NotStrictError
        return int(text)

    return json.JSONDecoder(
        object_pairs_hook=_without_repeats,
        parse_int=bounded,
        parse_float=_finite,
        parse_constant=_constant,
    )


_JSON: Final = _decoder(LARGEST_INT)


def _header(segment: bytes) -> Header | Reason:
    raw = decode(segment)
    if raw is None:
        return Reason.NOT_A_JWS
    found = read_object(raw)
    if found is None or not _REFUSED_MEMBERS.isdisjoint(found):
        return Reason.BAD_HEADER
    alg, kid, typ = found.get("alg"), found.get("kid", ""), found.get("typ", "JWT")
    if not isinstance(alg, str) or not isinstance(kid, str) or not isinstance(typ, str):
        return Reason.BAD_HEADER
    if "kid" in found and _KID.fullmatch(kid) is None:
        return Reason.BAD_HEADER
    return Header(alg, kid or None, typ if "typ" in found else None)


_cached_header = lru_cache(maxsize=_MOST_HEADERS)(_header)
