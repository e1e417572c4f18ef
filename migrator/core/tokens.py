r"""The opaque token: how it is minted, derived, read and named.

`<prefix>_` + 43 base62 characters (256 bits) + 6 base62 characters of CRC32 over those 43, as
GitHub builds theirs: a scanner finds it by `\\b<prefix>_[0-9A-Za-z]{49}\\b`, and the checksum
lets a mistyped or invented one be refused without asking any store. Only the SHA-256 of a token
is kept.
"""

from __future__ import annotations

import hashlib
import hmac
import zlib

ALPHABET = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
BODY_CHARS = 43  # 62**43 > 2**256 > 62**42
CHECK_CHARS = 6  # 62**6 > 2**32
SECRET_BYTES = 32
_DERIVE = b"swap:v1"
_CHARS = frozenset(ALPHABET)


def mint(prefix: str, secret: bytes) -> bytes:
    """The token whose 256 bits are `secret`, which must come from a CSPRNG or an HMAC."""
    if len(secret) != SECRET_BYTES:
        raise ValueError("a token carries exactly 256 bits")
    body = _base62(int.from_bytes(secret, "big"), BODY_CHARS)
    return prefix.encode("ascii") + b"_" + body + _base62(zlib.crc32(body), CHECK_CHARS)


def derive(prefix: str, *, key: bytes, fingerprint: bytes) -> bytes:
    """The token a legacy token swaps into: the same on every node, each time.

    That is why a swap needs no second answer: a client whose response was lost asks again.
    """
    return mint(prefix, hmac.digest(key, _DERIVE + fingerprint, "sha256"))


def is_well_formed(token: bytes, prefix: str) -> bool:
    """Whether `token` could have been issued under `prefix`: its length, alphabet and checksum."""
    start = len(prefix) + 1
    if len(token) != start + BODY_CHARS + CHECK_CHARS or not token.startswith(prefixed(prefix)):
        return False
    body, check = token[start:-CHECK_CHARS], token[-CHECK_CHARS:]
    if not _CHARS.issuperset(body):
        return False
    return hmac.compare_digest(_base62(zlib.crc32(body), CHECK_CHARS), check)


def prefixed(prefix: str) -> bytes:
    """What every token of `prefix` begins with."""
    return prefix.encode("ascii") + b"_"


def digest(token: bytes) -> bytes:
    """The 32 bytes that name a session. 256 random bits need no slow hash."""
    return hashlib.sha256(token).digest()


def fingerprint(issuer_id: str, signing_input: bytes) -> bytes:
    """The identity of a legacy token: its issuer and `header.payload` exactly as sent.

    The signature is left out because it has more than one spelling: ES256 verifies (r, n-s) as
    well as (r, s), and PyJWT 2.15.1 takes trailing `=` (CVE-2026-102269). A jti alone is missing,
    reused or shared too often.
    """
    return hashlib.sha256(issuer_id.encode() + b"\0" + signing_input).digest()


def _base62(number: int, width: int) -> bytes:
    digits = bytearray(b"0" * width)
    for place in range(width - 1, -1, -1):
        number, rest = divmod(number, 62)
        digits[place] = ALPHABET[rest]
    return bytes(digits)
