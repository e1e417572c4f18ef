"""What crosses the bridge: credentials on their way to an app that knows JWTs, and its answers.

The app's own login, refresh and logout routes go on as they are. What they issue is recognised
here and replaced by a session, and a session presented to them is shown as a JWT. How a request is
read and an answer rewritten is the shims' (shims/bridging.py); this file decides.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

from migrator.core import tokens, verdicts
from migrator.core.bridge import Minter, is_marked
from migrator.core.errors import Refused
from migrator.core.flow import run
from migrator.core.issuing import Issuing
from migrator.core.legacy import Foreign, Legacy
from migrator.core.phases import RULES, bucket_of
from migrator.core.seen import plain
from migrator.core.sessions import Session, exchange_end, swap_end
from migrator.core.swapping import client_of
from migrator.core.verdicts import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from migrator.core.claims import Claims, Purpose
    from migrator.core.verdicts import Principal

Share: TypeAlias = Literal["session", "legacy"]
_AGENT_CHARS = 512
_UNAUTHORIZED = 401


@dataclass(frozen=True, slots=True)
class Carried:
    """A session as it crosses: the client holds `token`, the app is shown a JWT.

    Args:
        goes_back: its client is to have the app's own JWTs again: the phase leaves issuing to the
            app, and the shim may be about to go.
    """

    token: bytes
    session: Session
    scopes: frozenset[str]
    goes_back: bool = False

    def __repr__(self) -> str:
        return f"Carried({self.session.id})"


@dataclass(frozen=True, slots=True)
class From:
    """Whom an answer goes to, for the session's row."""

    user_agent: str | None = None
    ip: str | None = None


