"""A swap against bare psycopg running the same statements in one pipeline.

Postgres runs without fsync here, so the commit costs next to nothing and our share looks as large
as it can. Every call swaps a legacy token never seen before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from migrator.core import tokens
from migrator.core.claims import Claims
from migrator.core.flow import run
from migrator.core.ids import uuid7
from migrator.core.interfaces import Standing, Ticket
from migrator.core.legacy import Legacy, Verifier
from migrator.core.sessions import Session
from migrator.core.verdicts import Admitted
from migrator.stores import queries as q
from migrator.stores.postgres import _columns, _facts, locks_of
from migrator.wiring import verifier_of
from tests.bench import parts
from tests.bench.database import SCHEMA, Database
from tests.bench.timing import Case, Group, awaiting, blocking
from tests.rig import sign

_LOCKS, *_STATEMENTS = (
    q.in_schema(text, SCHEMA) for text in (q.SHARE_LOCKS, q.KNOW, q.OPEN, q.GIVE_TOKEN, q.STAND)
)
_KEY_ID = "k1"


@dataclass(frozen=True, slots=True)
class _Swap:
    """A legacy token, verified, with the session it will become."""

    claims: Claims
    ticket: Ticket
    script: list[tuple[str, dict[str, Any] | None]]


def groups(database: Database) -> Iterator[Group]:
    """The swap in both colours."""
    yield _blocking(database)
    yield _async(database)


def _blocking(database: Database) -> Group:
    one, store, gate = database.connection(), database.store, database.gate()
    verifier = verifier_of(database.settings)

    def bare(swap: _Swap) -> None:
        with one.pipeline():
            cursors = [one.execute(*step, binary=True) for step in swap.script]
        _swapped(cursors[-2].fetchall())

    def ours(swap: _Swap) -> None:
        _swapped(run(store.swap(swap.claims, swap.ticket)))

    def admitted(token: bytes) -> None:
        _swapped(gate.admit(parts.presented(token)).verdict)

    return Group(
        "swap",
        "A swap, one round trip of 7 statements (blocking)",
        [
            Case("psycopg, the same statements", blocking(bare, _swaps(verifier))),
            Case("Postgres.swap", blocking(ours, _swaps(verifier)), "<= 1.3"),
            Case("Gate.admit: verified, swapped, remembered", blocking(admitted, _jwts())),
        ],
    )


def _async(database: Database) -> Group:
    runner, store = database.runner, database.async_store
    one, gate = database.async_connection(), database.async_gate()
    verifier = verifier_of(database.settings)

    async def bare(swap: _Swap) -> None:
        async with one.pipeline():
            cursors = [await one.execute(*step, binary=True) for step in swap.script]
        _swapped(await cursors[-2].fetchall())

    async def ours(swap: _Swap) -> None:
        _swapped(await store.swap(swap.claims, swap.ticket))

    async def admitted(token: bytes) -> None:
        _swapped((await gate.admit(parts.presented(token))).verdict)

    return Group(
        "swap-async",
        "A swap, one round trip of 7 statements (async)",
        [
            Case("psycopg, the same statements", awaiting(runner, bare, _swaps(verifier))),
            Case("Postgres.swap", awaiting(runner, ours, _swaps(verifier)), "<= 1.3"),
            Case(
                "AsyncGate.admit: verified, swapped, remembered",
                awaiting(runner, admitted, _jwts()),
            ),
        ],
    )


def _jwts() -> Iterator[bytes]:
    number = 0
    while True:
        number += 1
        yield sign(f"user-{number % 1000}").encode()


def _swaps(verifier: Verifier) -> Iterator[_Swap]:
    for token in _jwts():
        owner = verifier.whose(token, allowed=parts.ISSUERS)
        assert isinstance(owner, Legacy)
        claims = verifier.verify(token, owner.candidates, now=parts.now())
        assert isinstance(claims, Claims)
        ticket = _ticket(claims)
        facts = {
            **_facts(claims),
            **_columns(ticket.session),
            "digest": ticket.digest,
            "swap_key_id": _KEY_ID,
            "percent_bucket": ticket.percent_bucket,
        }
        yield _Swap(
            claims,
            ticket,
            [
                (q.BEGIN, None),
                (_LOCKS, {"locks": locks_of(claims)}),
                *((statement, facts) for statement in _STATEMENTS),
                (q.COMMIT, None),
            ],
        )


def _ticket(claims: Claims) -> Ticket:
    at = parts.now()
    session = Session(
        id=uuid7(),
        kind="session",
        realm=claims.realm,
        subject=claims.subject,
        client="acme-ios",
        created_at=at,
        expires_at=claims.exp,
        last_seen_at=at,
        user_agent=parts.AGENT,
        ip="203.0.113.9",
        origin="swap",
    )
    token = tokens.derive("sess", key=bytes(32), fingerprint=claims.fingerprint)
    return Ticket(
        session=session, digest=tokens.digest(token), swap_key_id=_KEY_ID, percent_bucket=50
    )


def _swapped(result: object) -> None:
    match result:
        case [[*columns]] | [tuple(columns)]:
            done = columns[4] is not None
        case Standing():
            done = result.session is not None
        case Admitted():
            done = result.hand_out is not None
        case _:
            done = False
    if not done:
        raise AssertionError("not swapped")
