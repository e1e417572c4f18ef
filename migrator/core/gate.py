"""What a request is answered: its credentials are ranked, the one that decides is judged.

The explicit credential (header) decides and never falls back to another; a live session cookie can
only contradict it. Without one our cookie decides, and without that a legacy token's own place.
How a credential is judged is flow.py's; what becomes of the answer on the wire is the shims'.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, assert_never

from migrator.core.flow import run
from migrator.core.legacy import Foreign, Legacy, Wrong
from migrator.core.lookalike import as_signed
from migrator.core.phases import RULES, Phase
from migrator.core.presented import Outcome
from migrator.core.seen import plain
from migrator.core.swapping import Swapping
from migrator.core.verdicts import Admitted, Passed, Reason, Refused, status

if TYPE_CHECKING:
    from migrator.core.presented import Credential, Presented
    from migrator.core.verdicts import Verdict

_UNAUTHORIZED = 401
_PATH_CHARS = 128


class _Admission(Swapping):
    """The order in which credentials speak."""

    def peek(self, presented: Presented) -> Outcome | None:
        """The answer remembered for a request with one credential; None = ask `admit`.

        Does no I/O, takes no lock, awaits nothing (P11).
        """
        header, cookie = presented.header, presented.session_cookie
        if presented.fault is not None or (header is not None and cookie is not None):
            return None
        credential = header or cookie
        if credential is None or (cookie is not None and presented.forged):
            return None
        admitted = self.recent.peek(credential.value, credential.issuers)
        return None if admitted is None else Outcome(admitted, credential.place)

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
            self.usage.observed(plain(path, _PATH_CHARS) or "/", verdict.reason.value)

    async def _admit(self, presented: Presented) -> Outcome:
        outcome = await self._decided(presented)
        verdict = outcome.verdict
        if isinstance(verdict, Passed) and not verdict.strip:
            return replace(outcome, dead_legacy=await self._leaves_dead(presented))
        return outcome

    async def _leaves_dead(self, presented: Presented) -> bool:
        """Whether a legacy token is refused that did not decide.

        A request that goes on without a principal is judged by the app, by whichever credential it
        looks for first: a revoked JWT beside somebody's API key must not come in by that.
        """
        decided = presented.header is None and presented.fault is None
        left = presented.others if decided else (presented.legacy, *presented.others)
        for credential in left:
            if credential is None:
                continue
            if isinstance(await self._judge(credential, presented), Refused):
                return True
        return False

    async def _decided(self, presented: Presented) -> Outcome:
        if presented.fault is not None:
            verdict = await self._faulty(presented, presented.fault)
            return Outcome(_softened(verdict, presented))
        if presented.header is not None:
            return await self._admit_header(presented, presented.header)
        return await self._admit_ambient(presented)

    async def _admit_header(self, presented: Presented, header: Credential) -> Outcome:
        verdict = await self._judge(header, presented)
        cookie, dead = await self._cookie(presented)
        if isinstance(verdict, Admitted) and cookie is not None and _differ(verdict, cookie):
            verdict = self.refuse(Reason.SUBJECTS_DIFFER)
        return Outcome(_softened(verdict, presented), header.place, dead_cookie=dead)

    async def _admit_ambient(self, presented: Presented) -> Outcome:
        cookie, dead = await self._cookie(presented)
        if cookie is not None:
            forged = presented.forged
            verdict: Verdict = self.refuse(Reason.CSRF) if forged else cookie
            return Outcome(verdict, "cookie")
        legacy = presented.legacy
        if legacy is None:
            if presented.foreign_header:
                return Outcome(await self._foreign("scheme"), dead_cookie=dead)
            return Outcome(Passed(), dead_cookie=dead)
        verdict = await self._judge(legacy, presented)
        if isinstance(verdict, Admitted) and presented.forged and legacy.place == "cookie":
            if RULES[(await self.where()).phase].legacy == "shadow":
                verdict = Passed(Reason.CSRF)
            else:
                verdict = self.refuse(Reason.CSRF)
        return Outcome(_softened(verdict, presented), legacy.place, dead_cookie=dead)

    async def _cookie(self, presented: Presented) -> tuple[Admitted | None, bool]:
        """What our cookie says, and whether it is dead: then it is as if it were not there."""
        cookie = presented.session_cookie
        if cookie is None:
            return None, False
        if not self.is_ours(cookie.value):
            self.usage.count(None, None, f"refused:{Reason.BAD_TOKEN}")
            return None, True
        verdict = await self.judge_session(cookie.value)
        return (verdict, False) if isinstance(verdict, Admitted) else (None, True)

    async def _judge(self, credential: Credential, presented: Presented) -> Verdict:
        if self.is_ours(credential.value):
            return await self.judge_session(credential.value)
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
            return await self._revoked_as_signed(credential, presented) or Passed(reason)
        return self.refuse(Reason.LEGACY_RETIRED if phase is Phase.RETIRED else reason)

    async def _revoked_as_signed(
        self, credential: Credential, presented: Presented
    ) -> Refused | None:
        """What binds it in the spelling it was signed in: the app may read the one it came in."""
        value = as_signed(credential.value)
        owner = self.verifier.whose(value, allowed=credential.issuers, path=presented.path)
        if not isinstance(owner, Legacy) or value == credential.value:
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


def _differ(one: Admitted, other: Admitted) -> bool:
    return (one.principal.realm, one.principal.subject) != (
        other.principal.realm,
        other.principal.subject,
    )


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
