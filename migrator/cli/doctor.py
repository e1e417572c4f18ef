"""`doctor`: settings, servers, keys and clocks, with what to do about each."""

from __future__ import annotations

from dataclasses import asdict
from textwrap import wrap
from typing import TYPE_CHECKING

import click

from migrator import wiring
from migrator.cli.context import Context, pass_context
from migrator.control import diagnosis
from migrator.core.errors import BadSettings, Exit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from migrator.control.diagnosis import Finding

_WIDTH = 100
_INDENT = 6


@click.command()
@pass_context
def command(context: Context) -> None:
    """Check settings, Postgres, Redis, keys and clocks. Exit 5 if something fails.

    Writes nothing. Safe at any time, in any phase.
    """
    try:
        findings = diagnosis.diagnose(context.settings, prepare=wiring.issuer_of)
    except BadSettings as bad:
        findings = [diagnosis.of_problem(problem) for problem in bad.problems]
    ok = diagnosis.worst(findings) != "fail"
    context.emit(
        {"ok": ok, "findings": [asdict(each) for each in findings]},
        lambda: _text(findings),
        schema="migrator.doctor/1",
        exit_code=Exit.DONE if ok else Exit.UNFIT,
    )


def _text(findings: Sequence[Finding]) -> str:
    lines: list[str] = []
    for each in findings:
        lines += _wrapped(each.level, f"{each.text}  ({each.id})")
        lines += _wrapped("", f"do: {each.do}") if each.do else []
    return "\n".join(lines)


def _wrapped(head: str, words: str) -> list[str]:
    parts = wrap(words, _WIDTH - _INDENT, break_on_hyphens=False)
    return [f"{head if at == 0 else '':<{_INDENT}}{part}" for at, part in enumerate(parts)]
