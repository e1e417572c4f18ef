"""Every phase x credential x cohort, through both shims: one table, one test."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from migrator import wiring
from migrator.core.phases import Phase, bucket_of
from shims.asgi import DualAcceptMiddleware as AsgiMiddleware
from shims.wsgi import DualAcceptMiddleware as WsgiMiddleware
from tests.conftest import DatabaseServer
from tests.rig import ISSUER, Rig, sign, sign_refresh

PERCENT = 50
PHASES = tuple(Phase)

# What the app or the client sees, phase by phase: observe, swap, drain, cutover, retired.
# In `swap` a pair: in the cohort | outside it.
TABLE: dict[str, tuple[str, str, str, str, str]] = {
    "none": ("anonymous",) * 5,
    "session": ("session",) * 5,
    "session cookie": ("session",) * 5,
    "api token": ("session",) * 5,
    "ended session": ("revoked",) * 5,
    "ended session cookie": ("anonymous",) * 5,
    "mistyped session": ("invalid",) * 5,
    "legacy": (
        "legacy",
        "legacy+token|legacy",
        "legacy+token",
        "legacy_retired",
        "legacy_retired",
    ),
    "legacy cookie": (
        "legacy",
        "legacy+token|legacy",
        "legacy+token",
        "legacy_retired",
        "legacy_retired",
    ),
    "short legacy": ("legacy", "legacy", "legacy", "legacy_retired", "legacy_retired"),
    "legacy of an ended session": (
        "revoked",
        "revoked",
        "revoked",
        "legacy_retired",
        "legacy_retired",
    ),
    "legacy cut off": ("revoked", "revoked", "revoked", "legacy_retired", "legacy_retired"),
    "legacy denied": ("revoked", "revoked", "revoked", "legacy_retired", "legacy_retired"),
    "expired legacy": ("app", "app", "app", "expired", "legacy_retired"),
    "refresh token": ("app", "invalid", "invalid", "invalid", "legacy_retired"),
    "forged legacy": ("app", "invalid", "invalid", "invalid", "legacy_retired"),
    "re-spelt legacy": ("app", "invalid", "invalid", "invalid", "legacy_retired"),
    "nobody's jwt": ("app", "invalid", "invalid", "invalid", "legacy_retired"),
    "foreign bearer": ("app",) * 5,
    "foreign scheme": ("app",) * 5,
}


@dataclass(frozen=True)
class Seen:
    """One answer, and what the app behind it saw."""

    status: int
    headers: httpx.Headers
    body: dict[str, Any]


Ask = Callable[[dict[str, str]], Seen]


def shown(principal: Any, authorization: str | None, cookie: str | None) -> dict[str, Any]:
    return {
        "subject": principal and principal.subject,
        "via": principal and principal.via,
        "authorization": authorization,
        "cookie": cookie,
    }


def asgi(rig: Rig) -> Ask:
    async def app(scope: MutableMapping[str, Any], _receive: Any, send: Any) -> None:
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        body = shown(
            scope["state"]["principal"], headers.get("authorization"), headers.get("cookie")
        )
        await httpx_response(body)(scope, _receive, send)

    middleware = AsgiMiddleware(app, rig.settings(**BOTH_PLACES))

    def ask(headers: dict[str, str]) -> Seen:
        async def request() -> httpx.Response:
            transport = httpx.ASGITransport(app=middleware)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.get("/", headers=headers)

        answer = asyncio.run(request())
        return Seen(answer.status_code, answer.headers, answer.json())

    return ask


def httpx_response(body: dict[str, Any]) -> Callable[..., Awaitable[None]]:
    from starlette.responses import JSONResponse  # noqa: PLC0415 - the ASGI half alone needs it

    return JSONResponse(body)


def wsgi(rig: Rig) -> Ask:
    from werkzeug.wrappers import Response  # noqa: PLC0415 - the WSGI half alone needs it

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        body = shown(
            environ["migrator.principal"],
            environ.get("HTTP_AUTHORIZATION"),
            environ.get("HTTP_COOKIE"),
        )
        return Response(httpx.Response(200, json=body).content, content_type="application/json")(
            environ, start_response
        )

    middleware = WsgiMiddleware(app, rig.settings(**BOTH_PLACES))

    def ask(headers: dict[str, str]) -> Seen:
        transport = httpx.WSGITransport(app=middleware)
        with httpx.Client(transport=transport, base_url="http://test") as client:
            answer = client.get("/", headers=headers)
        return Seen(answer.status_code, answer.headers, answer.json())

    return ask


SHIMS = {"asgi": asgi, "wsgi": wsgi}
BOTH_PLACES = {
    "issuers": [
        {
            **ISSUER,
            "transport": [
                {"header": "Authorization", "scheme": "Bearer"},
                {"cookie": "access_token"},
            ],
        }
    ]
}
SUBJECTS = {
    "in": next(s for s in map("in{}".format, range(999)) if bucket_of(s, "users") < PERCENT),
    "out": next(s for s in map("out{}".format, range(999)) if bucket_of(s, "users") >= PERCENT),
}


@dataclass(frozen=True)
class House:
    """A rollout in one phase, both shims before it, and every credential of the table."""

    asks: dict[str, Ask]
    headers: dict[tuple[str, str], dict[str, str]]


@pytest.fixture(scope="module", params=PHASES, ids=str)
def house(
    request: pytest.FixtureRequest, postgres: DatabaseServer, migrated_template: str
) -> Iterator[tuple[Phase, House]]:
    phase: Phase = request.param
    name = f"phase_{phase}"
    rig = Rig(postgres.create_database(name, migrated_template))
    rig.move("drain")
    headers: dict[tuple[str, str], dict[str, str]] = {}
    for cohort, subject in SUBJECTS.items():
        headers |= {(kind, cohort): value for kind, value in credentials(rig, subject).items()}
    rig.move(phase, percent=PERCENT)
    yield phase, House({name: make(rig) for name, make in SHIMS.items()}, headers)
    wiring.stop()
    postgres.drop_database(name)


def credentials(rig: Rig, subject: str) -> dict[str, dict[str, str]]:
    """The headers of each credential of the table."""
    sessions = wiring.operator(rig.settings(**BOTH_PLACES))
    try:
        alive = str(sessions.login(subject, legacy=lambda: "").token)
        ended = str(sessions.login(subject, legacy=lambda: "").token)
        api = str(sessions.create_api_token(subject, label="cell").token)
        sessions.end(ended)
        refresh = sign_refresh(subject)
        loser = str(sessions.exchange(refresh, legacy=lambda: "").token)
        lost = _swapped(rig, subject)
        sessions.end(loser)
        sessions.end(lost)
        denied = sign(subject)
        sessions.end(denied)
        rig.execute(
            "INSERT INTO migrator.cutoffs (realm, subject, not_before)"
            " VALUES ('users', %s, now())",
            f"{subject}-cut",
        )
        good = sign(subject)
        return {
            "none": {},
            "session": bearer(alive),
            "session cookie": {"cookie": f"session={alive}"},
            "api token": bearer(api),
            "ended session": bearer(ended),
            "ended session cookie": {"cookie": f"session={ended}"},
            "mistyped session": bearer(alive[:-1] + ("a" if alive[-1] != "a" else "b")),
            "legacy": bearer(sign(subject)),
            "legacy cookie": {"cookie": f"access_token={sign(subject)}"},
            "short legacy": bearer(sign(subject, lasts_s=300)),
            "legacy of an ended session": bearer(lost),
            "legacy cut off": bearer(sign(f"{subject}-cut")),
            "legacy denied": bearer(denied),
            "expired legacy": bearer(sign(subject, lasts_s=-3600)),
            "refresh token": bearer(sign_refresh(subject)),
            "forged legacy": bearer(sign(subject, secret="another secret of the right length!!")),
            "re-spelt legacy": bearer(good + "="),
            "nobody's jwt": bearer(sign(subject, claims={"iss": "https://evil.example"})),
            "foreign bearer": bearer("an-opaque-key-of-somebody-else"),
            "foreign scheme": {"authorization": "Basic dTpw"},
        }
    finally:
        wiring.stop()


def _swapped(rig: Rig, subject: str) -> str:
    """A legacy token that became a session, as a request would have it."""
    token = sign(subject)
    answer = wsgi(rig)(bearer(token))
    assert "session-token" in answer.headers
    return token


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@pytest.mark.parametrize("shim", SHIMS)
@pytest.mark.parametrize("cohort", SUBJECTS)
@pytest.mark.parametrize("kind", TABLE)
def test_p5_each_credential_gets_what_its_phase_says(
    house: tuple[Phase, House], kind: str, cohort: str, shim: str
) -> None:
    phase, built = house
    expected = expected_of(phase, kind, cohort)
    for _ in range(2):  # once asked, once remembered
        seen = built.asks[shim](built.headers[kind, cohort])
        assert described(seen) == expected
    if "token" in expected:
        handed = seen.headers.get("session-token") or seen.headers["set-cookie"]
        assert ("set-cookie" in seen.headers) == (kind == "legacy cookie")
        assert "sess_" in handed
        assert seen.headers["cache-control"] == "no-store"
    deprecated = phase is Phase.DRAIN and seen.body.get("via") == "legacy"
    assert ("deprecation" in seen.headers) == deprecated


def expected_of(phase: Phase, kind: str, cohort: str) -> str:
    inside, _, outside = TABLE[kind][PHASES.index(phase)].partition("|")
    return outside if cohort == "out" and outside else inside


def described(seen: Seen) -> str:
    """One word for an answer, as the table says it."""
    if seen.status == 401:
        assert seen.body["error"] == "invalid_token"
        return str(seen.body["reason"])
    assert seen.status == 200, seen
    if seen.body["via"] is None:
        came = seen.body["authorization"] or seen.body["cookie"]
        return "app" if came else "anonymous"
    hands_out = "session-token" in seen.headers or "set-cookie" in seen.headers
    return str(seen.body["via"]) + ("+token" if hands_out else "")


def test_the_table_names_every_kind_once_for_every_phase() -> None:
    cells = itertools.product(TABLE, PHASES, SUBJECTS)
    assert all(expected_of(phase, kind, cohort) for kind, phase, cohort in cells)
