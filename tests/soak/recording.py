"""Where the threads of a soak write what they saw, and the tokens behind the names they use."""

from __future__ import annotations

import hashlib
import threading
import time

import jwt

from tests.soak.history import Credential, Record, Sort


def name_of(token: str) -> str:
    """What a token is called in a history."""
    return hashlib.sha256(token.encode()).hexdigest()[:24]


class Recording:
    """The history while it is made."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.tokens: dict[str, str] = {}
        self._known: dict[str, Credential] = {}
        self._lock = threading.Lock()

    def add(self, record: Record) -> None:
        """Write down."""
        self.records.append(record)

    def known(
        self,
        token: str,
        sort: Sort,
        *,
        subject: str,
        family: str,
        issued_at: float,
        ends_at: float | None = None,
        came_of: Credential | None = None,
    ) -> Credential:
        """The credential of this token; the first to see it writes it down."""
        name = name_of(token)
        with self._lock:
            known = self._known.get(name)
            if known is not None:
                return known
            one = Credential(
                name=name,
                sort=sort,
                subject=subject,
                family=family,
                issued_at=issued_at,
                made_at=time.monotonic(),
                ends_at=ends_at,
                came_of=None if came_of is None else came_of.name,
            )
            self._known[name] = one
            self.tokens[name] = token
            self.records.append(one)
            return one

    def handed(self, token: str, legacy: Credential) -> Credential:
        """The session that was handed out in place of a legacy token."""
        return self.known(
            token,
            "session",
            subject=legacy.subject,
            family=legacy.family,
            issued_at=legacy.issued_at,
            ends_at=legacy.ends_at,
            came_of=legacy,
        )

    def issued(self, token: str, subject: str, began: float) -> Credential:
        """A JWT that the app made at its login."""
        claims = jwt.decode(token, options={"verify_signature": False})
        ends_at = time.monotonic() + claims["exp"] - time.time()
        return self.known(
            token,
            "access",
            subject=subject,
            family=claims["sid"],
            issued_at=began,
            ends_at=ends_at,
        )
