"""Every exit code of the command line, reached by a real command; and every command that a page
for the operator names is one.
"""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import psycopg
import pytest

import migrator
from migrator.cli import main
from migrator.core.errors import Exit
from migrator.stores.drivers import conninfo
from tests.cli.deployment import SCHEMAS, Deployment
from tests.control.tapped import commands
from tests.rig import sign_refresh

NODES = ("n1", "n2")
CONFIRM = ("--confirm", "staging")
SWAP = ("advance", "swap", "--percent", "5", *CONFIRM)
TABLE = ("table", "--issuer", "a1", "--from", "public.tokens", "--columns", "token=jwt")


def asked(place: Deployment, *args: str) -> dict[str, Any]:
    found: dict[str, Any] = place.json_any(*args)
    return found


def internal(place: Deployment) -> dict[str, Any]:
    place.execute('UPDATE migrator.rollout SET exceptions = \'[{"by": "nothing"}]\'')
    return asked(place, "status")


def stale(place: Deployment) -> dict[str, Any]:
    place.beat(*NODES)
    place.config.write_text(place.config.read_text().replace("expected_nodes = 2", ""))
    return asked(place, *SWAP)


def unfit(place: Deployment) -> dict[str, Any]:
    place.execute("DROP TABLE migrator.cutoffs")
    return asked(place, *SWAP)


def not_acknowledged(place: Deployment) -> dict[str, Any]:
    place.put("swap")
    place.beat(*NODES)
    return asked(place, "rollback", "--wait", "0.2")


def conflict(place: Deployment) -> dict[str, Any]:
    place.put("swap")
    with psycopg.connect(**conninfo(place.url)) as other:
        other.execute("SELECT FROM migrator.rollout FOR UPDATE")
        return asked(place, "rollback")


def differences(place: Deployment) -> dict[str, Any]:
    ledger(place, 2)
    place.json("backfill", *TABLE)
    place.execute("DELETE FROM migrator.legacy_tokens WHERE subject = 'user-1'")
    return asked(place, "backfill", "verify", *TABLE, "--all")


def unreachable(place: Deployment) -> dict[str, Any]:
    place.environ["TEST_DATABASE_URL"] = "postgresql+psycopg://nobody@127.0.0.1:1/nothing"
    return asked(place, "nodes")


def irreversible(place: Deployment) -> dict[str, Any]:
    place.put("cutover")
    with place.nodes(*NODES):
        place.move("retire")
    return asked(place, "rollback")


def limit(place: Deployment) -> dict[str, Any]:
    ledger(place, 3)
    return asked(place, "backfill", *TABLE, "--limit-rows", "1")


def interrupted(place: Deployment) -> dict[str, Any]:
    place.put("swap")
    place.beat(*NODES)
    with commands(place.config.parent) as starter:
        args = ("--config", str(place.config), "--json", "rollback", "--wait", "60")
        running = starter.start(args, place.environ)
        until = time.monotonic() + 30
        while place.phase()[0] != "observe" or "committed" not in running.out.read_text():
            assert time.monotonic() < until
            time.sleep(0.02)
        os.kill(running.pid, signal.SIGINT)
        ended = running.wait()
    assert ended.code == 130, ended.said
    found: dict[str, Any] = json.loads(ended.said[ended.said.index("\n{") :])
    return found


def ledger(place: Deployment, rows: int) -> None:
    place.execute("CREATE TABLE public.tokens (id int PRIMARY KEY, jwt text)")
    for number in range(rows):
        jwt = sign_refresh(f"user-{number}")
        place.execute("INSERT INTO public.tokens VALUES (%s, %s)", number, jwt)


@dataclass(frozen=True)
class Row:
    """How a code is reached; the id of the page (None: a result says it), and what changed."""

    reach: Callable[[Deployment], dict[str, Any]]
    problem: str | None
    changed: bool | None = False


ROWS: dict[Exit, Row] = {
    Exit.DONE: Row(lambda place: asked(place, "status"), None),
    Exit.INTERNAL: Row(internal, "internal.", changed=None),
    Exit.GATE_FAILED: Row(lambda place: asked(place, *SWAP), "gates.failed"),
    Exit.EVIDENCE_STALE: Row(stale, "gates.unsure"),
    Exit.UNFIT: Row(unfit, "schema.broken"),
    Exit.WAIT_TIMED_OUT: Row(
        lambda place: asked(place, *SWAP, "--wait-gates", "0.2"), "gates.timed_out"
    ),
    Exit.NOT_ACKNOWLEDGED: Row(not_acknowledged, None, changed=True),
    Exit.CONFLICT: Row(conflict, "move.locked"),
    Exit.DECLINED: Row(lambda place: asked(place, *SWAP[:-1], "production"), "confirm.declined"),
    Exit.DIFFERENCES: Row(differences, None),
    Exit.UNREACHABLE: Row(unreachable, "database.unreachable"),
    Exit.IRREVERSIBLE: Row(irreversible, "move.retired"),
    Exit.LIMIT: Row(limit, None, changed=True),
    Exit.INTERRUPTED: Row(interrupted, "interrupted", changed=True),
}


