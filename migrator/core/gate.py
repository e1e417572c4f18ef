"""What a request is answered: its credentials are ranked, the one that decides is judged.

The explicit credential (header) decides and never falls back to another; a live session cookie can
only contradict it. Without one our cookie decides, and without that a legacy token's own place.
How a credential is judged is flow.py's; what becomes of the answer on the wire is the shims'.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias, assert_never

from migrator.core.bridge import is_marked
from migrator.core.comparing import PAIR, Shadow, pair_of, route_class
from migrator.core.flow import run
from migrator.core.legacy import Foreign, Legacy, Wrong
from migrator.core.lookalike import as_signed
from migrator.core.phases import RULES, Phase, bucket_of
from migrator.core.presented import Outcome
from migrator.core.sessions import FAR
from migrator.core.swapping import BINDING, Swapping, client_of
from migrator.core.verdicts import Admitted, Passed, Reason, Refused, status

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from migrator.core.presented import Credential, Presented
    from migrator.core.verdicts import Verdict

    _Living: TypeAlias = tuple[Credential, Admitted]

_UNAUTHORIZED = 401


class _Admission(Swapping):
    """The order in which credentials speak."""

    def peek(self, presented: Presented) -> Outcome | None:
        """The answer remembered for a request with one credential; None = ask `admit`.

        Does no I/O, takes no lock, awaits nothing (P11).
        """
        header, cookie = presented.header, presented.session_cookie
        if presented.fault is not None or (header is not None and cookie is not None):
            return None
        if presented.session_copies or presented.strict:
            return None
        credential = header or cookie
        if credential is None or (cookie is not None and presented.forged):
            return None
        admitted = self.recent.peek(credential.value, credential.issuers)
        if admitted is None:
            return None
        if admitted.principal.via == "legacy" and _brings_more(presented, credential):
            return None
        return self._with_sent(Outcome(admitted, credential.place), presented)

    def peek_header(self, value: bytes, issuers: frozenset[str]) -> Admitted | None:
        """The same for a request that brings nothing but this one header."""
        return self.recent.peek(value, issuers)

    def wake(self) -> None:
        """See that this process has a pulse. Costs a comparison when it has."""
        self.node.wake()

    def observed(self, path: str, outcome: Outcome, answered: int) -> None:
        """Take in how the app answered what we would have refused: `observe` compares."""
        verdict = outcome.verdict
        if isinstance(verdict, Passed) and verdict.reason is not None and answered < 300:
            self.usage.observed(route_class(path), verdict.reason.value)

    def compared(self, path: str, shadow: Shadow, answered: int) -> None:
        """Take in how the app answered what it decided, and the shim judged in its shadow."""
        pair = pair_of(
            would_admit=shadow.reason is None,
            answered=answered,
            denies_with=self.terms.denies_with,
        )
        match pair:
            case None:
                return
            case "agree" | "agree_deny":
                self.usage.count(shadow.issuer, shadow.client, PAIR + pair)
            case "deny_allow" if shadow.is_ending(self.clock.now()):
                return
            case "deny_allow" | "allow_deny":
                difference = shadow.differs(pair, path)
                if shadow.claims is None:
                    self.usage.differ(difference)
                else:
                    self.usage.suspect(difference, shadow.claims, self.clock.ticks())
            case _:
                assert_never(pair)

    def _with_sent(self, outcome: Outcome, presented: Presented) -> Outcome:
        """The outcome, with the cookies that its answer has to care for."""
        if presented.sent is None:
            return outcome
        settled = bool(presented.sent.leftovers) and self._is_settled(outcome, presented)
        return replace(outcome, sent=presented.sent, settled=settled)

    def _is_settled(self, outcome: Outcome, presented: Presented) -> bool:
        # Not before the cutover: until then a node without us, or an app that took us out again,
        # still lives on the JWT cookie. And not before the session cookie came back.
        rollout, verdict = self.node.rollout, outcome.verdict
        if outcome.place != "cookie" or rollout is None:
            return False
        if not isinstance(verdict, Admitted):
            return verdict.reason in BINDING  # in every phase, after every rollback
        if presented.session_cookie is None or outcome.dead_cookie:
            return False  # the token came in a legacy token's cookie, as the bridge gives it
        who = verdict.principal
        bucket = bucket_of(who.subject, who.realm)
        return who.via == "session" and rollout.is_over_for(client=who.client, bucket=bucket)

    async def _admit(self, presented: Presented) -> Outcome:
        outcome = self._with_sent(await self._decided(presented), presented)
        if not _is_read_by_app(outcome.verdict):
            return outcome
        left = await self._left_dead(presented)
        if left is not None and left[0].place == "body":  # that is not for us to write anew
            return Outcome(left[1], "body")
        return replace(outcome, dead_legacy=outcome.dead_legacy or left is not None)

    async def _left_dead(self, presented: Presented) -> tuple[Credential, Refused] | None:
        """A legacy token that is refused and that did not decide.

        A request that goes on with JWTs is judged by the app, by whichever credential it looks
        for first: a revoked one beside somebody's API key, or beside another's that lives, must
        not come in by that.
        """
        decided = presented.header is None and presented.fault is None
        left = presented.others if decided else (presented.legacy, *presented.others)
        left = (*presented.legacy_copies, *left)
        decider = None if presented.header is None else presented.header.value
        for credential in left:
            if credential is None or credential.value == decider:
                continue
            verdict = await self._judge(credential, presented)
            if isinstance(verdict, Refused):
                return credential, verdict
        return None

    async def _decided(self, presented: Presented) -> Outcome:
        if _bears_mark(presented):  # before anything else, in every phase: it is nobody's here
            return Outcome(_softened(self.refuse(Reason.BRIDGE_TOKEN), presented))
        if presented.fault is not None:
            verdict = await self._faulty(presented, presented.fault)
            return Outcome(_softened(verdict, presented))
        if presented.header is not None:
            return await self._admit_header(presented, presented.header)
        return await self._admit_ambient(presented)

    async def _admit_header(self, presented: Presented, header: Credential) -> Outcome:
        verdict = await self._judge(header, presented)
        alive, dead = await self._cookies(presented)
        if isinstance(verdict, Admitted) and any(_differ(verdict, each) for _, each in alive):
            verdict = self.refuse(Reason.SUBJECTS_DIFFER)
        return Outcome(_softened(verdict, presented), header.place, dead_cookie=dead)

    async def _admit_ambient(self, presented: Presented) -> Outcome:
        alive, dead = await self._cookies(presented)
        if alive:
            return self._among(alive, presented)
        legacy = presented.legacy
        if legacy is None:
            if presented.foreign_header:
                return Outcome(await self._foreign("scheme"), dead_cookie=dead)
            return Outcome(Passed(), dead_cookie=dead)
        verdict = await self._judge_legacy_copies(legacy, presented)
        if isinstance(verdict, Admitted) and presented.forged and legacy.place == "cookie":
            if RULES[(await self.where()).phase].legacy == "shadow":
                shadow = verdict.shadow and verdict.shadow.refusing(Reason.CSRF)
                verdict = Passed(Reason.CSRF, shadow=shadow)
            else:
                verdict = self.refuse(Reason.CSRF)
        verdict = _softened(verdict, presented)
        return Outcome(verdict, legacy.place, dead_cookie=dead)

    def _among(self, alive: Sequence[_Living], presented: Presented) -> Outcome:
        """What living session cookies say together; as a rule there is one."""
        if presented.forged:
            return Outcome(self.refuse(Reason.CSRF), "cookie")
        if not _agree(alive):
            refused = self.refuse(Reason.SUBJECTS_DIFFER)
            if presented.route is None:
                return Outcome(refused, "cookie")
            # Of two people neither is meant where somebody logs in or out.
            return Outcome(Passed(refused.reason, strip=True), "cookie", dead_cookie=True)
        return Outcome(_newest(alive, presented), "cookie")

    async def _cookies(self, presented: Presented) -> tuple[Sequence[_Living], bool]:
        """What our cookie says, and whether it is dead: then it is as if it were not there.

        A dead copy on an old domain or path does not hide the living one, whichever came first.
        """
        if presented.session_cookie is None:
            return (), False
        alive = []
        for cookie in (presented.session_cookie, *presented.session_copies):
            if not self.is_ours(cookie.value):
                self.usage.count(None, None, f"refused:{Reason.BAD_TOKEN}")
                continue
            verdict = await self.judge_session(cookie.value, strict=presented.strict)
            if isinstance(verdict, Admitted):
                alive.append((cookie, verdict))
        return alive, not alive

    async def _judge_legacy_copies(self, legacy: Credential, presented: Presented) -> Verdict:
        """What a legacy cookie says in all its copies; which one the app would read is unknown."""
        verdict = await self._judge(legacy, presented)
        if not presented.legacy_copies:
            return verdict
        judged = [(legacy, verdict)]
        judged += [(each, await self._judge(each, presented)) for each in presented.legacy_copies]
        alive = [(each, it) for each, it in judged if isinstance(it, Admitted)]
        if not alive:
            return next((it for _, it in judged if isinstance(it, Refused)), verdict)
        if _agree(alive):
            return _newest(alive, presented)
        differ = self.refuse(Reason.SUBJECTS_DIFFER)
        if RULES[(await self.where()).phase].legacy == "shadow":
            return Passed(differ.reason)
        return differ

    async def _judge(self, credential: Credential, presented: Presented) -> Verdict:
        if self.is_ours(credential.value):
            return await self.judge_session(credential.value, strict=presented.strict)
        owner = self.verifier.whose(
            credential.value, allowed=credential.issuers, path=presented.path
        )
        match owner:
            case Legacy(candidates):
                return await self.judge_legacy(credential, candidates, presented)
            case Foreign(named=True):
                self.usage.count(None, None, "foreign:rule")
                return Passed(Reason.FOREIGN)
            case Foreign():
                return await self._foreign("credential")
            case Wrong(reason):
                return await self._wrong(reason, credential, presented)
            case _:
                assert_never(owner)

    async def _foreign(self, shape: str) -> Verdict:
        self.usage.count(None, None, f"foreign:{shape}")
        if self.terms.refuses_foreign and (await self.where()).phase is not Phase.OBSERVE:
            return Refused(Reason.FOREIGN)
        return Passed(Reason.FOREIGN)

    async def _wrong(
        self, reason: Reason, credential: Credential, presented: Presented
    ) -> Verdict:
        # A JWT that no issuer and no [[foreign]] rule claims: a re-spelt or forged one of ours,
        # which must not slip past us into the app's own, laxer check.
        phase = (await self.where()).phase
        if phase is Phase.OBSERVE:
            self.usage.count(None, None, f"passed:{reason}")
            shadow = Shadow("", client_of(presented.user_agent), reason)
            revoked = await self._revoked_as_signed(credential, presented)
            return revoked or Passed(reason, shadow=shadow)
        return self.refuse(Reason.LEGACY_RETIRED if phase is Phase.RETIRED else reason)

    async def _revoked_as_signed(
        self, credential: Credential, presented: Presented
    ) -> Refused | None:
        """What binds it as it was signed, by whichever issuer: the app may read it as it came.

        In another spelling, or under a scheme where no issuer's tokens belong.
        """
        value, issuers = as_signed(credential.value), credential.issuers
        owner = self.verifier.whose(value, allowed=issuers or None, path=presented.path)
        if not isinstance(owner, Legacy) or (value == credential.value and issuers):
            return None
        signed = replace(credential, value=value)
        verdict = await self.judge_legacy(signed, owner.candidates, presented)
        return verdict if isinstance(verdict, Refused) else None

    async def _faulty(self, presented: Presented, fault: Reason) -> Verdict:
        ours = presented.header is not None and self.is_ours(presented.header.value)
        if not ours and (await self.where()).phase is Phase.OBSERVE:
            self.usage.count(None, None, f"passed:{fault}")
            return Passed(fault)
        return self.refuse(fault)


def _brings_more(presented: Presented, decided: Credential) -> bool:
    """Whether there is a legacy token besides the one that decides."""
    if presented.others or presented.legacy_copies:
        return True
    return presented.legacy is not None and presented.legacy.value != decided.value


def _is_read_by_app(verdict: Verdict) -> bool:
    """Whether the app may look for JWTs of the request by itself."""
    if isinstance(verdict, Passed):
        return not verdict.strip
    return isinstance(verdict, Admitted) and verdict.principal.via == "legacy"


def _bears_mark(presented: Presented) -> bool:
    """Whether a bridge JWT comes from outside, where it decides or anywhere else."""
    return any(is_marked(each.value) for each in presented.everything())


def _differ(one: Admitted, other: Admitted) -> bool:
    return (one.principal.realm, one.principal.subject) != (
        other.principal.realm,
        other.principal.subject,
    )


def _agree(several: Sequence[_Living]) -> bool:
    return not any(_differ(several[0][1], each) for _, each in several[1:])


def _newest(alive: Sequence[_Living], presented: Presented) -> Admitted:
    """Of one subject's copies the one that lasts longest, which is the newest login."""
    credential, verdict = max(alive, key=_ends_at)
    if presented.session_copies or presented.legacy_copies:
        presented.let_speak(credential)
    return verdict


