"""Which gates nobody asked for: a rollout is held up by what is wrong, not by what is unproven."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from migrator.control.diagnosis.finding import Finding, Level

if TYPE_CHECKING:
    from migrator.settings import Settings

# key of [gates] → how much it is missed, what goes unproven without it, what to write
_ROWS: Final[tuple[tuple[str, Level, str, str], ...]] = (
    (
        "compare_pairs",
        "warn",
        "whether the shim judges as the app does",
        "gates.compare_pairs = 1000",
    ),
    (
        "revocations",
        "warn",
        "whether the app's own revocations end sessions",
        "gates.revocations = true",
    ),
    ("drill_within", "warn", "the way back", 'gates.drill_within = "14d"'),
    ("notice", "info", "that clients were told of the end", 'gates.notice = "30d"'),
    ("brownouts", "info", "what a cutover would do to clients", "gates.brownouts = 2"),
    ("backfill_within", "info", "what a backfill brought", 'gates.backfill_within = "24h"'),
    ("store_p99", "info", "that the session store keeps up", 'gates.store_p99 = "10ms"'),
)


def looks(settings: Settings) -> list[Finding]:
    """A finding for each gate that the settings leave out."""
    return [
        Finding("gates.not-asked-for", level, f"no gate proves {what}", f"set {write}")
        for key, level, what, write in _ROWS
        if not getattr(settings.gates, key)
    ]
