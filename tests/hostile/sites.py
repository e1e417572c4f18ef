"""One app in three colours behind the shim, that says what reached it and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import re_path

from shims.asgi import DualAcceptMiddleware as Asgi
from shims.wsgi import DualAcceptMiddleware as Wsgi


def asgi() -> Asgi:
    """For uvicorn."""
    return Asgi(_answer)


def wsgi() -> Wsgi:
    """For gunicorn."""
    return Wsgi(_respond)


def django() -> Any:
    """A Django project, for gunicorn."""
    from django.conf import settings  # noqa: PLC0415 - the other colours need none of it
    from django.core.wsgi import get_wsgi_application  # noqa: PLC0415 - as above

    settings.configure(
        SECRET_KEY="the site's own, which signs nothing here",
        ALLOWED_HOSTS=["*"],
        DATABASES={"default": {"ENGINE": "django.db.backends.dummy"}},
        INSTALLED_APPS=[
            "django.contrib.contenttypes",
            "django.contrib.auth",
            "shims.django",
        ],
        LOGGING_CONFIG=None,
        MIDDLEWARE=["shims.django.middleware.DualAcceptMiddleware"],
        MIGRATOR={"USER_FROM": "none"},
        ROOT_URLCONF="tests.hostile.sites",
    )
    return get_wsgi_application()


def _seen(principal: Any, headers: Iterable[tuple[str, str]]) -> bytes:
    return json.dumps(
        {
            "subject": principal and principal.subject,
            "via": principal and principal.via,
            "session": str(principal.session.id) if principal and principal.session else None,
            "headers": sorted([name.lower().replace("_", "-"), value] for name, value in headers),
        }
    ).encode()


async def _answer(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        for _ in range(2):
            said = (await receive())["type"]
            await send({"type": f"{said}.complete"})
        return
    while (await receive()).get("more_body"):
        pass
    lines = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
    body = _seen(scope["state"]["principal"], lines)
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": body})


def _respond(environ: Any, start_response: Any) -> list[bytes]:
    environ["wsgi.input"].read()
    names = [*(name for name in environ if name.startswith("HTTP_")), "REMOTE_USER"]
    lines = [(name.removeprefix("HTTP_"), environ.get(name) or "") for name in names]
    body = _seen(environ["migrator.principal"], lines)
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def _view(request: HttpRequest) -> HttpResponse:
    lines = [*request.headers.items(), ("remote-user", request.META.get("REMOTE_USER") or "")]
    return HttpResponse(_seen(request.principal, lines))  # type: ignore[attr-defined] # ours


urlpatterns = [re_path("", _view)]
