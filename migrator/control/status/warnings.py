"""What the operator should know although no gate asks: each with the command that addresses it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from migrator.control import journal
from migrator.control.census import DAY
from migrator.control.ledgers import standing
from migrator.control.nodes import names
from migrator.control.words import at, counted, span
from migrator.core.phases import Phase

if TYPE_CHECKING:
    from collections.abc import Iterator

    from migrator.control.evidence import Evidence

# Far enough to cut token lives visibly, and far more than any synchronised clock.
_SKEW_MS = 5000


def warnings_of(found: Evidence) -> list[dict[str, str]]:
    """Every warning there is."""
    return [{"id": name, "text": text, "command": command} for name, text, command in _all(found)]


def _all(found: Evidence) -> Iterator[tuple[str, str, str]]:
    fleet, rollout = found.fleet, found.rollout
    if not fleet.live:
        heard = "ever" if fleet.heard_at is None else f"since {at(fleet.heard_at)}"
        yield "nodes.none", f"no node was heard {heard}", "migrator nodes"
    if fleet.rogue:
        text = f"still seen after their lease was over: {names(fleet.rogue)}"
        yield "nodes.rogue", text, "migrator nodes"
    if fleet.old_build:
        yield (
            "nodes.old_build",
            f"another release runs on {names(fleet.old_build)}",
            "migrator nodes",
        )
    skewed = [node for node in fleet.live if abs(node.clock_skew_ms or 0) > _SKEW_MS]
    if skewed:
        text = f"clocks are off by more than {_SKEW_MS // 1000} s on {names(skewed)}"
        yield "nodes.clock_skew", text, "migrator nodes"
    if rollout.exceptions and rollout.phase is Phase.CUTOVER:
        text = f"still on legacy tokens: {counted(len(rollout.exceptions), 'exception')}"
        yield "rollout.exceptions", text, "migrator cutover --all"
    unclaimed = sum(
        line.day
        for line in found.usage or ()
        if line.outcome.partition(":")[2] == "unknown_issuer"
    )
    if unclaimed:
        verb = "fits" if unclaimed == 1 else "fit"
        text = (
            f"{counted(unclaimed, 'JWT')} in a day {verb} no configured issuer: "
            "forged, or an issuer forgotten"
        )
        yield "issuers.unknown", text, "migrator inspect"
    routes = {line.client for line in found.usage or () if line.outcome.startswith("route:")}
    if routes and rollout.phase is Phase.OBSERVE:
        text = f"the app answered 2xx on {counted(len(routes), 'route')} where we would refuse"
        yield "observe.routes", text, "migrator status --detail"
    if found.legacy_removed_at is None:
        live = bool(fleet.live)
        for ledger, why in standing.faults(
            found.settings, found.ledgers, found.now, has_nodes=live
        ):
            yield "ledgers.stale", f"ledger {ledger.name}: {why}", "migrator doctor"
    if found.legacy_removed_at is not None and not found.is_contracted:
        yield (
            "retire.unfinished",
            "retired, and the legacy tables are still there",
            "migrator retire",
        )
    half = journal.half_drill(found.moves[0]) if found.moves else None
    if half is not None:
        text = f"a drill went back to {rollout.phase} and not forward again"
        yield "drill.unfinished", text, "migrator rollback --drill"
    yield from _stragglers(found)


def _stragglers(found: Evidence) -> Iterator[tuple[str, str, str]]:
    if found.rollout.phase is not Phase.CUTOVER:
        return
    since = found.now - DAY
    lost = {
        line.client or "unknown client"
        for line in found.usage or ()
        if line.outcome == "refused:legacy_retired" and line.last_at and line.last_at > since
    }
    if lost:
        named = ", ".join(sorted(lost)[:4])
        text = f"refused as retired within {span(DAY)}: {named}"
        yield "cutover.stragglers", text, "migrator rollback"
