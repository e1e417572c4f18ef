"""The Django middleware: credentials in, principal and user on the request, tokens out.

    MIDDLEWARE = [..., "django.contrib.auth.middleware.AuthenticationMiddleware",
                  "shims.django.middleware.DualAcceptMiddleware", ...]

Behind Django's own AuthenticationMiddleware, which else would put its user in ours' place, and
behind whatever adds CORS headers, which refusals need too. Of either colour, as the handler asks.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http.cookies import SimpleCookie
from typing import Any, Final

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from migrator import wiring
from migrator.core.errors import Refused as RefusedError
from migrator.core.errors import Unavailable
from migrator.core.presented import Outcome, Presented
from migrator.core.verdicts import Admitted, Refused
from migrator.settings import Settings
from shims.answers import Answer, Answers, adds_nothing
from shims.credentials import Places, clean, clear
from shims.django.configuration import Configuration, configuration
from shims.django.users import attach
from shims.environ import IDENTITY_KEYS, EnvironReader, hidden, raw

# What Django computes of META and keeps.
_COMPUTED: Final = ("headers", "COOKIES", "GET")
_SET_COOKIE: Final = "set-cookie"


class DualAcceptMiddleware:
    """Accepts legacy tokens and sessions on the same routes, as the phase of the rollout says.

    Sets `request.principal` (None: there is none) and, where there is one, `request.user` and
    `request.auser`. A request whose credential is in a header needs no CSRF token: no other site
    can make a browser send one. One by cookie is held to `shims/csrf.py`, and to Django's own
    check where a view has it. REMOTE_USER is the server's, and is left alone.

    Args:
        get_response: what Django gives.
        settings: those that `MIGRATOR` of the project leads to unless given.
        gate: what is asked instead of the process's own gate.
    """

    sync_capable = True
    async_capable = True

    def __init__(
        self,
        get_response: Callable[[HttpRequest], Any],
        settings: Settings | None = None,
        *,
        gate: Any = None,
    ) -> None:
        self.get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)
        self._configuration: Configuration = configuration()
        settings = settings or self._configuration.settings
        if gate is None:
            make = wiring.async_gate if self._is_async else wiring.gate
            gate = make(settings, resolve_subject=self._configuration.resolve_subject)
        self._gate = gate
        self._places = Places.of(settings)
        self._reader = EnvironReader.of(self._places)
        self._answers = Answers.of(settings)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Answer a request, or hand it on with its principal."""
        if self._is_async:
            return self.__acall__(request)
        presented, outcome = self._begin(request)
        if presented is not None and outcome is None:
            try:
                outcome = self._gate.admit(presented)
            except Unavailable:
                return _response(self._answers.unavailable(), request)
        refusal = self._enter(request, presented, outcome)
        if refusal is not None:
            return refusal
        response: HttpResponseBase = self.get_response(request)
        return self._leave(request, response, presented, outcome)

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        """The same, under ASGI."""
        presented, outcome = self._begin(request)
        if presented is not None and outcome is None:
            try:
                outcome = await self._gate.admit(presented)
            except Unavailable:
                return _response(self._answers.unavailable(), request)
        refusal = self._enter(request, presented, outcome)
        if refusal is not None:
            return refusal
        response: HttpResponseBase = await self.get_response(request)
        return self._leave(request, response, presented, outcome)

    def process_exception(
        self,
        request: HttpRequest,
        exception: Exception,
    ) -> HttpResponseBase | None:
        """What a view's own call to `Sessions` raised: 503 for an outage, 401 for a refusal."""
        if isinstance(exception, Unavailable):
            return _response(self._answers.unavailable(), request)
        if isinstance(exception, RefusedError):
            return _response(self._answers.refuse(exception.reason), request)
        return None

    def _begin(self, request: HttpRequest) -> tuple[Presented | None, Outcome | None]:
        """What is presented, and the answer where it is remembered; neither: nothing is."""
        self._disown(request)
        gate, reader, environ = self._gate, self._reader, request.META
        gate.wake()
        only = reader.lone(environ)
        remembered = None if only is None else gate.peek_header(*only)
        outcome = None if remembered is None else Outcome(remembered, "header")
        if outcome is not None and adds_nothing(outcome):
            return None, outcome
        presented = reader.find(environ, path=request.path, mount=_mount(request))
        if presented is None:
            return None, None
        return presented, outcome or gate.peek(presented)

    def _enter(
        self, request: HttpRequest, presented: Presented | None, outcome: Outcome | None
    ) -> HttpResponseBase | None:
        """The refusal, or None: the request goes on, with what it may know on it."""
        verdict = None if outcome is None else outcome.verdict
        if isinstance(verdict, Refused) and outcome is not None and presented is not None:
            answer = self._answers.refuse(verdict.reason)
            response = _response(answer, request)
            self._amend(request, response, presented, outcome)
            return response
        admitted = verdict if isinstance(verdict, Admitted) else None
        attach(request, None if admitted is None else admitted.principal, self._configuration)
        if admitted is not None and outcome is not None and outcome.place == "header":
            request._dont_enforce_csrf_checks = True  # type: ignore[attr-defined] # noqa: SLF001 - what Django's and DRF's CSRF checks ask
        if outcome is not None and not adds_nothing(outcome):
            self._hide(request, outcome)
        return None

    def _leave(
        self,
        request: HttpRequest,
        response: HttpResponseBase,
        presented: Presented | None,
        outcome: Outcome | None,
    ) -> HttpResponseBase:
        if presented is None or outcome is None or adds_nothing(outcome):
            return response
        self._amend(request, response, presented, outcome)
        self._gate.observed(presented.path, outcome, response.status_code)
        return response

    def _amend(
        self,
        request: HttpRequest,
        response: HttpResponseBase,
        presented: Presented,
        outcome: Outcome,
    ) -> None:
        before = _lines(response)
        after = self._answers.amend(
            before,
            code=response.status_code,
            outcome=outcome,
            asked=self._reader.asked(request.META, presented),
        )
        if after != before:
            _set(response, before, after)
            # UpdateCacheMiddleware of older releases would keep what is marked no-store.
            request._cache_update_cache = False  # type: ignore[attr-defined] # noqa: SLF001 - its own switch

    def _disown(self, request: HttpRequest) -> None:
        """Drop the headers by which a client says who it is."""
        environ = request.META
        if environ.keys().isdisjoint(IDENTITY_KEYS):
            return
        for key in IDENTITY_KEYS:
            environ.pop(key, None)
        _recompute(request)
        scope = getattr(request, "scope", None)
        if scope is not None:
            headers = clean(self._places, scope["headers"])
            request.scope = {**scope, "headers": headers}  # type: ignore[attr-defined] # ASGIRequest

    def _hide(self, request: HttpRequest, outcome: Outcome) -> None:
        """Take dead credentials of ours out of everything views read."""
        if not self._reader.hide(request.META, outcome):
            return
        _recompute(request)
        scope = getattr(request, "scope", None)
        if scope is not None:
            cookies, strips, _ = hidden(self._places, outcome)
            headers = clear(self._places, scope["headers"], cookies=cookies, explicit=strips)
            query = raw(request.META.get("QUERY_STRING", ""))
            request.scope = {**scope, "headers": headers, "query_string": query}  # type: ignore[attr-defined] # ASGIRequest


