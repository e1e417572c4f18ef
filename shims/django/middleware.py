"""The Django middleware: credentials in, principal and user on the request, tokens out.

    MIDDLEWARE = [..., "django.contrib.auth.middleware.AuthenticationMiddleware",
                  "shims.django.middleware.DualAcceptMiddleware", ...]

Behind Django's own AuthenticationMiddleware, which else would put its user in ours' place, and
behind whatever adds CORS headers, which refusals need too. Of either colour, as the handler asks.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings as project
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from migrator import wiring
from migrator.core.errors import Refused as RefusedError
from migrator.core.errors import Unavailable
from migrator.core.flow import run
from migrator.core.presented import Outcome, Presented
from migrator.core.verdicts import Admitted, Reason, Refused
from migrator.settings import Refusal, Settings
from shims.answers import Answers, adds_nothing
from shims.bridging import Bridge
from shims.comparing import pairing_of, pairing_of_hit
from shims.credentials import Places, clean, clear, route_of
from shims.django.configuration import Configuration, configuration
from shims.django.crossing import Over, body_of, mount_of, recompute, set_scope
from shims.django.responses import lines_of, response_of, rewrite
from shims.django.users import attach
from shims.environ import IDENTITY_KEYS, EnvironReader, hidden, raw


class DualAcceptMiddleware:
    """Accepts legacy tokens and sessions on the same routes, as the phase of the rollout says.

    Sets `request.principal` (None: there is none) and, where there is one, `request.user` and
    `request.auser`. A request whose user comes of a header alone needs no CSRF token: no other
    site can make a browser send one. One by cookie is held to `shims/csrf.py`, and to Django's own
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
        is_worded = settings.http.refusal != Refusal()
        self._words = None if is_worded else self._configuration.words
        make_bridge = wiring.async_bridge if self._is_async else wiring.blocking_bridge
        flow = make_bridge(settings)
        self._over = None if flow is None else Over(Bridge.of(settings, self._places, flow))

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Answer a request, or hand it on with its principal."""
        if self._is_async:
            return self.__acall__(request)
        try:
            presented, outcome = self._begin(request)
            if presented is not None and outcome is None:
                outcome = self._gate.admit(presented)
        except (Unavailable, RefusedError) as error:
            return self._fail(error, request)
        refusal = self._enter(request, presented, outcome)
        if refusal is not None:
            return refusal
        response = self._onward(request, presented, outcome)
        return self._leave(request, response, presented, outcome)

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        """The same, under ASGI."""
        try:
            presented, outcome = self._begin(request)
            if presented is not None and outcome is None:
                outcome = await self._gate.admit(presented)
        except (Unavailable, RefusedError) as error:
            return self._fail(error, request)
        refusal = self._enter(request, presented, outcome)
        if refusal is not None:
            return refusal
        response = await self._aonward(request, presented, outcome)
        return self._leave(request, response, presented, outcome)

    def process_exception(
        self,
        request: HttpRequest,
        exception: Exception,
    ) -> HttpResponseBase | None:
        """What a view's own call to `Sessions` raised: 503 for an outage, 401 for a refusal."""
        if isinstance(exception, Unavailable | RefusedError):
            return self._fail(exception, request)
        return None

    def _fail(self, error: Unavailable | RefusedError, request: HttpRequest) -> HttpResponseBase:
        if isinstance(error, Unavailable):
            return response_of(self._answers.unavailable(), request)
        return self._refuse(error.reason, request)

    def _refuse(self, reason: Reason, request: HttpRequest) -> HttpResponseBase:
        """The refusal in the project's own words, where it has any for this."""
        answer = None
        if self._words is not None:
            route = route_of(self._places, request.path, mount_of(request))
            answer = self._words(request, reason, route)
        return response_of(answer or self._answers.refuse(reason), request)

    def _onward(
        self, request: HttpRequest, presented: Presented | None, outcome: Outcome | None
    ) -> HttpResponseBase:
        """The views' response, over the bridge where there is one."""
        response: HttpResponseBase
        if self._over is None:
            response = self.get_response(request)
            self._compare(request, response, presented, outcome)
            return response
        body = self._body(request)
        crossing = self._over.crossing(request, presented, outcome, body)
        try:
            run(self._over.enter(crossing, request))
            response = self.get_response(request)
            self._compare(request, response, presented, outcome)
            run(self._over.leave(crossing, response))
        except (Unavailable, RefusedError) as error:
            return self._fail(error, request)
        return response

    async def _aonward(
        self, request: HttpRequest, presented: Presented | None, outcome: Outcome | None
    ) -> HttpResponseBase:
        """The same, under ASGI."""
        response: HttpResponseBase
        if self._over is None:
            response = await self.get_response(request)
            self._compare(request, response, presented, outcome)
            return response
        body = self._body(request)
        crossing = self._over.crossing(request, presented, outcome, body)
        try:
            await self._over.enter(crossing, request)
            response = await self.get_response(request)
            self._compare(request, response, presented, outcome)
            await self._over.leave(crossing, response)
        except (Unavailable, RefusedError) as error:
            return self._fail(error, request)
        return response

    def _compare(
        self,
        request: HttpRequest,
        response: HttpResponseBase,
        presented: Presented | None,
        outcome: Outcome | None,
    ) -> None:
        """Have the views' answer held against the shim's verdict, in `observe`."""
        verdict = None if outcome is None else outcome.verdict
        shadow = None if verdict is None or isinstance(verdict, Refused) else verdict.shadow
        if outcome is None or shadow is None:
            return
        method = request.method or ""
        if presented is None:
            path, mount = request.path, mount_of(request)
            pairing = pairing_of_hit(
                *(self._gate, self._places, shadow), method=method, path=path, mount=mount
            )
        else:
            pairing = pairing_of(self._gate, self._places, outcome, presented, method=method)
        if pairing is not None:
            pairing.take(response.status_code, response.get("Location"))

    def _begin(self, request: HttpRequest) -> tuple[Presented | None, Outcome | None]:
        """What is presented, and the answer where it is remembered; neither: nothing is."""
        self._disown(request)
        gate, reader, environ = self._gate, self._reader, request.META
        gate.wake()
        strict = self._places.routes.strict
        quick = self._over is None and (
            strict is None or not strict.covers(request.path, mount_of(request))
        )
        only = reader.lone(environ) if quick else None
        remembered = None if only is None else gate.peek_header(*only)
        outcome = None if remembered is None else Outcome(remembered, "header")
        if outcome is not None and adds_nothing(outcome):
            return None, outcome
        presented = reader.find(
            environ, path=request.path, mount=mount_of(request), body=self._body(request)
        )
        if presented is None:
            return None, None
        return presented, outcome or gate.peek(presented)

    def _body(self, request: HttpRequest) -> bytes:
        """The request's body, where it may present a credential; Django keeps what it has read."""
        return body_of(request) if self._reader.reads_body(request.META) else b""

    def _enter(
        self, request: HttpRequest, presented: Presented | None, outcome: Outcome | None
    ) -> HttpResponseBase | None:
        """The refusal, or None: the request goes on, with what it may know on it."""
        verdict = None if outcome is None else outcome.verdict
        if isinstance(verdict, Refused) and outcome is not None and presented is not None:
            response = self._refuse(verdict.reason, request)
            self._amend(request, response, presented, outcome)
            return response
        principal = verdict.principal if isinstance(verdict, Admitted) else None
        is_user = attach(request, principal, self._configuration)
        if is_user and outcome is not None and outcome.place == "header":
            _exempt(request)
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
        before = lines_of(response)
        after = self._answers.amend(
            before,
            code=response.status_code,
            outcome=outcome,
            asked=self._reader.asked(request.META, presented),
        )
        if after != before:
            rewrite(response, before, after)
            # UpdateCacheMiddleware of older releases would keep what is marked no-store.
            request._cache_update_cache = False  # type: ignore[attr-defined] # noqa: SLF001 - its own switch

    def _disown(self, request: HttpRequest) -> None:
        """Drop the headers by which a client says who it is."""
        environ = request.META
        if environ.keys().isdisjoint(IDENTITY_KEYS):
            return
        for key in IDENTITY_KEYS:
            environ.pop(key, None)
        recompute(request)
        scope = getattr(request, "scope", None)
        if scope is not None:
            set_scope(request, headers=clean(self._places, scope["headers"]))

    def _hide(self, request: HttpRequest, outcome: Outcome) -> None:
        """Take dead credentials of ours out of everything views read."""
        if not self._reader.hide(request.META, outcome):
            return
        recompute(request)
        scope = getattr(request, "scope", None)
        if scope is not None:
            cookies, strips, _ = hidden(self._places, outcome)
            headers = clear(self._places, scope["headers"], cookies=cookies, explicit=strips)
            query = raw(request.META.get("QUERY_STRING", ""))
            set_scope(request, headers=headers, query_string=query)


def _exempt(request: HttpRequest) -> None:
    """Ask for no CSRF token, unless the browser's own login at the site came along.

    With a token of the attacker's in the header it would be another user's session that acts.
    """
    if project.SESSION_COOKIE_NAME not in request.COOKIES:
        request._dont_enforce_csrf_checks = True  # type: ignore[attr-defined] # noqa: SLF001 - what Django's and DRF's checks ask
