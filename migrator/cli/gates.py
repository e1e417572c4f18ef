"""`migrator gates PHASE`: may I enter it?"""

from __future__ import annotations

import click

from migrator.cli.context import Context, pass_context
from migrator.control.asking import SCHEMA, report
from migrator.control.gates import SETS
from migrator.control.status.screen import gate_line
from migrator.core.errors import Exit
from migrator.core.phases import Phase

# By the phase's name, and by the name of the command that enters it.
_PHASES = {**{phase.value: phase for phase in SETS}, "retire": Phase.RETIRED}


@click.command("gates")
@click.argument("phase", type=click.Choice([*_PHASES]))
@click.option("--nodes", type=click.IntRange(min=1), help="How many nodes there should be.")
@pass_context
def command(context: Context, phase: str, nodes: int | None) -> None:
    """May I enter PHASE? 0 yes, 3 no, 4 not known for sure."""
    found = report(context.settings, _PHASES[phase], expected=nodes, dry_run=context.dry_run)

    def text() -> str:
        verdict = {Exit.DONE: "READY", Exit.GATE_FAILED: "NOT READY"}.get(
            found["exit_code"], "NOT KNOWN"
        )
        lines = [f"{found['from']} → {found['for']}: {verdict}", *map(gate_line, found["gates"])]
        if not found["legal"]:
            lines.append(f"  ✗ {found['why']}")
        return "\n".join(lines)

    context.emit(found, text, schema=SCHEMA, exit_code=found["exit_code"])
