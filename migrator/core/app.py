"""What an app calls, in both colours. The flows are issuing.py's; here is only the surface.

Every method raises `Unavailable` when the store could not be asked: answer that with 503 and
Retry-After, never with 401. `migrator.wiring.sessions()` and `async_sessions()` build these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from migrator.core.flow import run
from migrator.core.issuing import Issued, Issuing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from migrator.core.issuing import Jwts
    from migrator.core.sessions import Session

__all__ = ["AsyncSessions", "Issued", "Sessions"]

_NO_CLAIMS: Mapping[str, object] = {}
_APP = "app"


class Sessions(Issuing):
    """What a blocking app calls at its login, refresh and logout routes."""

    def login(
        self,
        subject: str,
        *,
        client: str | None = None,
        realm: str | None = None,
        scopes: Iterable[str] = (),
        claims: Mapping[str, object] = _NO_CLAIMS,
        legacy: Callable[[], Jwts],
    ) -> Issued:
        """A session, or what `legacy()` makes where the rollout still issues JWTs.

        Args:
            subject: whom the app has just authenticated.
            client: the program that logs in, if the app knows better than its User-Agent.
            realm: whose `subject` that is; the settings' `sessions.realm` unless given.
            scopes: what the session may do.
            claims: an echo for front ends, never a source of rights.
            legacy: the app's own function; returns a JWT or a mapping of JWTs, handed on
            unchanged.

        Raises:
            Unavailable: the store could not be asked.
            ValueError: the subject, a scope or a claim is what no row can hold.
        """
        return run(
            self._login(
                subject, client=client, realm=realm, scopes=scopes, claims=claims, legacy=legacy
            )
        )

    def exchange(self, refresh_token: str | bytes, *, legacy: Callable[[], Jwts]) -> Issued:
        """What the refresh route answers: a session in the refresh token's place, or `legacy()`.

        A session token presented there is answered with itself, for any number of racing tabs.
        Where the app still decides (`observe`), `legacy()` is called for tokens that we could not
        verify too: it must go on verifying, as it did before.

        Raises:
            Refused: the token does not hold; `.reason` says why.
            Unavailable: the store could not be asked.
        """
        return run(self._exchange(refresh_token, legacy=legacy))

    def end(self, token_or_id: str | bytes | UUID) -> int:
        """Log out: end the session, its family and its legacy token. Returns how many ended.

        Nothing admits them after this returned in this process, nor anywhere past the stated
        bound. Pass what the client presented, or `principal.session.id`: an id is no secret, so
        never pass one on that a client sent without checking whose it is.
        """
        return run(self._end(token_or_id, reason="logout", by=_APP))

    def end_others(self, token: str | bytes) -> int:
        """Log out everywhere else, and refuse legacy tokens never seen before; keep this session.

        Raises:
            Refused: `token` names no living session.
            Unavailable: the store could not be asked.
        """
        return run(self._end_others(token, by=_APP))

    def end_all(self, subject: str, *, realm: str | None = None) -> int:
        """Log out everywhere, legacy tokens never seen before included (a cutoff).

        A JWT issued in this very second cannot be told from one issued before: after a password
        change hand the caller a session (`login`), not a JWT.
        """
        return run(self._end_all(subject, realm=realm, reason="end_all", by=_APP))

    def list(self, subject: str, *, realm: str | None = None) -> Sequence[Session]:
        """The subject's living sessions, newest first; never a token."""
        return run(self._list(subject, realm=realm))

    def create_api_token(
        self,
        subject: str,
        *,
        label: str,
        realm: str | None = None,
        scopes: Iterable[str] = (),
        expires_at: datetime | None = None,
    ) -> Issued:
        """A token for a program: no idle limit, and no end but the one given."""
        return run(
            self._api_token(
                subject, label=label, realm=realm, scopes=scopes, expires_at=expires_at
            )
        )


class AsyncSessions(Issuing):
    """What an async app calls; each method promises what its namesake in `Sessions` does."""

    async def login(
        self,
        subject: str,
        *,
        client: str | None = None,
        realm: str | None = None,
        scopes: Iterable[str] = (),
        claims: Mapping[str, object] = _NO_CLAIMS,
        legacy: Callable[[], object],
    ) -> Issued:
        """See `Sessions.login`; `legacy` may be async."""
        return await self._login(
            subject, client=client, realm=realm, scopes=scopes, claims=claims, legacy=legacy
        )

    async def exchange(
        self, refresh_token: str | bytes, *, legacy: Callable[[], object]
    ) -> Issued:
        """See `Sessions.exchange`; `legacy` may be async."""
        return await self._exchange(refresh_token, legacy=legacy)

    async def end(self, token_or_id: str | bytes | UUID) -> int:
        """See `Sessions.end`."""
        return await self._end(token_or_id, reason="logout", by=_APP)

    async def end_others(self, token: str | bytes) -> int:
        """See `Sessions.end_others`."""
        return await self._end_others(token, by=_APP)

    async def end_all(self, subject: str, *, realm: str | None = None) -> int:
        """See `Sessions.end_all`."""
        return await self._end_all(subject, realm=realm, reason="end_all", by=_APP)

    async def list(self, subject: str, *, realm: str | None = None) -> Sequence[Session]:
        """See `Sessions.list`."""
        return await self._list(subject, realm=realm)

    async def create_api_token(
        self,
        subject: str,
        *,
        label: str,
        realm: str | None = None,
        scopes: Iterable[str] = (),
        expires_at: datetime | None = None,
    ) -> Issued:
        """See `Sessions.create_api_token`."""
        return await self._api_token(
            subject, label=label, realm=realm, scopes=scopes, expires_at=expires_at
        )