class Bridging(Issuing):
    """The decisions of the bridge, in either colour: a blocking store never suspends."""

    minter: Minter

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

    async def refresh(self, presented: bytes) -> Carried | None:
        """What a credential at the refresh route becomes; None: the app answers as it always did.

        A session token is carried on and never rotated, for any number of racing tabs; a legacy
        refresh token that verified becomes a session, where the phase says so. Where it leaves
        issuing to the app, the holder of a session gets the app's JWTs again, and the session
        lives on beside them: so the shim can be taken out with nobody logged out.

        Raises:
            Refused: it must not be answered, by the app least of all.
            Unavailable: nobody can say.
        """
        if is_marked(presented):
            self.refuse(Reason.BRIDGE_TOKEN)
            raise Refused(Reason.BRIDGE_TOKEN)
        if self.is_ours(presented):
            carried = await self.carried(presented)
            if not await self._issues_for(carried.session):
                return replace(carried, goes_back=True)
        elif isinstance(self.verifier.whose(presented, allowed=None, path=""), Foreign):
            return None
        try:
            issued = await self._exchanged(presented)
        except Refused as refused:
            if refused.reason is Reason.LEGACY_EXPIRED and await self._may_read():
                return None  # the app's own answer is what sends its client to the login screen
            raise
        return None if issued is None else await self.carried(str(issued.token).encode())

    async def _issues_for(self, session: Session) -> bool:
        """Whether whom `session` belongs to gets sessions at login and refresh."""
        rollout = await self.where()
        bucket = bucket_of(session.subject, session.realm)
        phase = rollout.phase_for(
            issuer=self.minter.shape.issuer, client=session.client, bucket=bucket
        )
        return rollout.includes(RULES[phase].issue, bucket)

    async def _may_read(self) -> bool:
        """Whether legacy tokens are still the app's to read."""
        return RULES[(await self.where()).phase].legacy in {"shadow", "verify"}

    async def carried(self, token: bytes) -> Carried:
        """The living session that `token` names.

        Raises:
            Refused: there is none.
        """
        verdict = await self.judge_session(token)
        if isinstance(verdict, verdicts.Refused):
            raise Refused(verdict.reason)
        session = verdict.principal.session
        if session is None:
            raise Refused(Reason.UNKNOWN_TOKEN)
        return Carried(token, session, verdict.principal.scopes)

    # Back from the app.

    async def issued(
        self, found: Sequence[bytes], to: From
    ) -> tuple[dict[bytes, Purpose], bytes | None]:
        """What the JWTs `found` in an answer are, and the session token that replaces them.

        The token is None where none of them is a login's, and where the phase leaves them to
        their client: then they are noted, for the drain horizon.

        Raises:
            Unavailable: nobody can say; the answer must not go out.
        """
        read = await self._read(found)
        if not read:
            return {}, None
        access = next((each for each in read.values() if each.purpose == "access"), None)
        refresh = next((each for each in read.values() if each.purpose == "refresh"), None)
        login = access or refresh
        assert login is not None  # read is not empty
        purposes = {jwt: each.purpose for jwt, each in read.items()}
        client = login.client or client_of(to.user_agent)
        rollout = await self.where()
        bucket = bucket_of(login.subject, login.realm)
        phase = rollout.phase_for(issuer=login.issuer, client=client, bucket=bucket)
        if not rollout.includes(RULES[phase].issue, bucket):
            await self._note_issued({str(at): jwt.decode() for at, jwt in enumerate(purposes)})
            return purposes, None
        session = await self._begun(login, refresh, client, to)
        made = await self._issue(session, self.terms.session_prefix, cap=self.terms.per_subject)
        return purposes, str(made.token).encode()

    async def renewed(
        self, carried: Carried, found: Sequence[bytes], *, refreshes: bool
    ) -> dict[bytes, Purpose]:
        """Which of the JWTs in an answer to a session are of its own subject, or our own.

        At a refresh an app looks its user up, so what it says then are the session's claims from
        now on. A token that slides with every answer is not worth a write each time.
        """
        read = await self._read(found)
        access = next((each for each in read.values() if each.purpose == "access"), None)
        session = carried.session
        if refreshes and access is not None and _is_of(access, session):
            await self.store.set_claims(session.id, access.kept)
            self.recent.evict(tokens.digest(carried.token))
        marked = [jwt for jwt in found if jwt not in read and is_marked(jwt)]
        own = {jwt: each.purpose for jwt, each in read.items() if _is_of(each, session)}
        return own | dict.fromkeys(marked, "access")

    async def end_presented(self, presented: bytes) -> None:
        """End what a credential at the logout route names; nobody's need no ending.

        Raises:
            Unavailable: it could not be ended.
        """
        if self.is_ours(presented) or isinstance(
            self.verifier.whose(presented, allowed=None, path=""), Legacy
        ):
            await self._end(presented, reason="logout", by="app")

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
                self.usage.observed(plain(path, 128) or "/", "issues_legacy")

    async def _read(self, found: Sequence[bytes]) -> dict[bytes, Claims]:
        """Those of `found` that an issuer signed for a login, as claims."""
        now, read = await self.now(), {}
        for jwt in found:
            owner = self.verifier.whose(jwt, allowed=None, path="", marked=True)
            if not isinstance(owner, Legacy):
                continue
            for purpose in _PURPOSES:
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
        if refresh is not None:
            origin: Literal["exchange", "login"] = "exchange"
            ends_at: datetime = exchange_end(
                legacy_end=refresh.exp,
                now=now,
                limits=self.terms.limits,
                rolling=refresh.rolling,
            )
        else:
            origin, ends_at = (
                "login",
                swap_end(legacy_end=login.exp, now=now, limits=self.terms.limits),
            )
        return Session(
            id=self.new_id(),
            kind="session",
            realm=login.realm,
            subject=login.subject,
            client=client,
            scopes=login.scopes,
            claims=login.kept,
            created_at=now,
            last_seen_at=now,
            expires_at=ends_at,
            user_agent=plain(to.user_agent, _AGENT_CHARS),
            ip=self.terms.keep_ip(to.ip),
            origin=origin,
            auth_time=login.auth_time or now,
            amr=login.amr,
        )


class BlockingBridge(Bridging):
    """The bridge of a blocking app: `run` completes each of its flows."""

    run = staticmethod(run)


class AsyncBridge(Bridging):
    """The bridge of an async app."""


def _is_of(claims: Claims, session: Session) -> bool:
    return (claims.realm, claims.subject) == (session.realm, session.subject)


_PURPOSES: tuple[Purpose, ...] = ("access", "refresh")
