"""`migrator nodes`: every process that runs the shim."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click
from rich.console import Group
from rich.table import Table

from migrator.cli.context import Context, pass_context
from migrator.control.fleet import SCHEMA, report
from migrator.control.words import age

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

_ROOM: Final = 20
# Worst first; what each means for a move, and what to do about it.
_STATES: Final = {
    "rogue": "heard after its lease was over: blocks every move; restart it",
    "waiting": "has not acknowledged this epoch yet: blocks until it does, or is gone",
    "stale": "late with its beat: its lease still holds; look at its connection to Postgres",
    "acked": "acts under this epoch",
    "gone": "lease over and silent: blocks nothing; what it issued still counts",
}


@click.command("nodes")
@pass_context
def command(context: Context) -> None:
    """Every process that runs the shim: its epoch, its keys, and when it was last heard."""
    found = report(context.settings)
    context.emit(found, lambda: _text(found), schema=SCHEMA)


def _text(found: dict[str, Any]) -> RenderableType:
    if not found["nodes"]:
        return "no node was ever heard: does the shim run, and on this database?"
    order = list(_STATES)
    ranked = sorted(found["nodes"], key=lambda node: order.index(node["state"]))
    more = len(ranked) - _ROOM
    return Group(
        _head(found),
        _table(ranked[:_ROOM], found),
        *([f"… {more} more: migrator nodes --json"] if more > 0 else []),
        *_meanings(found),
    )


def _head(found: dict[str, Any]) -> str:
    acked, live = (sum(node[name] for node in found["nodes"]) for name in ("has_acked", "is_live"))
    expected = "unknown" if found["expected"] is None else found["expected"]
    took = found["propagation_s"]
    said = "" if took is None else f"   the slowest took {took:.1f} s"
    return (
        f"epoch {found['epoch']}: {acked} of {live} live acknowledged, {expected} expected{said}"
    )


def _table(shown: list[dict[str, Any]], found: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("node", "state", "epoch", "seen", "build", "keys", "last JWT issued"):
        table.add_column(title, no_wrap=title != "node", overflow="fold")
    if any(node["vitals"] for node in shown):
        table.add_column("store p99", no_wrap=True)
    now = found["generated_at"]
    for node in shown:
        issued = node["last_jwt_issued_at"]
        table.add_row(
            node["id"],
            node["state"],
            str(node["epoch"]),
            age(node["seen_at"], now),
            f"{node['build'] or 'unknown'}{' (old)' if node['is_old_build'] else ''}",
            ",".join(node["key_ids"]) or "none",
            age(issued, now) if issued else "none seen",
            *_store(node["vitals"]),
        )
    return table


def _store(vitals: dict[str, Any] | None) -> Iterator[str]:
    if vitals is not None:
        p99 = vitals["p99_ms"]
        yield "not asked" if p99 is None else f"{p99:.1f} ms"


def _meanings(found: dict[str, Any]) -> Iterator[str]:
    """What the states on the screen mean, but for the one that is as it should be."""
    there = {node["state"] for node in found["nodes"]} - {"acked"}
    for state, meaning in _STATES.items():
        if state in there:
            yield f"{state}: {meaning}"
    if any(node["is_old_build"] for node in found["nodes"]):
        yield "old: another release than this command's; finish the deployment"