def _mount(request: HttpRequest) -> str:
    """How much of the path leads to the app."""
    return request.path.removesuffix(request.path_info.removeprefix("/")).rstrip("/")


def _recompute(request: HttpRequest) -> None:
    for name in _COMPUTED:
        request.__dict__.pop(name, None)


def _response(answer: Answer, request: HttpRequest) -> HttpResponse:
    headers = {name.decode(): value.decode("latin-1") for name, value in answer.headers}
    body = b"" if request.method == "HEAD" else answer.body
    return HttpResponse(body, status=answer.status, headers=headers)


def _lines(response: HttpResponseBase) -> list[tuple[bytes, bytes]]:
    """The response's header lines, each cookie a line of its own."""
    lines = [(raw(name), raw(value)) for name, value in response.items()]
    cookies = [(b"Set-Cookie", raw(each.OutputString())) for each in response.cookies.values()]
    return [*lines, *cookies]


def _set(
    response: HttpResponseBase,
    before: list[tuple[bytes, bytes]],
    after: list[tuple[bytes, bytes]],
) -> None:
    """Make `after` of a response whose lines were `before`."""
    kept: dict[str, str] = {}
    for name, value in after:
        text = value.decode("latin-1")
        if name.lower() == _SET_COOKIE.encode():
            if (name, value) not in before:
                response.cookies.update(SimpleCookie(text))
            continue
        key = name.decode("latin-1")
        same = next((known for known in kept if known.lower() == key.lower()), None)
        if same is None:
            kept[key] = text
        else:  # Django keeps one line of a name; a list of them means the same
            kept[same] = f"{kept[same]}, {text}"
    wanted = {name.lower() for name in kept}
    for gone in [key for key, _ in response.items() if key.lower() not in wanted]:
        del response[gone]
    for key, text in kept.items():
        response[key] = text
