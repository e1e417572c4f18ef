"""A site whose module of views keeps what its views call."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import path

from shims.django.sessions import async_sessions, sessions

OURS, THEIRS = sessions(), async_sessions()


def enter(_: HttpRequest) -> HttpResponse:
    """A login."""
    return HttpResponse(str(OURS.login("7", legacy=lambda: "").token))


async def aenter(_: HttpRequest) -> HttpResponse:
    """The same, from an async view."""
    issued = await THEIRS.login("7", legacy=lambda: "")
    return HttpResponse(str(issued.token))


urlpatterns = [path("enter", enter), path("aenter", aenter)]
