"""The hostile list (security.md 2.4, PUB-063 to PUB-091 and 097) as real requests."""

from __future__ import annotations

import hashlib
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from migrator import wiring
from migrator.core import tokens
from migrator.settings import Settings
from tests.apps.deployment import Deployment, sign
from tests.http.servers import Answer, Line, Server, bearer
from tests.rig import Rig
from tests.rig import sign as sign_otherwise

pytestmark = pytest.mark.xdist_group("http")


@dataclass(frozen=True)
class Facts:
    """What the attacker of a test holds: a live session of ann and her JWT, bob's, dead ones."""

    server: Server
    ann: str
    session_id: str
    ann_jwt: str
    bob: str
    bob_jwt: str
    ended: str
    ended_jwt: str


def facts_of(server: Server) -> Facts:
    ann_jwt, bob_jwt, ended_jwt = sign("ann"), sign("bob"), sign("ann")
    ann, bob, ended = (server.get("/seen", bearer(jwt)) for jwt in (ann_jwt, bob_jwt, ended_jwt))
    assert server.send("POST", "/logout", bearer(token_of(ended))).status == 204
    return Facts(
        server=server,
        ann=token_of(ann),
        session_id=ann.json["session"],
        ann_jwt=ann_jwt,
        bob=token_of(bob),
        bob_jwt=bob_jwt,
        ended=token_of(ended),
        ended_jwt=ended_jwt,
    )


def token_of(answer: Answer) -> str:
    token = answer.get("session-token")
    assert token is not None
    return token


@pytest.fixture(scope="session")
def facts(server: Server) -> Facts:
    return facts_of(server)


@pytest.fixture(scope="session")
def strict_facts(strict: Server) -> Facts:
    return facts_of(strict)


def digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def respelt(token: str) -> str:
    """The same letters in the other case, the prefix left alone."""
    return token[:5] + token[5:].swapcase()


def cookie(value: str) -> Line:
    return ("Cookie", f"__Host-session={value}")


def forged(user: str) -> str:
    return sign_otherwise(user, secret="not the secret of the shop, but a long one")


