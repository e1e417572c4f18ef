"""The Django middleware, in both colours, over a gate whose answers are written down."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, TypeAlias
from urllib.parse import urlencode

import pytest
from asgiref.sync import async_to_sync
from django.conf import settings as project
from django.contrib.auth.models import User
from django.test import AsyncClient, Client
from django.test.utils import override_settings

from migrator.core.comparing import Shadow
from migrator.core.presented import Outcome
from migrator.core.verdicts import Admitted, Notice, Passed, Principal, Reason, Refused, Verdict
from migrator.settings import Settings
from tests.shims.django.site import EARLY, SCRIPTED, STAND

Gate: TypeAlias = Any  # the ScriptedGate of conftest.py
Ask: TypeAlias = Callable[..., Any]

TOKEN = b"sess_" + b"7" * 49
BEARER = {"Authorization": "Bearer jwt"}
COOKIE = {"Cookie": "theme=dark; access_token=jwt; lang=en"}


@pytest.fixture
def everywhere(settings: Callable[..., Settings]) -> Settings:
    return settings(
        {"header": "Authorization", "scheme": "Bearer"},
        {"header": "X-Token"},
        {"cookie": "access_token"},
        {"query": "token"},
        {"json": "token"},
        routes={"login": ["/login"]},
    )


@pytest.fixture(params=["sync", "async"])
def colour(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def script(colour: str, gate: Gate, async_gate: Gate) -> Gate:
    """The gate that is asked."""
    return gate if colour == "sync" else async_gate


@pytest.fixture
def ask(colour: str, everywhere: Settings, gate: Gate, async_gate: Gate) -> Iterator[Ask]:
    """Sends a request through Django's own handler of one colour."""
    STAND.settings, STAND.gate, STAND.async_gate = everywhere, gate, async_gate
    middleware = [EARLY, *project.MIDDLEWARE, SCRIPTED]
    with override_settings(MIDDLEWARE=middleware, ROOT_URLCONF="tests.shims.django.site"):

        def sync(path: str, headers: Any = None, *, method: str = "GET", **extra: Any) -> Any:
            client = Client(enforce_csrf_checks=True)
            sent = {"Host": "testserver", **(headers or {})}  # as every client sends it
            return client.generic(method, path, headers=sent, **extra)

        @async_to_sync
        async def asynchronous(
            path: str, headers: Any = None, *, method: str = "GET", **extra: Any
        ) -> Any:
            client = AsyncClient(enforce_csrf_checks=True)
            sent = dict(headers or {})
            client.cookies.load(sent.pop("Cookie", ""))  # it sends a line of cookies in any case
            return await client.generic(method, path, headers=sent, **extra)

        yield sync if colour == "sync" else asynchronous


@pytest.fixture
def ada(desk_url: str) -> Principal:
    """A principal who is a user of the site."""
    user = User.objects.create_user("ada")
    return Principal(subject=str(user.pk), realm="users", scopes=frozenset({"read"}))


def _script(gate: Gate, verdict: Verdict, place: Any = "header", *, dead: bool = False) -> None:
    gate.answers[b"jwt"] = Outcome(verdict, place, dead_cookie=dead)


def test_request_without_a_credential_never_reaches_the_gate(ask: Ask, script: Gate) -> None:
    script.is_down = True
    said = ask("/", {"Cookie": "theme=dark"}).json()
    assert (said["user"], said["subject"]) == (None, None)
    assert said["cookies"] == {"theme": "dark"}
    assert script.asked == []


@pytest.mark.parametrize("remembers", [True, False])
@pytest.mark.parametrize("path", ["/", "/async"])
def test_admitted_principal_is_the_user_of_any_view(
    ask: Ask, script: Gate, ada: Principal, path: str, remembers: bool
) -> None:
    script.remembers = remembers
    _script(script, Admitted(ada))
    said = ask(path, BEARER).json()
    assert (said["user"], said["subject"]) == ("ada", ada.subject)
    assert said["headers"]["Authorization"] == "Bearer jwt"


@pytest.mark.parametrize("subject", ["987654321", "nobody", "9" * 40, "1\x00"])
def test_subject_that_is_no_user_is_anonymous(
    ask: Ask, script: Gate, ada: Principal, subject: str
) -> None:
    _script(script, Admitted(Principal(subject=subject, realm="users")))
    said = ask("/", BEARER).json()
    assert (said["user"], said["subject"]) == (None, subject)


