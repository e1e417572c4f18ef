"""A verification in words: what was compared, what was found, and what to do about it."""

from __future__ import annotations

import textwrap
from typing import Final

from migrator.control.backfill.comparing import FINDINGS
from migrator.control.backfill.verifying import Verification
from migrator.control.words import UNKNOWN, count

WIDTH: Final = 99
_MOST_SHOWN: Final = 10


def text(found: Verification) -> str:
    """The verification as a screen."""
    order = found.order
    lines = [f"verify {order.kind} of issuer {order.issuer} from {found.place}"]
    if order.dry_run:
        lines.append("rehearsed: the result was not kept")
    of = UNKNOWN if found.of is None else count(found.of)
    drawn = "all" if found.draw.size is None else f"drawn by --seed {found.draw.seed}"
    lines.append(f"{count(found.rows)} of {of} rows compared, {drawn}")
    lines += [
        f"{'✗' if finding.is_difference else ' '}{count(found.counts[name]):>11}  {finding.words}"
        for name, finding in FINDINGS.items()
        if found.counts[name]
    ]
    lines += _extra(found)
    if not found.differences:
        return "\n".join([*lines, "no differences"])
    lines.append("differences, by the key of their row:")
    lines += [f"  {row}: {FINDINGS[name].words}" for row, name in found.named[:_MOST_SHOWN]]
    more = found.differences - _MOST_SHOWN
    if more > 0:
        lines.append(f"  and {count(more)} more: --json names up to 100")
    lines += textwrap.wrap(_REMEDY, WIDTH)
    return "\n".join(lines)


def _extra(found: Verification) -> list[str]:
    if found.extra_of is not None:
        return [f"{count(found.extra_of):>12}  sessions of ours were looked up in the ledger"]
    why = f"sessions of ours were not looked up in the ledger: {found.extra_why}"
    return textwrap.wrap(why, WIDTH, initial_indent="  ", subsequent_indent="    ")


_REMEDY: Final = (
    "Run the backfill again: it seeds what is missing and denies what was revoked since. A row "
    "of ours that says something else than the ledger was changed by hand: end its session by "
    "`migrator sessions revoke ID`."
)