# id: the request's lines, what it gets where foreign credentials pass and where they are refused.
# "app" = reached the app without a principal; a name = admitted as that user; else the words said.
Made = Callable[[Facts], tuple[Line, ...]]
HOSTILE: dict[str, tuple[Made, str, str]] = {
    "063 well-formed, exists nowhere": (
        lambda _: (bearer(tokens.mint("sess", secrets.token_bytes(32)).decode()),),
        "invalid",
        "invalid",
    ),
    "064 another prefix": (lambda f: (bearer("sets" + f.ann[4:]),), "app", "invalid"),
    "064 too short": (lambda f: (bearer(f.ann[:-1]),), "invalid", "invalid"),
    "064 too long": (lambda f: (bearer(f.ann + "0"),), "invalid", "invalid"),
    "064 alphabet": (lambda f: (bearer(f.ann[:-3] + "-_" + f.ann[-1]),), "invalid", "invalid"),
    "064 checksum": (
        lambda f: (bearer(f.ann[:-1] + ("0" if f.ann[-1] != "0" else "1")),),
        "invalid",
        "invalid",
    ),
    "065 digest, hex": (lambda f: (bearer(digest(f.ann).hex()),), "app", "invalid"),
    "065 digest, hex, with prefix": (
        lambda f: (bearer("sess_" + digest(f.ann).hex()),),
        "invalid",
        "invalid",
    ),
    "065 digest, base64": (
        lambda f: (bearer(urlsafe_b64encode(digest(f.ann)).decode().rstrip("=")),),
        "app",
        "invalid",
    ),
    "065 digest as cookie": (lambda f: (cookie(digest(f.ann).hex()),), "app", "app"),
    "066 session id": (lambda f: (bearer(f.session_id),), "app", "invalid"),
    "066 session id as cookie": (lambda f: (cookie(f.session_id),), "app", "app"),
    "067 other case": (lambda f: (bearer(respelt(f.ann)),), "invalid", "invalid"),
    "067 prefix in capitals": (lambda f: (bearer("SESS" + f.ann[4:]),), "app", "invalid"),
    "067 padded": (lambda f: (bearer(f.ann + "="),), "invalid", "invalid"),
    "067 percent-encoded": (lambda f: (bearer("sess%5F" + f.ann[5:]),), "app", "invalid"),
    "067 newline, encoded": (lambda f: (bearer(f.ann + "%0A"),), "invalid", "invalid"),
    "069 ended": (lambda f: (bearer(f.ended),), "revoked", "revoked"),
    "069 ended, as cookie": (lambda f: (cookie(f.ended),), "app", "app"),
    "070 nothing": (lambda _: (), "app", "app"),
    "071 scheme alone": (
        lambda _: (("Authorization", "Bearer"),),
        "invalid_request",
        "invalid_request",
    ),
    "071 scheme and blank": (
        lambda _: (("Authorization", "Bearer "),),
        "invalid_request",
        "invalid_request",
    ),
    "071 two words": (lambda _: (bearer("a b"),), "invalid_request", "invalid_request"),
    "072 basic": (lambda _: (("Authorization", "Basic dTpw"),), "app", "invalid"),
    "072 digest": (lambda _: (("Authorization", "Digest x"),), "app", "invalid"),
    "072 dpop": (lambda f: (("Authorization", f"DPoP {f.ann_jwt}"),), "invalid", "invalid"),
    "073 good, junk": (
        lambda f: (bearer(f.ann), bearer("junk")),
        "invalid_request",
        "invalid_request",
    ),
    "073 junk, good": (
        lambda f: (bearer("junk"), bearer(f.ann)),
        "invalid_request",
        "invalid_request",
    ),
    "073 two users": (
        lambda f: (bearer(f.ann), bearer(f.bob)),
        "invalid_request",
        "invalid_request",
    ),
    "073 two users' jwts": (
        lambda f: (bearer(f.ann_jwt), bearer(f.bob_jwt)),
        "invalid_request",
        "invalid_request",
    ),
    "073 another spelling of the name": (
        lambda f: (bearer(f.ann), ("authorization", f"bearer {f.bob}")),
        "invalid_request",
        "invalid_request",
    ),
    "074 one line, two": (
        lambda f: (("Authorization", f"Bearer {f.ann},Bearer {f.bob}"),),
        "invalid_request",
        "invalid_request",
    ),
    "074 one line, two jwts": (
        lambda f: (("Authorization", f"Bearer {f.ann_jwt}, Bearer {f.bob_jwt}"),),
        "invalid_request",
        "invalid_request",
    ),
    "076 cookie twice": (
        lambda f: (("Cookie", f"__Host-session={f.ann}; __Host-session={f.bob}"),),
        "invalid_request",
        "invalid_request",
    ),
    "076 cookie in two lines": (
        lambda f: (cookie(f.ann), cookie(f.bob)),
        "invalid_request",
        "invalid_request",
    ),
    "076 jwt cookie twice": (
        lambda f: (("Cookie", f"access_token={f.ann_jwt}; access_token={f.bob_jwt}"),),
        "invalid_request",
        "invalid_request",
    ),
    "077 cookie and another's session": (
        lambda f: (cookie(f.ann), bearer(f.bob)),
        "invalid_request",
        "invalid_request",
    ),
    "077 cookie and another's jwt": (
        lambda f: (cookie(f.ann), bearer(f.bob_jwt)),
        "invalid_request",
        "invalid_request",
    ),
    "077 cookie and one's own jwt": (lambda f: (cookie(f.ann), bearer(f.ann_jwt)), "ann", "ann"),
    "078 cookie and forged jwt": (
        lambda f: (cookie(f.ann), bearer(forged("ann"))),
        "invalid",
        "invalid",
    ),
    "078 cookie and dead session": (
        lambda f: (cookie(f.ann), bearer(f.ended)),
        "revoked",
        "revoked",
    ),
    "078 cookie and foreign bearer": (lambda f: (cookie(f.ann), bearer("junk")), "app", "invalid"),
    "082 jwt of an ended session": (lambda f: (bearer(f.ended_jwt),), "revoked", "revoked"),
    "083 the same, padded": (lambda f: (bearer(f.ended_jwt + "="),), "invalid", "invalid"),
    "097 scheme in lower case": (
        lambda f: (("Authorization", f"bearer {f.ann}"),),
        "ann",
        "ann",
    ),
    "097 three spaces": (lambda f: (("Authorization", f"Bearer   {f.ann}"),), "ann", "ann"),
    "097 jwt, scheme in capitals": (
        lambda f: (("Authorization", f"BEARER {f.ann_jwt}"),),
        "ann",
        "ann",
    ),
    "room: as long as a header may be": (lambda _: (bearer("a" * 9000),), "app", "invalid"),
    "room: a jwt as long": (lambda f: (bearer(f.ann_jwt + "a" * 9000),), "invalid", "invalid"),
    "letters of no credential": (lambda _: (bearer("\xe4\xf6\xfc"),), "app", "invalid"),
}


