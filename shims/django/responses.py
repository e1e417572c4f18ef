"""Django's responses as header lines and back: what the rules of every shim read and write.

Django keeps one line of a name, and cookies apart; here each is a line, as it will be sent.
"""

from __future__ import annotations

from http.cookies import SimpleCookie
from typing import TypeAlias

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from shims.answers import Answer
from shims.environ import raw

Lines: TypeAlias = list[tuple[bytes, bytes]]


def response_of(answer: Answer, request: HttpRequest) -> HttpResponse:
    """An answer of ours."""
    headers = {name.decode(): value.decode("latin-1") for name, value in answer.headers}
    body = b"" if request.method == "HEAD" else answer.body
    return HttpResponse(body, status=answer.status, headers=headers)


def lines_of(response: HttpResponseBase) -> Lines:
    """The response's header lines, each cookie a line of its own."""
    lines = [(raw(name), raw(value)) for name, value in response.items()]
    cookies = [(b"Set-Cookie", raw(each.OutputString())) for each in response.cookies.values()]
    return [*lines, *cookies]


def rewrite(response: HttpResponseBase, before: Lines, after: Lines) -> None:
    """Make `after` of the lines of a response that were `before`."""
    kept: dict[str, str] = {}
    for name, value in after:
        text = value.decode("latin-1")
        if name.lower() == b"set-cookie":
            if (name, value) not in before:
                _set_cookie(response, text)
            continue
        key = name.decode("latin-1")
        same = next((known for known in kept if known.lower() == key.lower()), None)
        if same is None:
            kept[key] = text
        else:  # a list of them means the same
            kept[same] = f"{kept[same]}, {text}"
    wanted = {name.lower() for name in kept}
    for gone in [key for key, _ in response.items() if key.lower() not in wanted]:
        del response[gone]
    for key, text in kept.items():
        response[key] = text


def _set_cookie(response: HttpResponseBase, line: str) -> None:
    """Set a cookie by its line; one of another Domain or Path stands beside its namesake."""
    for name, morsel in SimpleCookie(line).items():
        namesake = response.cookies.get(name)
        where = (morsel["domain"], morsel["path"])
        if namesake is None or (namesake["domain"], namesake["path"]) == where:
            response.cookies[name] = morsel
        else:  # the key is Django's to look up by, the line is written from the morsel
            dict.__setitem__(response.cookies, f"{name};{where}", morsel)
