"""What a verified legacy token says, in our words."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

Purpose: TypeAlias = Literal["access", "refresh"]
PURPOSES: tuple[Purpose, ...] = ("access", "refresh")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """A legacy token that verified. Nothing here can be presented as a credential.

    Args:
        issuer: the immutable id of the issuer in the settings, not its `iss`.
        fingerprint: 32 bytes, see `tokens.fingerprint`.
        exp: when it ends; for a token without one, its iat plus the issuer's `max_age`.
        effective_iat: what a subject's cutoff is compared with: iat, else exp minus the issuer's
            lifetime; already reduced by the signer's skew. None when it cannot be told, and a
            token that cannot be dated is cut off by any cutoff of its subject.
        keep_until: exp plus leeway and skew: until then its row must stay.
        rolling_seconds: the lifetime of each new refresh token where the issuer rotates them; set
            on refresh tokens only.
    """

    issuer: str
    realm: str
    subject: str
    fingerprint: bytes
    exp: datetime
    keep_until: datetime
    purpose: Purpose = "access"
    kid: str | None = None
    iat: datetime | None = None
    effective_iat: datetime | None = None
    jti: str | None = None
    family: str | None = None
    client: str | None = None
    scopes: frozenset[str] = frozenset()
    kept: Mapping[str, object] = field(default_factory=dict)
    auth_time: datetime | None = None
    amr: tuple[str, ...] = ()
    rolling_seconds: int | None = None

    @property
    def rolling(self) -> timedelta | None:
        """`rolling_seconds` as a duration."""
        return None if self.rolling_seconds is None else timedelta(seconds=self.rolling_seconds)
