"""A ledger that was exported: each record read by the rules that its token will be read by later.

What must live here: how one record of a file becomes a row. The two formats differ only in how a
record is cut out of bytes (`jsonl.py`, `csv_file.py`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from migrator.control.backfill import refusals
from migrator.control.backfill.reading import NO, YES
from migrator.control.backfill.rows import Cursor, Here, Page, Row
from migrator.control.backfill.table import purpose_of
from migrator.core import facts, purpose, strict, tokens
from migrator.core.claims import Claims, Purpose
from migrator.core.issuers import ClaimNames, Issuer, Key
from migrator.core.translate import translate
from migrator.core.verdicts import Reason
from migrator.settings import Issuer as IssuerSettings

LINE_BYTES: Final = 65_536  # eight times the longest credential that is ever read

Record = Mapping[str, object]
UNREADABLE: Final = "unreadable"

UNSEEDABLE = (
    ("tokens that this file does not list", "they become sessions when they are presented"),
)


class _NoKeys:
    """Nothing is verified here: the exchange verifies."""

    def find(self, kid: str | None, alg: str) -> tuple[Key, ...]:  # noqa: ARG002 - a KeyRing's signature
        return ()


@dataclass(frozen=True, slots=True)
class Reader:
    """Turns records into rows.

    Args:
        issuer: whose tokens they are.
        columns: ours to theirs.
        now: by the database's clock.
        room: the most bytes a token may have.
    """

    issuer: Issuer
    columns: Mapping[str, str]
    now: datetime
    room: int
    taken_for: str

    def row(self, key: str, record: Record | None) -> Row:
        """The row of one record; None is one that could not be cut out."""
        if record is None:
            return Row(key=key, fault=UNREADABLE)
        found = {ours: record.get(theirs) for ours, theirs in self.columns.items()}
        revoked = _flag(found.get("revoked"))
        if revoked is None:
            return Row(key=key, fault=UNREADABLE)
        if found.get("token") or "fingerprint" not in self.columns:
            return self._of_token(key, found, revoked=revoked)
        return self._of_fingerprint(key, found, revoked=revoked)

    def _of_token(self, key: str, found: Record, *, revoked: bool) -> Row:
        said, exp, iat = _Said.of(found), _time(found.get("exp")), _time(found.get("iat"))

        def faulty(reason: str, fingerprint: bytes | None = None) -> Row:
            return Row(
                key=key,
                fault=reason,
                fingerprint=fingerprint,
                jti=said.jti,
                exp=exp,
                revoked=revoked,
            )

        raw = found.get("token")
        token = raw.strip().encode("utf-8", "surrogatepass") if isinstance(raw, str) else b""
        if len(token) > self.room:
            return faulty(Reason.OVERSIZED)
        jws = strict.parse(token, accept_padding=self.issuer.accept_padding)
        if isinstance(jws, Reason):
            return faulty(jws)
        named = tokens.fingerprint(self.issuer.id, jws.signing_input)
        payload = strict.read_object(jws.payload, largest_int=2**63 - 1)
        if payload is None:
            return faulty(Reason.BAD_PAYLOAD, named)
        seconds = facts.seconds(payload.get("exp"))
        exp = exp if seconds is None else facts.moment(seconds)
        if payload.get("iss", "") is None or not self.issuer.signs_as(payload.get("iss")):
            return faulty(Reason.UNKNOWN_ISSUER, named)
        wanted = self._purpose(payload)
        if wanted is None:
            return faulty(Reason.WRONG_PURPOSE, named)
        claims = translate(self.issuer, jws, payload, now=self.now.timestamp(), wanted=wanted)
        if not isinstance(claims, Claims):
            return faulty(claims, named)
        return Row(
            key=key,
            fingerprint=claims.fingerprint,
            jti=claims.jti or said.jti,
            family=claims.family or said.family,
            subject=claims.subject,
            client=claims.client or said.client,
            kid=claims.kid,
            purpose=claims.purpose,
            iat=claims.iat or iat,
            exp=claims.exp,
            revoked=revoked,
        )

    def _purpose(self, payload: Record) -> Purpose | None:
        order: tuple[Purpose, ...] = ("refresh", "access")
        for wanted in order:
            if purpose.is_for(
                wanted,
                payload,
                require=self.issuer.require,
                refresh=self.issuer.refresh,
                own_keys=self.issuer.refresh_keys is not None,
            ):
                return wanted
        return None

    def _of_fingerprint(self, key: str, found: Record, *, revoked: bool) -> Row:
        said = _Said.of(found)
        subject, exp = facts.text(found.get("subject"), integers=True), _time(found.get("exp"))
        fingerprint = _digest(found.get("fingerprint"))
        faults = {
            "bad_fingerprint": fingerprint is None,
            Reason.BAD_SUBJECT: subject is None,
            Reason.BAD_CLAIM: said.is_odd,
            Reason.NO_EXPIRY: exp is None,
        }
        return Row(
            key=key,
            fault=next((name for name, is_so in faults.items() if is_so), None),
            fingerprint=fingerprint,
            jti=said.jti,
            family=said.family,
            subject=subject,
            client=said.client,
            purpose="refresh" if self.taken_for == "refresh" else "access",
            iat=_time(found.get("iat")),
            exp=exp,
            revoked=revoked,
        )


def reader(
    settings: IssuerSettings, columns: Mapping[str, str], *, now: datetime, room: int
) -> Reader:
    """How the records of an issuer are read."""
    names = settings.claims
    issuer = Issuer(
        id=settings.id,
        name=settings.name,
        realm=settings.realm,
        algorithms=settings.algorithms,
        keys=_NoKeys(),
        refresh_keys=_NoKeys() if settings.refresh_keys else None,
        iss=settings.issuer,
        accept_padding=settings.accept_padding,
        integer_subject=settings.integer_subject,
        rotates_refresh=settings.rotates_refresh,
        leeway=settings.leeway,
        skew=settings.skew,
        lifetime=settings.lifetime,
        refresh_lifetime=settings.refresh_lifetime,
        max_age=settings.max_age,
        claims=ClaimNames(
            subject=names.subject,
            client=names.client,
            scopes=names.scopes,
            family=names.family,
            keep=names.keep,
        ),
        require=settings.purpose.require,
        refresh=settings.purpose.refresh,
    )
    return Reader(issuer, columns, now, room, purpose_of(settings))


class Reads(Protocol):
    """What turns a record into a row."""

    def row(self, key: str, record: Record | None) -> Row:
        """The row of one record; None is one that could not be cut out."""


@dataclass(slots=True)
class File:
    """An exported ledger as a `rows.Source`: read once, from the beginning; a cursor is a count.

    Args:
        records: number and content of each record; None is one that could not be cut out.
    """

    kind: str
    place: str
    identity: Mapping[str, object]
    unseedable: tuple[tuple[str, str], ...]
    reader: Reads
    records: Iterator[tuple[str, Record | None]]
    lines: int | None
    _done: int = 0

    def total(self) -> int | None:
        """See `Source.total`."""
        return self.lines

    def page(self, after: Cursor, size: int) -> Page | None:
        """See `Source.page`; passes over what was done in an earlier run."""
        for _ in itertools.islice(self.records, max(0, _count(after) - self._done)):
            self._done += 1
        taken = list(itertools.islice(self.records, size))
        first = self._done + 1
        self._done += len(taken)
        rows = tuple(self.reader.row(key, record) for key, record in taken)
        cursors = tuple((str(first + at),) for at in range(len(taken)))
        return Here(rows, cursors) if rows else None


def _count(after: Cursor) -> int:
    return int(after[0]) if after else 0


def opened(name: str, standard_input: BinaryIO) -> BinaryIO:
    """The file called `name`, "-" for standard input.

    Raises:
        Stopped: USAGE, it cannot be read.
    """
    if name == "-":
        return standard_input
    try:
        return Path(name).open("rb")
    except OSError as error:
        raise refusals.no_file(name, error.strerror or type(error).__name__) from error


def lines_of(name: str) -> int | None:
    """How many lines a file has; None for what cannot be read twice."""
    path = Path(name)
    if name == "-" or not path.is_file():
        return None
    with path.open("rb") as counted:
        return sum(1 for _ in counted)


def lines(stream: BinaryIO) -> Iterator[bytes | None]:
    """The lines of a stream; None for one that is too long to be a record of ours."""
    while line := stream.readline(LINE_BYTES):
        if len(line) < LINE_BYTES or line.endswith(b"\n"):
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = stream.readline(LINE_BYTES)
        yield None


def beginning(found: Iterator[bytes | None]) -> tuple[str, Iterator[bytes | None]]:
    """A digest of the first two lines, to know a file again by; and all the lines."""
    head = list(itertools.islice(found, 2))
    seen = hashlib.sha256(b"".join(line or b"\0" for line in head)).hexdigest()
    return seen, itertools.chain(head, found)


@dataclass(frozen=True, slots=True)
class _Said:
    """What a record says beside its token."""

    jti: str | None
    family: str | None
    client: str | None
    is_odd: bool

    @classmethod
    def of(cls, found: Record) -> _Said:
        given = [found.get(name) for name in ("jti", "family", "client")]
        read = [facts.text(value, integers=True) for value in given]
        odd = any(
            text is None and value is not None and value != ""
            for text, value in zip(read, given, strict=True)
        )
        return cls(jti=read[0], family=read[1], client=read[2], is_odd=odd)


def _flag(value: object) -> bool | None:
    """Whether a record says that its token is revoked; None where it cannot be told."""
    if value is None or isinstance(value, bool | int | float):
        return bool(value)
    word = value.strip().lower() if isinstance(value, str) else None
    return True if word in YES else False if word in NO else None


def _time(value: object) -> datetime | None:
    """A time as ledgers are exported with: seconds since 1970, or ISO 8601, without a zone UTC."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return _iso(str(value))
    seconds = facts.seconds(value)
    return None if seconds is None else facts.moment(seconds)


def _iso(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text.strip())
        found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return min(found, facts.LATEST)


def _digest(value: object) -> bytes | None:
    """32 bytes in hex, base64 or base64url."""
    if not isinstance(value, str) or not value.isascii():
        return None
    text = value.strip()
    try:
        if len(text) == 64:
            return bytes.fromhex(text)
        bare = text.rstrip("=").translate(_URL_SAFE)
        found = base64.b64decode(bare + "=", altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        return None
    return found if len(found) == 32 else None


_URL_SAFE: Final = str.maketrans("+/", "-_")
