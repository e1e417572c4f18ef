"""Files that `init` leaves: settings, overwritten only when told to, and a swap key, never."""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path

from migrator.core.errors import Exit, Problem, Stopped
from migrator.core.tokens import SECRET_BYTES


def swap_secret() -> str:
    """A new swap key, in unpadded base64url."""
    return secrets.token_urlsafe(SECRET_BYTES)


def keep_or_make_key(path: Path) -> bool:
    """A swap key at `path`, readable by its owner alone; False: one was there, and stays.

    Another key would derive other tokens: whoever holds one already would be logged out.
    """
    try:
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(opened, "w", encoding="ascii") as file:
        file.write(swap_secret() + "\n")
    return True


def require_free(path: Path, *, force: bool) -> None:
    """Refuse to write where settings lie already.

    Raises:
        Stopped: DECLINED.
    """
    if force or not path.exists():
        return
    problem = Problem(
        id="init.exists",
        what=f"{path} is there already",
        why="it may be what running nodes read",
        do="edit it, write elsewhere with --output PATH, or replace it with --force",
    )
    raise Stopped(problem, Exit.DECLINED)


def write_whole(path: Path, text: str) -> None:
    """Write `text` to `path`, all of it or nothing."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
