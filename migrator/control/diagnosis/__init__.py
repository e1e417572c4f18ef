"""What `doctor` looks at, one file for each server or part; each look returns findings.

Nothing is written, and no look stops another: everything that can be told is told at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from migrator.control.diagnosis import bridge, cache, database, deploy, keys, ledgers, wired
from migrator.control.diagnosis.finding import Finding, Level, of_problem, worst

if TYPE_CHECKING:
    from migrator.control.diagnosis.keys import Prepare
    from migrator.settings import Settings

__all__ = ["Finding", "Level", "diagnose", "of_problem", "worst"]


def diagnose(
    settings: Settings,
    *,
    prepare: Prepare,
    deploys: bool = False,
    addresses: tuple[str, ...] = (),
) -> list[Finding]:
    """Everything that can be told, part by part.

    Args:
        settings: those that loaded.
        prepare: makes an issuer with its keys, as a node would.
        deploys: also what a rollout in production needs beyond what works.
        addresses: at which clients reach the app; see `deploy.looks`.
    """
    found = [
        Finding("settings", "ok", f"settings load: {settings.environment}, {settings.app}"),
        *wired.looks_at_settings(settings, is_retired=database.is_retired(settings)),
        *keys.looks(settings, prepare),
        *database.looks(settings),
        *cache.looks(settings),
        *ledgers.looks(settings),
        *bridge.looks(settings),
        *wired.looks_at_libraries(),
    ]
    return [*found, *deploy.looks(settings, addresses=addresses)] if deploys else found
