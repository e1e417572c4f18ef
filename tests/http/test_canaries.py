"""P6, G14: nothing that opens a door is found anywhere but in the hands of whom it was given to.

Whole journeys over each kind of server, with every secret of theirs known; then everything they
can have left behind is searched: tables, Redis, server logs, metrics, command lines, what commands
print, and what exceptions, reprs and tracebacks with their locals say.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import secrets
import time
import traceback
from typing import Any

import click.testing
import pytest
import redis

from migrator import wiring
from migrator.cli import main
from migrator.core.errors import Refused, Unavailable
from migrator.core.presented import Credential, Outcome, Presented
from migrator.core.tokens import SECRET_BYTES, mint
from tests import canaries as birds
from tests.apps.deployment import JWT_SECRET, Deployment, sign
from tests.canaries import Canaries
from tests.counts import counted
from tests.http.servers import Server, bearer
from tests.rig import SECRET, SWAP_KEY, Rig
from tests.rig import sign as sign_of_rig
from tests.serve.served import CLIENT_SECRET
from tests.serve.served import serving as serving_auth


def known_of(deployment: Deployment) -> Canaries:
    canaries = Canaries()
    canaries.plant("the swap key", deployment.swap_key)
    canaries.plant("the JWT secret", JWT_SECRET)
    return canaries


def journey(server: Server, canaries: Canaries) -> None:
    """Everything a client does with credentials, rightly and wrongly."""
    jwt = canaries.plant("a JWT", sign("ann"))
    refresh = canaries.plant("a refresh JWT", sign("ann", kind="refresh"))
    swapped = server.get("/seen", bearer(jwt)).get("Session-Token")
    assert swapped is not None
    token = canaries.plant("a swapped token", swapped)
    assert server.get("/seen", bearer(token)).status == 200
    exchanged = server.post("/refresh", {"refresh_token": refresh}, bearer(refresh))
    for value in _strings(exchanged.json if exchanged.body[:1] == b"{" else {}):
        if value.startswith("sess_"):
            canaries.plant("an exchanged token", value)
    unknown = canaries.plant("a token of nobody", mint("sess", secrets.token_bytes(32)).decode())
    for secret in (jwt, refresh, token, unknown):
        for spelt in (secret, secret + "=", secret[:-1], f"{secret} x", secret * 3):
            server.get("/seen", bearer(spelt))
            server.get(f"/seen?access_token={secret}", ("Cookie", f"__Host-session={spelt}"))
            server.get("/seen", ("Cookie", f"access_token={spelt}; __Host-session={token}"))
            server.get("/seen", bearer(spelt), bearer(secret))
            server.get("/seen", ("Authorization", f"Basic {spelt}"))
            server.get("/seen", ("User-Agent", f"me/1 {_cut(spelt)}"))
            server.post("/refresh", {"refresh_token": spelt}, bearer(spelt))
    server.post("/logout", {}, bearer(token))
    ends_by = time.monotonic() + 10  # another process of the server hears of it within a second
    while server.get("/seen", bearer(token)).status != 401:
        assert time.monotonic() < ends_by
        time.sleep(0.05)


def _cut(text: str) -> str:
    return text[:8]  # who puts a credential into its User-Agent has said it itself


def _strings(found: Any) -> list[str]:
    if isinstance(found, dict):
        return [each for value in found.values() for each in _strings(value)]
    return [found] if isinstance(found, str) else []


def left_by(deployment: Deployment, server: Server) -> dict[str, bytes]:
    said = {
        "tables": birds.in_postgres(deployment.database),
        "redis": birds.in_redis(str(deployment.redis)),
        "command lines": birds.in_arguments(),
        f"{server.name}'s log": server.log.read_bytes(),
    }
    assert b"ann" in said["tables"]
    return said


def search(canaries: Canaries, left: dict[str, bytes]) -> None:
    assert {place: sung for place, said in left.items() if (sung := canaries.sung(said))} == {}
    counted("G14", "secrets looked for in places they might be", len(canaries.planted) * len(left))


def test_p6_no_secret_is_left_behind_by_a_journey_over_any_server(server: Server) -> None:
    canaries = known_of(server.deployment)
    journey(server, canaries)
    left = left_by(server.deployment, server)
    # gunicorn and uvicorn log what is no HTTP; our own part of that is nothing.
    search(canaries, left)


def test_p6_no_secret_is_left_behind_by_forward_auth_metrics_or_commands(
    deployment: Deployment,
) -> None:
    canaries = known_of(deployment)
    canaries.plant("a client's secret", CLIENT_SECRET)
    jwt = canaries.plant("a JWT", sign("ann"))
    with serving_auth(deployment) as serve:
        answer = serve.auth(bearer(jwt))
        token = canaries.plant("a token", str(answer.get("Session-Token")))
        for spelt in (jwt, token, token + "=", jwt[:-2]):
            serve.auth(bearer(spelt), ("Cookie", f"__Host-session={token}"))
            serve.auth(bearer(spelt), uri=f"/me?token={spelt}")
            serve.post("/oauth2/introspect", {"token": spelt}, bearer(spelt))
            serve.post("/oauth2/revoke", {"token": spelt})
        left = left_by(deployment, serve)
        left["metrics"] = serve.get("/metrics").body
    for arguments in (["status"], ["status", "--json"], ["nodes"], ["log"], ["doctor"]):
        left[" ".join(arguments)] = _said_by(deployment, arguments)
    left["revoke"] = _said_by(deployment, ["sessions", "revoke", "--stdin"], f"{token}\n{jwt}\n")
    left["revoke rubbish"] = _said_by(deployment, ["sessions", "revoke", "--stdin"], token[:-1])
    left["list"] = _said_by(deployment, ["sessions", "list", "ann"])
    search(canaries, left)


def _said_by(deployment: Deployment, arguments: list[str], given: str = "") -> bytes:
    environ = {**deployment.environ(), "SERVE_CLIENT_SECRET": CLIENT_SECRET}
    result = click.testing.CliRunner().invoke(main, arguments, input=given, env=environ)
    trace = "".join(traceback.format_exception(result.exception)) if result.exception else ""
    return (result.output + result.stderr + trace).encode()


class Journal(logging.Handler):
    """All that is logged, with every field a formatter could reach."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.said = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.said += repr(vars(record)) + self.format(record)


