"""The WSGI middleware: credentials in, principal in the environ, tokens and notices out.

    app.wsgi_app = DualAcceptMiddleware(app.wsgi_app)

WSGI servers have already joined repeated headers by commas and merged their spellings, so what
arrives here is rebuilt into lines and read by the same rules as everywhere else. The environ is
changed in place, as PEP 3333 lets middleware do; of the response only `start_response` is touched,
so streaming, `write` and `close()` stay the app's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Protocol

from migrator import wiring
from migrator.core.errors import Unavailable
from migrator.core.presented import Outcome, Presented
from migrator.core.verdicts import Admitted, Passed, Refused
from migrator.settings import Settings
from shims.answers import Answer, Answers, Asked, adds_nothing, navigates
from shims.credentials import IDENTITY_HEADERS, Places, clear, clear_query, find, value_of
from shims.csrf import SAFE_METHODS
from shims.schemes import usual

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

PRINCIPAL: Final = "migrator.principal"

_Line = tuple[bytes, bytes]


def _key(name: bytes) -> str:
    return "HTTP_" + name.decode("latin-1").upper().replace("-", "_")


_IDENTITY_KEYS: Final = frozenset({"REMOTE_USER", *map(_key, IDENTITY_HEADERS)})
_AUTHORIZATION: Final = _key(b"authorization")
_ALWAYS: Final = (b"cookie", b"user-agent")
# Asked only of requests that carry a cookie and may change something.
_BROWSER: Final = (b"host", b"origin", b"sec-fetch-site", b"sec-fetch-mode", b"accept")


class Asks(Protocol):
    """What the middleware needs of a gate (`migrator.core.gate.Gate`)."""

    def peek(self, presented: Presented) -> Outcome | None:
        """The remembered answer, without I/O or lock."""

    def peek_header(self, value: bytes, issuers: frozenset[str]) -> Admitted | None:
        """The same for a request that brings nothing but this one header."""

    def wake(self) -> None:
        """See that this process has a pulse."""

    def admit(self, presented: Presented) -> Outcome:
        """The answer; raises Unavailable."""

    def observed(self, path: str, outcome: Outcome, answered: int) -> None:
        """Take in what the app answered where we would have refused."""


class DualAcceptMiddleware:
    """Accepts legacy tokens and sessions on the same routes, as the phase of the rollout says.

    Sets `environ["REMOTE_USER"]` and `environ["migrator.principal"]` (None: there is none).

    Args:
        app: the WSGI app.
        settings: those of `migrator.toml` and `MIGRATOR_*` unless given.
        resolve_subject: `(subject, realm) -> SubjectState | None`; asked on a memory miss whether
            the subject is active and what it may do now.
        gate: what is asked instead of the process's own gate.
    """

    def __init__(
        self,
        app: WSGIApplication,
        settings: Settings | None = None,
        *,
        resolve_subject: wiring.Resolver | None = None,
        gate: Asks | None = None,
    ) -> None:
        self.app = app
        settings = wiring.settings_of(settings)
        if gate is None:
            gate = wiring.gate(settings, resolve_subject=resolve_subject)
        self._places = places = Places.of(settings)
        self._answers = Answers.of(settings)
        self._gate: Asks = gate
        self._keys = tuple((_key(name), name) for name in (*places.headers, *_ALWAYS))
        self._browser_keys = tuple((_key(name), name) for name in _BROWSER)
        self._other_keys = {_key(name) for name in (*places.headers, b"cookie")} - {_AUTHORIZATION}
        self._schemes = places.headers[b"authorization"]

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request, or hand it to the app with its principal."""
        if not environ.keys().isdisjoint(_IDENTITY_KEYS):
            for key in _IDENTITY_KEYS:
                environ.pop(key, None)
        gate = self._gate
        gate.wake()
        only = self._lone(environ)
        remembered = None if only is None else gate.peek_header(*only)
        if remembered is not None and remembered.hand_out is None and remembered.notice is None:
            environ[PRINCIPAL] = remembered.principal
            environ["REMOTE_USER"] = remembered.principal.subject
            return self.app(environ, start_response)

        presented = self._find(environ)
        if presented is None:
            environ[PRINCIPAL] = None
            return self.app(environ, start_response)

        outcome = gate.peek(presented) if remembered is None else Outcome(remembered, "header")
        if outcome is None:
            try:
                outcome = gate.admit(presented)
            except Unavailable:
                return _answer(self._answers.unavailable(), environ, start_response)
        verdict = outcome.verdict
        if isinstance(verdict, Admitted):
            environ[PRINCIPAL] = verdict.principal
            environ["REMOTE_USER"] = verdict.principal.subject
        elif isinstance(verdict, Refused):
            answer = self._answers.refuse(verdict.reason)
            amended = self._answers.amend(
                answer.headers,
                code=answer.status,
                outcome=outcome,
                asked=self._asked(environ, presented),
            )
            answer = Answer(answer.status, tuple(amended), answer.body)
            return _answer(answer, environ, start_response)
        else:
            environ[PRINCIPAL] = None
        if not adds_nothing(outcome):
            start_response = self._amending(environ, presented, outcome, start_response)
            self._hide(environ, outcome)
        return self.app(environ, start_response)

    def _lone(self, environ: WSGIEnvironment) -> tuple[bytes, frozenset[str]] | None:
        """`credentials.lone`, for what a WSGI server made of the request."""
        line = environ.get(_AUTHORIZATION)
        if line is None or not self._other_keys.isdisjoint(environ):
            return None
        if self._places.queries and environ.get("QUERY_STRING"):
            return None
        return usual(_raw(line), self._schemes)

    def _find(self, environ: WSGIEnvironment) -> Presented | None:
        places = self._places
        lines = _lines(environ, self._keys)
        query = environ.get("QUERY_STRING", "") if places.queries else ""
        if not lines and not query:
            return None
        method = environ["REQUEST_METHOD"]
        if "HTTP_COOKIE" in environ and method not in SAFE_METHODS:
            lines += _lines(environ, self._browser_keys)
        mount = environ.get("SCRIPT_NAME", "")
        presented, _ = find(
            places,
            lines,
            method=method,
            path=_text(mount + environ.get("PATH_INFO", "")),
            mount=_text(mount),
            query=_raw(query),
            ip=environ.get("REMOTE_ADDR"),
        )
        return presented

    def _asked(self, environ: WSGIEnvironment, presented: Presented) -> Asked:
        lines = _lines(environ, self._browser_keys)
        method = environ["REQUEST_METHOD"]
        return Asked(
            method=method,
            host=value_of(lines, b"host"),
            navigates=navigates(
                method=method,
                sec_fetch_mode=value_of(lines, b"sec-fetch-mode"),
                accept=value_of(lines, b"accept"),
            ),
            route=presented.route,
        )

    def _hide(self, environ: WSGIEnvironment, outcome: Outcome) -> None:
        """Take dead credentials of ours out of what the app sees."""
        places = self._places
        strips = isinstance(outcome.verdict, Passed) and outcome.verdict.strip
        hides = strips or outcome.dead_legacy
        cookies = frozenset(places.cookies) if hides else frozenset()
        if outcome.dead_cookie:
            cookies |= {places.session_cookie}
        if not cookies and not hides:
            return
        kept = dict(clear(places, _lines(environ, self._keys), cookies=cookies, explicit=strips))
        for key, name in self._keys:
            if name in kept:
                environ[key] = kept[name].decode("latin-1")
            else:
                environ.pop(key, None)
        if hides and places.queries:
            query = clear_query(places, _raw(environ.get("QUERY_STRING", "")))
            environ["QUERY_STRING"] = query.decode("latin-1")

    def _amending(
        self,
        environ: WSGIEnvironment,
        presented: Presented,
        outcome: Outcome,
        start_response: StartResponse,
    ) -> StartResponse:
        asked = self._asked(environ, presented)

        def amending(
            status: str, headers: list[tuple[str, str]], exc_info: Any = None, /
        ) -> Callable[[bytes], object]:
            code = int(status[:3])
            raw = [(_raw(name), _raw(value)) for name, value in headers]
            amended = self._answers.amend(raw, code=code, outcome=outcome, asked=asked)
            self._gate.observed(presented.path, outcome, code)
            if exc_info is None:  # servers and tests may take two arguments only
                return start_response(status, _native(amended))
            return start_response(status, _native(amended), exc_info)

        return amending


def _answer(
    answer: Answer, environ: WSGIEnvironment, start_response: StartResponse
) -> list[bytes]:
    try:
        phrase = HTTPStatus(answer.status).phrase
    except ValueError:
        phrase = "Refused"
    start_response(f"{answer.status} {phrase}", _native(answer.headers))
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [answer.body]


def _lines(environ: WSGIEnvironment, keys: Iterable[tuple[str, bytes]]) -> list[_Line]:
    return [(name, _raw(environ[key])) for key, name in keys if key in environ]


def _native(headers: Iterable[_Line]) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


def _raw(text: str) -> bytes:
    # PEP 3333: bytes decoded as latin-1. What is not becomes "?", which no credential contains.
    return text.encode("latin-1", "replace")


def _text(path: str) -> str:
    if path.isascii():
        return path
    return _raw(path).decode("utf-8", "replace")
