"""Child processes that never outlive us, and signals that reach everything a server forked.

This file owns the rule "a dead run leaves nothing behind": each server gets a warden, a tiny
process in a session of its own that waits for the end of a pipe only we hold. Whatever kills us,
SIGKILL included, closes that pipe; the warden then ends the server and removes its directory.
(PR_SET_PDEATHSIG would be shorter, but it fires when the *thread* that started the child ends,
exists on Linux alone and removes no directory.)

The warden runs this same file by its path with `python -I -S`, so it must import the standard
library only.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

_END_SECONDS = 6.0  # Postgres gives its own children 5 s after SIGQUIT before it kills them
_POLL_SECONDS = 0.01

_pipes: set[int] = set()  # write ends held by this process; a forked child must let go of them
_fork_hook_set = False


def descendants(pid: int) -> list[int]:
    """Every live process below `pid`, parents before children.

    Postgres backends each lead a process group of their own, so no killpg reaches them.
    """
    children: dict[int, list[int]] = {}
    for child, parent in _parents():
        children.setdefault(parent, []).append(child)
    found: list[int] = []
    queue = [pid]
    while queue:
        below = children.get(queue.pop(0), [])
        found += below
        queue += below
    return found


def freeze(pid: int) -> None:
    """Stop `pid` and all below it, `pid` first so that nothing new is forked meanwhile."""
    _send(pid, signal.SIGSTOP)
    for child in descendants(pid):
        _send(child, signal.SIGSTOP)


def thaw(pid: int) -> None:
    """Let `pid` and all below it go on; harmless where nothing was frozen."""
    for each in [*descendants(pid), pid]:
        _send(each, signal.SIGCONT)


def kill_tree(pid: int) -> None:
    """SIGKILL `pid` and all below it at one moment, and return when none of the children runs.

    `pid` itself may remain as a zombie until its parent waits for it.
    """
    _send(pid, signal.SIGSTOP)
    doomed = [pid, *descendants(pid)]
    for each in doomed:
        _send(each, signal.SIGKILL)
    for each in doomed:
        _await_end(each, _END_SECONDS)


def kill_group(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    """SIGKILL the process group led by `process`, and reap it.

    Safe to call twice. The group is only signalled while its leader is unreaped (so the number
    cannot have been reused) and only if it is its own (`start_new_session=True`), never ours.
    """
    if process.poll() is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        if os.getpgid(process.pid) == process.pid != os.getpgrp():
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()


class Warden:
    """Ends one server and removes its directories when this process is no more."""

    def __init__(self, *directories: Path, end_signal: signal.Signals) -> None:
        """Start the warden of `directories`; it guards no process until `guard`."""
        read_end, self._pipe = os.pipe()
        self._owner = os.getpid()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(int(end_signal)), *map(str, directories)],
            stdin=read_end,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        os.close(read_end)
        _forget_in_forked_children(self._pipe)

    @property
    def is_ours(self) -> bool:
        """Whether we started it; a forked child must not stop its parent's servers."""
        return self._owner == os.getpid()

    def guard(self, pid: int) -> None:
        """Make `pid` the process to end; 0 = none."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._pipe, b"%d\n" % pid)

    def dismiss(self) -> None:
        """Let the warden do its duty now (remove the directories), and wait for it."""
        if self.is_ours and self._pipe in _pipes:
            _pipes.discard(self._pipe)
            os.close(self._pipe)
            self._process.wait()


def _forget_in_forked_children(pipe: int) -> None:
    global _fork_hook_set  # noqa: PLW0603 - fork hooks cannot be taken back, so one serves all wardens
    _pipes.add(pipe)
    if not _fork_hook_set:
        os.register_at_fork(after_in_child=_close_pipes)
        _fork_hook_set = True


def _close_pipes() -> None:
    while _pipes:
        os.close(_pipes.pop())


def _parents() -> list[tuple[int, int]]:
    proc = Path("/proc")
    if not (proc / "self/stat").exists():
        listing = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, check=True)
        rows = (line.split() for line in listing.stdout.splitlines())
        return [(int(pid), int(parent)) for pid, parent in rows]
    pids = [int(entry.name) for entry in proc.iterdir() if entry.name.isdigit()]
    return [(pid, int(fields[1])) for pid in pids if (fields := _stat(pid))]


def _stat(pid: int) -> list[str]:
    """State, parent and what follows in /proc/PID/stat; empty if there is no such process."""
    try:
        # The command name stands in brackets and may hold anything, brackets and blanks included.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def is_running(pid: int) -> bool:
    """Whether `pid` exists and is more than a zombie."""
    if Path("/proc/self/stat").exists():
        return (_stat(pid) or ["Z"])[0] not in "ZX"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _await_end(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while is_running(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _stand_watch(end_signal: signal.Signals, directories: list[str]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    guarded = 0
    for line in sys.stdin:
        guarded = int(line)
    if guarded:
        thaw(guarded)
        _send(guarded, end_signal)
        if not _await_end(guarded, _END_SECONDS):
            kill_tree(guarded)
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    _stand_watch(signal.Signals(int(sys.argv[1])), sys.argv[2:])
