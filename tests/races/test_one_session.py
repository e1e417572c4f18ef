"""P1: one legacy token, one session, whatever the concurrency, retries and lost responses.

64 threads in each of 4 processes present the same legacy token at the same moment, 50 times over,
each time one that was never seen before. Every process is joined for itself and knows nothing of
the others; the database settles the race, and every loser gets the winner's answer.
"""

from __future__ import annotations

import random
import secrets
import time
import uuid
from collections.abc import Callable, Iterator

import pytest

from migrator import prepared
from migrator.core.claims import Claims, Purpose
from migrator.core.legacy import Legacy
from tests.counts import counted
from tests.faults.nodes import Answer, Node, fleet, nodes
from tests.rig import SWAP_KEY, Rig, sign, sign_refresh

PROCESSES, THREADS = 4, 64
# A crowd of 256 on two cores waits for its turn; what is claimed here is not how fast it gets it.
PATIENT = {"budget_ms": 30_000}
AT_LENGTH = pytest.mark.full


@pytest.fixture
def rig(migrated: str, redis_url: str) -> Rig:
    rig = Rig(migrated, redis_url, database={"url": migrated, **PATIENT})
    rig.move("drain")
    return rig


@pytest.fixture
def crowd(rig: Rig) -> Iterator[list[Node]]:
    with nodes(*fleet(rig, PROCESSES)) as started:
        yield started


def present_at_once(crowd: list[Node], token: bytes, route: str) -> list[Answer]:
    """Every thread of every process at one moment."""
    at = time.monotonic() + 0.05
    for node in crowd:
        node.tell("crowd", token=token, route=route, threads=THREADS, at=at)
    return [answer for node in crowd for answer in node.hear()]


def the_one_token(answers: list[Answer]) -> bytes:
    assert len(answers) == PROCESSES * THREADS
    assert {answer.kind for answer in answers} == {"admitted"}
    tokens = {answer.token for answer in answers}
    assert len(tokens) == 1, "two answers to one legacy token"
    (token,) = tokens
    assert token is not None
    return token


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("route", "make", "times"),
    [
        pytest.param("any", sign, 50, id="swap"),
        pytest.param("refresh", sign_refresh, 50, id="exchange"),
        pytest.param("any", sign, 200, id="swap at length", marks=AT_LENGTH),
        pytest.param("refresh", sign_refresh, 200, id="exchange at length", marks=AT_LENGTH),
    ],
)
def test_p1_a_crowd_with_one_unseen_legacy_token_gets_one_session(
    rig: Rig, crowd: list[Node], route: str, make: Callable[[str], str], times: int
) -> None:
    tokens: set[bytes] = set()
    for number in range(times):
        legacy = make(f"user-{number}").encode()
        token = the_one_token(present_at_once(crowd, legacy, route))
        # The response was lost on its way to some: they ask again, wherever they come out.
        lost = [random.choice(crowd) for _ in range(3)]
        command = "show" if route == "any" else "exchange"
        for node in lost:
            assert node.ask(command, token=legacy).token == token
        tokens.add(token)
    counted("G11", f"crowds of {PROCESSES * THREADS} with one JWT, one session each", times)
    counted("G11", "answers, none wrong", times * (PROCESSES * THREADS + 3))
    assert len(tokens) == times
    assert rig.count("sessions") == times == rig.count("sessions", "digest IS NOT NULL")
    assert rig.count("legacy_tokens") == times
    per_subject = rig.execute(
        "SELECT count(*) FROM migrator.sessions GROUP BY realm, subject ORDER BY 1 DESC LIMIT 1"
    )
    assert per_subject == [(1,)]


def backfill(rig: Rig, legacy: bytes, purpose: Purpose) -> uuid.UUID:
    """What a backfill leaves of a ledger's row: a session without a token yet."""
    verifier = prepared.verifier_of(rig.settings())
    now = rig.execute("SELECT now()")[0][0]
    owner = verifier.whose(legacy, allowed=None, path="")
    assert isinstance(owner, Legacy)
    claims = verifier.verify(legacy, owner.candidates, now=now, purpose=purpose)
    assert isinstance(claims, Claims)
    session_id = uuid.uuid4()
    rig.execute(
        "INSERT INTO migrator.sessions (id, kind, realm, subject, created_at, expires_at, origin)"
        " VALUES (%s, 'session', %s, %s, now(), %s, 'backfill')",
        session_id,
        claims.realm,
        claims.subject,
        claims.exp,
    )
    rig.execute(
        "INSERT INTO migrator.legacy_tokens (fingerprint, issuer, jti, realm, subject, purpose,"
        " exp, session_id, keep_until, percent_bucket)"
        " VALUES (%s, 'a1', %s, %s, %s, %s, %s, %s, %s, 0)",
        claims.fingerprint,
        claims.jti,
        claims.realm,
        claims.subject,
        purpose,
        claims.exp,
        session_id,
        claims.keep_until,
    )
    return session_id


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("route", "make", "purpose", "times"),
    [
        pytest.param("any", sign, "access", 12, id="swap"),  # ledgers list refresh tokens
        pytest.param("refresh", sign_refresh, "refresh", 12, id="exchange"),
    ],
)
def test_p1_the_first_use_of_a_backfilled_row_gives_its_session_one_token(
    rig: Rig,
    crowd: list[Node],
    route: str,
    make: Callable[[str], str],
    purpose: Purpose,
    times: int,
) -> None:
    for number in range(times):
        legacy = make(f"user-{number}").encode()
        session_id = backfill(rig, legacy, purpose)
        token = the_one_token(present_at_once(crowd, legacy, route))
        assert crowd[number % PROCESSES].show(token).subject == f"user-{number}"
        rows = rig.execute(
            "SELECT id, digest = sha256(%s) FROM migrator.sessions WHERE subject = %s",
            token,
            f"user-{number}",
        )
        assert rows == [(session_id, True)], "the ledger's own session, and no other"


def test_p1_nodes_that_derive_with_different_keys_give_one_answer(rig: Rig) -> None:
    """While a new swap key rolls out, the database says which key a row's token came from."""
    key = {"id": "k1", "secret": SWAP_KEY}
    new = {"id": "k2", "secret": secrets.token_urlsafe(32)}
    both = [rig.settings(swap={"keys": keys}) for keys in ([key, new], [new, key])]
    with nodes(*both, *both) as crowd:
        for number in range(6):
            legacy = sign(f"user-{number}").encode()
            the_one_token(present_at_once(crowd, legacy, "any"))
    assert rig.count("sessions") == 6
