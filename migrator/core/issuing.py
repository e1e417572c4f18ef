"""How credentials are issued and ended: the flows behind what an app calls (app.py).

Where the phase table says "legacy", a login or refresh makes what the app always made, through the
app's own function, so one line at each route serves every phase and every rollback.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias, cast
from uuid import UUID

from migrator.core import facts, tokens, verdicts
from migrator.core.claims import PURPOSES
from migrator.core.errors import Refused, Unavailable
from migrator.core.legacy import Legacy
from migrator.core.lookalike import as_signed
from migrator.core.phases import RULES, Phase, bucket_of
from migrator.core.seen import plain
from migrator.core.sessions import CARRIED_ON, Session, exchange_end, extended_end, login_end
from migrator.core.swapping import BINDING, Swapping
from migrator.core.verdicts import Reason

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence
    from datetime import datetime, timedelta

    from migrator.core.claims import Claims, Purpose
    from migrator.core.interfaces import Ended, Found
    from migrator.core.phases import Rule

Jwts: TypeAlias = str | Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Issued:
    """What a login or exchange gives the client.

    Args:
        token: a session token, or what the app's own function made, unchanged.
        kind: which of the two.
        expires_at: when the session ends at the latest; None for what the app made.
    """

    token: Jwts
    kind: Literal["session", "legacy"]
    expires_at: datetime | None = None

    def __repr__(self) -> str:
        return f"Issued({self.kind}, until {self.expires_at})"


class Issuing(Swapping):
    """The flows behind `Sessions` and `AsyncSessions`."""

    async def _login(
        self,
        subject: str,
        *,
        client: str | None,
        realm: str | None,
        scopes: Iterable[str],
        claims: Mapping[str, object],
        legacy: Callable[[], object],
    ) -> Issued:
        realm = realm or self.terms.login_realm
        scopes, client = frozenset(scopes), plain(client, facts.LONGEST_TEXT_BYTES)
        _require_storable(subject, scopes, claims)
        rollout = await self.where()
        bucket = bucket_of(subject, realm)
        rule = RULES[rollout.phase_for(issuer=None, client=client, bucket=bucket)]
        self.usage.signed_in()
        if not rollout.includes(rule.issue, bucket):
            return await self._issue_legacy(legacy)
        now = await self.now()
        session = Session(
            id=self.new_id(),
            kind="session",
            realm=realm,
            subject=subject,
            client=client,
            scopes=scopes,
            claims=dict(claims),
            created_at=now,
            last_seen_at=now,
            expires_at=login_end(now=now, limits=self.terms.limits),
            origin="login",
            auth_time=now,
        )
        return await self._issue(session, self.terms.session_prefix, cap=self.terms.per_subject)

    async def _issue(
        self, session: Session, prefix: str, *, cap: int | None, instead_of: Sequence[Claims] = ()
    ) -> Issued:
        token, legacy = tokens.mint(prefix, self.secret()), await self._has_legacy()
        ended = await self.store.create(
            session, tokens.digest(token), cap=cap, legacy=legacy, instead_of=instead_of
        )
        await self._settle(ended)
        self.usage.count(None, session.client, "issued:session")
        return Issued(token.decode("ascii"), "session", session.expires_at)

    async def _issue_legacy(self, legacy: Callable[[], object]) -> Issued:
        made = legacy()
        if inspect.isawaitable(made):
            made = await cast("Awaitable[object]", made)
        jwts = cast("Jwts", made)
        await self._note_issued(jwts)
        return Issued(jwts, "legacy")

    async def _note_issued(self, jwts: Jwts) -> None:
        """Keep the last moment and largest exp we saw issued, for the drain horizon."""
        now = await self.now()
        self.usage.issued(now, None)
        values = [jwts] if isinstance(jwts, str) else list(jwts.values())
        for value in values:
            if isinstance(value, str):
                self.usage.issued(now, self.verifier.exp_of(value.encode("utf-8", "replace")))
        self.usage.count(None, None, "issued:legacy")

    async def _exchange(
        self, refresh_token: str | bytes, *, legacy: Callable[[], object]
    ) -> Issued:
        issued = await self._exchanged(_bytes(refresh_token))
        return await self._issue_legacy(legacy) if issued is None else issued

    async def _exchanged(self, presented: bytes) -> Issued | None:
        """The session for a credential at the refresh route; None: the app issues as it did."""
        if self.is_ours(presented):
            return await self._carry_on(presented)
        rollout = await self.where()
        if rollout.phase is Phase.RETIRED:
            raise Refused(Reason.LEGACY_RETIRED)
        try:
            claims = await self._verified(presented, "refresh")
        except Refused:
            if rollout.phase is not Phase.OBSERVE:
                raise
            with suppress(Unavailable):  # then the app decides
                await self._bind_as_signed(presented)
            return None
        bucket = bucket_of(claims.subject, claims.realm)
        rule = RULES[rollout.phase_for(issuer=claims.issuer, client=claims.client, bucket=bucket)]
        if rule.legacy == "verify_then_refuse":
            raise Refused(self.refuse_retired(claims, claims.client, rollout).reason)
        if not rollout.includes(rule.issue, bucket):
            reason = await self._bar_to_issuing(claims, rule)
            if reason is not None:
                raise self._refused(reason, claims)
            self.usage.saw(claims, claims.client)
            return None
        return await self._exchange_now(claims, bucket)

    async def _bar_to_issuing(self, claims: Claims, rule: Rule) -> Reason | None:
        try:
            reason = await self.fault_of(await self.store.check(claims), claims)
        except Unavailable:
            if rule.legacy == "shadow":
                return None  # the app decides
            raise
        return reason if rule.legacy != "shadow" or reason in BINDING else None

    async def _bind_as_signed(self, presented: bytes) -> None:
        """Where the app decides of what we cannot verify: what was revoked stays so, re-spelt too.

        Raises:
            Refused: it is another spelling of a refresh token that was revoked.
        """
        value = as_signed(presented)
        if value == presented:
            return
        try:
            claims = await self._verified(value, "refresh")
        except Refused:
            return
        reason = await self.fault_of(await self.store.check(claims), claims)
        if reason in BINDING:
            raise self._refused(reason, claims)

    async def _exchange_now(self, claims: Claims, bucket: int) -> Issued:
        ends_at = exchange_end(
            legacy_end=claims.exp,
            now=await self.now(),
            limits=self.terms.limits,
            rolling=claims.rolling,
        )
        standing = await self.swap(
            claims, client=claims.client, bucket=bucket, presented=None, expires_at=ends_at
        )
        reason = await self.fault_of(standing, claims)
        if reason is not None:
            raise self._refused(reason, claims)
        self.usage.saw(claims, claims.client)
        token, session = self.token_of(standing, claims), standing.session
        if token is None or session is None:
            # The row was derived with a key this node does not have: say "not now", never "no".
            raise Unavailable("swap key", f"{standing.swap_key_id!r} is not on this node")
        if claims.rolling is not None:
            session = await self._extend(session, claims.rolling)
        self.usage.count(claims.issuer, claims.client, "exchanged")
        return Issued(token.decode("ascii"), "session", session.expires_at)

    async def _carry_on(self, token: bytes) -> Issued:
        """Answer a session token at the refresh route with itself, however many tabs race."""
        session, _ = await self._living(token)
        rolling = (self.terms.rolling_by_realm or {}).get(session.realm)
        if session.origin in CARRIED_ON and rolling is not None:
            session = await self._extend(session, rolling)
        return Issued(token.decode("ascii"), "session", session.expires_at)

    async def _living(self, token: bytes) -> tuple[Session, frozenset[str]]:
        """The living session that `token` names, and what its subject may do now.

        Raises:
            Refused: there is none.
        """
        verdict = await self.judge_session(token)
        if isinstance(verdict, verdicts.Refused):
            raise Refused(verdict.reason)
        session = verdict.principal.session
        assert session is not None  # it was judged by its row
        return session, verdict.principal.scopes

    async def _extend(self, session: Session, rolling: timedelta) -> Session:
        ends_at = extended_end(
            session, now=await self.now(), limits=self.terms.limits, rolling=rolling
        )
        if session.expires_at is not None and ends_at <= session.expires_at:
            return session
        await self.store.extend(session.id, ends_at)
        return replace(session, expires_at=ends_at)

    async def _verified(self, presented: bytes, purpose: Purpose) -> Claims:
        owner = self.verifier.whose(presented, allowed=None, path="")
        if not isinstance(owner, Legacy):
            raise Refused(Reason.UNKNOWN_ISSUER)
        verified = self.verifier.verify(
            presented, owner.candidates, now=await self.now(), purpose=purpose
        )
        if isinstance(verified, verdicts.Refused):
            self.refuse(verified.reason)
            raise Refused(verified.reason)
        return verified

    def _refused(self, reason: Reason, claims: Claims) -> Refused:
        self.refuse(reason, claims.issuer, claims.client)
        return Refused(reason)

    # Ending.

    async def _end(self, token_or_id: str | bytes | UUID, *, reason: str, by: str) -> int:
        if isinstance(token_or_id, UUID):
            return await self._end_id(token_or_id, reason=reason, by=by)
        presented = _bytes(token_or_id)
        if self.is_ours(presented):
            found = await self._named(presented)
            return await self._end_id(found.session.id, reason=reason, by=by) if found else 0
        as_id = _as_uuid(presented)
        if as_id is not None:
            return await self._end_id(as_id, reason=reason, by=by)
        return await self._deny(presented, reason=reason, by=by)

    async def _named(self, token: bytes) -> Found | None:
        return await self.store.find(tokens.digest(token)) if self.well_formed(token) else None

    async def _end_id(self, session_id: UUID, *, reason: str, by: str) -> int:
        legacy = await self._has_legacy()
        family = await self.store.family_of(session_id, legacy=legacy)
        await self.cache.bury([found.digest for found in family if found.digest])
        ended = await self.store.end(session_id, reason=reason, by=by, legacy=legacy)
        await self._settle(ended, legacy=True)
        return len(ended.ids)

    async def _deny(self, presented: bytes, *, reason: str, by: str) -> int:
        """End what a legacy token became, and it; one that is over or nobody's needs no ending."""
        if not await self._has_legacy():
            return 0
        owner = self.verifier.whose(presented, allowed=None, path="")
        if not isinstance(owner, Legacy):
            return 0
        for purpose in PURPOSES:
            claims = self.verifier.verify(
                presented, owner.candidates, now=await self.now(), purpose=purpose
            )
            if not isinstance(claims, verdicts.Refused):
                break
        else:
            return 0
        ended = await self.store.deny(claims, reason=reason, by=by)
        await self._settle(ended, legacy=True)
        return max(1, len(ended.ids))

    async def _end_all(
        self,
        subject: str,
        *,
        realm: str | None,
        reason: str,
        by: str,
        keep: UUID | None = None,
    ) -> int:
        realm = realm or self.terms.login_realm
        if facts.text(subject) is None:
            return 0  # nobody is called that, see `_require_storable`
        legacy = await self._has_legacy()
        await self.cache.bury(await self.store.digests_of(subject, realm=realm))
        ended = await self.store.end_subject(
            subject, realm=realm, reason=reason, by=by, legacy=legacy, keep=keep
        )
        self.recent.evict(("subject", realm, subject))
        await self._settle(ended, legacy=True, also=(("subject", subject),))
        return len(ended.ids)

    async def _end_others(self, token: str | bytes, *, by: str) -> int:
        found = await self._named(_bytes(token))
        if found is None or found.session.revoked_at is not None:
            raise Refused(Reason.UNKNOWN_TOKEN)
        session = found.session
        return await self._end_all(
            session.subject, realm=session.realm, reason="end_others", by=by, keep=session.id
        )

    async def _settle(
        self,
        ended: Ended,
        *,
        legacy: bool = False,
        also: tuple[tuple[str, str], ...] = (),
    ) -> None:
        """After the commit: tombstones, this process's memory, and the hint, in this order."""
        if ended.digests:
            await self.cache.bury(ended.digests)
            for digest in ended.digests:
                self.recent.evict(digest)
        if legacy:
            self.recent.distrust_legacy()
        if ended.digests or also or legacy:
            named = tuple(("session", digest.hex()) for digest in ended.digests)
            await self.cache.hint((*named, *also))

    async def _list(self, subject: str, *, realm: str | None) -> Sequence[Session]:
        if facts.text(subject) is None:
            return ()
        return await self.store.list(subject, realm=realm or self.terms.login_realm)

    async def _has_legacy(self) -> bool:
        return (await self.where()).phase is not Phase.RETIRED

    async def _api_token(
        self,
        subject: str,
        *,
        label: str,
        realm: str | None,
        scopes: Iterable[str],
        expires_at: datetime | None,
    ) -> Issued:
        scopes = frozenset(scopes)
        _require_storable(subject, scopes, {})
        session = Session(
            id=self.new_id(),
            kind="api",
            realm=realm or self.terms.login_realm,
            subject=subject,
            scopes=scopes,
            created_at=await self.now(),
            expires_at=expires_at,
            origin="login",
            label=plain(label, _LABEL_CHARS),
        )
        return await self._issue(session, self.terms.api_prefix, cap=None)


def _bytes(token: object) -> bytes:
    """What was presented; anything but text, as a JSON body may hold, is no credential at all."""
    if isinstance(token, str):
        return token.encode("utf-8", "surrogatepass")
    return token if isinstance(token, bytes) else b""


def _require_storable(subject: str, scopes: frozenset[str], claims: Mapping[str, object]) -> None:
    """Say so where an app issues what no row can hold: it would look like an outage."""
    if facts.text(subject) is None:
        raise ValueError("a subject is a text of 1 to 255 bytes without control characters")
    if any(facts.text(scope) is None for scope in scopes) or not facts.is_storable(claims):
        raise ValueError("scopes and claims hold no control characters and no lone surrogates")


_UUID_CHARS = 36
_LABEL_CHARS = 255


def _as_uuid(presented: bytes) -> UUID | None:
    try:
        return UUID(presented.decode("ascii")) if len(presented) == _UUID_CHARS else None
    except ValueError:
        return None
