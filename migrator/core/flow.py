"""How one credential is judged: memory, then cache, then store; and remembered.

Written once for both colours. The flow is a coroutine: over a blocking store it completes without ever
suspending, so a blocking gate runs it with one `send(None)` and an async one awaits it. It decides
nothing about requests (gate.py), tokens (tokens.py), lifetimes (sessions.py) or phases (phases.py); it
asks each of them in order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from migrator.core import tokens
from migrator.core.errors import Unavailable
from migrator.core.interfaces import Found, Ticket
from migrator.core.phases import RULES, Phase, bucket_of
from migrator.core.recent import LIFE_NS, Entry
from migrator.core.sessions import FAR, Limits, Session, idle_end, judge, swap_end
from migrator.core.verdicts import (
    Admitted,
    Notice,
    Passed,
    Principal,
    Reason,
    Refused,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from datetime import datetime
    from uuid import UUID

    from migrator.core.claims import Claims
    from migrator.core.clock import DatabaseClock
    from migrator.core.interfaces import Cache, Standing, Store
    from migrator.core.legacy import Issuer, Verifier
    from migrator.core.phases import Rollout, Rule
    from migrator.core.presented import Credential, Presented
    from migrator.core.recent import About, Mark, Recent
    from migrator.core.usage import Usage
    from migrator.core.verdicts import Verdict

_T = TypeVar("_T")

# How late the pulse may write last-seen; idle ends are judged with it, so never early.
SEEN_GRAIN = timedelta(seconds=90)
_CACHE_LIFE = timedelta(microseconds=LIFE_NS // 1000)


@dataclass(frozen=True, slots=True)
class SubjectState:
    """What an app says of a subject right now, through its `resolve_subject` hook.

    Args:
        active: whether it may come in at all.
        scopes: what it may do now; None leaves what the credential says.
    """

    active: bool
    scopes: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class SwapKey:
    """A key that tokens of swapped sessions are derived with."""

    id: str
    secret: bytes

    def __repr__(self) -> str:
        return f"SwapKey({self.id!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The settings the flow needs, in its own types."""

    session_prefix: str
    api_prefix: str
    swap_keys: tuple[SwapKey, ...]
    min_remaining: timedelta
    limits: Limits
    refuses_foreign: bool = False
    per_subject: int | None = None
    rolling_by_realm: dict[str, timedelta] | None = None
    login_realm: str = "users"


class Node:
    """What all of one process has in common: what it remembers, counts and knows.

    `rollout` is None until it was read once, and then never again: an outage keeps the last phase.
    """

    __slots__ = ("clock", "recent", "rollout", "usage", "wake")

    def __init__(self, *, recent: Recent, usage: Usage, clock: DatabaseClock) -> None:
        self.recent = recent
        self.usage = usage
        self.clock = clock
        self.rollout: Rollout | None = None
        self.wake: Callable[[], None] = _asleep


def _asleep() -> None:
    """Do nothing: this process has no pulse."""


def run(flow: Coroutine[object, None, _T]) -> _T:
    """The result of a coroutine that never suspends.

    Raises:
        RuntimeError: it did; a blocking gate was given something that has to be awaited.
    """
    try:
        flow.send(None)
    except StopIteration as done:
        result: _T = done.value
        return result
    flow.close()
    raise RuntimeError("a blocking gate was given a store or hook that suspends")


