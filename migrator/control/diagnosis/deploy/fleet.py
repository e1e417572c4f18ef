"""Whether every node holds the same keys, tells the same time and runs the same release."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from sqlalchemy import func, select

from migrator.control import nodes
from migrator.control.diagnosis.finding import Finding
from migrator.stores import tables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from migrator.control.nodes import Fleet
    from migrator.settings import Settings

_SKEW_MS: Final = 1000


def looks(connection: Connection, settings: Settings) -> list[Finding]:
    """What the nodes said of themselves when they were last heard."""
    home = settings.database.schema
    fleet = nodes.Fleet(
        nodes=nodes.read(connection, tables.in_schema(home), home),
        epoch=0,
        now=connection.execute(select(func.clock_timestamp())).scalar_one(),
        expected=settings.expected_nodes,
        build=version("jwt-way-out"),
    )
    if not fleet.live:
        told = "no node lives: nothing can be told of keys and clocks there"
        return [Finding("nodes.none", "warn", told, "deploy the shim, then ask again")]
    found = [*_keys(fleet, settings), *_clocks(fleet), *_builds(fleet), *_number(fleet)]
    return found or [Finding("nodes", "ok", f"{len(fleet.live)} nodes: same keys, time, release")]


def _keys(fleet: Fleet, settings: Settings) -> Iterator[Finding]:
    ours = [key.id for key in settings.swap.keys]
    if ours and (without := [node for node in fleet.live if ours[0] not in node.key_ids]):
        told = f"without swap key {ours[0]}, which derives: {nodes.names(without)}"
        do = f"bring {ours[0]} to every node, second in the list first, then move it to the front"
        yield Finding("nodes.key-missing", "fail", told, do)
    strange = sorted({key for node in fleet.live for key in node.key_ids} - set(ours))
    if strange:
        told = f"nodes hold swap keys that these settings do not name: {', '.join(strange)}"
        do = "run doctor with the settings of the nodes, or finish taking the key out"
        yield Finding("nodes.key-unknown", "warn", told, do)


def _clocks(fleet: Fleet) -> Iterator[Finding]:
    late = [node for node in fleet.live if abs(node.clock_skew_ms or 0) > _SKEW_MS]
    if late:
        worst = max(abs(node.clock_skew_ms or 0) for node in late) / 1000
        told = f"clocks are up to {worst:.1f} s off the database's: {nodes.names(late)}"
        do = "keep them by NTP: the app and its JWT library judge by their own clock"
        yield Finding("nodes.clock-skew", "warn", told, do)


def _builds(fleet: Fleet) -> Iterator[Finding]:
    if fleet.old_build:
        told = f"another release than this command's ({fleet.build}): "
        told += nodes.names(fleet.old_build)
        yield Finding("nodes.old-build", "warn", told, "finish the deployment")


def _number(fleet: Fleet) -> Iterator[Finding]:
    if fleet.rogue:
        told = f"heard after their lease was over: {nodes.names(fleet.rogue)}"
        do = "restart them: a node that cannot renew its lease acts on what it knew"
        yield Finding("nodes.rogue", "warn", told, do)
    if fleet.expected is not None and len(fleet.live) != fleet.expected:
        told = f"{len(fleet.live)} nodes live, expected_nodes says {fleet.expected}"
        do = "look for servers without the shim, or correct expected_nodes"
        yield Finding("nodes.number", "warn", told, do)