def test_inactive_user_is_anonymous(ask: Ask, script: Gate, ada: Principal) -> None:
    User.objects.update(is_active=False)
    _script(script, Admitted(ada))
    said = ask("/", BEARER).json()
    assert (said["user"], said["subject"]) == (None, ada.subject)


@pytest.mark.parametrize(
    ("wanted", "via", "user"),
    [
        ("session", "legacy", None),
        ("session", "session", "ada"),
        ("none", "session", None),
        ("principal", "legacy", "ada"),
    ],
)
def test_project_says_which_principals_become_its_user(
    ask: Ask, script: Gate, ada: Principal, wanted: str, via: Any, user: str | None
) -> None:
    _script(script, Admitted(Principal(subject=ada.subject, realm="users", via=via)))
    with override_settings(
        MIGRATOR={"USER_FROM": wanted}, INSTALLED_APPS=[*project.INSTALLED_APPS, "shims.django"]
    ):
        assert ask("/", BEARER).json()["user"] == user


def test_subject_is_looked_up_in_the_field_that_the_project_names(
    ask: Ask, script: Gate, ada: Principal
) -> None:
    _script(script, Admitted(Principal(subject="ada", realm="users")))
    with override_settings(
        MIGRATOR={"USER_FIELD": "username"},
        INSTALLED_APPS=[*project.INSTALLED_APPS, "shims.django"],
    ):
        assert ask("/", BEARER).json()["user"] == "ada"


def test_gate_is_told_what_the_request_was(ask: Ask, script: Gate, colour: str) -> None:
    ask("/login", {**BEARER, "User-Agent": "curl/8"})
    with override_settings(FORCE_SCRIPT_NAME="/v1"):
        ask("/v1/login" if colour == "async" else "/login", BEARER)
    first, mounted = script.asked
    assert (first.path, first.route, first.user_agent) == ("/login", "login", "curl/8")
    assert first.ip == "127.0.0.1"
    assert (mounted.path, mounted.route) == ("/v1/login", "login")


@pytest.mark.parametrize("colour", ["sync"])
def test_path_is_compared_as_the_settings_write_it(ask: Ask, script: Gate) -> None:
    ask("/caf%C3%A9", BEARER)
    assert script.asked[0].path == "/caf\u00e9"


@pytest.mark.parametrize(
    ("reason", "status", "body"),
    [
        (Reason.BAD_SIGNATURE, 401, {"error": "invalid_token", "reason": "invalid"}),
        (Reason.REPEATED_CREDENTIAL, 400, {"error": "invalid_request"}),
        (Reason.CSRF, 403, {"error": "csrf"}),
    ],
)
def test_refusal_says_the_coarse_word_and_nothing_finer(
    ask: Ask, script: Gate, reason: Reason, status: int, body: dict[str, str]
) -> None:
    _script(script, Refused(reason))
    answer = ask("/", BEARER)
    assert (answer.status_code, answer.json()) == (status, body)
    assert answer["Cache-Control"] == "no-store"
    challenge = 'Bearer error="invalid_token"' if status == 401 else None
    assert answer.headers.get("WWW-Authenticate") == challenge
    head = ask("/", BEARER, method="HEAD")
    assert (head.status_code, head.content) == (status, b"")


def test_unasked_store_is_503(ask: Ask, script: Gate) -> None:
    script.is_down = True
    answer = ask("/", BEARER)
    assert (answer.status_code, answer.json()) == (503, {"error": "temporarily_unavailable"})
    assert int(answer["Retry-After"]) >= 1


def test_what_a_views_own_call_raises_is_answered_as_we_would(ask: Ask) -> None:
    assert ask("/down").status_code == 503
    answer = ask("/refused")
    assert (answer.status_code, answer.json()["reason"]) == (401, "revoked")


def test_token_is_handed_to_a_header_client(ask: Ask, script: Gate, ada: Principal) -> None:
    _script(script, Admitted(ada, hand_out=TOKEN))
    answer = ask("/told?Cache-Control=public&Vary=Accept", BEARER)
    assert answer["Session-Token"] == TOKEN.decode()
    assert answer["Cache-Control"] == "no-store"
    assert answer["Vary"] == "Accept, Authorization, Cookie"
    assert answer["Access-Control-Expose-Headers"] == "Session-Token"
    assert answer.content == b"body"


