"""What the gate answers. Expected outcomes are these values; reasons are in reasons.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from migrator.core.reasons import Reason, Word, status, word

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from migrator.core.comparing import Shadow
    from migrator.core.sessions import Session

__all__ = [
    "Admitted",
    "Notice",
    "Passed",
    "Principal",
    "Reason",
    "Refused",
    "Verdict",
    "Word",
    "status",
    "word",
]


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a request comes from, as the app sees it. Holds no credential."""

    subject: str
    realm: str
    scopes: frozenset[str] = frozenset()
    claims: Mapping[str, object] = field(default_factory=dict)
    client: str | None = None
    via: Literal["session", "legacy"] = "session"
    session: Session | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """What a client that still lives on a JWT is told while draining (RFC 9745, RFC 8594)."""

    deprecated_at: datetime
    sunset_at: datetime | None


@dataclass(frozen=True, slots=True)
class Admitted:
    """The request goes to the app, as `principal`.

    `hand_out` is a token that the client does not have yet and that the response should carry.
    `shadow` is there where the app decides, and the app's answer is to be compared with it.
    """

    principal: Principal
    hand_out: bytes | None = None
    notice: Notice | None = None
    shadow: Shadow | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        handing = "a token" if self.hand_out else "nothing"
        return f"Admitted({self.principal!r}, handing out {handing})"


@dataclass(frozen=True, slots=True)
class Refused:
    """The request ends here."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Passed:
    """The request goes to the app without a principal.

    Args:
        reason: why there is none; None when no credential was presented.
        strip: the credential is ours and dead: the app must not see it.
        shadow: as in `Admitted`.
    """

    reason: Reason | None = None
    strip: bool = False
    shadow: Shadow | None = field(default=None, compare=False)


Verdict: TypeAlias = Admitted | Refused | Passed
