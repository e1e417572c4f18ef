"""How a legacy token is judged: what the phase says of it, how it stands, what it becomes.

This file, legacy.py and what they import are what is deleted when a migration is over.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from migrator.core import tokens
from migrator.core.asking import Case
from migrator.core.comparing import Presence, Shadow, route_class
from migrator.core.errors import Unavailable
from migrator.core.flow import CACHE_LIFE, Flow, principal_of
from migrator.core.interfaces import Found, Ticket
from migrator.core.phases import RULES, Phase, bucket_of
from migrator.core.recent import Entry
from migrator.core.seen import plain
from migrator.core.sessions import FAR, Origin, Session, swap_end
from migrator.core.verdicts import Admitted, Passed, Principal, Reason, Refused

if TYPE_CHECKING:
    from datetime import datetime

    from migrator.core.claims import Claims
    from migrator.core.interfaces import Standing
    from migrator.core.legacy import Issuer
    from migrator.core.phases import Rollout, Rule
    from migrator.core.presented import Credential, Presented
    from migrator.core.recent import About, Mark
    from migrator.core.verdicts import Verdict


class Swapping(Flow):
    """Judges legacy tokens, and swaps them for sessions."""

    async def judge_legacy(
        self, credential: Credential, candidates: tuple[Issuer, ...], presented: Presented
    ) -> Verdict:
        """What the phase table says of a legacy token, and how it stands with us."""
        remembered = self._remembered(credential, presented)
        if remembered is not None:
            return remembered
        mark = self.recent.mark()
        rollout = await self.where()
        if rollout.phase is Phase.RETIRED:
            return self.refuse(Reason.LEGACY_RETIRED)

        agent = client_of(presented.user_agent)
        issuer = candidates[0].id if len(candidates) == 1 else None
        unverified = RULES[rollout.phase_for(issuer=issuer, client=agent, bucket=_NO_BUCKET)]
        try:
            claims = self.verifier.verify(credential.value, candidates, now=await self.now())
        except Unavailable:
            if unverified.legacy == "shadow":
                return Passed()
            raise
        if isinstance(claims, Refused):
            if presented.route in _TAKES_REFRESH and await self._is_refresh(
                credential, candidates
            ):
                return Passed()  # the app hands it to `exchange` or `end`, where it belongs
            return self._unverified(claims.reason, issuer, agent, unverified, presented)

        client = claims.client or agent
        bucket = bucket_of(claims.subject, claims.realm)
        rule = RULES[rollout.phase_for(issuer=claims.issuer, client=client, bucket=bucket)]
        if rule.legacy == "verify_then_refuse":
            self._present(claims, client, presented)
            return self.refuse_retired(claims, client, rollout)

        now = await self.now()
        case = Case(
            claims=claims,
            client=client,
            bucket=bucket,
            rule=rule,
            rollout=rollout,
            swaps=self._swaps(rule, rollout, claims, credential, bucket, now),
            opens=self.node.openings.allows(
                claims.realm, claims.subject, most=self.terms.swaps_per_minute
            ),
            edge=rollout.edge_after(now) or FAR,
            mark=mark,
        )
        try:
            shared = await self.flights.share(
                (f"legacy {case.swaps} {case.opens}", claims.fingerprint),
                partial(self._asked_legacy, case, credential, presented),
                partial(self._remembered, credential, presented),
            )
        except Unavailable:
            if rule.legacy == "shadow":
                self._saw(claims, client, presented)
                return Passed()
            raise
        if isinstance(shared, Admitted):
            return shared
        (standing, verdict), is_own = shared
        if is_own:
            return verdict
        return await self._settled(standing, case, credential, presented)

    def _remembered(self, credential: Credential, presented: Presented) -> Admitted | None:
        if presented.strict:
            return None
        return self.recent.peek(credential.value, credential.issuers)

    async def _asked_legacy(
        self, case: Case, credential: Credential, presented: Presented
    ) -> tuple[Standing, Verdict]:
        standing = await (
            self.swap(case.claims, client=case.client, bucket=case.bucket, presented=presented)
            if case.swaps and case.opens
            else self.store.check(case.claims)
        )
        return standing, await self._settled(standing, case, credential, presented)

    async def _settled(
        self, standing: Standing, case: Case, credential: Credential, presented: Presented
    ) -> Verdict:
        """The verdict on a legacy token that stands so, counted and remembered."""
        claims, client, rule = case.claims, case.client, case.rule
        self.clock.learn(standing.read_at)
        verdict = await self._judge_standing(standing, claims, client)
        if isinstance(verdict, Refused):
            if rule.legacy != "shadow" or verdict.reason in BINDING:
                # No sighting: whoever keeps showing a dead token must not hold up a cutover.
                return verdict
            self._saw(claims, client, presented)
            return Passed(verdict.reason, shadow=Shadow(claims.issuer, client, verdict.reason))
        self._saw(claims, client, presented)
        if case.swaps and standing.session is None:
            self.usage.count(claims.issuer, client, "unswapped")
        if case.is_late():
            self.usage.count(claims.issuer, client, "late")
        verdict = replace(
            verdict,
            hand_out=self.token_of(standing, claims) if case.swaps else None,
            notice=case.notice(),
            shadow=Shadow(claims.issuer, client, claims=claims)
            if rule.legacy == "shadow"
            else None,
        )
        self._remember_legacy(credential.value, standing, verdict, case)
        return verdict

    def _saw(self, claims: Claims, client: str | None, presented: Presented) -> None:
        self.usage.saw(claims, client)
        self._present(claims, client, presented)

    def _present(self, claims: Claims, client: str | None, presented: Presented) -> None:
        """Take note of who presents it where: anew about once a minute while it is in use."""
        route = presented.route or route_class(presented.path)
        self.usage.presences.add(Presence.of(claims, client=client, route=route))

    async def _is_refresh(self, credential: Credential, candidates: tuple[Issuer, ...]) -> bool:
        verified = self.verifier.verify(
            credential.value, candidates, now=await self.now(), purpose="refresh"
        )
        # One that is over gets the app's own answer too: no other sends its client to the login.
        return not isinstance(verified, Refused) or verified.reason is Reason.LEGACY_EXPIRED

    def _unverified(
        self,
        reason: Reason,
        issuer: str | None,
        client: str | None,
        rule: Rule,
        presented: Presented,
    ) -> Verdict:
        # A right but expired token goes to the app up to `drain`: the app's own answer is what
        # sends old clients to their refresh route and not to a login screen.
        late = reason is Reason.LEGACY_EXPIRED and rule.legacy == "verify"
        if late or rule.legacy == "shadow":
            self.usage.count(issuer, client, f"passed:{reason}")
            shadow = None if late else Shadow(issuer or "", client, reason)
            return Passed(reason, strip=late and presented.route is not None, shadow=shadow)
        return self.refuse(reason, issuer, client)

    def _swaps(
        self,
        rule: Rule,
        rollout: Rollout,
        claims: Claims,
        credential: Credential,
        bucket: int,
        now: datetime,
    ) -> bool:
        # A token that is nearly over is not worth a row: its login migrates at the refresh route.
        return (
            rollout.includes(rule.swap, bucket)
            and bool(self.terms.swap_keys)
            and credential.place != "query"
            and claims.exp - now >= self.terms.min_remaining
        )

    async def swap(
        self,
        claims: Claims,
        *,
        client: str | None,
        bucket: int,
        presented: Presented | None,
        expires_at: datetime | None = None,
    ) -> Standing:
        """How a legacy token stands once it has a session."""
        now = await self.now()
        key = self.terms.swap_keys[0]
        session = self.session_of(
            claims,
            client=client,
            now=now,
            expires_at=expires_at
            or swap_end(legacy_end=claims.exp, now=now, limits=self.terms.limits),
            origin="swap" if claims.purpose == "access" else "exchange",
            user_agent=presented.user_agent if presented else None,
            ip=presented.ip if presented else None,
        )
        standing = await self.store.swap(
            claims,
            Ticket(
                session=session,
                digest=tokens.digest(self._derived(key.secret, claims)),
                swap_key_id=key.id,
                percent_bucket=bucket,
            ),
        )
        if standing.session is not None and standing.session.id == session.id:
            self.node.openings.opened(claims.realm, claims.subject)
        return standing

    def session_of(
        self,
        claims: Claims,
        *,
        client: str | None,
        now: datetime,
        expires_at: datetime,
        origin: Origin,
        user_agent: str | None,
        ip: str | None,
    ) -> Session:
        """The session that begins `now` in place of a legacy token: what it said, no more (P3)."""
        return Session(
            id=self.new_id(),
            kind="session",
            realm=claims.realm,
            subject=claims.subject,
            client=client,
            scopes=claims.scopes,
            claims=claims.kept,
            created_at=now,
            expires_at=expires_at,
            last_seen_at=now,
            user_agent=plain(user_agent, _AGENT_CHARS),
            ip=self.terms.keep_ip(ip),
            origin=origin,
            auth_time=claims.auth_time,
            amr=claims.amr,
        )

    async def _judge_standing(
        self, standing: Standing, claims: Claims, client: str | None
    ) -> Admitted | Refused:
        reason = await self.fault_of(standing, claims)
        if reason is not None:
            return self.refuse(reason, claims.issuer, client)
        session = standing.session
        return await self.as_principal(
            Principal(
                subject=claims.subject,
                realm=claims.realm,
                scopes=session.scopes if session else claims.scopes,
                claims=claims.kept,
                client=client,
                via="legacy",
                session=session,
            )
        )

    async def fault_of(self, standing: Standing, claims: Claims) -> Reason | None:
        """Why a legacy token that verified is not admitted all the same."""
        if standing.bar is not None:
            return Reason.DENIED if standing.bar == "denied" else Reason.CUT_OFF
        if not standing.known:
            return None
        session = standing.session
        if session is None:
            return Reason.SESSION_ENDED
        over = self.over(session, await self.now())
        if over is not Reason.SESSION_ENDED and self._was_superseded(standing, claims):
            return Reason.SUPERSEDED  # bound in every phase, where a session that idled is not
        return over

    def _was_superseded(self, standing: Standing, claims: Claims) -> bool:
        # The row is authoritative over derivation: once its session got another token
        # (`sessions regenerate`), the legacy token must not lead to it any more.
        if standing.digest is None:
            return False
        if standing.swap_key_id is None:
            return True
        token = self.token_of(standing, claims)
        return token is not None and tokens.digest(token) != standing.digest

    def token_of(self, standing: Standing, claims: Claims) -> bytes | None:
        """The token of a swapped session; None on a node that lacks the key it came from."""
        key = self._keys.get(standing.swap_key_id or "")
        if key is None or standing.digest is None:
            return None
        return self._derived(key, claims)

    def _derived(self, key: bytes, claims: Claims) -> bytes:
        return tokens.derive(self.terms.session_prefix, key=key, fingerprint=claims.fingerprint)

    def _remember_legacy(
        self,
        presented: bytes,
        standing: Standing,
        verdict: Admitted,
        case: Case,
    ) -> None:
        claims, client, mark = case.claims, case.client, case.mark
        about: tuple[About, ...] = (
            ("subject", claims.realm, claims.subject),
            ("issuer", claims.issuer),
            ("kid", claims.issuer, claims.kid or ""),
        )
        session, digest = standing.session, standing.digest
        if session is not None and digest is not None:
            about = (digest, *about)
            as_session = principal_of(session, verdict.principal.scopes)
            found = Found(digest=digest, session=session, read_at=standing.read_at)
            self._target(found, Admitted(as_session), about, mark)
        elif self.terms.swap_keys and case.may_open_elsewhere():
            digest = self._foreseen(claims, verdict, about, mark)
        tally = self.usage.tally(
            claims.issuer, client, "swapped" if verdict.hand_out else "legacy"
        )
        tally.bump()
        until = min(standing.read_at + CACHE_LIFE, claims.exp, case.edge)
        entry = Entry(
            verdict,
            until=self.clock.ticks_at(until),
            tally=tally,
            about=about,
            stamp=mark.stamp,
            target=digest,
            claims=claims,
        )
        self.recent.fill(tokens.digest(presented), entry, mark)

    def _foreseen(
        self, claims: Claims, verdict: Admitted, about: tuple[About, ...], mark: Mark
    ) -> bytes:
        """The digest its session would have; an entry that admits nobody stands for it.

        Whoever opens that session elsewhere and ends it names the digest alone in the feed.
        """
        digest = tokens.digest(self._derived(self.terms.swap_keys[0].secret, claims))
        tally = self.usage.tally(None, None, "session")
        entry = Entry(verdict, until=0, tally=tally, about=(digest, *about))
        self.recent.fill(digest, entry, mark, used=False)
        return digest

    def _target(
        self, found: Found, verdict: Admitted, about: tuple[About, ...], mark: Mark
    ) -> None:
        session = found.session
        entry = Entry(
            verdict,
            until=self.clock.ticks_at(min(found.read_at + CACHE_LIFE, session.expires_at or FAR)),
            tally=self.usage.tally(None, session.client, "session"),
            about=about,
        )
        self.recent.fill(found.digest, entry, mark, used=False)


# What was revoked stays revoked in every phase, the one where the app decides included (P2).
BINDING = frozenset(
    {Reason.DENIED, Reason.CUT_OFF, Reason.SESSION_ENDED, Reason.SUPERSEDED},
)
# Where a refresh token is presented for what it is: to be exchanged, or to be revoked.
_TAKES_REFRESH = frozenset({"refresh", "logout"})
# No cohort covers it: what could not be verified belongs to nobody's share.
_NO_BUCKET = 100
_CLIENT_CHARS = 64
_AGENT_CHARS = 512


def client_of(user_agent: str | None) -> str | None:
    """The program that presents a credential: its User-Agent's first product (RFC 9110 10.1.5)."""
    words = (user_agent or "").split(maxsplit=1)
    return plain(words[0], _CLIENT_CHARS) if words else None
