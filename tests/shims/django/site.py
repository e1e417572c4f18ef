"""A site that tells what reaches its views, behind the middleware with a gate of the tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import include, path
from django.utils.decorators import sync_and_async_middleware
from django.views.decorators.csrf import csrf_exempt
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from migrator.core.errors import Refused, Unavailable
from migrator.core.verdicts import Reason
from migrator.settings import Settings
from shims.django.middleware import DualAcceptMiddleware
from shims.drf import DualAcceptAuthentication, HasScopes, SessionTokenAuthentication

SCRIPTED = "tests.shims.django.site.scripted"
EARLY = "tests.shims.django.site.early"


@dataclass
class Stand:
    """What the next handler that is built is given."""

    settings: Settings | None = None
    gate: Any = None
    async_gate: Any = None


STAND = Stand()


@sync_and_async_middleware
def scripted(get_response: Callable[[HttpRequest], Any]) -> Any:
    """The middleware with the stand's gate, of the colour that Django wants."""
    gate = STAND.async_gate if iscoroutinefunction(get_response) else STAND.gate
    return DualAcceptMiddleware(get_response, STAND.settings, gate=gate)


@sync_and_async_middleware
def early(get_response: Callable[[HttpRequest], Any]) -> Any:
    """One in front that reads what Django computes once and keeps."""

    def read(request: HttpRequest) -> None:
        assert [request.headers, request.COOKIES, request.GET]

    if iscoroutinefunction(get_response):

        async def aread(request: HttpRequest) -> Any:
            read(request)
            return await get_response(request)

        return aread

    def bread(request: HttpRequest) -> Any:
        read(request)
        return get_response(request)

    return bread


def _said(request: Any, user: Any) -> dict[str, object]:
    principal = request.principal
    scope = getattr(request, "scope", {})
    return {
        "user": user.get_username() or None,
        "subject": None if principal is None else principal.subject,
        "headers": dict(request.headers),
        "cookies": request.COOKIES,
        "query": request.META["QUERY_STRING"],
        "args": dict(request.GET.items()),
        "body": request.body.decode(),
        "scope": str(scope.get("headers", "")) + str(scope.get("query_string", "")),
    }


@csrf_exempt
def echo(request: HttpRequest) -> HttpResponse:
    """Everything a view can read of who asks."""
    return JsonResponse(_said(request, request.user))


async def aecho(request: HttpRequest) -> HttpResponse:
    """The same, from an async view."""
    user = await request.auser()
    again = await request.auser()
    assert user is again
    return JsonResponse(_said(request, user))


def form(request: HttpRequest) -> HttpResponse:
    """A view that Django guards against forged requests."""
    return JsonResponse(_said(request, request.user))


def told(request: HttpRequest) -> HttpResponse:
    """A response with the status and headers that the query asks for."""
    response = HttpResponse("body", status=int(request.GET.get("status", "200")))
    for name, value in request.GET.items():
        if name == "cookie":
            response.set_cookie(str(value), "the app's own")
        elif name != "status":
            response[name] = str(value)
    return response


def stream(_: HttpRequest) -> StreamingHttpResponse:
    """Three lines, one by one."""

    def lines() -> Iterator[bytes]:
        for number in range(3):
            yield b"%d\n" % number

    return StreamingHttpResponse(lines())


def stream_echo(request: HttpRequest) -> StreamingHttpResponse:
    """The credential it was given, in two pieces."""
    given = request.headers["Authorization"].encode()
    return StreamingHttpResponse(iter([given[:40], given[40:]]), content_type="text/plain")


async def astream_echo(request: HttpRequest) -> StreamingHttpResponse:
    """The same, from an async view."""
    given = request.headers["Authorization"].encode()

    async def pieces() -> AsyncIterator[bytes]:
        yield given[:40]
        yield given[40:]

    return StreamingHttpResponse(pieces(), content_type="text/plain")


def down(_: HttpRequest) -> HttpResponse:
    """A view whose own call finds the store away."""
    raise Unavailable("postgres")


def refused(_: HttpRequest) -> HttpResponse:
    """A view whose own call is refused."""
    raise Refused(Reason.SESSION_ENDED)


class Api(APIView):
    """A DRF view that takes either credential from us."""

    authentication_classes = (DualAcceptAuthentication,)
    permission_classes = (HasScopes,)
    required_scopes: Any = MappingProxyType({"GET": ["read"], "POST": ["read", "write"]})

    def get(self, request: Request) -> Response:
        """Who asks, as DRF knows it."""
        principal: Any = request.auth
        return Response({"user": request.user.get_username(), "via": principal.via})

    def post(self, request: Request) -> Response:
        """The same."""
        return self.get(request)

    def put(self, request: Request) -> Response:
        """Named by no scope."""
        return self.get(request)


class SessionsOnly(Api):
    """A DRF view that leaves JWTs to classes behind ours, of which there are none."""

    authentication_classes = (SessionTokenAuthentication,)
    required_scopes = ()


urlpatterns = [
    path("", echo),
    path("async", aecho),
    path("form", form),
    path("login", echo),
    path("caf\u00e9", echo),
    path("told", told),
    path("stream", stream),
    path("stream-echo", stream_echo),
    path("astream-echo", astream_echo),
    path("down", down),
    path("refused", refused),
    path("api", Api.as_view()),
    path("sessions-only", SessionsOnly.as_view()),
    path("api/<int:id>/", include([path("login/", Api.as_view())])),
]
