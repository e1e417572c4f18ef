"""Reading a pasted JWT as far as it can be read, for people. Nothing is verified by it.

More lax than the verifier on purpose, since what is wrong with a token is what they want to know.
`strictly` is what the verifier's own reader says.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from migrator.core import facts, strict
from migrator.core.lookalike import resembles_jwt
from migrator.core.verdicts import Reason

Kind: TypeAlias = Literal["jws", "jwe", "garbage"]
Table: TypeAlias = Mapping[str, object]

_LARGEST_BYTES: Final = 65_536
_SNOWFLAKE: Final = 2**63 - 1
_JWE_SEGMENTS: Final = 5
_PLAIN: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What a JWT says of itself. Its values stay in here.

    Args:
        strictly: why the verifier's reader refuses it; None: it does not.
        padded: its segments end in `=`.
    """

    kind: Kind
    header: Table = field(default_factory=dict, repr=False)
    payload: Table = field(default_factory=dict, repr=False)
    strictly: Reason | None = None
    padded: bool = False

    def word(self, name: str) -> str | None:
        """A member of the header that is short plain text, else None."""
        value = self.header.get(name)
        if not isinstance(value, str) or len(value) > _PLAIN or not value.isprintable():
            return None
        return value

    def seconds(self, name: str) -> float | None:
        """A time claim, in seconds since 1970."""
        return facts.seconds(self.payload.get(name))

    @property
    def lifetime_s(self) -> float | None:
        """From iat to exp."""
        exp, iat = self.seconds("exp"), self.seconds("iat")
        return None if exp is None or iat is None or exp < iat else exp - iat


def read(credential: bytes) -> Sample:
    """What `credential` says of itself. No input makes it raise."""
    if len(credential) > _LARGEST_BYTES or not resembles_jwt(credential):
        return Sample(kind="garbage")
    segments = credential.split(b".")
    header = _object(segments[0])
    if len(segments) == _JWE_SEGMENTS or "enc" in header:
        return Sample(kind="jwe", header=header)
    found = strict.parse(credential, accept_padding=True)
    payload = _object(segments[1]) if len(segments) > 1 else {}
    strictly = found if isinstance(found, Reason) else None
    if strictly is None and _strict_payload(segments[1]) is None:
        strictly = Reason.BAD_PAYLOAD
    return Sample(
        kind="jws",
        header=header,
        payload=payload,
        strictly=strictly,
        padded=b"=" in credential,
    )


def shape(value: object) -> str:
    """What a claim looks like, and nothing of what it says."""
    match value:
        case None:
            return "absent"
        case bool():
            return "a boolean"
        case int():
            return f"an integer of {len(str(abs(value)))} digits"
        case float():
            return "a number"
        case str():
            words = f"text of {len(value)} characters"
            return words + (", an e-mail address" if "@" in value else "")
        case list():
            return f"a list of {len(value)}"
        case _:
            return "an object"


def _strict_payload(segment: bytes) -> Table | None:
    raw = strict.decode(segment)
    return None if raw is None else strict.read_object(raw, largest_int=_SNOWFLAKE)


def _object(segment: bytes) -> Table:
    bare = segment.rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
    try:
        found = json.loads(b64decode(bare + b"=" * (-len(bare) % 4)))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