def test_p6_no_outage_says_a_secret(migrated: str, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing listens where the stores should be; their URLs carry passwords."""
    caplog.set_level(logging.DEBUG)
    canaries, journal = Canaries(), Journal()
    logging.getLogger().addHandler(journal)
    canaries.plant("a JWT secret", SECRET)
    canaries.plant("the swap key", SWAP_KEY)
    password = canaries.plant("a password", "hunter-of-" + secrets.token_hex(12))
    url = f"postgresql+psycopg://migrator:{password}@127.0.0.1:1/app"
    rig = Rig(url, f"redis://:{password}@127.0.0.1:1/0")
    settings = rig.settings()
    jwt = canaries.plant("a JWT", sign_of_rig("ann"))
    token = canaries.plant("a token", mint("sess", secrets.token_bytes(SECRET_BYTES)).decode())
    gate, sessions = wiring.gate(settings), wiring.sessions(settings)
    said = [repr(settings), str(settings), repr(vars(gate)), f"{gate.terms!r} {gate.verifier!r}"]
    calls: list[Any] = [
        lambda: gate.admit(presenting(jwt)),
        lambda: gate.admit(presenting(token)),
        lambda: sessions.exchange(jwt, legacy=lambda: jwt),
        lambda: sessions.exchange(token, legacy=lambda: jwt),
        lambda: sessions.end(token),
        lambda: sessions.end_others(token),
        lambda: sessions.login("ann", legacy=lambda: jwt),
    ]
    for call in calls:
        with pytest.raises((Unavailable, Refused)) as caught:
            call()
        said += [repr(caught.value), str(caught.value), repr(vars(caught.value))]
        said += traceback.format_exception(caught.value)
        said.append(repr(pickle.dumps(caught.value.args)))
    wiring.stop()
    logging.getLogger().removeHandler(journal)
    search(canaries, {"exceptions and reprs": "".join(said).encode()})
    search(canaries, {"logs": (journal.said + caplog.text).encode()})


def presenting(secret: str) -> Presented:
    return Presented(header=Credential(secret.encode(), "header", frozenset({"a1"})))


def test_p6_no_record_shows_the_secret_it_holds(migrated: str) -> None:
    rig = Rig(migrated)
    rig.move("drain")
    settings = rig.settings()
    canaries = Canaries()
    canaries.plant("a JWT secret", SECRET)
    canaries.plant("the swap key", SWAP_KEY)
    jwt = canaries.plant("a JWT", sign_of_rig("ann"))
    gate, sessions = wiring.gate(settings), wiring.sessions(settings)
    outcome: Outcome = gate.admit(presenting(jwt))
    verdict: Any = outcome.verdict
    canaries.plant("a swapped token", verdict.hand_out.decode())
    issued = sessions.login("ann", legacy=str)
    canaries.plant("a token", str(issued.token))
    records = [
        presenting(jwt),
        *(outcome, verdict, issued, settings, settings.swap, settings.swap.keys[0]),
        *(settings.issuers, settings.issuers[0].keys[0], settings.database),
        *(gate.terms, gate.terms.swap_keys, gate.verifier, gate.store, gate.cache, gate.node),
        *(sessions.list("ann"), vars(gate), vars(sessions)),
        *(vars(gate.verifier), gate.flights),
    ]
    wiring.stop()
    for record in records:
        said = f"{record!r} {record} {record!s:.4000} {[record]} { ({'it': record}) }"
        assert canaries.sung(said) == [], type(record)
    counted("G14", "records whose text was searched", len(records))


def test_p6_the_search_finds_what_is_planted(migrated: str, redis_url: str) -> None:
    """The test of these tests: a canary in each place, in each spelling, is heard."""
    canaries, rig = Canaries(), Rig(migrated, redis_url)
    token = canaries.plant("a token", mint("sess", secrets.token_bytes(32)).decode())
    jwt = canaries.plant("a JWT", sign_of_rig("ann"))
    assert canaries.sung(birds.in_postgres(migrated)) == []
    rig.execute("INSERT INTO migrator.feed (kind, key) VALUES ('legacy', %s)", token)
    assert canaries.sung(birds.in_postgres(migrated)) == ["a token"]
    rig.execute("CREATE TABLE public.theirs (kept bytea)")
    rig.execute("INSERT INTO public.theirs VALUES (%s)", b"..." + jwt.encode()[-60:])
    assert canaries.sung(birds.in_postgres(migrated)) == ["a token", "a JWT"]
    assert canaries.sung(birds.in_redis(redis_url)) == []
    with redis.Redis.from_url(redis_url) as client:
        client.set("k", json.dumps({"t": token}))
    assert canaries.sung(birds.in_redis(redis_url)) == ["a token"]
    for spelt in (token, token.encode().hex(), token[5:40], jwt.split(".")[2], f"x{jwt}x"):
        assert canaries.sung(spelt), spelt
    assert birds.leaks(f"served {token}") == ["a token"]
    assert birds.leaks(f"served {jwt}") == ["a JWT"]
    assert birds.leaks(f"key {SWAP_KEY}") == ["the swap key"]
    assert birds.leaks(f"served {token[:-1]}0 {os.getpid()} {jwt[:-4]}") == []
