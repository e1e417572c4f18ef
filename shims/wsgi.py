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
from migrator.core import errors
from migrator.core.comparing import Shadow
from migrator.core.errors import Unavailable
from migrator.core.presented import Outcome, Presented
from migrator.core.verdicts import Admitted, Refused
from migrator.settings import Settings
from shims.answers import Answer, Answers, adds_nothing
from shims.bridging import Bridge
from shims.comparing import Compares, pairing_of, pairing_of_hit
from shims.credentials import Places, route_of
from shims.environ import IDENTITY_KEYS, EnvironReader, native, raw, text
from shims.environ_bridging import take
from shims.wsgi_bridging import Over

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

PRINCIPAL: Final = "migrator.principal"

_SAID: Final = IDENTITY_KEYS | {"REMOTE_USER"}


class Asks(Compares, Protocol):
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
        answers: how refusals are worded instead of as the settings say.
    """

    def __init__(
        self,
        app: WSGIApplication,
        settings: Settings | None = None,
        *,
        resolve_subject: wiring.Resolver | None = None,
        gate: Asks | None = None,
        answers: Answers | None = None,
    ) -> None:
        self.app = app
        settings = wiring.settings_of(settings)
        if gate is None:
            gate = wiring.gate(settings, resolve_subject=resolve_subject)
        places = Places.of(settings)
        self._answers = Answers.of(settings) if answers is None else answers
        self._gate: Asks = gate
        self._reader = EnvironReader.of(places)
        self._strict = places.routes.strict
        flow = wiring.blocking_bridge(settings)
        self._over = (
            None
            if flow is None
            else Over(Bridge.of(settings, places, flow), self._answers, _answer)
        )

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request, or hand it to the app with its principal."""
        if not environ.keys().isdisjoint(_SAID):
            for key in _SAID:
                environ.pop(key, None)
        gate = self._gate
        gate.wake()
        strict = self._strict
        quick = self._over is None and (strict is None or not strict.covers(*_where(environ)))
        only = self._reader.lone(environ) if quick else None
        hit = None if only is None else gate.peek_header(*only)
        if hit is not None and hit.hand_out is None and hit.notice is None:
            environ[PRINCIPAL] = hit.principal
            environ["REMOTE_USER"] = hit.principal.subject
            if hit.shadow is not None:  # in `observe` alone
                return self._compared(environ, start_response, hit.shadow)
            return self.app(environ, start_response)

        path, mount = _where(environ)
        try:
            body = take(environ) if self._reader.reads_body(environ) else b""
        except errors.Refused as refused:
            return _answer(self._answers.refuse(refused.reason), environ, start_response)
        presented = self._reader.find(environ, path=path, mount=mount, body=body)
        if presented is None:
            environ[PRINCIPAL] = None
            return self._onward(environ, start_response, path, mount, body)

        outcome = gate.peek(presented) if hit is None else Outcome(hit, "header")
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
                asked=self._reader.asked(environ, presented),
            )
            answer = Answer(answer.status, tuple(amended), answer.body)
            return _answer(answer, environ, start_response)
        else:
            environ[PRINCIPAL] = None
        if not adds_nothing(outcome):
            start_response = self._amending(environ, presented, outcome, start_response)
            self._reader.hide(environ, outcome)
        return self._onward(environ, start_response, path, mount, body, presented, outcome)

    def _compared(
        self, environ: WSGIEnvironment, start_response: StartResponse, shadow: Shadow
    ) -> Iterable[bytes]:
        """The app's answer to one remembered header, compared."""
        path, mount = _where(environ)
        method = environ["REQUEST_METHOD"]
        pairing = pairing_of_hit(
            self._gate, self._reader.places, shadow, method=method, path=path, mount=mount
        )
        app = self.app if pairing is None else pairing.wsgi(self.app)
        return app(environ, start_response)

    def _onward(
        self,
        environ: WSGIEnvironment,
        start_response: StartResponse,
        path: str,
        mount: str,
        body: bytes,
        presented: Presented | None = None,
        outcome: Outcome | None = None,
    ) -> Iterable[bytes]:
        """To the app, over the bridge where there is one."""
        app = self.app
        if presented is not None and outcome is not None:
            pairing = pairing_of(
                *(self._gate, self._reader.places, outcome, presented),
                method=environ["REQUEST_METHOD"],
            )
            app = app if pairing is None else pairing.wsgi(app)
        if self._over is None:
            return app(environ, start_response)
        return self._over.take(
            app,
            environ,
            start_response,
            presented=presented,
            outcome=outcome,
            path=path,
            route=route_of(self._reader.places, path, mount),
            body=body,
        )

    def _amending(
        self,
        environ: WSGIEnvironment,
        presented: Presented,
        outcome: Outcome,
        start_response: StartResponse,
    ) -> StartResponse:
        asked = self._reader.asked(environ, presented)

        def amending(
            status: str, headers: list[tuple[str, str]], exc_info: Any = None, /
        ) -> Callable[[bytes], object]:
            code = int(status[:3])
            lines = [(raw(name), raw(value)) for name, value in headers]
            amended = self._answers.amend(lines, code=code, outcome=outcome, asked=asked)
            self._gate.observed(presented.path, outcome, code)
            if exc_info is None:  # servers and tests may take two arguments only
                return start_response(status, native(amended))
            return start_response(status, native(amended), exc_info)

        return amending


def _where(environ: WSGIEnvironment) -> tuple[str, str]:
    """The path of a request, and how much of it leads to the app."""
    mount = environ.get("SCRIPT_NAME", "")
    return text(mount + environ.get("PATH_INFO", "")), text(mount)


def _answer(
    answer: Answer, environ: WSGIEnvironment, start_response: StartResponse
) -> list[bytes]:
    try:
        phrase = HTTPStatus(answer.status).phrase
    except ValueError:
        phrase = "Refused"
    start_response(f"{answer.status} {phrase}", native(answer.headers))
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [answer.body]
