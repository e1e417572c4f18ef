"""`doctor`: settings, servers, keys and clocks, with what to do about each."""

from __future__ import annotations

from dataclasses import asdict
from textwrap import wrap
from typing import TYPE_CHECKING

import click

from migrator import wiring
from migrator.cli.context import Context, pass_context
from migrator.control import diagnosis
from migrator.control.diagnosis.finding import LEVELS
from migrator.core.errors import BadSettings, Exit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from migrator.control.diagnosis import Finding, Level

_WIDTH = 100
_INDENT = 6


@click.command()
@click.option("--deploy", is_flag=True, help="Also what production needs beyond what works.")
@click.option(
    "--url",
    "urls",
    multiple=True,
    metavar="URL",
    help="With --deploy: a route that wants a login, as clients reach it; asked thrice.",
)
@click.option(
    "--fail-on",
    type=click.Choice(["fail", "warn"]),
    default="fail",
    show_default=True,
    help="From which level on to exit with 5.",
)
@pass_context
def command(context: Context, *, deploy: bool, urls: tuple[str, ...], fail_on: Level) -> None:
    """Check settings, Postgres, Redis, keys and clocks. Exit 5 if something fails.

    Writes nothing. Safe at any time, in any phase.
    """
    if urls and not deploy:
        raise click.UsageError("--url goes with --deploy")
    try:
        findings = diagnosis.diagnose(
            context.settings, prepare=wiring.issuer_of, deploys=deploy, addresses=urls
        )
    except BadSettings as bad:
        findings = [diagnosis.of_problem(problem) for problem in bad.problems]
    ok = LEVELS.index(diagnosis.worst(findings)) < LEVELS.index(fail_on)
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
