"""A deployment whose app keeps its own ledgers, and a node that polls them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jwt

from migrator import wiring
from migrator.control.ledgers import building
from migrator.control.ledgers.poller import Poller, Turn
from migrator.core.gate import Gate
from migrator.stores.memory_cache import NoCache
from tests.control.backfill.ledgers import SCHEMA as SIMPLEJWT
from tests.faults.nodes import Answer, present
from tests.rig import ISSUER, SECRET, Rig, sign, sign_refresh

__all__ = ["SIMPLEJWT", "App", "claims_of", "comes_true", "sign", "sign_refresh"]


class App:
    """One node of a deployment, and its ledgers polled by hand or by its pulse."""

    def __init__(
        self, url: str, redis_url: str | None = None, *ledgers: Any, **tables: Any
    ) -> None:
        seldom = [{"every": "1h", **ledger} for ledger in ledgers]
        self.rig = Rig(url, redis_url, ledgers=seldom, **tables)
        self.settings = self.rig.settings()
        self.rig.move("drain")
        for ledger in self.settings.ledgers:
            if ledger.every.total_seconds() == 3600:  # not by the node's own threads
                self.execute(
                    "INSERT INTO migrator.jobs (name, state, detail) VALUES (%s, 'idle',"
                    " jsonb_build_object('due', extract(epoch FROM now()) + 3600))",
                    f"ledger:{ledger.name}",
                )

    @property
    def gate(self) -> Gate:
        return wiring.gate(self.settings)

    def show(self, credential: str | bytes) -> Answer:
        raw = credential.encode() if isinstance(credential, str) else credential
        return present(self.gate, raw)

    def swapped(self, subject: str, **claims: object) -> tuple[str, bytes]:
        """A JWT that became a session, and the session's token."""
        token = sign(subject, claims=claims)
        session = self.show(token).token
        assert session is not None
        return token, session

    def poller(self, at: int = 0, **options: Any) -> Poller:
        return building.poller_of(
            self.settings, self.settings.ledgers[at], NoCache(blocks=True), **options
        )

    def poll(self, at: int = 0, **options: Any) -> Turn:
        """One turn, now."""
        poller = self.poller(at, **options)
        try:
            return self.turn(poller)
        finally:
            poller.close()

    def turn(self, poller: Poller) -> Turn:
        """One turn of a poller that goes on, now."""
        return poller.turn(at_once=True)

    def is_alive(self, token: bytes) -> bool:
        """Whether the row of a session says that it lives."""
        import hashlib  # noqa: PLC0415 - one line needs it

        digest = hashlib.sha256(token).digest()
        rows = self.execute(
            "SELECT revoked_at IS NULL FROM migrator.sessions WHERE digest = %s", digest
        )
        return bool(rows[0][0])

    def standing(self, token: str) -> str:
        """How a legacy token is answered, by a node that remembers nothing."""
        wiring.stop()
        answer = self.show(token)
        return answer.reason or answer.kind

    def execute(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        return self.rig.execute(statement, *values)

    def feed(self) -> int:
        return self.rig.count("feed")


def claims_of(token: str) -> dict[str, Any]:
    found: dict[str, Any] = jwt.decode(token, SECRET, algorithms=["HS256"])
    return found


def comes_true(claim: Callable[[], object], seconds: float = 8.0) -> bool:
    deadline = time.monotonic() + seconds
    while not claim():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def jti(token: str) -> str:
    return str(claims_of(token)["jti"])


assert ISSUER["id"] == "a1"
