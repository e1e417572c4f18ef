"""What a request brings to the gate, and what the gate tells the shim to do with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from migrator.core.verdicts import Reason, Verdict

Place: TypeAlias = Literal["header", "cookie", "query"]
Route: TypeAlias = Literal["login", "refresh", "logout", "public"]


@dataclass(frozen=True, slots=True)
class Credential:
    """One credential, exactly as it was sent.

    Args:
        value: the bytes after the scheme, or the cookie's or parameter's value.
        place: where it was.
        issuers: ids of the issuers whose transport that is; empty where none of them sends
        anything.
    """

    value: bytes
    place: Place
    issuers: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        return f"Credential({len(self.value)} bytes, {self.place})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Presented:
    """Every credential of one request.

    Args:
        header: the explicit one. It decides, and never falls back to another.
        session_cookie: our cookie's value, where it is sent.
        legacy: a legacy token's place that is not a header: an issuer's cookie or query parameter.
        foreign_header: an Authorization header of a scheme that is nobody's here (Basic, Digest).
        fault: what makes the request itself unreadable (a repeated or malformed credential).
        route: what the settings name this path, None for any other.
        forged: an unsafe method from another site, see `shims/csrf.py`.
        path, user_agent, ip: for foreign rules and for the session's row.
    """

    header: Credential | None = None
    session_cookie: Credential | None = None
    legacy: Credential | None = None
    foreign_header: bool = False
    fault: Reason | None = None
    route: Route | None = None
    forged: bool = False
    path: str = "/"
    user_agent: str | None = None
    ip: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """A verdict and what follows from it for the messages that the shim passes on.

    Args:
        place: where the credential that decided was; a token is handed out the same way.
        dead_cookie: our cookie names no living session: hide it from the app, and clear it where
            the request is a navigation.
    """

    verdict: Verdict
    place: Place | None = None
    dead_cookie: bool = False
