"""The gate about the session store: session-store-slo.

Once JWTs are gone every memory miss waits for it. The worst node counts: users of the others are
no comfort to those who wait there.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from migrator.control.gates.model import Gate
from migrator.control.vitals import worst
from migrator.control.words import counted

if TYPE_CHECKING:
    from migrator.control.evidence import Evidence
    from migrator.control.gates.model import Result

_TTL_S = 10


def session_store_slo(evidence: Evidence) -> Gate | None:
    """The session store answers within `gates.store_p99`, at every node; None: not asked for."""
    wanted = evidence.settings.gates.store_p99
    if wanted is None:
        return None
    found = worst(evidence.fleet)
    p99 = None if found is None else found.p99_ms
    result: Result = "pass"
    if found is None:
        gone = evidence.fleet.heard_at is not None and not evidence.fleet.live
        result = "stale" if gone else "inconclusive"
        detail = "no living node says how its store answers"
    elif found.errors:
        result = "fail"
        detail = f"{counted(found.errors, 'request')} without an answer in the last minute"
    elif p99 is None:
        result, detail = "inconclusive", "no node asked its store in the last minute"
    else:
        result = "fail" if timedelta(milliseconds=p99) > wanted else "pass"
        detail = f"p99 {p99:g} ms at {found.node}, the slowest of {counted(found.nodes, 'node')}"
    return Gate(
        id="session-store-slo",
        result=result,
        value=p99,
        threshold=f"{wanted.total_seconds() * 1000:g} ms",
        as_of=evidence.fleet.heard_at,
        ttl_s=_TTL_S,
        overridable=True,
        detail=detail,
        command="migrator nodes",
    )
