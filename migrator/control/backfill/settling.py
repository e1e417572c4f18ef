"""After denials were committed: end what swaps that were under way meanwhile have opened.

The same discipline as every ending: what bars new swaps stands first; then the lock that swaps of
the issuer share is had once, exclusively, so that those which read before it are through.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from migrator.control.backfill import plant
from migrator.core.flow import run
from migrator.settings import Settings
from migrator.stores.drivers import BlockingDriver
from migrator.stores.postgres import issuer_lock, swept
from migrator.stores.queries import in_schema

_BUDGET_S: Final = 15.0


def settle(settings: Settings, values: Mapping[str, Any], *, since: datetime) -> int:
    """How many sessions were ended whose token was denied after `since`.

    Args:
        values: see `plant.terms`.

    Raises:
        Unavailable: the database could not be asked, or a swap holds on.
    """
    url = settings.database.url.get_secret_value()
    driver = BlockingDriver(url, budget_s=_BUDGET_S, room=1)
    try:
        statement = in_schema(plant.SETTLE, settings.database.schema)
        step = (statement, {**values, "began": since})
        ended: int = run(swept(driver, issuer_lock(values["issuer"]), step))[0][0]
    finally:
        driver.close()
    return ended
