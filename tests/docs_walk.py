"""Walking a page: its commands are typed in order, its marks happen, what is printed is compared.

With UPDATE_DOCS=1 in the environment a page that was walked to its end gets today's date as the
day on which it was last drilled; nothing else writes that line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from tests.docs_blocks import Block, Mark, commands, pieces, prints
from tests.docs_rig import Differs, Rollout

_DRILLED = re.compile(r"(?m)^last_drilled: .*$")

NOT_RUN: Mapping[str, str] = {
    "pip install ": "installs a package; the wheel's own test does",
    "make demo": "run by the demo's own test",
    "make test": "is what runs this test",
}


def walk(rollout: Rollout, page: Path) -> int:
    """Type every command of a page, let its marks happen, and compare. Returns how many ran.

    Raises:
        Differs: at the first command that does something else.
    """
    ran = 0
    for piece in pieces(page):
        if isinstance(piece, Mark):
            rollout.happen(piece.name)
        elif piece.language == "console":
            ran += _type_console(rollout, page, piece)
        elif piece.language == "sh":
            ran += _type_script(rollout, page, piece)
    return ran


def _type_console(rollout: Rollout, page: Path, block: Block) -> int:
    for shown in commands(block):
        code, printed = rollout.run(shown.command)
        where = f"{page.name}:{shown.line}: {shown.command}"
        if code != shown.exit_code:
            raise Differs(f"{where}\nexit {code}, not {shown.exit_code}\n{printed}")
        if not prints(shown.output, printed):
            page_shows = "\n".join(shown.output)
            raise Differs(f"{where}\n--- the page\n{page_shows}\n--- printed\n{printed}")
    return len(commands(block))


def _type_script(rollout: Rollout, page: Path, block: Block) -> int:
    lines = [line for line in block.text.splitlines() if not line.startswith(tuple(NOT_RUN))]
    if not lines:
        return 0
    code, printed = rollout.run("set -e\n" + "\n".join(lines))
    if code != 0:
        raise Differs(f"{page.name}:{block.line}\nexit {code}\n{printed}")
    return len(lines)


def note_drilled(page: Path) -> None:
    """Have the page say that it was walked today, if this is a run that writes."""
    if os.environ.get("UPDATE_DOCS") == "1":
        today = f"last_drilled: {datetime.now(UTC):%Y-%m-%d}, test suite, passed"
        page.write_text(_DRILLED.sub(today, page.read_text(), count=1))
