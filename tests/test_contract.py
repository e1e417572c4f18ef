"""Sentences of the contract that hold together several parts, asked through the public surface."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx
import pytest
from werkzeug.wrappers import Request, Response

from migrator import wiring
from migrator.core.errors import Refused
from migrator.core.verdicts import Reason
from shims.wsgi import DualAcceptMiddleware
from tests.rig import ISSUER, Rig, sign, sign_refresh

_EVERYWHERE = {
    **ISSUER,
    "transport": [
        {"header": "Authorization", "scheme": "Bearer"},
        {"cookie": "access_token"},
        {"cookie": "older_token"},
        {"query": "token"},
    ],
}
Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def rig(migrated: str) -> Iterator[Rig]:
    yield Rig(migrated, issuers=[_EVERYWHERE])
    wiring.stop()


def asking(rig: Rig) -> Ask:
    """Asks an app that tells what it was left to judge for itself."""

    @Request.application
    def app(request: Request) -> Response:
        principal = request.environ["migrator.principal"]
        return Response(
            httpx.Response(
                200,
                json={
                    "subject": principal and principal.subject,
                    "authorization": request.headers.get("Authorization"),
                    "cookies": dict(request.cookies),
                    "query": request.query_string.decode(),
                },
            ).content,
            content_type="application/json",
        )

    middleware = DualAcceptMiddleware(app, rig.settings())

    def ask(headers: Mapping[str, str], query: str = "") -> dict[str, Any]:
        transport = httpx.WSGITransport(app=middleware)
        with httpx.Client(transport=transport, base_url="http://test") as client:
            answer = client.get(f"/{query}", headers=headers)
        return {"status": answer.status_code, **answer.json()}

    return ask


def revoked(rig: Rig, subject: str = "ann") -> str:
    token = sign(subject)
    wiring.sessions(rig.settings()).end(token)
    return token


FOREIGN = {"Authorization": "Bearer a-key-of-somebody-else"}


@pytest.mark.parametrize("phase", ["observe", "swap", "drain"])
@pytest.mark.parametrize("beside", ["a foreign key", "an expired legacy token"])
@pytest.mark.parametrize("place", ["cookie", "query"])
def test_p2_revoked_legacy_token_beside_what_the_app_judges_never_reaches_it(
    rig: Rig, phase: str, beside: str, place: str
) -> None:
    rig.move(phase)
    dead = revoked(rig)
    header = (
        FOREIGN
        if beside == "a foreign key"
        else {"Authorization": f"Bearer {sign('ann', lasts_s=-3600)}"}
    )
    cookie = {"Cookie": f"theme=dark; access_token={dead}"} if place == "cookie" else {}
    query = f"?page=2&token={dead}" if place == "query" else ""
    seen = asking(rig)({**header, **cookie}, query)
    assert (seen["status"], seen["subject"]) == (200, None)
    assert seen["authorization"] == header["Authorization"]
    assert dead not in str(seen)
    if place == "cookie":
        assert seen["cookies"] == {"theme": "dark"}
    else:
        assert seen["query"] == "page=2"


def test_p2_revoked_legacy_token_in_a_second_cookie_never_reaches_the_app(rig: Rig) -> None:
    rig.move("swap")
    dead = revoked(rig)
    late = sign("ann", lasts_s=-3600)
    seen = asking(rig)({"Cookie": f"access_token={late}; older_token={dead}"})
    assert (seen["status"], seen["subject"]) == (200, None)
    assert dead not in str(seen)


@pytest.mark.parametrize("phase", ["cutover", "retired"])
def test_refused_legacy_cookie_beside_a_foreign_key_locks_nobody_out(rig: Rig, phase: str) -> None:
    rig.move(phase)
    seen = asking(rig)({**FOREIGN, "Cookie": f"access_token={sign('ann')}"})
    assert seen["status"] == 200
    assert seen["authorization"] == FOREIGN["Authorization"]
    assert seen["cookies"] == {}


def test_living_legacy_cookie_beside_a_foreign_key_goes_on_untouched(rig: Rig) -> None:
    rig.move("swap")
    alive = sign("ann")
    seen = asking(rig)({**FOREIGN, "Cookie": f"access_token={alive}"})
    assert seen["cookies"] == {"access_token": alive}


def test_in_observe_the_app_decides_of_refresh_tokens_that_we_cannot_verify(rig: Rig) -> None:
    rig.move("observe")
    sessions = wiring.sessions(rig.settings())
    for ours_to_judge in (
        "an-opaque-refresh-token",
        sign_refresh("ann", lasts_s=-3600),
        sign_refresh("ann", iss="https://somebody.example"),
        sign("ann"),
    ):
        assert sessions.exchange(ours_to_judge, legacy=lambda: "as before").token == "as before"


@pytest.mark.parametrize("phase", ["swap", "drain", "cutover"])
def test_from_swap_on_a_refresh_token_that_does_not_hold_is_refused(rig: Rig, phase: str) -> None:
    rig.move(phase)
    sessions = wiring.sessions(rig.settings())
    for wrong in ("an-opaque-refresh-token", sign_refresh("ann", lasts_s=-3600), sign("ann")):
        with pytest.raises(Refused):
            sessions.exchange(wrong, legacy=lambda: "never")


@pytest.mark.parametrize("respelt", ["{}", "{}=", " {}"])
def test_p2_in_observe_a_revoked_refresh_token_is_not_the_apps_to_take(
    rig: Rig, respelt: str
) -> None:
    rig.move("observe")
    sessions = wiring.sessions(rig.settings())
    refresh = sign_refresh("ann")
    sessions.end(refresh)
    with pytest.raises(Refused) as refused:
        sessions.exchange(respelt.format(refresh), legacy=lambda: "never")
    assert refused.value.reason is Reason.DENIED


def test_the_header_decides_and_a_cookie_may_only_contradict_it(rig: Rig) -> None:
    rig.move("drain")
    sessions = wiring.sessions(rig.settings())
    ann, other_ann, bob, dead = (
        str(sessions.login(subject, legacy=lambda: "").token)
        for subject in ("ann", "ann", "bob", "bob")
    )
    sessions.end(dead)
    ask = asking(rig)
    bearer = {name: {"Authorization": f"Bearer {value}"} for name, value in {
        "ann": ann, "dead": dead, "jwt": sign("ann"), "bad": sign("ann") + "x",
    }.items()}  # fmt: skip
    cookie = {name: {"Cookie": f"session={value}"} for name, value in {
        "ann": other_ann, "bob": bob, "dead": dead,
    }.items()}  # fmt: skip
    lingering = {"Cookie": f"access_token={revoked(rig, 'ann')}"}

    def status(*headers: Mapping[str, str]) -> tuple[int, object]:
        seen = ask({name: value for part in headers for name, value in part.items()})
        return seen["status"], seen.get("subject") or seen.get("error")

    assert status(bearer["ann"], cookie["ann"]) == (200, "ann")
    assert status(bearer["ann"], cookie["bob"]) == (400, "invalid_request")
    assert status(bearer["ann"], cookie["dead"]) == (200, "ann")
    assert status(bearer["ann"], lingering) == (200, "ann")
    assert status(bearer["jwt"], cookie["ann"]) == (200, "ann")
    assert status(bearer["jwt"], cookie["bob"]) == (400, "invalid_request")
    assert status(bearer["bad"], cookie["ann"]) == (401, "invalid_token")
    assert status(bearer["dead"], cookie["bob"]) == (401, "invalid_token")
    assert status(cookie["bob"], {}) == (200, "bob")
    assert status(cookie["dead"]) == (200, None)
