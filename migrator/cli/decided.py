"""How a decision is answered: a hold, an override, a rule of the comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from migrator.cli.context import Context


def emit(
    context: Context,
    found: dict[str, Any],
    *,
    key: str,
    line: Callable[[dict[str, Any]], str],
    schema: str,
) -> None:
    """Print what was decided.

    Args:
        found: with `changed` and `dry_run`, and under `key` the decision itself.
        line: the decision as text.
    """
    tail = "; nothing was written" if found["dry_run"] else ""
    rest = {name: value for name, value in found.items() if name != "changed"}
    context.emit(rest, lambda: line(found[key]) + tail, schema=schema, changed=found["changed"])


def emit_all(
    context: Context,
    found: dict[str, Any],
    *,
    key: str,
    line: Callable[[dict[str, Any]], str],
    schema: str,
    ended: bool,
) -> None:
    """Print the decisions there are, and where none is, how to see those that are over."""
    none = f"no {key}" if ended else f"no {key} (--ended shows those that are over)"
    context.emit(found, lambda: "\n".join(map(line, found[key])) or none, schema=schema)
