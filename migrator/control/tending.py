"""The schema as an object: the JSON of `migrator db current` and `db check`."""

from __future__ import annotations

from typing import Any

from migrator.control import schema
from migrator.core.errors import Exit

SCHEMA = "migrator.db/1"


def standing(url: str, home: str) -> dict[str, Any]:
    """Which revisions are there.

    Raises:
        Stopped: UNREACHABLE.
    """
    heads = schema.current(url, home)
    return {
        "state": heads.state,
        "applied": list(heads.applied),
        "expand": heads.expand,
        "contracted": heads.contracted,
    }


def checked(url: str, home: str) -> tuple[list[dict[str, str]], Exit]:
    """What is wrong with the schema: UNFIT where it is not this release's, else DIFFERENCES.

    Raises:
        Stopped: UNREACHABLE.
    """
    problems = schema.check(url, home)
    found = [{"id": one.id, "what": one.what, "why": one.why, "do": one.do} for one in problems]
    if not problems:
        return found, Exit.DONE
    drifted = all(one.id == "schema.drifted" for one in problems)
    return found, Exit.DIFFERENCES if drifted else Exit.UNFIT
