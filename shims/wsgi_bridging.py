"""The bridge's crossing, for WSGI: `start_response` waits until the answer has been judged.

What is decided is in shims/bridging.py. An answer that is not held is the app's own iterable
again, `close()` and file wrappers included, unless something may have to be replaced in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias

from migrator.core.errors import Refused, Unavailable
from migrator.core.flow import run
from migrator.core.presented import Outcome, Presented, Route
from shims.answers import Answer, Answers
from shims.bridging import ANSWER_ROOM_BYTES, Bridge, Crossing
from shims.environ import native, raw
from shims.environ_bridging import EnvironBridge, take

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

Says: TypeAlias = "Callable[[Answer, WSGIEnvironment, StartResponse], Iterable[bytes]]"


class Over:
    """The bridge before an app that verifies JWTs.

    Args:
        says: answers with an answer of ours.
    """

    def __init__(self, bridge: Bridge, answers: Answers, says: Says) -> None:
        self._bridge = EnvironBridge.of(bridge)
        self._answers = answers
        self._says = says

    def take(
        self,
        app: WSGIApplication,
        environ: WSGIEnvironment,
        start_response: StartResponse,
        *,
        presented: Presented | None,
        outcome: Outcome | None,
        path: str,
        route: Route | None,
        body: bytes,
    ) -> Iterable[bytes]:
        """Take a request to the app and its answer back. The facts are those of `Asking`."""
        asking = self._bridge.asking(
            environ, presented=presented, outcome=outcome, path=path, route=route, body=body
        )
        crossing = Crossing(self._bridge.bridge, asking)
        back = _Back(crossing, start_response)
        try:
            whole = take(environ) if crossing.reads else b""
            self._bridge.write(environ, run(crossing.enter(whole)))
            return back.answer(app(environ, back.start_response))
        except Refused as refused:
            answer = self._answers.refuse(refused.reason)
        except Unavailable:
            if back.is_begun:
                raise
            answer = self._answers.unavailable()
        return self._says(answer, environ, start_response)


class _Back:
    """The way back of one answer."""

    def __init__(self, crossing: Crossing, start_response: StartResponse) -> None:
        self._crossing = crossing
        self._start_response = start_response
        self._start: tuple[str, list[tuple[str, str]]] | None = None
        self._exc_info: Any = None
        self._written: list[bytes] = []
        self._size = 0
        self._is_closed = False
        self._write: Callable[[bytes], object] | None = None
        self.is_begun = False

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None, /
    ) -> Callable[[bytes], object]:
        """What the app calls; an error after the answer began is the server's to raise."""
        if self.is_begun:
            return self._start_response(status, headers, exc_info)
        self._start, self._exc_info = (status, headers), exc_info
        self._written, self._size = [], 0  # of the answer that an error takes the place of
        return self._goes_out

    def _goes_out(self, part: bytes) -> None:
        """The `write` of PEP 3333, for apps that still use it: nothing waits that need not."""
        if self._write is not None:
            self._write(self._crossing.passing(part, last=False))
            return
        self._written.append(part)
        self._size += len(part)
        code, lines = self._said()
        if not self._crossing.holds(code, lines) or self._size > ANSWER_ROOM_BYTES:
            self._begins(lines)
            parts, self._written = self._written, []
            for each in parts:
                self._goes_out(each)

    def answer(self, parts: Iterable[bytes]) -> Iterable[bytes]:
        """The answer, judged. The app's iterable is closed once, whatever comes of it."""
        try:
            return self._answer(parts)
        except BaseException:
            if not self._is_closed:
                _close(parts)
            raise

    def _answer(self, whole: Iterable[bytes]) -> Iterable[bytes]:
        before: list[bytes] = []
        parts = whole
        if self._start is None:  # a generator says its status when it is first asked
            iterator = iter(whole)
            before = [part for part in (next(iterator, None),) if part is not None]
            parts = _Rest(iterator, whole)
        if self._start is None:
            raise RuntimeError("the app answered without calling start_response")
        code, lines = self._said()
        if self._has_begun() or not self._crossing.holds(code, lines):
            return self._passed(lines, before, parts)
        held, size, iterator = before, sum(map(len, before)), iter(parts)
        for part in iterator:
            held.append(part)
            size += len(part)
            if self._has_begun() or size > ANSWER_ROOM_BYTES:
                return self._passed(lines, held, _Rest(iterator, whole))
        if self._has_begun():
            return self._passed(lines, held, _Rest(iterator, whole))
        answered = run(self._crossing.leave(code, lines, b"".join([*self._written, *held])))
        self._begin(answered.headers)
        self._is_closed = True
        _close(whole)
        return [answered.body or b""]

    def _has_begun(self) -> bool:
        return self._write is not None

    def _said(self) -> tuple[int, list[tuple[bytes, bytes]]]:
        assert self._start is not None
        status, headers = self._start
        return int(status[:3]), [(raw(name), raw(value)) for name, value in headers]

    def _passed(
        self, lines: list[tuple[bytes, bytes]], before: list[bytes], parts: Iterable[bytes]
    ) -> Iterable[bytes]:
        if self._write is None:
            self._begins(lines)
            before, self._written = [*self._written, *before], []
        if self._crossing.is_watching or before:
            return _Passing(self._crossing, before, parts)
        return parts

    def _begins(self, lines: list[tuple[bytes, bytes]]) -> None:
        """Begin an answer that is not held."""
        self._begin(run(self._crossing.leave(self._said()[0], lines)).headers)

    def _begin(self, headers: list[tuple[bytes, bytes]]) -> None:
        assert self._start is not None
        self.is_begun = True
        status, lines = self._start[0], native(headers)
        if self._exc_info is None:
            self._write = self._start_response(status, lines)
        else:
            self._write = self._start_response(status, lines, self._exc_info)


class _Rest:
    """What is left of an iterable, with its `close`."""

    def __init__(self, rest: Iterator[bytes], whole: Iterable[bytes]) -> None:
        self._rest, self._whole = rest, whole

    def __iter__(self) -> Iterator[bytes]:
        return self._rest

    def close(self) -> None:
        _close(self._whole)


class _Passing:
    """A body as it passes, each part as soon as the app gives it."""

    def __init__(self, crossing: Crossing, before: list[bytes], parts: Iterable[bytes]) -> None:
        self._crossing, self._before, self._parts = crossing, before, parts

    def __iter__(self) -> Iterator[bytes]:
        for part in chain(self._before, self._parts):
            yield self._crossing.passing(part, last=False)
        rest = self._crossing.passing(b"", last=True)
        if rest:
            yield rest

    def close(self) -> None:
        _close(self._parts)


def _close(parts: Iterable[bytes]) -> None:
    close = getattr(parts, "close", None)
    if close is not None:
        close()
