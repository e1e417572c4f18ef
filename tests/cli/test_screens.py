"""Every text screen fits 100 columns and 30 lines, and is as it was when somebody last read it.

After a change that is meant, run this file with UPDATE_SCREENS=1 in the environment, and read what
git says of tests/cli/snapshots.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

from migrator.cli import main
from tests.cli import story
from tests.cli.deployment import LIFETIMES as OVER
from tests.cli.deployment import Deployment

if TYPE_CHECKING:
    from collections.abc import Callable

SNAPSHOTS = Path(__file__).parent / "snapshots"
LONG = "6 days 4 hours 30 minutes"
LASTING = 'lifetime = "1h"\nrefresh_lifetime = "30d"'

# What is as wide as its clock times happen to be.
TABLES = {("nodes",), ("compare", "show")}

Command = tuple[tuple[str, ...], int]


def asked(*words: str) -> list[Command]:
    """Commands in a line each; `=N` at the end is the exit code."""
    found: list[Command] = []
    for line in words:
        command, _, code = line.partition(" =")
        found.append((tuple(command.split()), int(code or 0)))
    return found


def nothing(place: Deployment) -> None:
    """A schema, and nothing else; begun long before the tests are, however long those take."""
    place.execute("UPDATE migrator.rollout SET since = now() - %s::interval", LONG)


def observing(place: Deployment) -> None:
    nothing(place)
    observed(place)


def observed(place: Deployment) -> None:
    story.traffic(place)
    story.people(place)
    place.execute(
        "INSERT INTO migrator.differences (hour, direction, issuer, client, route, verdict, count,"
        " last_at) VALUES (date_trunc('hour', now()), 'allow_deny', 'a1', 'ios/7.2.1', '/me',"
        " 'legacy_expired', 3, now() - interval '2 h 10 min')"
    )
    story.beat(place, "web-1", "web-2")


def swapping(place: Deployment) -> None:
    place.put("swap", percent=40, ago=LONG)
    observed(place)


def draining(place: Deployment) -> None:
    place.put("swap", ago="9 days")
    place.put("drain", ago=LONG)
    observed(place)


def cut_over(place: Deployment) -> None:
    place.put("cutover", ago=LONG)
    observed(place)


def retired(place: Deployment) -> None:
    place.put("cutover", ago=LONG)
    with place.nodes("web-1", "web-2"):
        place.move("retire")
    place.execute("UPDATE migrator.rollout SET since = now() - interval '3 d 2 h 30 min'")
    story.beat(place, "web-1", "web-2")


def excepted(place: Deployment) -> None:
    cut_over(place)
    place.execute(
        "UPDATE migrator.rollout SET exceptions = (SELECT jsonb_agg(jsonb_build_object('by',"
        " 'client', 'value', 'old-' || i, 'phase', 'drain')) FROM generate_series(1, 5) i)"
    )


def stalled(place: Deployment) -> None:
    place.beat("web-1", "web-2", "web-3", "web-4", "web-5")
    place.put("swap", ago="9 days")
    place.put("drain", ago=LONG)
    place.execute(
        "UPDATE migrator.nodes SET seen_at = clock_timestamp(),"
        " lease_until = clock_timestamp() + interval '1 h'"
    )
    place.beat("web-1")


def crowded(place: Deployment) -> None:
    """More than any screen holds."""
    story.traffic(place)
    story.people(place)
    excepted_and_late = "UPDATE migrator.rollout SET exceptions = %s::jsonb"
    stalled(place)
    place.execute(
        excepted_and_late,
        str([{"by": "client", "value": f"old-{i}", "phase": "cutover"} for i in range(6)]).replace(
            "'", '"'
        ),
    )
    place.execute(
        "INSERT INTO migrator.jobs (name, source, state, done, total, rejected, updated_at)"
        " SELECT 'backfill:' || i, 'jsonl', 'paused', 120, 100, 2, now() - interval '3 h 10 min'"
        " FROM generate_series(1, 5) i"
    )
    place.execute(
        "INSERT INTO migrator.holds (created_by, reason, starts_at, until) SELECT 'kim',"
        " 'CHG-' || i, now() + (i - 2) * interval '5 h 30 min', now() + interval '20 d 30 min'"
        " FROM generate_series(1, 4) i"
    )
    place.execute(
        "INSERT INTO migrator.overrides (created_by, gate, reason, until) SELECT 'lee', gate,"
        " 'a reason that takes more words than the row has room for, as reasons do when written"
        " at three in the morning', now() + interval '2 d 30 min'"
        " FROM unnest(ARRAY['drain-horizon', 'legacy-seen', 'foreign-seen']) gate"
    )
    place.execute(
        "UPDATE migrator.rollout_log SET why = repeat('because of what was agreed. ', 12)"
    )
    place.execute(
        "INSERT INTO migrator.ignores (owner, reason, until, direction, route) SELECT 'kim',"
        " repeat('known since the beginning. ', 9), now() + interval '9 d 30 min', 'allow_deny',"
        " '/a/' || i FROM generate_series(1, 4) i"
    )
    place.execute(
        "INSERT INTO migrator.brownouts (created_by, reason, starts_at, ends_at, percent, limits)"
        " SELECT 'kim', repeat('as announced. ', 20), day + interval '9 h', day + interval '10 h',"
        " 10, '{\"sign_ins\": 2.0}' FROM generate_series(1, 3) i,"  # within a day, whenever it is
        " LATERAL (SELECT date_trunc('day', now(), 'UTC') + i * interval '3 d' AS day) days"
    )
    place.execute(
        "INSERT INTO migrator.nodes (id, build, epoch, lease_until, seen_at, clock_skew_ms) VALUES"
        " ('undead', '0.0.1', 1, now() - interval '1 h', now(), 9000),"
        " ('askew', '0.0.1', 1, now() + interval '1 h', now(), 9000)"
    )


SCENES: dict[str, tuple[Callable[[Deployment], None], list[Command]]] = {
    "nothing": (
        nothing,
        asked(
            "status",
            "nodes",
            "gates swap =3",
            "log",
            "plan list",
            "hold list",
            "override list",
            "brownout list",
            "compare show",
            "compare ignore list",
            "backfill list",
            "sessions list ann",
            "cutoff list",
            "sweep",
            "db current",
            "db check",
            "rollback --dry-run =3",
        ),
    ),
    "observe": (observing, asked("status", "compare show", "backfill list", "gates swap")),
    "swap": (swapping, asked("status", "status --line")),
    "drain": (
        draining,
        asked(
            "status",
            "status --line",
            "nodes",
            "gates cutover =3",
            "log",
            "rollback --dry-run",
            "cutover --all --dry-run =3",
        ),
    ),
    "cutover": (cut_over, asked("status", "gates retire =3", "rollback --dry-run")),
    "retired": (retired, asked("status", "status --line", "rollback =12")),
    "exceptions": (excepted, asked("status")),
    "stalled": (stalled, asked("status", "nodes")),
    "crowded": (
        crowded,
        asked(
            "status",
            "hold list",
            "override list",
            "nodes",
            "gates cutover =3",
            "log",
            "compare ignore list",
            "brownout list",
            "plan cutover --all",
        ),
    ),
}


def hold(name: str, text: str) -> None:
    """Compare with what was kept, or keep it."""
    path = SNAPSHOTS / f"{name}.txt"
    if os.environ.get("UPDATE_SCREENS"):
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
    assert path.exists(), "UPDATE_SCREENS=1 keeps it"
    assert text == path.read_text()


def fits(text: str) -> None:
    lines = text.rstrip("\n").split("\n")
    assert len(lines) <= 30
    assert max(len(line) for line in lines) <= 100, max(lines, key=len)


@pytest.mark.parametrize("scene", SCENES)
def test_every_screen_fits_and_is_as_it_was_read(
    migrated: str, tmp_path: Path, scene: str
) -> None:
    arrange, commands = SCENES[scene]
    lifetimes = OVER if arrange is retired else LASTING
    quiet = "0s" if arrange is retired else "24h"
    place = Deployment(migrated, tmp_path, quiet=quiet, lifetimes=lifetimes)
    arrange(place)
    told = []
    for words, code in commands:
        if arrange not in {nothing, stalled, crowded}:
            place.beat("web-1", "web-2")
        result = place.run(*words, code=code)
        text = result.stdout + result.stderr
        if "--line" not in words:
            fits(text)
        general = story.normal(text, is_table=words in TABLES)
        told.append(f"$ migrator {' '.join(words)}    exit {code}\n{general}")
    hold(scene, "\n".join(told))


def test_what_cannot_be_read_is_told_on_one_screen(database: str, tmp_path: Path) -> None:
    down = Deployment("postgresql+psycopg://nobody@127.0.0.1:1/none", tmp_path)
    told = [down.run("status", code=11).stdout]
    absent = Deployment(database, tmp_path)
    told.append(absent.run("status", code=5).stdout)
    unstated = Deployment(database, tmp_path, expected=None)
    unstated.run("db", "upgrade")
    told.append(unstated.run("status").stdout)
    for text in told:
        fits(text)
    hold("unknown", "\n".join(map(story.normal, told)))


def leaves() -> dict[str, list[tuple[str, ...]]]:
    """Every command and group below the top, by the first word that calls it."""
    found: dict[str, list[tuple[str, ...]]] = {}

    def below(command: click.Command, words: tuple[str, ...]) -> None:
        if words:
            found.setdefault(words[0], []).append(words)
        if isinstance(command, click.Group):
            with click.Context(command) as context:
                for name in command.list_commands(context):
                    each = command.get_command(context, name)
                    assert each is not None
                    below(each, (*words, name))

    below(main, ())
    return found


@pytest.mark.parametrize("command", ["", *leaves()])
def test_help_fits_a_person(command: str) -> None:
    told = []
    for words in leaves()[command] if command else [()]:
        text = CliRunner().invoke(main, [*words, "--help"], prog_name="migrator").stdout
        assert max(len(line) for line in text.splitlines()) <= 100
        assert len(text.splitlines()) <= 60
        told.append(text)
    hold(f"help/{command or 'migrator'}", "\n".join(told))