def test_token_is_handed_to_a_cookie_client_beside_the_apps_cookies(
    ask: Ask, script: Gate, ada: Principal
) -> None:
    _script(script, Admitted(ada, hand_out=TOKEN), "cookie")
    answer = ask("/told?cookie=basket", COOKIE)
    ours = answer.cookies["__Host-session"]
    assert (ours.value, ours["path"], ours["samesite"]) == (TOKEN.decode(), "/", "Lax")
    assert (ours["secure"], ours["httponly"]) == (True, True)
    assert answer.cookies["basket"].value == "the app's own"


@pytest.mark.parametrize("colour", ["sync"])
def test_token_is_handed_out_on_a_stream(ask: Ask, script: Gate, ada: Principal) -> None:
    _script(script, Admitted(ada, hand_out=TOKEN))
    answer = ask("/stream", BEARER)
    assert answer["Session-Token"] == TOKEN.decode()
    assert list(answer.streaming_content) == [b"0\n", b"1\n", b"2\n"]


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/told?status=500"),
        ("GET", "/told?status=304"),
        ("HEAD", "/told"),
        ("OPTIONS", "/told"),
        ("GET", "/told?status=302&Location=https://evil.example/"),
        ("GET", "/login"),
    ],
)
def test_token_is_never_handed_out_there(
    ask: Ask, script: Gate, ada: Principal, method: str, target: str
) -> None:
    _script(script, Admitted(ada, hand_out=TOKEN))
    answer = ask(target, BEARER, method=method)
    assert TOKEN.decode() not in str(answer.headers) + str(answer.cookies)


def test_draining_client_is_told_beside_the_apps_own_link(
    ask: Ask, script: Gate, ada: Principal, settings: Callable[..., Settings]
) -> None:
    STAND.settings = settings(http={"deprecation_link": "https://acme.example/sessions"})
    _script(script, Admitted(ada, notice=Notice(datetime(2026, 11, 23, tzinfo=UTC), None)))
    own = urlencode({"Link": "</next>; rel=next"})
    answer = ask(f"/told?{own}", BEARER)
    assert answer["Deprecation"] == "@1795392000"
    assert answer["Link"].startswith("</next>; rel=next, <https://acme.example/sessions>;")


def test_dead_cookie_is_hidden_and_cleared_on_navigations_only(ask: Ask, script: Gate) -> None:
    _script(script, Passed(), None, dead=True)
    dead = {"Cookie": "a=1; __Host-session=jwt; b=2"}
    answer = ask("/", {**dead, "Sec-Fetch-Mode": "navigate"})
    said = answer.json()
    assert said["cookies"] == {"a": "1", "b": "2"}
    assert "jwt" not in str(said)
    assert answer.cookies["__Host-session"]["max-age"] == "0"
    answer = ask("/", {**dead, "Sec-Fetch-Mode": "cors"})
    assert not answer.cookies


def test_dead_credential_is_stripped_from_everything_a_view_reads(ask: Ask, script: Gate) -> None:
    _script(script, Passed(Reason.LEGACY_EXPIRED, strip=True))
    said = ask("/?token=jwt&a=1", {**BEARER, "Cookie": "access_token=jwt"}).json()
    assert "jwt" not in str(said)
    assert (said["query"], said["args"]) == ("a=1", {"a": "1"})


def test_passed_credential_goes_to_the_app_as_it_came_and_is_counted(
    ask: Ask, script: Gate
) -> None:
    _script(script, Passed(Reason.LEGACY_EXPIRED))
    said = ask("/?token=jwt", {**BEARER, **COOKIE}).json()
    assert said["headers"]["Authorization"] == "Bearer jwt"
    assert said["cookies"] == {"theme": "dark", "access_token": "jwt", "lang": "en"}
    assert said["query"] == "token=jwt"
    assert script.counted == [("/", 200)]


def test_identity_headers_of_a_client_never_reach_the_app(
    ask: Ask, script: Gate, ada: Principal
) -> None:
    lies = {"X-Auth-User": "root", "X_User_Id": "root", "Remote-User": "root"}
    for headers in (lies, {**lies, **BEARER}):
        assert "root" not in ask("/", headers).content.decode()
    _script(script, Admitted(ada))
    assert ask("/", {**lies, **BEARER}).json()["user"] == "ada"