class Flow:
    """What both gates and both `Sessions` share: the parts, and how a credential is judged."""

    def __init__(
        self,
        *,
        terms: Terms,
        verifier: Verifier,
        store: Store,
        cache: Cache,
        node: Node,
        new_id: Callable[[], UUID],
        secret: Callable[[], bytes],
        resolve: Callable[[str, str], Awaitable[SubjectState | None]] | None = None,
    ) -> None:
        self.terms = terms
        self.verifier = verifier
        self.store = store
        self.cache = cache
        self.node = node
        self.recent = node.recent
        self.usage = node.usage
        self.clock = node.clock
        self.new_id = new_id
        self.secret = secret
        self.resolve = resolve
        self._keys = {key.id: key.secret for key in terms.swap_keys}
        self._ours = (tokens.prefixed(terms.session_prefix), tokens.prefixed(terms.api_prefix))

    # What is known without asking.

    async def where(self) -> Rollout:
        """Where everybody stands; the pulse keeps it fresh, and an outage keeps the last phase."""
        self.node.wake()
        if self.node.rollout is None:
            self.node.rollout = await self.store.rollout()
        return self.node.rollout

    async def now(self) -> datetime:
        """The database's time."""
        self.node.wake()
        if not self.clock.is_set:
            self.clock.learn(await self.store.now())
        return self.clock.now()

    def is_ours(self, credential: bytes) -> bool:
        """By our reserved prefix alone, never by dots or length."""
        return credential.startswith(self._ours)

    def well_formed(self, token: bytes) -> bool:
        return tokens.is_well_formed(token, self.terms.session_prefix) or tokens.is_well_formed(
            token, self.terms.api_prefix
        )

    # Judging a session token.

    async def judge_session(self, token: bytes) -> Admitted | Refused:
        """Whether a token of ours names a living session."""
        remembered = self.recent.peek(token, _NOBODY)
        if remembered is not None:
            return remembered
        if not self.well_formed(token):
            return self.refuse(Reason.BAD_TOKEN)
        mark = self.recent.mark()
        digest = tokens.digest(token)
        found = await self.find(digest)
        if found is None:
            return self.refuse(Reason.UNKNOWN_TOKEN)
        verdict = await self._judge_found(found)
        if isinstance(verdict, Admitted):
            self._remember_session(found, verdict, mark)
        return verdict

    async def find(self, digest: bytes) -> Found | None:
        """The session under `digest`: from the cache where it may be believed, else from the store."""
        now = await self.now()
        cached = await self.cache.get(digest)
        if isinstance(cached, Found) and self._believable(cached, now):
            return cached
        found = await self.store.find(digest)
        if found is not None:
            self.clock.learn(found.read_at)
            if cached is None and found.session.revoked_at is None:
                await self.cache.fill(found)
        return found

    def _believable(self, cached: Found, now: datetime) -> bool:
        session = cached.session
        return now - cached.read_at < _CACHE_LIFE and not self.recent.suspect(
            cached.digest, ("subject", session.realm, session.subject)
        )

    async def _judge_found(self, found: Found) -> Admitted | Refused:
        session = found.session
        reason = judge(
            session, now=await self.now(), idle=self.terms.limits.idle, grain=SEEN_GRAIN
        )
        if reason is not None:
            return self.refuse(reason, client=session.client)
        return await self._as_principal(
            Principal(
                subject=session.subject,
                realm=session.realm,
                scopes=session.scopes,
                claims=session.claims,
                client=session.client,
                via="session",
                session=session,
            )
        )

    async def _as_principal(self, principal: Principal) -> Admitted | Refused:
        if self.resolve is None:
            return Admitted(principal)
        state = await self.resolve(principal.subject, principal.realm)
        if state is None or not state.active:
            return self.refuse(Reason.INACTIVE_SUBJECT, client=principal.client)
        if state.scopes is None:
            return Admitted(principal)
        return Admitted(replace(principal, scopes=state.scopes))

    def _remember_session(self, found: Found, verdict: Admitted, mark: Mark) -> None:
        session = found.session
        over = min(
            found.read_at + _CACHE_LIFE,
            session.expires_at or FAR,
            idle_end(session, idle=self.terms.limits.idle, grain=SEEN_GRAIN),
        )
        tally = self.usage.tally(None, session.client, "session")
        tally.bump()
        entry = Entry(
            verdict,
            until=self.clock.ticks_at(over),
            tally=tally,
            about=(found.digest, ("subject", session.realm, session.subject)),
        )
        self.recent.fill(found.digest, entry, mark)

    # Judging a legacy token.

    async def judge_legacy(
        self, credential: Credential, candidates: tuple[Issuer, ...], presented: Presented
    ) -> Verdict:
        """What the phase table says of a legacy token, and how it stands with us."""
        remembered = self.recent.peek(credential.value, credential.issuers)
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
            if presented.route == "refresh" and await self._is_refresh(credential, candidates):
                return Passed()  # the app hands it to `exchange`, where it belongs
            return self._unverified(claims.reason, issuer, agent, unverified, presented)

        client = claims.client or agent
        bucket = bucket_of(claims.subject, claims.realm)
        rule = RULES[rollout.phase_for(issuer=claims.issuer, client=client, bucket=bucket)]
        self.usage.saw(claims, client)
        if rule.legacy == "verify_then_refuse":
            return self.refuse(Reason.LEGACY_RETIRED, claims.issuer, client)

        swaps = self._swaps(rule, rollout, claims, credential, bucket, await self.now())
        try:
            standing = await (
                self.swap(claims, client=client, bucket=bucket, presented=presented)
                if swaps
                else self.store.check(claims)
            )
        except Unavailable:
            if rule.legacy == "shadow":
                return Passed()
            raise
        self.clock.learn(standing.read_at)
        verdict = await self._judge_standing(standing, claims, client)
        if isinstance(verdict, Refused):
            return verdict
        verdict = replace(
            verdict,
            hand_out=self.token_of(standing, claims) if swaps else None,
            notice=_notice(rule, rollout),
        )
        self._remember_legacy(credential.value, standing, claims, client, verdict, mark)
        return verdict

    async def _is_refresh(self, credential: Credential, candidates: tuple[Issuer, ...]) -> bool:
        verified = self.verifier.verify(
            credential.value, candidates, now=await self.now(), purpose="refresh"
        )
        return not isinstance(verified, Refused)

    def _unverified(
        self,
        reason: Reason,
        issuer: str | None,
        client: str | None,
        rule: Rule,
        presented: Presented,
    ) -> Verdict:
        # A right but expired token goes to the app up to `drain`: the app's own answer is what sends
        # old clients to their refresh route and not to a login screen.
        late = reason is Reason.LEGACY_EXPIRED and rule.legacy == "verify"
        if late or rule.legacy == "shadow":
            self.usage.count(issuer, client, f"passed:{reason}")
            return Passed(reason, strip=late and presented.route is not None)
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
        token = tokens.derive(
            self.terms.session_prefix, key=key.secret, fingerprint=claims.fingerprint
        )
        session = Session(
            id=self.new_id(),
            kind="session",
            realm=claims.realm,
            subject=claims.subject,
            client=client,
            scopes=claims.scopes,
            claims=claims.kept,
            created_at=now,
            expires_at=expires_at
            or swap_end(legacy_end=claims.exp, now=now, limits=self.terms.limits),
            last_seen_at=now,
            user_agent=presented.user_agent if presented else None,
            ip=presented.ip if presented else None,
            origin="swap" if claims.purpose == "access" else "exchange",
            auth_time=claims.auth_time,
            amr=claims.amr,
        )
        return await self.store.swap(
            claims,
            Ticket(
                session=session,
                digest=tokens.digest(token),
                swap_key_id=key.id,
                percent_bucket=bucket,
            ),
        )

    async def _judge_standing(
        self, standing: Standing, claims: Claims, client: str | None
    ) -> Admitted | Refused:
        reason = await self.fault_of(standing, claims)
        if reason is not None:
            return self.refuse(reason, claims.issuer, client)
        session = standing.session
        return await self._as_principal(
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
        ended = judge(session, now=await self.now(), idle=self.terms.limits.idle, grain=SEEN_GRAIN)
        if ended is not None:
            return ended
        return Reason.SUPERSEDED if self._was_superseded(standing, claims) else None

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
        """The token of a swapped session; None on a node that lacks the key it was derived with."""
        key = self._keys.get(standing.swap_key_id or "")
        if key is None or standing.digest is None:
            return None
        return tokens.derive(self.terms.session_prefix, key=key, fingerprint=claims.fingerprint)

    def _remember_legacy(
        self,
        presented: bytes,
        standing: Standing,
        claims: Claims,
        client: str | None,
        verdict: Admitted,
        mark: Mark,
    ) -> None:
        about: tuple[About, ...] = (
            ("subject", claims.realm, claims.subject),
            ("issuer", claims.issuer),
            ("kid", claims.issuer, claims.kid or ""),
        )
        session, digest = standing.session, standing.digest
        if session is not None and digest is not None:
            about = (digest, *about)
            as_session = Principal(
                subject=session.subject,
                realm=session.realm,
                scopes=verdict.principal.scopes,
                claims=session.claims,
                client=session.client,
                via="session",
                session=session,
            )
            found = Found(digest=digest, session=session, read_at=standing.read_at)
            self._target(found, Admitted(as_session), about, mark)
        tally = self.usage.tally(
            claims.issuer, client, "swapped" if verdict.hand_out else "legacy"
        )
        tally.bump()
        until = min(standing.read_at + _CACHE_LIFE, claims.exp)
        entry = Entry(
            verdict,
            until=self.clock.ticks_at(until),
            tally=tally,
            about=about,
            stamp=mark.stamp,
            target=digest if session is not None else None,
            claims=claims,
        )
        self.recent.fill(tokens.digest(presented), entry, mark)

    def _target(
        self, found: Found, verdict: Admitted, about: tuple[About, ...], mark: Mark
    ) -> None:
        session = found.session
        entry = Entry(
            verdict,
            until=self.clock.ticks_at(min(found.read_at + _CACHE_LIFE, session.expires_at or FAR)),
            tally=self.usage.tally(None, session.client, "session"),
            about=about,
        )
        self.recent.fill(found.digest, entry, mark, used=False)

    def refuse(
        self, reason: Reason, issuer: str | None = None, client: str | None = None
    ) -> Refused:
        """The refusal for `reason`, counted."""
        self.usage.count(issuer, client, f"refused:{reason}")
        return Refused(reason)


_NOBODY: frozenset[str] = frozenset()
# No cohort covers it: what could not be verified belongs to nobody's share.
_NO_BUCKET = 100
_CLIENT_CHARS = 64


def client_of(user_agent: str | None) -> str | None:
    """The program that presents a credential: the first product of its User-Agent (RFC 9110 10.1.5)."""
    words = (user_agent or "").split(maxsplit=1)
    return words[0][:_CLIENT_CHARS] if words else None


def _notice(rule: Rule, rollout: Rollout) -> Notice | None:
    if not rule.notice or rollout.drain_since is None:
        return None
    return Notice(deprecated_at=rollout.drain_since, sunset_at=rollout.sunset_at)
