"""The short way in: taken only where the long one would find the same and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.core.flow import run
from migrator.core.presented import Outcome
from migrator.core.verdicts import Admitted, Principal
from migrator.settings import Settings
from shims import asgi, wsgi
from shims.credentials import Places, find, lone
from shims.messages import Message, Receive, Scope, Send
from tests.shims.conftest import AsyncScriptedGate, ScriptedGate, settings_with

TOKEN = b"sess_" + b"a" * 49
LINE = (b"authorization", b"Bearer " + TOKEN)
USUAL = [(b"host", b"a.example"), (b"user-agent", b"app/1"), (b"accept", b"*/*")]


def places_of(settings: Settings) -> Places:
    """Places that have seen the usual headers before."""
    places = Places.of(settings)
    find(places, [*USUAL, LINE], method="GET", path="/")
    return places


def test_a_single_usual_line_is_found_with_its_issuers(
    settings: Callable[..., Settings],
) -> None:
    places = places_of(settings())
    assert lone(places, [*USUAL, LINE]) == (TOKEN, frozenset({"a1"}))


@pytest.mark.parametrize(
    "line",
    [
        LINE,
        (b"authorization", b"Basic abc"),
        (b"Authorization", b"Bearer " + TOKEN),
        (b"cookie", b"__Host-session=x"),
        (b"cookie", b"theme=dark"),
        (b"x-remote-user", b"root"),
        (b"X_Remote_User", b"root"),
        (b"never-seen-before", b"1"),
    ],
)
def test_whatever_else_could_matter_leads_the_long_way(
    settings: Callable[..., Settings], line: tuple[bytes, bytes]
) -> None:
    places = places_of(settings())
    assert lone(places, [*USUAL, LINE, line]) is None
    find(places, [line], method="GET", path="/")
    if line[0] != b"never-seen-before":
        assert lone(places, [*USUAL, LINE, line]) is None


def test_a_query_leads_the_long_way_where_an_issuer_uses_one(
    settings: Callable[..., Settings],
) -> None:
    places = places_of(
        settings({"header": "Authorization", "scheme": "Bearer"}, {"query": "token"})
    )
    assert lone(places, [LINE], b"token=x") is None
    assert lone(places, [LINE], b"") is not None
    assert lone(places_of(settings()), [LINE], b"token=x") is not None


_names = st.sampled_from(
    [b"authorization", b"Authorization", b"cookie", b"x-user-id", b"X_USER_ID", b"accept", b"x-k"]
)
_values = st.sampled_from(
    [LINE[1], b"bearer " + TOKEN, b"Token x", b" Bearer x", b"Bearer", TOKEN, b"", b"Basic x"]
)


@given(st.lists(st.tuples(_names, _values), max_size=4), st.booleans())
def test_it_never_finds_what_the_long_way_does_not(
    headers: list[tuple[bytes, bytes]], is_bare: bool
) -> None:
    """P10: a memory hit must not let through what would have been a fault of the request."""
    scheme = "" if is_bare else "Bearer"
    places = places_of(settings_with(scheme=scheme))
    found = lone(places, headers)
    presented, lies = find(places, headers, method="GET", path="/")
    if found is not None and found[0].strip():
        assert presented is not None
        assert presented.header is not None
        assert (presented.header.value, presented.header.issuers) == found
        assert (presented.fault, presented.session_cookie, lies) == (None, None, False)


def test_every_asgi_request_and_start_sees_to_the_pulse(
    settings: Callable[..., Settings], async_gate: AsyncScriptedGate
) -> None:
    """P7: a node that gets no credentials has to be counted all the same."""
    seen: list[str] = []

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append(scope["type"])

    async def receive() -> Message:
        return {}

    async def send(_message: Message) -> None:
        return None

    shim = asgi.DualAcceptMiddleware(app, settings(), gate=async_gate)
    for kind in ("lifespan", "http", "websocket"):
        scope: Scope = {"type": kind, "method": "GET", "path": "/", "headers": []}
        run(shim(scope, receive, send))
    assert seen == ["lifespan", "http", "websocket"]
    assert async_gate.woken == 3


def test_every_wsgi_request_sees_to_the_pulse(
    settings: Callable[..., Settings], gate: ScriptedGate
) -> None:
    shim = wsgi.DualAcceptMiddleware(lambda _environ, _start: [], settings(), gate=gate)
    shim({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda *_: lambda _: None)
    assert gate.woken == 1


@pytest.mark.parametrize("more", [{}, {"HTTP_COOKIE": "theme=dark"}])
def test_a_remembered_header_is_admitted_over_wsgi_whichever_way_it_went(
    settings: Callable[..., Settings],
    gate: ScriptedGate,
    ada: Principal,
    more: dict[str, str],
) -> None:
    gate.remembers = True
    gate.answers[TOKEN] = Outcome(Admitted(ada), "header")
    shim = wsgi.DualAcceptMiddleware(lambda _environ, _start: [], settings(), gate=gate)
    line = {"HTTP_AUTHORIZATION": LINE[1].decode()}
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", **line, **more}
    shim(environ, lambda *_: lambda _: None)
    assert environ["REMOTE_USER"] == "ada"
    assert bool(gate.asked) == bool(more)
