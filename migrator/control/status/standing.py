"""What operators decided that still stands, in status: holds, overrides, and the soak of a move.

Its JSON, and the rows of the screen that are written from the JSON alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from migrator.control import holding, overriding, soaking
from migrator.control.words import at, span

if TYPE_CHECKING:
    from collections.abc import Iterator

    from migrator.control.evidence import Evidence


def decided(found: Evidence) -> dict[str, Any]:
    """The keys `holds`, `overrides` and `soak`; null while nothing soaks."""
    return {
        "holds": [holding.as_json(one, found.now) for one in found.holds],
        "overrides": [overriding.as_json(one, found.now) for one in found.overrides],
        "soak": None if found.soak is None else soaking.as_json(found.soak),
    }


def rows(report: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The title and the text of each row there is."""
    now, soak = report["generated_at"], report["soak"]
    if soak is not None:
        yield "SOAK", _soak(soak, span(soak["until"] - now))
    for one in report["holds"]:
        if one["state"] == "in_force":
            text = f"until {at(one['until'])} by {one['who']}: {one['reason']}"
            yield "HOLD", f"{text}   migrator hold release {one['id']}"
        else:
            term = f"{at(one['from'])} → {at(one['until'])}"
            yield "FREEZE", f"{term} by {one['who']}: {one['reason']}"
    for one in report["overrides"]:
        text = f"{one['gate']} until {at(one['until'])} by {one['who']}: {one['reason']}"
        yield "OVERRIDE", f"{text}   migrator override revoke {one['id']}"


def _soak(soak: dict[str, Any], left: str) -> str:
    usual = soak["baseline_per_min"]
    if usual is None:
        return f"{left} left, no auto-rollback: nothing to compare sign-ins with"
    limit = f"{soak['sign_ins']:.1f}x ({usual:.1f} a minute before)"
    return f"{left} left, auto-rollback to {soak['back_to']} if sign-ins > {limit}"
