"""The gate revocations-wired: whatever ends a login in the app ends its session too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from migrator.control.gates.model import Gate

if TYPE_CHECKING:
    from migrator.control.evidence import Evidence

_MOST_NAMED = 3
_EVERYBODY = 100


def revocations_wired_for_all(evidence: Evidence) -> Gate | None:
    """The same before a swap of everybody; None: some stay with the app's own revocations."""
    return revocations_wired(evidence) if evidence.percent == _EVERYBODY else None


def revocations_wired(evidence: Evidence) -> Gate | None:
    """No way by which the app ends logins is left unwired; None: `gates.revocations` is not set.

    Once everybody has a session, a revocation that only the app knows of ends nothing.
    """
    if not evidence.settings.gates.revocations:
        return None
    missing = evidence.unwired
    named = "; ".join(path.what for path in missing[:_MOST_NAMED])
    more = f"; and {len(missing) - _MOST_NAMED} more" if len(missing) > _MOST_NAMED else ""
    return Gate(
        id="revocations-wired",
        result="fail" if missing else "pass",
        value=len(missing),
        threshold=0,
        as_of=evidence.now,
        ttl_s=60,
        overridable=True,
        detail=named + more or "everything that looks like a revocation is read",
        command="migrator doctor --deploy",
    )