def test_every_code_has_a_row_and_usage_is_clicks_own() -> None:
    assert {*ROWS, Exit.USAGE} == set(Exit)


@pytest.mark.parametrize("code", list(ROWS), ids=lambda code: f"{code:d} {code.name.lower()}")
def test_an_exit_code_is_reached_and_told_with_its_page(
    code: Exit, migrated: str, tmp_path: Path
) -> None:
    row = ROWS[code]
    found = row.reach(Deployment(migrated, tmp_path))
    assert found["exit_code"] == code
    assert found["changed"] is row.changed
    if row.problem is None:
        assert "error" not in found
        return
    assert found["schema"] == "migrator.error/1"
    assert found["error"]["id"].startswith(row.problem)
    assert all(found["error"][part] for part in ("what", "why", "do"))
    known = {path.name for path in SCHEMAS.glob("*.json")}
    assert "error-1.json" in known


@pytest.mark.parametrize("args", [("cutover",), ("advance", "swap"), ("no-such-command",)])
def test_a_usage_error_is_2_and_changes_nothing(
    args: tuple[str, ...], migrated: str, tmp_path: Path
) -> None:
    place = Deployment(migrated, tmp_path)
    result = place.run(*args, code=Exit.USAGE)
    assert "Usage:" in result.stderr
    assert place.phase() == ("observe", 0)


def test_a_page_tells_on_stderr_and_stdout_stays_data(migrated: str, tmp_path: Path) -> None:
    result = Deployment(migrated, tmp_path).run(*SWAP, code=3)
    assert result.stdout == ""
    assert "gates.failed" in result.stderr


# ---- what pages say to do ----------------------------------------------------------------------

# A command as texts name it: `migrator words --options`, at the beginning or in backticks.
_NAMED = re.compile(r"(?:^|`)migrator ((?:--)?[a-z][^`,;:()\n]*)")


def literals() -> Iterator[tuple[str, str]]:
    """Every text of ours, with where it is; what is filled in stands as X."""
    root = Path(migrator.__file__).parent
    for path in sorted(root.rglob("*.py")):
        tree = ast.parse(path.read_text())
        inner = {
            id(part)
            for node in ast.walk(tree)
            if isinstance(node, ast.JoinedStr)
            for part in ast.walk(node)
            if part is not node
        }
        docs = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            if id(node) in inner or id(node) in docs:
                continue
            text = spelt(node)
            if text is not None:
                yield f"{path.relative_to(root)}:{node.lineno}", text  # type: ignore[attr-defined]


def spelt(node: ast.AST) -> str | None:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(spelt(part) or "X" for part in parts)
    return None


def named() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for where, text in literals():
        for match in _NAMED.finditer(text):
            found.setdefault(match.group(1).strip(), set()).add(where)
    return found


def fault(words: list[str]) -> str | None:
    """What is wrong with a command, by the real command line; None: nothing."""
    command: click.Command = main
    context = click.Context(main)
    for number, word in enumerate(words):
        if not isinstance(command, click.Group) or word.startswith("-"):
            break
        below = command.get_command(context, word)
        if below is None:
            if word == "X":
                return None  # filled in when it is said
            if number == 0 or word.islower():
                return f"no command {word!r}"
            break
        command = below
    options = {name for each in command.params for name in each.opts}
    options |= {"--version", "--help", "-h"}
    for word in words:
        if word.startswith("--") and word.partition("=")[0] not in options:
            return f"no option {word}"
    return None


def test_every_command_that_a_page_names_is_one() -> None:
    found = named()
    assert len(found) > 40
    wrong = {}
    for text, where in found.items():
        # Prose may go on behind a command that is not in backticks: `migrator log says who …`.
        words = [word.strip(".…'\"") for word in text.split()]
        problem = fault(words)
        if problem is not None and fault(words[:1]) is None and "--" not in text:
            problem = fault(words[:2]) if is_group(words[0]) else None
        if problem is not None:
            wrong[f"migrator {text}"] = (problem, sorted(where))
    assert wrong == {}


def is_group(word: str) -> bool:
    return isinstance(main.get_command(click.Context(main), word), click.Group)
