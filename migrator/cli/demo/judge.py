"""Who was logged out, and why: decided from what clients sent and got, and from nothing else.

*Logged out unintentionally* is a 401 or a login screen met by a client whose grant (access or
refresh) had not reached its own end and was not revoked by the script, before any retry. This file
asks no server and reads no table of ours; a rehearsal that trusted them would prove nothing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

# After a revocation was acknowledged, with everything up or not (design section 8).
BOUND_SECONDS = 1.0
_MOST_KEPT = 20


class Loss(StrEnum):
    """Why a grant stopped being accepted."""

    UNINTENDED = "logged out unintentionally"
    EXPIRED = "expired by own exp"
    REVOKED = "revoked on purpose"


@dataclass(slots=True)
class Grant:
    """A credential a client holds. `ends_at`: its own end in Unix time, as the client knows it."""

    token: str = field(repr=False)
    ends_at: float
    revoking: bool = False

    @property
    def is_session(self) -> bool:
        """Whether it is an opaque token."""
        return self.token.startswith(("sess_", "pat_"))


@dataclass(slots=True)
class Stolen:
    """A credential in wrong hands. `acknowledged_at`: when its revocation had been confirmed."""

    name: str
    token: str = field(repr=False)
    acknowledged_at: float | None = None
    died_in: dict[int, float] = field(default_factory=dict)

    def answered(self, *, status: int, worker: int, sent_at: float, got_at: float) -> bool:
        """Take in an answer; True: it was admitted after the bound had passed."""
        if self.acknowledged_at is None:
            return False
        if status == 401:
            self.died_in.setdefault(worker, max(0.0, got_at - self.acknowledged_at))
        return status == 200 and sent_at > self.acknowledged_at + BOUND_SECONDS


@dataclass(slots=True)
class Scores:
    """What the simulated users saw."""

    requests: int = 0
    swaps: int = 0
    exchanges: int = 0
    returned: int = 0
    renewals: int = 0
    not_now: int = 0
    lost_connections: int = 0
    wrong_user: int = 0
    past_bound: int = 0
    errors: Counter[int] = field(default_factory=Counter)
    losses: Counter[Loss] = field(default_factory=Counter)
    victims: set[str] = field(default_factory=set)
    evidence: list[str] = field(default_factory=list)

    def judge(self, grant: Grant, *, got_at: float, client: str, where: str) -> Loss:
        """Say why `grant` met a 401 or a login screen, and count it."""
        if grant.revoking:
            loss = Loss.REVOKED
        elif got_at >= grant.ends_at:
            loss = Loss.EXPIRED
        else:
            loss = Loss.UNINTENDED
            kind = "a session" if grant.is_session else "a JWT"
            left = grant.ends_at - got_at
            self.victims.add(client)
            self.note(f"{client} at {where}: {kind} with {left:,.0f} s left was refused")
        self.losses[loss] += 1
        return loss

    def note(self, sentence: str) -> None:
        """Keep a sentence for the closing table; the first ones tell the story."""
        if len(self.evidence) < _MOST_KEPT:
            self.evidence.append(sentence)