def test_post_from_another_site_is_told_to_the_gate(ask: Ask, script: Gate) -> None:
    ask("/", {**COOKIE, "Origin": "https://evil.example"}, method="POST")
    ask("/", {**COOKIE, "Origin": "http://testserver"}, method="POST")
    ask("/", {**COOKIE, "Sec-Fetch-Site": "cross-site"}, method="POST")
    assert [presented.forged for presented in script.asked] == [True, False, True]


def test_bearer_needs_no_csrf_token_and_a_cookie_still_does(
    ask: Ask, script: Gate, ada: Principal
) -> None:
    _script(script, Admitted(ada))
    assert ask("/form", BEARER, method="POST").json()["user"] == "ada"
    beside = {**BEARER, "Cookie": "sessionid=of-the-victim"}
    assert ask("/form", beside, method="POST").status_code == 403
    _script(script, Admitted(ada), "cookie")
    assert ask("/form", COOKIE, method="POST").status_code == 403
    assert ask("/form", {"Cookie": "theme=dark"}, method="POST").status_code == 403


def test_two_authorization_lines_are_a_fault(ask: Ask, script: Gate) -> None:
    ask("/", {"Authorization": "Bearer a, Bearer b"})
    assert script.asked[0].fault is Reason.REPEATED_CREDENTIAL


def test_credential_in_a_json_body_is_found_and_the_view_still_reads_it(
    ask: Ask, script: Gate, ada: Principal
) -> None:
    _script(script, Admitted(ada), "body")
    sent = {"data": '{"token": "jwt"}', "content_type": "application/json"}
    said = ask("/", method="POST", **sent).json()
    assert (said["user"], said["body"]) == ("ada", sent["data"])
    too_long = {**sent, "data": "x" * 70_000}
    assert ask("/", method="POST", **too_long).status_code == 400


# ---- REST framework ----------------------------------------------------------------------------


def test_drf_knows_user_and_principal(ask: Ask, script: Gate, ada: Principal) -> None:
    _script(script, Admitted(ada))
    assert ask("/api", BEARER).json() == {"user": "ada", "via": "session"}


def test_drf_asks_strangers_for_credentials(ask: Ask) -> None:
    answer = ask("/api")
    assert answer.status_code == 401
    assert answer["WWW-Authenticate"] == 'Bearer realm="api"'


def test_drf_refuses_a_principal_that_is_no_user(ask: Ask, script: Gate, ada: Principal) -> None:
    User.objects.update(is_active=False)
    _script(script, Admitted(ada))
    assert ask("/api", BEARER).status_code == 401


@pytest.mark.parametrize(("method", "status"), [("GET", 200), ("POST", 403), ("PUT", 403)])
def test_scopes_are_asked_by_method(
    ask: Ask, script: Gate, ada: Principal, method: str, status: int
) -> None:
    _script(script, Admitted(ada))
    assert ask("/api", BEARER, method=method).status_code == status


def test_class_for_sessions_leaves_jwts_to_others(ask: Ask, script: Gate, ada: Principal) -> None:
    _script(script, Admitted(ada))
    assert ask("/sessions-only", BEARER).status_code == 200
    _script(script, Admitted(Principal(subject=ada.subject, realm="users", via="legacy")))
    assert ask("/sessions-only", BEARER).status_code == 401


@pytest.mark.parametrize("remembers", [False, True], ids=["judged", "remembered"])
def test_what_views_answer_is_held_against_the_verdict_where_they_decide(
    ask: Ask, script: Gate, ada: Principal, remembers: bool
) -> None:
    shadow = Shadow("a1", "ios/7")
    script.remembers = remembers
    script.otherwise = Outcome(Admitted(ada, shadow=shadow), "header")
    ask("/told?status=401", BEARER)
    ask("/told", BEARER)
    ask("/told", BEARER, method="OPTIONS")
    ask("/told?status=302&Location=/login", BEARER)
    ask("/login", BEARER)
    assert script.compared_to == [
        ("/told", shadow, 401),
        ("/told", shadow, 200),
        ("/told", shadow, 401),
    ]
    script.otherwise = Outcome(Admitted(ada), "header")
    ask("/told", BEARER)
    assert len(script.compared_to) == 3


def test_p2_a_strict_route_is_asked_about(ask: Ask, script: Gate, settings: Any) -> None:
    STAND.settings = settings(memory={"strict_routes": ["/echo"]})
    script.remembers = True
    ask("/echo", BEARER)
    assert [one.strict for one in script.asked] == [True]
