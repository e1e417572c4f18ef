"""A key set by URL, fetched off the request path: what an outage, a flood or a bad host may cost.

`find` reads a snapshot and nothing else. One daemon thread for each set fetches it: at once, every
`refresh_seconds`, and when somebody met an unknown kid, as often as a token bucket allows (a flood
of invented kids: GHSA-2gx3-rcp4-g85q). A failed fetch keeps what was there (CVE-2026-48524), for a
day; a set that was never fetched is Unavailable, since unknown is not invalid.
"""

import contextlib
import http.client
import os
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Collection
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final
from urllib.parse import SplitResult, urlsplit

from migrator.core.errors import BadSettings, Problem, Unavailable
from migrator.core.legacy import Key
from migrator.stores.keyforms import Loaded, load_set

REFRESH_SECONDS: Final = 300.0
STALE_SECONDS: Final = 86_400.0
NOT_YET: Final = "not fetched yet"
TIMEOUT_SECONDS: Final = 2.0
MAX_BYTES: Final = 512 * 1024
_UNKNOWN_PER_SECOND: Final = 1.0
_UNKNOWN_PER_MINUTE: Final = 10
_RETRY_SECONDS: Final = (1.0, 2.0, 5.0, 15.0, 60.0)
_CHUNK_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class Report:
    """How a key set stands. `age_seconds` is None where it was never fetched."""

    url: str
    keys: int
    age_seconds: float | None
    failing: str | None
    skipped: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class _Snapshot:
    loaded: Loaded
    fetched_at: float


class JwksRing:
    """The public keys behind a URL, as a KeyRing.

    Args:
        url: https, or http on a loopback address where `allow_http_loopback`.
        algorithms: what the issuer lists; other keys of the set are left out.
        allow_http_loopback: for demos and tests.
        refresh_seconds: between two fetches.
        clock: seconds, monotonic.

    Raises:
        BadSettings: `url` is not one to fetch keys from.
    """

    def __init__(
        self,
        url: str,
        algorithms: Collection[str],
        *,
        allow_http_loopback: bool = False,
        refresh_seconds: float = REFRESH_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = _judged(url, allow_http_loopback=allow_http_loopback)
        self._origin = f"{self._url.scheme}://{self._url.netloc}{self._url.path}"
        self._algorithms = tuple(algorithms)
        self._refresh_seconds = refresh_seconds
        self._clock = clock
        self._snapshot: _Snapshot | None = None
        self._failing: str | None = NOT_YET
        self._asked: list[float] = []
        self._closed = False
        self._begin()
        _rings.add(self)
        self._start()

    def __repr__(self) -> str:
        return f"JwksRing({self._origin})"

    def _begin(self) -> None:
        """Locks and thread of this process; those of a parent do not live on in its child."""
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="jwks", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """End the thread; what was fetched goes on being served."""
        self._closed = True
        self._wake.set()
        thread = self._thread
        if thread is not None:
            thread.join(2 * TIMEOUT_SECONDS)

    def find(self, kid: str | None, alg: str) -> tuple[Key, ...]:
        """The keys for `alg` of `kid`, or all for `alg` where the token names none.

        Raises:
            Unavailable: never fetched, or not for a day.
        """
        if self._thread is None:  # a child of the process that made this ring
            self._start()
        snapshot = self._snapshot
        if snapshot is None or self._clock() - snapshot.fetched_at > STALE_SECONDS:
            raise Unavailable("the key set", self._failing or "stale")
        found = meant(snapshot.loaded.keys, kid, alg)
        if not found:
            self._ask()
        return found

    def report(self) -> Report:
        """How the set stands, for status and doctor."""
        snapshot = self._snapshot
        return Report(
            self._origin,
            0 if snapshot is None else len(snapshot.loaded.keys),
            None if snapshot is None else self._clock() - snapshot.fetched_at,
            self._failing,
            () if snapshot is None else snapshot.loaded.problems,
        )

    def _ask(self) -> None:
        """Wake the thread if the bucket allows; whoever asks does not wait for it."""
        now = self._clock()
        if not self._lock.acquire(blocking=False):
            return
        try:
            self._asked = [then for then in self._asked if now - then < 60]
            if len(self._asked) >= _UNKNOWN_PER_MINUTE:
                return
            if self._asked and now - self._asked[-1] < 1 / _UNKNOWN_PER_SECOND:
                return
            self._asked.append(now)
            self._wake.set()
        finally:
            self._lock.release()

    def _run(self) -> None:
        wake, failures = self._wake, 0
        while not self._closed:
            wake.clear()
            failures = 0 if self.refresh() else failures + 1
            retry = _RETRY_SECONDS[min(failures, len(_RETRY_SECONDS)) - 1]
            pause = min(retry, self._refresh_seconds) if failures else self._refresh_seconds
            if not self._closed:
                wake.wait(pause)

    def refresh(self) -> bool:
        """Fetch now, in this thread; whether there is a new set. A failure keeps the old one."""
        try:
            loaded = load_set(self._fetch(), self._algorithms, origin=self._origin)
        except Exception as error:  # noqa: BLE001 - whatever a host sends, the thread goes on
            self._failing = f"{type(error).__name__}: {error}"[:200]
            return False
        if not loaded.keys:
            self._failing = "there is no usable key in it"
            return False
        self._snapshot = _Snapshot(loaded, self._clock())
        self._failing = None
        return True

    def _fetch(self) -> bytes:
        """The body behind the URL: no redirect is followed and nothing is unpacked."""
        ends = time.monotonic() + TIMEOUT_SECONDS
        connection = self._connection()
        connection.connect()
        # The time-out of a socket is one for each read: a host that drips would never reach it.
        watchdog = threading.Timer(TIMEOUT_SECONDS, _cut, (connection.sock,))
        watchdog.daemon = True
        watchdog.start()
        try:
            path = self._url.path or "/"
            target = f"{path}?{self._url.query}" if self._url.query else path
            headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
            connection.request("GET", target, headers=headers)
            response = connection.getresponse()
            if response.status != http.HTTPStatus.OK:
                raise ValueError(f"it answered {response.status}")
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise ValueError("it answered with packed content")
            body = bytearray()
            while chunk := response.read1(_CHUNK_BYTES):
                body += chunk
                if len(body) > MAX_BYTES:
                    raise ValueError(f"it is larger than {MAX_BYTES} bytes")
            if time.monotonic() > ends:
                raise TimeoutError("it took too long")
            if response.length:
                raise ValueError("it ended too early")
            return bytes(body)
        finally:
            watchdog.cancel()
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self._url.hostname or "", self._url.port
        if self._url.scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_SECONDS, context=context)


