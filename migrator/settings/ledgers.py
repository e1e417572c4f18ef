"""One `[[ledgers]]` table: where the app itself says which tokens and users are to be refused.

What each kind takes is a table (`TAKES`); nothing else may be given, so that a key that would
silently not apply is an error.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from datetime import timedelta
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import Field, SecretStr
from pydantic.dataclasses import dataclass

from migrator.settings.issuers import Issuer
from migrator.settings.model import STRICT
from migrator.settings.problems import Findings
from migrator.settings.values import Name, PositiveDuration, Text

Kind: TypeAlias = Literal["simplejwt", "table", "redis", "users", "callback"]
_LONGEST: Final = timedelta(hours=1)

KEYS: Final[Mapping[Kind, frozenset[str]]] = {
    "simplejwt": frozenset({"issuer", "url", "table", "ends"}),
    "table": frozenset({"issuer", "url", "table", "columns", "where", "ends"}),
    "redis": frozenset({"issuer", "url", "keys", "value", "ends"}),
    "users": frozenset({"realm", "url", "table", "columns", "where", "inactive"}),
    "callback": frozenset({"issuer", "call", "ends"}),
}
"""What each kind takes besides kind, name and every."""

COLUMNS: Final[Mapping[Kind, frozenset[str]]] = {
    "table": frozenset({"token", "jti", "fingerprint", "family", "exp", "revoked_at"}),
    "users": frozenset({"subject", "active", "changed_at"}),
}
"""Our names for columns, of the kinds that map them."""

NAMING: Final = ("token", "fingerprint", "jti", "family")
"""The columns of a `table` that can name what is denied; one of them is enough."""


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Ledger:
    """A ledger that is polled: what it names is denied, and what became of it is ended.

    Args:
        name: of its row in the database and in what is told; the kind unless given.
        every: how often it is read. A revocation there is in effect that much later than one here.
        issuer: whose tokens it lists; the only issuer unless given.
        realm: whose users it lists; that of sessions unless given.
        url: of its database or Redis; ours unless given.
        table: with its schema, where it is not on the search path.
        columns: ours to theirs. `revoked_at` (a time or a rising number that a revocation sets)
            lets a poll read what is new; without it each poll reads everything.
        where, inactive: SQL conditions over the table: which rows count, and which users are not
            active where no column says so.
        keys: the pattern of Redis keys; what `*` stands for is the jti. Without `*` it is a set,
            sorted set or hash of jtis.
        value: keys with another value do not count.
        call: `module:function`, where the app does not hand the function over itself.
        ends: only the token that is named, as the app does, or its whole family. Ledgers list
            tokens that were rotated too, and their families go on living.
    """

    kind: Kind
    name: Name
    every: Annotated[PositiveDuration, Field(le=_LONGEST)] = timedelta(seconds=5)
    issuer: Text | None = None
    realm: Text | None = None
    url: SecretStr | None = None
    table: Text | None = None
    columns: Mapping[str, Text] = field(default_factory=dict)
    where: Text | None = None
    inactive: Text | None = None
    keys: Text | None = None
    value: Text | None = None
    call: Text | None = None
    ends: Literal["token", "family"] = "token"


def named(table: dict[str, Any], at: int, listed: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The table with a name: its kind, or the kind and a number where that is taken."""
    kind = str(table.get("kind", ""))
    is_first = all(str(other.get("kind", "")) != kind for other in listed[:at])
    return {"name": kind if is_first else f"{kind}-{at + 1}", **table}


def settled(ledger: Ledger, issuers: Sequence[Issuer], realm: str) -> dict[str, Any]:
    """What a ledger leaves unsaid where there is only one answer: the issuer, and the realm."""
    found: dict[str, Any] = {}
    if ledger.kind == "users":
        found["realm"] = ledger.realm or realm
    elif ledger.issuer is None and len(issuers) == 1:
        found["issuer"] = issuers[0].id
    return found


def check_ledgers(
    ledgers: Mapping[int, Ledger],
    given: Sequence[Mapping[str, Any]],
    issuers: Sequence[Issuer],
    findings: Findings,
) -> None:
    """Everything about the ledgers that their values alone do not show.

    Args:
        given: the tables as they were written.
    """
    for at, ledger in ledgers.items():
        earlier = [other.name for place, other in ledgers.items() if place < at]
        if ledger.name in earlier:
            do = "give each ledger a name of its own"
            findings.add("settings.duplicate-ledger", ("ledgers", at, "name"), "used twice", do=do)
        for key, why in _faults(ledger, given[at], [one.id for one in issuers]):
            findings.add("settings.bad-ledger", ("ledgers", at, key), why, do=_DO)


_DO: Final = "playbook 01-install-and-observe says what each kind takes"


def _faults(
    ledger: Ledger, given: Mapping[str, Any], ids: Sequence[str]
) -> Iterator[tuple[str, str]]:
    takes = KEYS[ledger.kind]
    for key in sorted(given.keys() - takes - {"kind", "name", "every"}):
        yield key, f"a ledger of kind {ledger.kind} takes no {key}"
    for column in sorted(ledger.columns.keys() - COLUMNS.get(ledger.kind, frozenset())):
        yield "columns", f"{column} is no column that {ledger.kind} reads"
    if "issuer" in takes and ledger.issuer not in ids:
        several = "there are several issuers" if ids else "there is no issuer"
        why = several if ledger.issuer is None else "no [[issuers]] has that id"
        yield "issuer", f"{why}: name the one whose tokens it lists"
    match ledger.kind:
        case "table":
            if ledger.table is None:
                yield "table", "it is required"
            if not set(NAMING) & ledger.columns.keys():
                yield "columns", f"one of {', '.join(NAMING)} has to say what is denied"
        case "users":
            if ledger.table is None:
                yield "table", "it is required"
            if "subject" not in ledger.columns:
                yield "columns", "subject has to say whom a row is about"
            if not ledger.inactive and not {"active", "changed_at"} & ledger.columns.keys():
                yield "columns", "active, changed_at or `inactive` has to say what a row means"
        case "redis":
            if ledger.keys is None:
                yield "keys", "it is required"
            elif ledger.keys.count("*") > 1:
                yield "keys", "one * at most: it is the jti"
        case "callback":
            if ledger.call is not None and ledger.call.count(":") != 1:
                yield "call", 'write it like "package.module:function"'
