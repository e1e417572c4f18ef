"""A configured source of legacy tokens, and what is nobody's login: facts the verifier reads.

No decision about a token is made here, and no key is prepared: `stores/keys.py` makes the rings.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from migrator.core import purpose


@dataclass(frozen=True, slots=True)
class Key:
    """One key for one algorithm (RFC 8725 section 3.1), prepared: public object or HMAC bytes."""

    kid: str | None
    alg: str
    material: object

    def __repr__(self) -> str:
        return f"Key(kid={self.kid!r}, alg={self.alg!r})"


class KeyRing(Protocol):
    """The keys of an issuer. Never does I/O."""

    def find(self, kid: str | None, alg: str) -> tuple[Key, ...]:
        """The keys that a token of this header could be signed with; none = unknown key.

        Raises:
            Unavailable: the key set was never fetched, or too long ago.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimNames:
    """In which claims the facts are; a dot goes one level down. None: there is no such claim."""

    subject: str = "sub"
    client: str | None = None
    scopes: str | None = None
    family: str | None = None
    keep: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """A configured source of legacy tokens.

    Args:
        id: immutable; part of every fingerprint.
        iss: the `iss` of its tokens; None = they carry none, "*" = any or none.
        audience: one of these must be in `aud`; empty = tokens carry none, "*" = any or none.
        typ: what the header's `typ` is, if present; "*" = anything.
        require, refresh: see `purpose.holds`; without a refresh rule and without refresh keys,
            only a token that names itself a refresh token is one.
        leeway: how long after its exp (or before its nbf) a token still holds.
        skew: how far ahead the signer's clock may be.
        lifetime, refresh_lifetime: what the signer gives its tokens; None = not known.
        max_age: how long after its iat a token without exp holds; None = such are refused.
    """

    id: str
    name: str
    realm: str
    algorithms: tuple[str, ...]
    keys: KeyRing
    refresh_keys: KeyRing | None = None
    iss: str | None = None
    audience: tuple[str, ...] = ()
    typ: tuple[str, ...] = ("JWT",)
    accept_padding: bool = False
    integer_subject: bool = False
    rotates_refresh: bool = False
    leeway: timedelta = timedelta(seconds=30)
    skew: timedelta = timedelta(seconds=5)
    lifetime: timedelta | None = None
    refresh_lifetime: timedelta | None = None
    max_age: timedelta | None = None
    claims: ClaimNames = field(default_factory=ClaimNames)
    require: Mapping[str, object] = field(default_factory=dict)
    refresh: Mapping[str, object] | None = None

    def signs_as(self, iss: object) -> bool:
        """Whether an `iss` claim is this issuer's; `None` here stands for an absent claim."""
        if self.iss == "*":
            return iss is None or isinstance(iss, str)
        return iss == self.iss


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignRule:
    """A JWT-like credential that is no login of ours: everything that is given must match.

    `path`: `*` is one segment, `**` any number. An empty rule matches nothing.
    """

    iss: str | None = None
    claims: Mapping[str, object] = field(default_factory=dict)
    path: str | None = None

    def names(self, payload: Mapping[str, object] | None, path: str) -> bool:
        """Whether this rule means a token of `payload` (None: unreadable) sent to `path`."""
        if self.iss is None and not self.claims:
            return self.path is not None and _is_under(path, self.path)
        return (
            payload is not None
            and (self.iss is None or payload.get("iss") == self.iss)
            and purpose.holds(self.claims, payload)
            and (self.path is None or _is_under(path, self.path))
        )


def _is_under(path: str, pattern: str) -> bool:
    parts = (
        {"**": ".*", "*": "[^/]*"}.get(part, re.escape(part))
        for part in re.split(r"(\*\*|\*)", pattern)
    )
    return re.fullmatch("".join(parts), path, re.DOTALL) is not None
