"""May a phase be entered: the JSON of `migrator gates PHASE`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from migrator.control import counts, evidence, flip, gates, moving, sunset
from migrator.control.status import gate_json
from migrator.core.errors import Exit
from migrator.core.phases import Phase, next_of

if TYPE_CHECKING:
    from migrator.settings import Settings

SCHEMA = "migrator.gates/1"


def report(
    settings: Settings, entering: Phase, *, expected: int | None = None, dry_run: bool = False
) -> dict[str, Any]:
    """What the gates before `entering` say, and whether a move leads there from here.

    Asked of the phase that stands already, the gates are told as they would be at its entrance.
    Besides, the announced end is brought into step, unless this is a `dry_run`.

    Raises:
        Stopped: UNREACHABLE; UNFIT where the schema is not this release's.
    """
    evidence.fit(settings)
    rollout, _ = flip.read(settings)
    here = rollout.phase is entering
    facts = moving.gather_for(
        settings, entering, expected=expected, before=None if here else rollout
    )
    if not dry_run:
        sunset.keep(facts)
        counts.keep(settings, facts.counted)
    judged = gates.evaluate(entering, facts)
    legal = here or next_of(rollout.phase) is entering
    why = None if legal else f"no move leads from {rollout.phase} to {entering}"
    return {
        "environment": settings.environment,
        "app": settings.app,
        "generated_at": facts.now,
        "from": rollout.phase.value,
        "for": entering.value,
        "legal": legal,
        "why": why,
        "ok": legal and gates.exit_of(judged) is Exit.DONE,
        "gates": [gate_json(gate, entering) for gate in judged],
        "exit_code": gates.exit_of(judged) if legal else Exit.GATE_FAILED,
    }