def _ends_at(living: _Living) -> datetime:
    session = living[1].principal.session
    return FAR if session is None or session.expires_at is None else session.expires_at


def _softened(verdict: Verdict, presented: Presented) -> Verdict:
    """On the very routes that save a client, a dead credential is no reason to turn it away."""
    if presented.route is None or not isinstance(verdict, Refused):
        return verdict
    dead = status(verdict.reason) == _UNAUTHORIZED and verdict.reason is not Reason.FOREIGN
    # `Bearer ` with nothing behind it is what a page sends whose storage is empty.
    if dead or verdict.reason is Reason.MALFORMED_REQUEST:
        return Passed(verdict.reason, strip=True)
    return verdict


class Gate(_Admission):
    """The gate of a blocking app."""

    def admit(self, presented: Presented) -> Outcome:
        """What this request is answered.

        Raises:
            Unavailable: the store could not be asked (503, never 401).
        """
        return run(self._admit(presented))

    def close(self) -> None:
        """Write what is buffered and end the pulse; the next request starts it again."""
        self.node.sleep()


class AsyncGate(_Admission):
    """The gate of an async app."""

    async def admit(self, presented: Presented) -> Outcome:
        """What this request is answered.

        Raises:
            Unavailable: the store could not be asked (503, never 401).
        """
        return await self._admit(presented)

    async def aclose(self) -> None:
        """Write what is buffered and end the pulse; the next request starts it again."""
        self.node.sleep()
