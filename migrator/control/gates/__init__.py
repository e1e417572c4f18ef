"""Which gates stand before which phase, and what they say together.

The table is the contract: `gates PHASE`, the moves and status read it. A gate that is not built is
absent from it, never "pass". Gates decide; `evidence.py` reads what they decide by.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from migrator.control.gates import (
    backfilled,
    comparing,
    fleet,
    issuing,
    notice,
    practice,
    store,
    traffic,
    wired,
)
from migrator.control.gates.model import Gate
from migrator.core.errors import Exit
from migrator.core.phases import Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from migrator.control.evidence import Evidence

__all__ = ["SETS", "Gate", "evaluate", "exit_of", "those"]

Judge: TypeAlias = "Callable[[Evidence], Gate | None]"  # None: it has nothing to judge here

_SWAP: tuple[Judge, ...] = (
    fleet.nodes_acked,
    fleet.schema_head,
    fleet.keys_present,
    practice.no_hold,
)
_DRAIN = (
    *(*_SWAP, practice.rollback_drill),
    *(issuing.swap_complete, issuing.issuing_routes, wired.revocations_wired),
    store.session_store_slo,
    backfilled.backfill_verified,
)

SETS: dict[Phase, tuple[Judge, ...]] = {
    Phase.SWAP: (
        *_SWAP,
        comparing.deny_allow,
        comparing.allow_deny,
        wired.revocations_wired_for_all,
    ),
    Phase.DRAIN: _DRAIN,
    Phase.CUTOVER: (
        *_DRAIN,
        issuing.issuance_stopped,
        issuing.drain_horizon,
        traffic.legacy_seen,
        traffic.foreign_seen,
        notice.brownout_done,
        notice.notice_given,
    ),
    Phase.RETIRED: (
        fleet.nodes_acked,
        traffic.legacy_seen,
        issuing.drain_horizon,
        traffic.no_exceptions,
        practice.no_hold,
        practice.rollback_drill,
    ),
}


def evaluate(entering: Phase, evidence: Evidence) -> tuple[Gate, ...]:
    """What each gate before `entering` says."""
    judged = [judge(evidence) for judge in SETS.get(entering, ())]
    there = [gate for gate in judged if gate is not None]
    if entering is Phase.RETIRED:  # nobody can take on their name what cannot be taken back
        return tuple(replace(gate, overridable=False) for gate in there)
    return tuple(_overridden(gate, evidence) for gate in there)


def _overridden(gate: Gate, evidence: Evidence) -> Gate:
    """The gate, with who takes its risk where somebody does and may."""
    if gate.result == "pass" or not gate.overridable:
        return gate
    given = next((one for one in evidence.overrides if one.gate == gate.id), None)
    return gate if given is None else replace(gate, override=given)


def those(gates: Iterable[Gate], result: str) -> list[str]:
    """The ids of the gates that say `result` and are not overridden."""
    return [gate.id for gate in gates if gate.result == result and gate.override is None]


def exit_of(gates: Iterable[Gate]) -> Exit:
    """What they say together: done, GATE_FAILED, or EVIDENCE_STALE where none fails.

    A gate that is overridden lets pass, whatever it says.
    """
    results = {gate.result for gate in gates if gate.override is None}
    if "fail" in results:
        return Exit.GATE_FAILED
    return Exit.EVIDENCE_STALE if results & {"stale", "inconclusive"} else Exit.DONE