def meant(keys: Collection[Key], kid: str | None, alg: str) -> tuple[Key, ...]:
    """The keys for `alg` that a token of `kid` can mean.

    Those of that kid; failing them, those that have none; all of them where the token names none.
    """
    fitting = [key for key in keys if key.alg == alg]
    named = [key for key in fitting if key.kid == kid]
    if kid is not None:
        return tuple(named or [key for key in fitting if key.kid is None])
    return tuple(fitting)


def _cut(line: socket.socket) -> None:
    with contextlib.suppress(OSError):
        socket.socket.shutdown(line, socket.SHUT_RDWR)  # beneath TLS: the reader is another thread


def _judged(url: str, *, allow_http_loopback: bool) -> SplitResult:
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.port != 0 and "@" not in parts.netloc
    except ValueError:
        parts, usable = SplitResult("", "", "", "", ""), False
    plain = parts.scheme == "http" and allow_http_loopback and _is_loopback(parts.hostname or "")
    if usable and (parts.scheme == "https" or plain):
        return parts
    problem = Problem(
        "jwks-url",
        "a key set is fetched from an https address",
        "whoever can change it on the way can sign as anybody",
        'give jwks_url as https://HOST/PATH, or the set as keys = ["file:jwks.json"]',
    )
    raise BadSettings((problem,))


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


_rings: weakref.WeakSet[JwksRing] = weakref.WeakSet()


def _after_fork() -> None:
    for ring in list(_rings):
        ring._begin()  # noqa: SLF001 - this file's own


os.register_at_fork(after_in_child=_after_fork)
