"""What crosses the bridge: sessions on their way to an app that knows JWTs, and its answers.

The app's own login, refresh and logout routes go on as they are. What they issue is recognised
here and replaced by a session, and a session presented to them is shown as a JWT; refreshing.py
says what is refreshed. How a request is read and an answer rewritten is the shims' business
(shims/bridging.py); this file decides.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from migrator.core import tokens, verdicts
from migrator.core.bridge import is_marked
from migrator.core.claims import PURPOSES
from migrator.core.comparing import route_class
from migrator.core.legacy import Legacy
from migrator.core.lookalike import as_signed
from migrator.core.phases import RULES, bucket_of
from migrator.core.refreshing import Carried, Refreshing
from migrator.core.sessions import Session, exchange_end, swap_end
from migrator.core.swapping import client_of
from migrator.core.verdicts import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from migrator.core.claims import Claims, Purpose
    from migrator.core.verdicts import Principal

_UNAUTHORIZED = 401
_MOST_SIGNATURES = 32  # looked at in one answer, whoever wrote into it


@dataclass(frozen=True, slots=True)
class From:
    """Whom an answer goes to, for the session's row."""

    user_agent: str | None = None
    ip: str | None = None


class Bridging(Refreshing):
    """The decisions of the bridge, in either colour: a blocking store never suspends."""

    # Towards the app.

    def shows(self, principal: Principal) -> bool:
        """Whether the app is shown a JWT for `principal`: a session, of the bridge's realm."""
        return principal.via == "session" and principal.realm == self.minter.shape.realm

    async def mint(
        self,
        session: Session,
        purpose: Purpose,
        scopes: frozenset[str],
        cookies: Mapping[str, str],
        *,
        marked: bool = True,
    ) -> bytes:
        """The JWT by which the app knows `session`, see `Minter.mint`."""
        return self.minter.mint(
            session, purpose, scopes=scopes, cookies=cookies, now=await self.now(), marked=marked
        )

    # Back from the app.

    async def issued(
        self, found: Sequence[bytes], to: From, *, refreshes: bool = False
    ) -> dict[bytes, bytes]:
        """Which of the JWTs `found` in an answer become which session token.

        Each subject among them has a session of its own: an administrator's refresh token beside
        the access token of whom they act as lends the latter nothing (P3). None of what is no
        login, and none where the phase leaves it to its client: then it is noted, for the drain
        horizon.

        Args:
            refreshes: they were issued for what came before them, which may have been revoked.

        Raises:
            Refused: they belong to a family that was.
            Unavailable: nobody can say; the answer must not go out.
        """
        logins: dict[tuple[str, str], dict[bytes, Claims]] = {}
        for jwt, claims in (await self._read(found)).items():
            logins.setdefault((claims.realm, claims.subject), {})[jwt] = claims
        swaps: dict[bytes, bytes] = {}
        for login in logins.values():
            if refreshes:
                await self._refuse_denied(login.values())
            else:
                self.usage.signed_in()
            token = await self._begin_for(login, to)
            if token is not None:
                swaps |= dict.fromkeys(login, token)
        return swaps

    async def _refuse_denied(self, several: Iterable[Claims]) -> None:
        if not await self._has_legacy():
            return
        for claims in several:
            if (await self.store.check(claims)).bar == "denied":
                raise self._refused(Reason.DENIED, claims)

    async def _begin_for(self, login: Mapping[bytes, Claims], to: From) -> bytes | None:
        """The token of a new session in place of one subject's JWTs; None: they stay."""
        by_purpose = {claims.purpose: claims for claims in reversed([*login.values()])}
        refresh = by_purpose.get("refresh")
        claims = by_purpose.get("access") or next(iter(login.values()))
        client = claims.client or client_of(to.user_agent)
        rollout, bucket = await self.where(), bucket_of(claims.subject, claims.realm)
        phase = await self._phase_of(claims, client)
        if not rollout.includes(RULES[phase].issue, bucket):
            await self._note_issued({str(at): jwt.decode() for at, jwt in enumerate(login)})
            return None
        session = await self._begun(claims, refresh, client, to)
        made = await self._issue(
            session,
            self.terms.session_prefix,
            cap=self.terms.per_subject,
            instead_of=await self._taken(login.values()),
        )
        return str(made.token).encode()

    async def _taken(self, several: Iterable[Claims]) -> list[Claims]:
        """Those of the JWTs taken from an answer that nobody else can hold.

        Without a jti, whoever logged in within the same second may hold the very same one.
        """
        if not await self._has_legacy():
            return []
        return [claims for claims in several if claims.jti is not None]

    async def renewed(
        self, carried: Carried, found: Sequence[bytes], *, refreshes: bool
    ) -> list[bytes]:
        """Which of the JWTs in an answer to a session are of its own subject, or our own.

        At a refresh an app looks its user up, so what it says then are the session's claims from
        now on. A token that slides with every answer is not worth a write each time.
        """
        read = await self._read(found)
        access = next((each for each in read.values() if each.purpose == "access"), None)
        session = carried.session
        if refreshes and access is not None and _is_of(access, session):
            scopes = access.scopes if self.minter.shape.claims.scopes else None
            refresh = [each for each in read.values() if each.purpose == "refresh"]
            taken = await self._taken(refresh)
            await self.store.renew(session, access.kept, scopes, instead_of=taken)
            self.recent.evict(tokens.digest(carried.token))
        marked = [jwt for jwt in found if jwt not in read and is_marked(jwt)]
        return [*marked, *(jwt for jwt, each in read.items() if _is_of(each, session))]

    async def end_presented(self, presented: bytes) -> None:
        """End what a credential at the logout route names; nobody's need no ending.

        Raises:
            Unavailable: it could not be ended.
        """
        signed = presented if self.is_ours(presented) else as_signed(presented)
        if self.is_ours(signed) or isinstance(self.verifier.whose(signed, path=""), Legacy):
            await self._end(signed, reason="logout", by="app")

    def answered(self, session: Session, code: int) -> None:
        """Take in how the app answered what it was shown: doctor asks whether it understands."""
        outcome = "bridge:refused" if code == _UNAUTHORIZED else "bridge:shown"
        self.usage.count(self.minter.shape.issuer, session.client, outcome)

    def saw_elsewhere(self, found: Sequence[bytes], path: str) -> None:
        """Take note of a route that answers with an issuer's JWT and that nobody configured."""
        for jwt in found:
            owner = self.verifier.whose(jwt, allowed=None, path=path)
            if isinstance(owner, Legacy):
                issuer = owner.candidates[0].id
                self.usage.count(issuer, None, "issued:elsewhere")
                self.usage.observed(route_class(path), "issues_legacy")

    async def _read(self, found: Sequence[bytes]) -> dict[bytes, Claims]:
        """Those of `found` that an issuer signed for a login, as claims."""
        read: dict[bytes, Claims] = {}
        now, left = await self.now(), _MOST_SIGNATURES
        for jwt in found:
            owner = self.verifier.whose(jwt, allowed=None, path="", marked=True)
            if not isinstance(owner, Legacy):
                continue
            left -= 1
            if left < 0:
                break
            for purpose in PURPOSES:
                claims = self.verifier.verify(jwt, owner.candidates, now=now, purpose=purpose)
                if not isinstance(claims, verdicts.Refused):
                    read[jwt] = claims
                    break
        return read

    async def _begun(
        self, login: Claims, refresh: Claims | None, client: str | None, to: From
    ) -> Session:
        """The session that takes the place of one login's JWTs; it grants nothing new (P3)."""
        now = await self.now()
        limits = self.terms.limits
        if refresh is None:
            ends_at = swap_end(legacy_end=login.exp, now=now, limits=limits)
        else:
            ends_at = exchange_end(
                legacy_end=refresh.exp, now=now, limits=limits, rolling=refresh.rolling
            )
        session = self.session_of(
            login,
            client=client,
            now=now,
            expires_at=ends_at,
            origin="swap" if refresh is None else "exchange",
            user_agent=to.user_agent,
            ip=to.ip,
        )
        return replace(session, auth_time=login.auth_time or now)


class BlockingBridge(Bridging):
    """The bridge of a blocking app: `flow.run` completes each of its flows."""


class AsyncBridge(Bridging):
    """The bridge of an async app."""


def _is_of(claims: Claims, session: Session) -> bool:
    return (claims.realm, claims.subject) == (session.realm, session.subject)
