"""`inspect`: a JWT from stdin; what it is, what would happen to it and why, what bites."""

from __future__ import annotations

from dataclasses import asdict
from textwrap import wrap
from typing import TYPE_CHECKING

import click

from migrator import wiring
from migrator.cli.context import Context, pass_context
from migrator.cli.desk import stdin_bytes
from migrator.cli.screens import at
from migrator.control import inspection, pasted

if TYPE_CHECKING:
    from migrator.control.inspection import Inspection

_WIDTH = 100
_INDENT = 10


@click.command()
@pass_context
def command(context: Context) -> None:
    """Say what the JWT on stdin is, what would happen to it, and what to mind.

    Prints no credential and no claim's value. Without settings it tells the shape alone.
    """
    credential = pasted.bare(stdin_bytes(pasted.LARGEST_BYTES))
    settings = context.settings if context.has_settings else None
    app = None if settings is None else wiring.operator(settings)
    found = inspection.inspect(credential, settings=settings, app=app)
    context.emit(_json(found), lambda: _text(found), schema="migrator.inspect/1")


def _json(found: Inspection) -> dict[str, object]:
    header = {
        **{name: found.sample.word(name) for name in ("alg", "kid", "typ")},
        "names": found.header_names,
    }
    return {
        "kind": found.kind,
        "issuer": found.issuer and {"id": found.issuer.id, "name": found.issuer.name},
        "presets": [each.preset.name for each in found.shapes],
        "shapes": [
            {"name": each.preset.name, "library": each.preset.library, "sure": each.is_sure}
            for each in found.shapes
        ],
        "header": header if found.sample.header else None,
        "claims": found.claim_names,
        "subject": found.subject,
        "purpose": found.purpose,
        "times": found.times,
        "verified": found.verified,
        "reason": found.reason,
        "now": found.now and asdict(found.now),
        "phases": [asdict(each) for each in found.phases],
        "hazards": [
            {**asdict(each.hazard), "shapes": list(each.shapes)} for each in found.dangers
        ],
        "unknown": found.unknown,
    }


def _text(found: Inspection) -> str:
    rows = [("kind", inspection.KINDS[found.kind])]
    if found.issuer is not None:
        rows.append(("issuer", f"{found.issuer.name} ({found.issuer.id})"))
    rows += _shapes(found)
    if found.sample.header:
        named = ("alg", "kid", "typ")
        rows.append(("header", "  ".join(f"{n} {found.sample.word(n) or '-'}" for n in named)))
    if found.claim_names:
        rows += [("claims", " ".join(found.claim_names)), ("subject", found.subject or "absent")]
    rows += [(name, at(found.times[name])) for name in ("iat", "nbf", "exp") if found.times[name]]  # type: ignore[arg-type]  # the moments among the times
    if found.verified is not None:
        held = f"holds, as {found.purpose}" if found.purpose else "holds"
        rows.append(("verified", held if found.verified else f"no: {found.reason}"))
    if found.now is not None:
        rows.append(("now", f"{found.now.verdict.replace('_', ' ')}: {found.now.why}"))
    rows += [
        (f"  {each.phase}", f"{each.verdict.replace('_', ' ')}: {each.why}")
        for each in found.phases
    ]
    rows += [("mind", _mind(each, found)) for each in found.dangers]
    if found.dangers:
        rows.append(("read on", "migrator playbook show, with what stands behind the arrow"))
    rows += [("unknown", f"{name}: {why}") for name, why in found.unknown.items()]
    return "\n".join(_row(name, text) for name, text in rows)


def _shapes(found: Inspection) -> list[tuple[str, str]]:
    """The library by name where that is sure; else every one that it may be."""
    named = [f"{each.preset.library} ({each.preset.name})" for each in found.shapes]
    if not named:
        return []
    first, *others = named
    if found.shapes[0].is_sure:
        rows = [("shape", first)]
        return [*rows, ("", f"fits as well: {', '.join(others)}")] if others else rows
    if not others:
        return [("shape", f"possibly {first}; nothing in it is that one's alone")]
    return [("shape", f"cannot be told; one of: {'; '.join(named)}")]


def _mind(danger: inspection.Danger, found: Inspection) -> str:
    """A hazard, where to read on, and for which shape alone it holds where there are several."""
    hazard, shapes = danger.hazard, found.shapes
    is_open = found.preset is None and 0 < len(danger.shapes) < len(shapes)
    tells = is_open and not shapes[0].is_sure
    for_whom = f", if it is {' or '.join(danger.shapes)}" if tells else ""
    return f"{hazard.id}{for_whom}: {hazard.text} → {hazard.see}"


def _row(name: str, text: str) -> str:
    lines = wrap(text, _WIDTH - _INDENT, break_on_hyphens=False) or [""]
    return "\n".join(
        f"{name if number == 0 else '':<{_INDENT}}{line}" for number, line in enumerate(lines)
    )
