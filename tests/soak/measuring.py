"""What the workers hold: memory, file descriptors, threads, connections; before and after."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.soak.history import Fault
from tests.soak.stage import Stage

# Growth of so little is an allocator's page, or what pools open when it is needed: ten connections
# to Postgres, a few to Redis.
FDS: Final = 16
THREADS: Final = 6
RSS_SHARE: Final = 0.05
# A tick of ours that is so late: neither we, nor the proxies in here, got any time meanwhile. Half
# of what a store is given to answer in (design section 13, `database.budget_ms`).
_TICK_S: Final = 0.02
_STALL_S: Final = 0.5
# States of a socket in /proc/net/tcp (proc_net_tcp.txt of the kernel).
_ESTABLISHED: Final = "01"
_LISTENING: Final = "0A"
STALL: Final = "the machine stood still"


@dataclass(frozen=True, slots=True)
class Held:
    """What one process holds.

    Args:
        fds: without the connections of its clients, who come and go as they please.
    """

    rss_kib: int
    fds: int
    threads: int


@dataclass(frozen=True, slots=True)
class Growth:
    """What one process held once it was warm, and in the end."""

    worker: str
    pid: int
    before: Held
    after: Held

    @property
    def rss_share(self) -> float:
        """How much of its memory it gained."""
        return self.after.rss_kib / self.before.rss_kib - 1

    @property
    def leaks(self) -> bool:
        """Whether descriptors or threads were left behind."""
        return (
            self.after.fds - self.before.fds > FDS
            or self.after.threads - self.before.threads > THREADS
        )


def held(pid: int) -> Held | None:
    """What a process holds; None: it is no more."""
    proc = Path(f"/proc/{pid}")
    try:
        facts = dict(
            line.split(":", 1)
            for line in (proc / "status").read_text().splitlines()
            if ":" in line
        )
        clients = _accepted(proc / "net" / "tcp")
        own = [name for name in _opened(proc / "fd") if name not in clients]
        return Held(int(facts["VmRSS"].split()[0]), len(own), int(facts["Threads"]))
    except (OSError, KeyError):
        return None


def _opened(fds: Path) -> Iterable[str]:
    for each in fds.iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            yield str(each.readlink())


def _accepted(table: Path) -> set[str]:
    """The sockets, named as descriptors name them, that a client holds the other end of."""
    rows = [line.split() for line in table.read_text().splitlines()[1:]]
    ports = [(row[1].rpartition(":")[2], row[3], row[9]) for row in rows]
    listened_on = {port for port, state, _ in ports if state == _LISTENING}
    return {
        f"socket:[{inode}]"
        for port, state, inode in ports
        if state == _ESTABLISHED and port in listened_on
    }


def measure(stage: Stage) -> dict[tuple[str, int], Held]:
    """What every process of every worker holds."""
    return {
        (worker.name, pid): held_now
        for worker in stage.workers
        for pid in worker.pids()
        if (held_now := held(pid)) is not None
    }


def growth(
    before: dict[tuple[str, int], Held], after: dict[tuple[str, int], Held]
) -> Iterable[Growth]:
    """Of the processes that lived all the while."""
    for key in sorted(before.keys() & after.keys()):
        yield Growth(*key, before[key], after[key])


def connections(stage: Stage) -> int:
    """How many connections to the database there are."""
    rows = stage.rig.execute(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    count: int = rows[0][0]
    return count


@contextmanager
def stalls(note: Callable[[Fault], None]) -> Iterator[None]:
    """Write down when this process was given no time: a busy machine is no fault of a store's.

    A stall excuses a 503 and nothing else.
    """
    over = threading.Event()

    def tick() -> None:
        before = time.monotonic()
        while not over.wait(_TICK_S):
            now = time.monotonic()
            if now - before > _STALL_S:
                note(Fault(what=STALL, store="machine", began=before, ended=now))
            before = now

    ticker = threading.Thread(target=tick, name="ticker")
    ticker.start()
    try:
        yield
    finally:
        over.set()
        ticker.join()