def described(answer: Answer) -> str:
    if answer.status == 200:
        subject = answer.json["subject"]
        return "app" if subject is None else str(subject)
    assert answer.status in {400, 401, 403}, (answer.status, answer.body)
    said = answer.json
    return str(said.get("reason", said["error"]))


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_request(facts: Facts, case: str) -> None:
    made, expected, _ = HOSTILE[case]
    for _ in range(2):  # once asked, once remembered
        assert described(facts.server.get("/seen", *made(facts))) == expected


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_request_where_foreign_credentials_are_refused(
    strict_facts: Facts, case: str
) -> None:
    made, _, expected = HOSTILE[case]
    for _ in range(2):
        assert described(strict_facts.server.get("/seen", *made(strict_facts))) == expected


def test_token_of_another_deployment_is_unknown(server: Server, strict: Server) -> None:
    """PUB-068."""
    token = token_of(server.get("/seen", bearer(sign("ann"))))
    assert described(strict.get("/seen", bearer(token))) == "invalid"


@pytest.mark.parametrize("form", ["query", "field"])
@pytest.mark.parametrize("fetch", [None, ("Sec-Fetch-Site", "cross-site")])
def test_token_in_the_query_or_a_form_is_no_credential(
    facts: Facts, form: str, fetch: Line | None
) -> None:
    """PUB-075, PUB-081: nobody is logged in by what another site can put in a link or form."""
    field = f"access_token={facts.ann_jwt}"
    answer = facts.server.send(
        "POST",
        f"/seen?{field}" if form == "query" else "/seen",
        ("Content-Type", "application/x-www-form-urlencoded"),
        *((fetch,) if fetch else ()),
        body=b"" if form == "query" else field.encode(),
    )
    assert described(answer) == "app"
    assert answer.get("session-token") is None
    assert answer.get("set-cookie") is None
    assert facts.ann_jwt not in facts.server.log.read_text()


IDENTITY = [
    "Remote-User",
    "REMOTE_USER",
    "remote_user",
    "X-Remote-User",
    "X-Auth-User",
    "x_auth_user",
    "X-Auth-Scopes",
    "X-Forwarded-User",
    "X-Forwarded_User",
    "X-User-Id",
    "X_User_Id",
    "X-Authenticated-User",
]


@pytest.mark.parametrize("name", IDENTITY)
@pytest.mark.parametrize("known", [False, True], ids=["stranger", "ann"])
def test_nobody_says_by_a_header_who_they_are(facts: Facts, name: str, known: bool) -> None:
    """PUB-079."""
    lines = (bearer(facts.ann),) if known else ()
    seen = facts.server.get("/seen", *lines, (name, "admin")).json
    assert seen["subject"] == ("ann" if known else None)
    assert seen["named"] == ("ann" if known else None)
    assert "admin" not in seen["headers"].values()


CROSS_SITE = [
    ("Sec-Fetch-Site", "cross-site"),
    ("Sec-Fetch-Site", "same-site"),
    ("Origin", "https://evil.example"),
    ("Origin", "null"),
    ("Origin", "https://shop.example.evil.example"),
]


