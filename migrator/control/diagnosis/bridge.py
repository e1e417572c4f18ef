"""Whether the app understands what the bridge shows it, and cannot be reached past the shim."""

from __future__ import annotations

import http.client
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import urlsplit

from sqlalchemy import func, select

from migrator.control import reach, roster
from migrator.control.diagnosis.finding import Finding
from migrator.core.errors import Stopped
from migrator.core.phases import Phase
from migrator.stores import tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from migrator.settings import Bridge, Settings

_Line: TypeAlias = tuple[str, str, int]
_TIMEOUT_S: Final = 2.0
_ROOM_BYTES: Final = 4096
_FEW: Final = 20  # answers by which nobody can judge
_MUCH: Final = 0.5
_DAYS: Final = 7
_ADMITTED: Final = frozenset({"legacy", "swapped"})
_GONE: Final = frozenset({Phase.CUTOVER, Phase.RETIRED})


def looks(settings: Settings) -> list[Finding]:
    """What can be told of the bridge; nothing where the settings have none."""
    bridge = settings.bridge
    if bridge is None:
        return []
    found = [_probed(url, settings) for url in bridge.probes]
    if not bridge.probes:
        text = "nobody asked whether the app can be reached past the shim"
        do = "set bridge.probes to the addresses at which the app itself listens"
        found.append(Finding("bridge.unprobed", "info", text, do))
    return [*found, *_routes(settings), *_counted(settings, bridge)]


def _probed(url: str, settings: Settings) -> Finding:
    """Ask with a token that the shim refuses in every phase, in words that it alone has."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    token = f"{settings.tokens.session_prefix}_{'0' * 49}"
    try:
        connection = kind(parts.hostname or "", parts.port, timeout=_TIMEOUT_S)
        try:
            headers = {"Authorization": f"Bearer {token}"}
            connection.request("GET", parts.path or "/", headers=headers)
            answer = connection.getresponse()
            body = answer.read(_ROOM_BYTES)
        finally:
            connection.close()
    except (OSError, http.client.HTTPException) as error:
        text = f"{url} cannot be reached from here ({type(error).__name__})"
        return Finding("bridge.probe", "ok", text)
    refusal = settings.http.refusal
    challenge = answer.getheader("WWW-Authenticate")
    if (
        answer.status == refusal.status
        and challenge == f'{refusal.scheme} error="invalid_token"'
        and (refusal.body is not None or _is_ours(body))
    ):
        return Finding("bridge.probe", "ok", f"{url} answers through the shim")
    text = (
        f"{url} answered {answer.status} past the shim: whoever reaches it there presents JWTs "
        "that no phase, denial or logout of ours binds"
    )
    do = "let only the shim's host connect to it, or put the shim in front of it too"
    return Finding("bridge.bypass", "fail", text, do)


def _is_ours(body: bytes) -> bool:
    try:
        return bool(json.loads(body) == {"error": "invalid_token", "reason": "invalid"})
    except ValueError:
        return False


def _routes(settings: Settings) -> list[Finding]:
    """Routes without which clients stay with JWTs."""
    missing = [name for name in ("login", "logout") if not getattr(settings.routes, name)]
    return [
        Finding(
            f"bridge.no-{name}",
            "warn",
            f"routes.{name} is empty: the bridge rewrites nothing there",
            f"name the app's {name} route in routes.{name}",
        )
        for name in missing
    ]


def _counted(settings: Settings, bridge: Bridge) -> list[Finding]:
    """What the nodes counted at the bridge in the last week."""
    home = settings.database.schema
    page = tables.in_schema(home).tables
    usage, rollout = page[f"{home}.legacy_usage"], page[f"{home}.rollout"]
    rows: Sequence[_Line] = ()
    try:
        with reach.reached(settings.database.url.get_secret_value(), home) as connection:
            phase = Phase(connection.execute(select(rollout.c.phase)).scalar_one())
            if roster.has_legacy(connection, home):
                counted = connection.execute(
                    select(usage.c.outcome, usage.c.client, func.sum(usage.c.count))
                    .where(usage.c.hour > func.now() - timedelta(days=_DAYS))
                    .group_by(usage.c.outcome, usage.c.client)
                )
                rows = [(row[0], row[1], int(row[2])) for row in counted]
    except Stopped:
        return []  # the database's own look says why
    return [*_issuing(rows), *_understood(rows), *_spare(rows, phase, bridge)]


def _issuing(rows: Sequence[_Line]) -> list[Finding]:
    return [
        Finding(
            "bridge.issuing-route",
            "warn",
            f"{path} answers with JWTs of the issuer and is under no route of the settings",
            "name it under routes.login or routes.refresh; until then its clients stay with JWTs",
        )
        for outcome, path, _ in rows
        if outcome == "route:issues_legacy"
    ]


def _understood(rows: Sequence[_Line]) -> list[Finding]:
    counted = {
        name: sum(count for outcome, _, count in rows if outcome == f"bridge:{name}")
        for name in ("shown", "refused")
    }
    total = sum(counted.values())
    if total < _FEW or counted["refused"] / total < _MUCH:
        return []
    text = (
        f"the app answered 401 to {counted['refused']} of {total} requests of sessions: it may "
        "look tokens up by their exact string, want claims that are not kept, or know another key"
    )
    do = "compare what it wants with bridge.claims, bridge.constants and the issuer's key"
    return [Finding("bridge.not-understood", "fail", text, do)]


def _spare(rows: Sequence[_Line], phase: Phase, bridge: Bridge) -> list[Finding]:
    if phase not in _GONE or any(outcome in _ADMITTED for outcome, _, _ in rows):
        return []
    text = f"no legacy token comes in any more ({phase}): the app may drop its JWT code"
    do = (
        "let it read the principal and call `login` and `exchange`, then take [bridge] out "
        f"(bridge JWTs live {bridge.lifetime.total_seconds():g} s)"
    )
    return [Finding("bridge.may-go", "info", text, do)]
