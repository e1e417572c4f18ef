"""What `status --detail` adds below the screen: the census, as long as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from migrator.control.status.fitting import WIDTH
from migrator.control.words import age, at, count

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


def detail(report: dict[str, Any]) -> str:
    """The text of the key `census`: each outcome, and whose legacy tokens are open."""
    census = report.get("census") or {"usage": [], "open": []}
    now: datetime = report["generated_at"]
    lines = ["", f"COUNTED in the last 24 h{'count':>26}  last"]
    lines += [
        f"  {line['outcome']:<28} {count(line['day']):>18}  {age(line['last_at'], now):<14} "
        f"{line['client'] or ''} {line['issuer'] or ''}".rstrip()
        for line in census["usage"]
    ] or ["  nothing"]
    lines += ["", f"STILL OPEN{'subjects':>40}  last seen        ends"]
    lines += [
        f"  {group['client'] or 'unknown client':<28} {count(group['subjects']):>18}  "
        f"{age(group['last_seen_at'], now):<16} {at(group['ends_at'])}  {group['issuer']}"
        for group in census["open"]
    ] or ["  nobody"]
    lines += _verified(census, now)
    return "\n".join(line[:WIDTH] for line in lines)


def _verified(census: Mapping[str, Any], now: datetime) -> list[str]:
    """By which keys and where legacy tokens come, counted each time one was verified anew."""
    lines: list[str] = []
    for title, by in (("BY KEY", "kid"), ("BY ROUTE", "route")):
        lines += ["", f"{title}{'verified':>{50 - len(title)}}  last seen"]
        lines += [
            f"  {one[by] or 'no ' + by:<28} {count(one['verified']):>18}  "
            f"{age(one['last_at'], now):<16} {one['client'] or 'unknown client'}  {one['issuer']}"
            for one in census.get(f"by_{by}", ())
        ] or ["  none"]
    return lines
