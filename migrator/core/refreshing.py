"""What a credential becomes at the refresh route of an app behind the bridge.

A session is carried on or, where the phase leaves issuing to the app, led back; a legacy refresh
token becomes a session; what is the app's own is left to it, and nothing revoked reaches it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from migrator.core import verdicts
from migrator.core.bridge import Minter, is_marked
from migrator.core.claims import PURPOSES
from migrator.core.errors import Refused, Unavailable
from migrator.core.flow import principal_of
from migrator.core.issuing import Issuing
from migrator.core.legacy import Legacy, Wrong
from migrator.core.lookalike import as_signed
from migrator.core.phases import RULES, bucket_of
from migrator.core.sessions import CARRIED_ON, Session
from migrator.core.swapping import BINDING
from migrator.core.verdicts import Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from migrator.core.claims import Claims, Purpose
    from migrator.core.phases import Phase, Rule


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


class Refreshing(Issuing):
    """The refresh route's part of the bridge."""

    minter: Minter

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
            carried = await self._carried_or_back(presented)
            if not await self._issues_for(carried.session):
                return replace(carried, goes_back=True)
        else:
            owner = self.verifier.whose(presented, path="")
            if isinstance(owner, Wrong):  # perhaps one of the issuer's, spelt in another way
                await self._bind(as_signed(presented), owner.reason, PURPOSES)
            if not isinstance(owner, Legacy):
                return None
        try:
            issued = await self._exchanged(presented)
        except Refused as refused:
            if refused.reason is Reason.LEGACY_EXPIRED and await self._may_read():
                return None  # the app's own answer is what sends its client to the login screen
            if refused.reason in _OF_ANOTHER_PURPOSE:
                await self._bind(presented)
            raise
        if issued is None:
            await self._bind(presented)
            return None
        found = await self.carried(str(issued.token).encode())
        # Memory may not know yet how far it was just carried on.
        return replace(found, session=replace(found.session, expires_at=issued.expires_at))

    async def _carried_or_back(self, token: bytes) -> Carried:
        """The session of `token`; one that is merely over too, where its client goes back.

        Use carries no session on there, so that a client which refreshes on a 401 alone comes to
        do so. With its JWTs it would have had a refresh token then, as good as its last use.

        Raises:
            Refused: there is none.
        """
        try:
            return await self.carried(token)
        except Refused as refused:
            if refused.reason is not Reason.SESSION_EXPIRED:
                raise
            found = await self._named(token)
            if found is None or not await self._would_have_refreshed(found.session):
                raise
            verdict = await self.as_principal(principal_of(found.session, found.session.scopes))
            if isinstance(verdict, verdicts.Refused):
                raise
        session = replace(found.session, expires_at=None)  # it is the JWT shown that ends
        return Carried(token, session, verdict.principal.scopes)

    async def _would_have_refreshed(self, session: Session) -> bool:
        rolling = (self.terms.rolling_by_realm or {}).get(session.realm)
        used_at = session.last_seen_at or session.created_at
        return (
            rolling is not None
            and session.origin in CARRIED_ON
            and await self.now() < used_at + rolling
            and not await self._issues_for(session)
        )

    async def _bind(
        self,
        signed: bytes,
        reason: Reason | None = None,
        purposes: Sequence[Purpose] = ("access",),
    ) -> None:
        """See that an app which takes at its refresh route what we do not gets nothing revoked.

        Args:
            signed: a token of an issuer, as it was signed.
            reason: why it may not come as it came, wherever we decide; None: it came so.
            purposes: what it may be; apps whose tokens slide refresh by an access token.

        Raises:
            Refused: the app must not see it.
        """
        owner = self.verifier.whose(signed, path="")
        if not isinstance(owner, Legacy):
            return
        for purpose in purposes:
            claims = self.verifier.verify(
                signed, owner.candidates, now=await self.now(), purpose=purpose
            )
            if isinstance(claims, verdicts.Refused):
                continue
            rule = RULES[await self._phase_of(claims, claims.client)]
            if rule.legacy in {"verify_then_refuse", "unread"}:
                retired = self.refuse_retired(claims, claims.client, await self.where())
                raise Refused(retired.reason)
            if reason is not None and rule.legacy != "shadow":
                raise self._refused(reason, claims)
            await self._refuse_bound(claims, rule)
            return

    async def _refuse_bound(self, claims: Claims, rule: Rule) -> None:
        try:
            reason = await self.fault_of(await self.store.check(claims), claims)
        except Unavailable:
            if rule.legacy == "shadow":
                return  # the app decides
            raise
        if reason in BINDING:
            raise self._refused(reason, claims)

    async def beside(self, carried: Carried) -> Carried:
        """A session that came beside a refresh token which is the app's to answer."""
        return replace(carried, goes_back=not await self._issues_for(carried.session))

    async def _issues_for(self, session: Session) -> bool:
        """Whether whom `session` belongs to gets sessions at login and refresh."""
        rollout = await self.where()
        bucket = bucket_of(session.subject, session.realm)
        phase = rollout.phase_for(
            issuer=self.minter.shape.issuer, client=session.client, bucket=bucket
        )
        return rollout.includes(RULES[phase].issue, bucket)

    async def _phase_of(self, claims: Claims, client: str | None) -> Phase:
        bucket = bucket_of(claims.subject, claims.realm)
        return (await self.where()).phase_for(issuer=claims.issuer, client=client, bucket=bucket)

    async def decides(self) -> bool:
        """Whether the shim answers for legacy tokens; in `observe` the app does."""
        return RULES[(await self.where()).phase].legacy != "shadow"

    async def _may_read(self) -> bool:
        """Whether legacy tokens are still the app's to read."""
        return RULES[(await self.where()).phase].legacy in {"shadow", "verify"}

    async def carried(self, token: bytes) -> Carried:
        """The living session that `token` names, as it crosses.

        Raises:
            Refused: there is none.
        """
        session, scopes = await self._living(token)
        return Carried(token, session, scopes)


_OF_ANOTHER_PURPOSE = frozenset({Reason.WRONG_PURPOSE, Reason.BAD_SIGNATURE})
