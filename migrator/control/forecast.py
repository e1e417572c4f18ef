"""What each phase does with one credential, in words: the phase table told for a single case."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from migrator.core.claims import Purpose
from migrator.core.phases import RULES, Phase
from migrator.core.verdicts import Reason

Verdict: TypeAlias = Literal[
    "app_decides", "admitted", "swapped", "exchanged", "passed_on", "refused"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is known of a credential.

    Args:
        purpose: what it holds for; None: it does not hold.
        reason: why it does not hold.
        fault: why it is not admitted although it holds: denied, cut off, its session is over.
        in_cohort: whether its subject is in the swap's share; None: not known.
        nearly_over: too little of it is left to be worth a session.
        can_swap: a swap key is configured.
    """

    purpose: Purpose | None
    reason: Reason | None = None
    fault: Reason | None = None
    in_cohort: bool | None = None
    nearly_over: bool = False
    can_swap: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What happens in one phase, and why."""

    phase: Phase
    verdict: Verdict
    why: str


def everywhere(case: Case) -> tuple[Outcome, ...]:
    """What every phase does with it, in their order."""
    return tuple(_outcome(phase, case) for phase in Phase)


def foreign(*, refuses: bool) -> tuple[Outcome, ...]:
    """What every phase does with a credential that is nobody's we know."""
    return tuple(
        Outcome(phase=phase, verdict="refused", why='http.foreign = "refuse"')
        if refuses and phase is not Phase.OBSERVE
        else Outcome(phase=phase, verdict="passed_on", why="foreign: the app's own business")
        for phase in Phase
    )


def _outcome(phase: Phase, case: Case) -> Outcome:
    verdict, why = _judged(phase, case)
    return Outcome(phase=phase, verdict=verdict, why=why)


def _judged(phase: Phase, case: Case) -> tuple[Verdict, str]:
    rule = RULES[phase]
    if rule.legacy == "unread":
        return "refused", "legacy tokens are retired: it is refused unread"
    if case.purpose is None:
        return _broken(phase, case.reason or Reason.NOT_A_JWS)
    if rule.legacy == "verify_then_refuse":
        return "refused", "legacy_retired: it holds, and is refused all the same"
    if case.fault is not None:
        return "refused", f"{case.fault}: it holds, and we refuse it all the same"
    if rule.legacy == "shadow":
        return "app_decides", "it holds; the shim only watches"
    return _held(phase, case)


def _broken(phase: Phase, reason: Reason) -> tuple[Verdict, str]:
    rule = RULES[phase].legacy
    if rule == "shadow":
        return "app_decides", f"{reason}: from swap on the shim would not admit it"
    if reason is Reason.LEGACY_EXPIRED and rule == "verify":
        return "passed_on", "right but expired: the app's own answer sends its client to refresh"
    return "refused", str(reason)


def _held(phase: Phase, case: Case) -> tuple[Verdict, str]:
    place = "at the refresh route " if case.purpose == "refresh" else ""
    if RULES[phase].swap == "cohort" and case.in_cohort is not True:
        if case.in_cohort is None:
            return "admitted", f"{place}and a session for whom the cohort includes".strip()
        if case.purpose == "refresh":
            return "app_decides", "outside the cohort: the app refreshes as it always did"
        return "admitted", "outside the cohort: checked, counted, not swapped"
    if not case.can_swap:
        return "admitted", "swap.keys is empty: nothing can be swapped"
    if case.purpose == "refresh":
        return "exchanged", "for a session, at the refresh route; refused everywhere else"
    if case.nearly_over:
        return "admitted", "less than swap.min_remaining is left: its login moves at refresh"
    return "swapped", "the response carries a session token beside the answer"
