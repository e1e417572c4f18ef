"""Coverage in words: who is seen and known from a ledger, and what each ledger gave."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from typing import Final

from migrator.control.backfill.coverage import DANGERS, WINDOW, Coverage, Ledger, Share
from migrator.control.words import UNKNOWN, age, count, counted, span

WIDTH: Final = 99


def seen(coverage: Coverage) -> Iterator[str]:
    """Who was seen of late, and how many of them a ledger gave."""
    yield f"seen with a legacy token in {span(WINDOW)}:"
    shares = {"subjects": coverage.subjects}
    shares |= {f"{purpose} tokens": share for purpose, share in coverage.tokens.items()}
    for what, share in shares.items():
        yield f"  {_share(what, share)}"


def text(coverages: Iterable[Coverage]) -> str:
    """All of it, as a screen."""
    lines: list[str] = []
    for one in coverages:
        lines += [f"issuer {one.name} ({one.issuer})", *(f"  {line}" for line in seen(one))]
        for ledger in one.ledgers:
            lines += [f"  {line}" for line in _ledger(ledger, one)]
        if not one.ledgers:
            lines.append("  no ledger of it was read: migrator backfill --help")
    return "\n".join(lines)


def _share(what: str, share: Share) -> str:
    if share.percent is None:
        return f"{what}: {UNKNOWN}, none was counted"
    return (
        f"{what}: {count(share.seen)}, of them {count(share.given)} from a ledger"
        f" ({share.percent:.2f} %)"
    )


def _ledger(ledger: Ledger, of: Coverage) -> Iterator[str]:
    found = ledger.verified
    yield f"{found.source} from {ledger.place}: {ledger.state}"
    given = {name: ledger.counts.get(name, 0) for name in ledger.counts}
    words = {
        "rows read": given.get("read", 0),
        "with a session": given.get("seeded", 0) + given.get("already", 0),
        "denied": given.get("denied", 0) + given.get("revoked_already", 0),
        "expired": given.get("expired", 0),
        "barred by us": given.get("barred", 0),
        **{f"rejected as {reason}": n for reason, n in sorted(ledger.rejected.items())},
    }
    said = " · ".join(f"{count(n)} {what}" for what, n in words.items() if n or what[:4] == "rows")
    yield from _indented(said)
    if found.at is None:
        yield "  not verified since it ran:"
        yield f"    {found.command}"
    else:
        yield f"  verified {age(found.at, of.as_of)}, {counted(found.differences, 'difference')}"
    if ledger.blanking is not None:
        yield "  its raw tokens are needed no more; this would blank them, and is yours to run:"
        yield f"    {ledger.blanking}"
        for danger in DANGERS:
            yield from _indented(f"- {danger}", deeper=True)


def _indented(said: str, *, deeper: bool = False) -> Iterator[str]:
    margin = "    " if deeper else "  "
    yield from textwrap.wrap(
        said, WIDTH - 4, initial_indent=margin, subsequent_indent=f"{margin}  "
    )
