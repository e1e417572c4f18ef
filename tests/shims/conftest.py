"""Settings and a scripted gate: the shims are tested for what they find, hide and add."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest

from migrator.core.comparing import Shadow
from migrator.core.errors import Unavailable
from migrator.core.presented import Outcome, Presented
from migrator.core.verdicts import Admitted, Passed, Principal
from migrator.settings import Settings

_SECRET = hashlib.sha256(b"the issuer of these tests").digest()
_ISSUER = {
    "id": "a1",
    "name": "main",
    "realm": "users",
    "algorithms": ["HS256"],
    "keys": [_SECRET],
}
_BASE: Mapping[str, object] = {
    "environment": "test",
    "app": "shims",
    "database": {"url": "postgresql+psycopg://nobody@localhost/none"},
}


def settings_with(
    *transports: Mapping[str, str], scheme: str = "Bearer", **tables: object
) -> Settings:
    """Settings of an app with one issuer, whose tokens are where `transports` say."""
    places = transports or ({"header": "Authorization", "scheme": scheme},)
    return Settings.build(
        {**_BASE, "issuers": [{**_ISSUER, "transport": [*places]}], **tables}, environ={}
    )


@pytest.fixture(scope="session")
def settings() -> Callable[..., Settings]:
    return settings_with


@dataclass
class ScriptedGate:
    """A gate whose answers were written down, by the value that decides."""

    answers: dict[bytes, Outcome] = field(default_factory=dict)
    otherwise: Outcome = field(default_factory=lambda: Outcome(Passed()))
    remembers: bool = False
    is_down: bool = False
    asked: list[Presented] = field(default_factory=list)
    counted: list[tuple[str, int]] = field(default_factory=list)
    compared_to: list[tuple[str, Shadow, int]] = field(default_factory=list)
    closed: int = 0
    woken: int = 0

    def peek(self, presented: Presented) -> Outcome | None:
        return self._answer(presented) if self.remembers else None

    def peek_header(
        self,
        value: bytes,
        issuers: frozenset[str],  # noqa: ARG002 - the protocol's; answers are by value
    ) -> Admitted | None:
        if not self.remembers:
            return None
        verdict = self.answers.get(value, self.otherwise).verdict
        return verdict if isinstance(verdict, Admitted) else None

    def wake(self) -> None:
        self.woken += 1

    def admit(self, presented: Presented) -> Outcome:
        if self.is_down:
            raise Unavailable("postgres")
        return self._answer(presented)

    def observed(self, path: str, outcome: Outcome, answered: int) -> None:
        verdict = outcome.verdict
        if isinstance(verdict, Passed) and verdict.reason is not None:
            self.counted.append((path, answered))

    def compared(self, path: str, shadow: Shadow, answered: int) -> None:
        self.compared_to.append((path, shadow, answered))

    def close(self) -> None:
        self.closed += 1

    def _answer(self, presented: Presented) -> Outcome:
        self.asked.append(presented)
        decides = presented.header or presented.session_cookie or presented.legacy
        value = b"" if decides is None else decides.value
        return self.answers.get(value, self.otherwise)


class AsyncScriptedGate(ScriptedGate):
    """The same for ASGI."""

    async def admit(self, presented: Presented) -> Outcome:  # type: ignore[override]  # the other colour
        return super().admit(presented)

    async def aclose(self) -> None:
        self.close()


@pytest.fixture
def gate() -> ScriptedGate:
    return ScriptedGate()


@pytest.fixture
def async_gate() -> AsyncScriptedGate:
    return AsyncScriptedGate()


@pytest.fixture
def ada() -> Principal:
    return Principal(subject="ada", realm="users", scopes=frozenset({"read", "write"}))
