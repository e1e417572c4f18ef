"""Secrets that are known to the tests, and the places where none of them may ever be found (P6).

`Canaries` is what one test plants and then looks for, in whatever spelling. Besides, everything
that any test logs is looked through: token-shaped text with a right checksum, a JWT signed by one
of the tests' keys, or one of those keys, fails the test that logged it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
import redis
from psycopg import sql

from migrator.core.tokens import is_well_formed
from migrator.stores.drivers import conninfo
from tests.apps.deployment import JWT_SECRET
from tests.rig import SECRET, SWAP_KEY

_OURS = re.compile(r"\b([a-z][a-z0-9]*)_[0-9A-Za-z]{49}\b")
_JWT = re.compile(r"\b(eyJ[\w-]+\.[\w-]+)\.([\w-]+)")
_PART = 20  # of a token: as much of it as nobody writes by chance


@dataclass(slots=True)
class Canaries:
    """What was planted, by name."""

    planted: dict[str, str] = field(default_factory=dict)

    def plant(self, name: str, secret: str) -> str:
        """Know it from now on; the secret itself."""
        self.planted[name] = secret
        return secret

    def sung(self, text: str | bytes) -> list[str]:
        """The names of those that can be found in it, in whatever spelling."""
        said = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
        return [
            name
            for name, secret in self.planted.items()
            if any(each in said for each in _spellings(secret))
        ]


def _spellings(secret: str) -> Iterator[bytes]:
    raw = secret.encode()
    yield raw
    yield raw.hex().encode()
    yield base64.b64encode(raw).rstrip(b"=")[:-1]
    yield base64.urlsafe_b64encode(raw).rstrip(b"=")[:-1]
    yield quote(secret, safe="").encode()
    if _OURS.fullmatch(secret):
        yield raw[5 : 5 + _PART]
        yield raw[-_PART - 6 : -6]
    elif secret.count(".") == 2:  # a header is the same for all
        _, payload, signature = raw.split(b".")
        yield payload[-2 * _PART :]
        yield signature[:_PART]


def in_postgres(url: str) -> bytes:
    """Everything that every table of the database holds, and what its views say is being run."""
    kept = b""
    with psycopg.connect(**conninfo(url), autocommit=True) as connection:
        names = connection.execute(
            "SELECT schemaname, tablename FROM pg_tables"
            " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        for schema, name in (*names, ("pg_catalog", "pg_stat_activity")):
            table = sql.Identifier(schema, name)
            with connection.cursor().copy(
                sql.SQL("COPY (SELECT * FROM {}) TO STDOUT").format(table)
            ) as copied:
                kept += b"".join(copied)
            kept += b"".join(_blobs(connection, schema, name))
    return kept


def _blobs(connection: psycopg.Connection[Any], schema: str, name: str) -> Iterator[bytes]:
    # COPY writes bytea as hex: a token kept as bytes has to be found as well.
    for row in connection.execute(
        sql.SQL("SELECT * FROM {}").format(sql.Identifier(schema, name))
    ):
        yield from (value for value in row if isinstance(value, bytes))


def in_redis(url: str) -> bytes:
    """Every key and every value."""
    with redis.Redis.from_url(url) as client:
        dumped: Any = [(key, client.dump(key)) for key in client.scan_iter()]
    return b"\n".join(key + b" " + (value or b"") for key, value in dumped)


def in_arguments() -> bytes:
    """The command lines of every process that can be seen."""
    said = b""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                said += (entry / "cmdline").read_bytes() + b"\n"
            except OSError:
                continue
    return said


def leaks(text: str) -> list[str]:
    """What a log must not hold, whichever test wrote it."""
    found = [name for name, secret in _KEYS.items() if secret in text]
    found += [
        "a token" for match in _OURS.finditer(text) if is_well_formed(match[0].encode(), match[1])
    ]
    found += ["a JWT" for match in _JWT.finditer(text) if _is_signed(match[1], match[2])]
    return found


def _is_signed(signed: str, signature: str) -> bool:
    return any(
        base64.urlsafe_b64encode(hmac.new(key.encode(), signed.encode(), hashlib.sha256).digest())
        .rstrip(b"=")
        .decode()
        == signature
        for key in (SECRET, JWT_SECRET)
    )


_KEYS = {"the swap key": SWAP_KEY, "a JWT secret": SECRET, "the shops' JWT secret": JWT_SECRET}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail whatever logged a secret."""
    report = yield
    logged = "".join(text for name, text in report.sections if "log" in name)
    found = leaks(logged) if report.passed and report.when == "call" else []
    if found:
        report.outcome = "failed"
        report.longrepr = f"the log of {report.nodeid} holds {', '.join(sorted(set(found)))}"
    return report
