"""A function of the app that says whether a token was revoked, as flask-jwt-extended asks it.

It is asked off the request path, in the ledger's thread, about each legacy token that became a
session which lives. It is shown what was kept of the token, never the token: kid and algorithm in
the header; subject, jti, family, times and purpose among the claims.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from migrator.control.ledgers.reading import (
    Checkpoint,
    SourceFailed,
    Step,
    Steps,
    until,
)
from migrator.stores.ledgers import Item, Ledgers, Tally, Terms

if TYPE_CHECKING:
    from migrator.settings import Issuer, Ledger
    from migrator.stores.drivers import Row

Asked: TypeAlias = Callable[[Mapping[str, Any], Mapping[str, Any]], bool]
"""`(header, payload)` → whether the token was revoked."""

_ROOM: Final = 200
_MOST_ASKED: Final = 5000  # in one turn; the next goes on behind them
_MOST_FAULTS: Final = 5


class Callback:
    """A function, asked again and again."""

    def __init__(
        self, ledger: Ledger, issuer: Issuer, terms: Terms, asked: Asked | None = None
    ) -> None:
        self._ledger = ledger
        self._issuer = issuer
        self._terms = terms
        self.asked = asked

    def turn(self, ledgers: Ledgers, checkpoint: Checkpoint, now: datetime) -> Steps:  # noqa: ARG002 - `Source`
        """See `Source.turn`."""
        asked = self._function()
        after, read, faults = bytes.fromhex(str(checkpoint.get("after", ""))), 0, Faults()
        while True:
            rows = ledgers.living_tokens(self._issuer.id, after, _ROOM)
            revoked = [row for row in rows if self._is_revoked(asked, row, faults)]
            items = [
                Item(jti=row[1], fingerprint=bytes(row[0]), until=until(row[7], self._issuer))
                for row in revoked
            ]
            tally = ledgers.deny(items, self._terms) if items else Tally()
            tally.read = len(rows)
            read += len(rows)
            after = bytes(rows[-1][0]) if len(rows) == _ROOM else b""
            yield Step({"after": after.hex()}, tally)
            if not after or read >= _MOST_ASKED:
                break
        if faults.last is not None:
            raise SourceFailed(f"it raised {faults.last} {faults.count} times")

    def check(self) -> str:
        """See `Source.check`: only the app has its function."""
        return "of each token whose session lives"

    def close(self) -> None:
        """See `Source.close`."""

    def _function(self) -> Asked:
        if self.asked is None:
            module, _, name = (self._ledger.call or "").partition(":")
            try:
                self.asked = cast("Asked", getattr(import_module(module), name))
            except (ImportError, AttributeError, ValueError) as error:
                raise SourceFailed(f"call names nothing: {type(error).__name__}") from None
        return self.asked

    def _is_revoked(self, asked: Asked, row: Row, faults: Faults) -> bool:
        """What the function says; where it fails the token is asked about in the next turn."""
        try:
            said = asked(self._header(row), self._payload(row))
        except Exception as error:  # noqa: BLE001 - the app's own code
            faults.note(type(error).__name__)
            return False
        if inspect.iscoroutine(said):
            said.close()
            raise SourceFailed("it is a coroutine function: give it a blocking one")
        return bool(said)

    def _header(self, row: Row) -> dict[str, Any]:
        header = {"typ": "JWT", "alg": self._issuer.algorithms[0]}
        return header if row[4] is None else {**header, "kid": row[4]}

    def _payload(self, row: Row) -> dict[str, Any]:
        _, jti, family, subject, _, purpose, iat, exp = row
        rules = self._issuer.purpose
        rule = rules.refresh if purpose == "refresh" else rules.require
        names = self._issuer.claims
        payload = {name: value for name, value in (rule or {}).items() if isinstance(value, str)}
        said = {names.subject: subject, "jti": jti, "exp": int(exp.timestamp())}
        if names.family is not None:
            said[names.family] = family
        if iat is not None:
            said["iat"] = int(iat.timestamp())
        return payload | {name: value for name, value in said.items() if value is not None}


class Faults:
    """How often a function raised; too often, and it is not asked on."""

    def __init__(self) -> None:
        self.count = 0
        self.last: str | None = None

    def note(self, kind: str) -> None:
        """Note one more."""
        self.count += 1
        self.last = kind
        if self.count >= _MOST_FAULTS:
            raise SourceFailed(f"it raised {kind} {self.count} times")
