"""The rows that the memory store keeps of legacy tokens, and what binds them."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from migrator.core.claims import Claims


@dataclass(slots=True)
class LegacyRow:
    """A legacy token once seen, or named by a ledger. Outlives its session, and still decides."""

    claims: Claims
    session_id: UUID
    swap_key_id: str | None = None
    adopted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """One legacy token or family that is not to be admitted; exactly one of the three is set."""

    issuer: str
    jti: str | None = None
    family: str | None = None
    fingerprint: bytes | None = None
    until: datetime | None = None

    def covers(self, claims: Claims) -> bool:
        """Whether it binds this legacy token."""
        if self.fingerprint is not None:
            return self.fingerprint == claims.fingerprint
        return self.issuer == claims.issuer and (
            (self.jti is not None and self.jti == claims.jti)
            or (self.family is not None and self.family == claims.family)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectCutoff:
    """No legacy token of a subject issued before a moment is to be admitted."""

    realm: str
    subject: str
    not_before: datetime

    def covers(self, claims: Claims) -> bool:
        """Whether it binds this legacy token."""
        if (claims.realm, claims.subject) != (self.realm, self.subject):
            return False
        # A token that cannot be dated, and one of the same second, cannot be told to be newer.
        issued_at = claims.effective_iat
        return issued_at is None or issued_at.replace(microsecond=0) <= self.not_before


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerCutoff:
    """Absolute: who holds a leaked key writes iat at will."""

    issuer: str
    kid: str | None

    def covers(self, claims: Claims) -> bool:
        """Whether it binds this legacy token."""
        return self.issuer == claims.issuer and self.kid in {None, claims.kid}