@pytest.mark.parametrize("line", CROSS_SITE)
@pytest.mark.parametrize("kind", ["session", "jwt"])
def test_cookie_is_not_taken_from_another_site(facts: Facts, line: Line, kind: str) -> None:
    """PUB-080."""
    held = cookie(facts.ann) if kind == "session" else ("Cookie", f"access_token={sign('ann')}")
    answer = facts.server.send("POST", "/seen", held, line)
    assert (answer.status, answer.json) == (403, {"error": "csrf"})
    assert answer.get("set-cookie") is None
    assert facts.server.send("GET", "/seen", held, line).json["subject"] == "ann"
    assert facts.server.send("POST", "/seen", bearer(facts.ann), line).json["subject"] == "ann"


@pytest.mark.parametrize(
    "line", [("Sec-Fetch-Site", "same-origin"), ("Origin", "https://shop.example")]
)
def test_cookie_is_taken_from_the_site_itself(facts: Facts, line: Line) -> None:
    assert facts.server.send("POST", "/seen", cookie(facts.ann), line).json["subject"] == "ann"


def test_a_session_brought_along_is_never_adopted(facts: Facts) -> None:
    """PUB-091."""
    brought = tokens.mint("sess", secrets.token_bytes(32)).decode()
    jwt = sign("ann")
    answer = facts.server.get("/seen", cookie(brought), bearer(jwt))
    assert token_of(answer) != brought
    assert described(facts.server.get("/seen", bearer(brought))) == "invalid"
    answer = facts.server.get(
        "/seen", ("Cookie", f"__Host-session={brought}; access_token={sign('ann')}")
    )
    assert brought not in (answer.get("set-cookie") or brought)


def test_one_jwt_shown_64_times_at_once_is_one_session(facts: Facts) -> None:
    """PUB-087; gunicorn answers from two processes."""
    jwt, rig = sign("dia"), facts.server.deployment.rig
    before = rig.count("sessions", "subject = 'dia'")
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: facts.server.get("/seen", bearer(jwt)), range(64)))
    assert {answer.status for answer in answers} == {200}
    assert {answer.json["subject"] for answer in answers} == {"dia"}
    assert len({token_of(answer) for answer in answers}) == 1
    assert rig.count("sessions", "subject = 'dia'") == before + 1


def test_logging_out_everywhere_reaches_jwts_never_seen(server: Server) -> None:
    """PUB-085, PUB-086: from another process, and without blocking who logs in afterwards."""
    unseen, seen = sign("cem"), sign("cem")
    token = token_of(server.get("/seen", bearer(seen)))
    everywhere(server.deployment, "cem")
    time.sleep(1)  # the bound
    for held in (token, seen, unseen):
        assert described(server.get("/seen", bearer(held))) == "revoked"
    pair = server.post("/login", {"username": "cem", "password": "cem's password"}).json
    assert described(server.get("/seen", bearer(pair["access"]))) == "cem"
    later = sign("cem", iat=int(time.time()) + 10)
    assert described(server.get("/seen", bearer(later))) == "cem"
    server.deployment.rig.execute("DELETE FROM migrator.cutoffs")


def everywhere(deployment: Deployment, subject: str) -> None:
    environ = deployment.environ()
    operator = wiring.operator(Settings.load(environ["MIGRATOR_CONFIG"], environ=environ))
    operator.end_all(subject)


def test_jwt_is_refused_after_cutover_and_unread_once_retired(server: Server) -> None:
    """PUB-090."""
    rig, jwt, nonsense = server.deployment.rig, sign("ann"), forged("ann")
    token = token_of(server.get("/seen", bearer(jwt)))
    try:
        for phase, wrong in (("cutover", "invalid"), ("retired", "legacy_retired")):
            rig.move(phase)
            await_acknowledged(rig)
            assert described(server.get("/seen", bearer(jwt))) == "legacy_retired"
            assert described(server.get("/seen", bearer(nonsense))) == wrong
            assert described(server.get("/seen", bearer(token))) == "ann"
    finally:
        rig.move("swap")
        await_acknowledged(rig)
    assert described(server.get("/seen", bearer(jwt))) == "ann"


def await_acknowledged(rig: Rig) -> None:
    """Wait until every live node has said that it knows the rollout's epoch."""
    deadline = time.monotonic() + 10
    behind = "lease_until > now() AND epoch IS DISTINCT FROM (SELECT epoch FROM migrator.rollout)"
    while rig.count("nodes", behind):
        assert time.monotonic() < deadline
        time.sleep(0.02)
