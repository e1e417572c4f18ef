"""Which secrets are refused: too short, not random, or known to everybody.

`weak_secrets.bin` is `pack()` of the lines of `jwt.secrets.list` (github.com/wallarm/jwt-secrets,
MIT licence, Copyright (c) 2020 Wallarm; 103,979 lines, CRLF removed): of each line of at least 32
bytes the first 5 bytes of its SHA-256, sorted, without repeats. Shorter lines are left out because
their length alone refuses them.
"""

import base64
import hashlib
from bisect import bisect_left
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Final, Literal, TypeAlias

SHORTEST: Final = 32  # RFC 7518 section 3.2: an HS256 key has at least the hash's size
DIGEST_BYTES: Final[dict[str, int]] = {"HS256": 32, "HS384": 48, "HS512": 64}

# 40 bits of digest, 1,830 entries, 6 spellings: one random secret in 10**8 is refused by mistake.
_PREFIX_BYTES: Final = 5
_DISTINCT_BYTES: Final = 8  # 32 random bytes have fewer once in 10**37, their hex in 10**19
_LONGEST_REPEAT: Final = 15

_SINCE_THE_LIST: Final = frozenset(
    {
        b"a-string-secret-at-least-256-bits-long",  # jwt.io's examples
        b"a-valid-string-secret-that-is-at-least-384-bits-long",
        b"a-valid-string-secret-that-is-at-least-512-bits-long-which-is-very-long",
        b"your-super-secret-jwt-token-with-at-least-32-characters-long",  # Supabase's .env.example
    }
)

Weakness: TypeAlias = Literal["public", "short", "not random"]


def weakness_of(secret: bytes, *, at_least: int = SHORTEST) -> Weakness | None:
    """What is wrong with `secret` as an HMAC key of `at_least` bytes, if anything is."""
    if len(secret) >= SHORTEST and is_public(secret):
        return "public"
    if len(secret) < at_least:
        return "short"
    return None if _looks_random(secret) else "not random"


def is_public(secret: bytes) -> bool:
    """Whether `secret`, or a text that decodes to it, is on the public list."""
    return any(text in _SINCE_THE_LIST or _is_listed(text) for text in _spellings(secret))


def pack(lines: Iterable[bytes]) -> bytes:
    """The contents of `weak_secrets.bin` for these lines."""
    known = {
        hashlib.sha256(line).digest()[:_PREFIX_BYTES] for line in lines if len(line) >= SHORTEST
    }
    return b"".join(sorted(known))


def _spellings(secret: bytes) -> Iterable[bytes]:
    yield secret
    yield secret.hex().encode()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(secret)
        yield encode(secret).rstrip(b"=")


def _is_listed(text: bytes) -> bool:
    prefix = hashlib.sha256(text).digest()[:_PREFIX_BYTES]
    known = _known()
    place = bisect_left(known, prefix)
    return place < len(known) and known[place] == prefix


@cache
def _known() -> tuple[bytes, ...]:
    packed = files(__package__).joinpath("weak_secrets.bin").read_bytes()
    return tuple(packed[at : at + _PREFIX_BYTES] for at in range(0, len(packed), _PREFIX_BYTES))


def _looks_random(secret: bytes) -> bool:
    if len(set(secret)) < _DISTINCT_BYTES:
        return False
    return not any(secret[n:] == secret[:-n] for n in range(1, _LONGEST_REPEAT + 1))
