"""P6: what looks like a credential leaves no logger of ours, whoever put it there."""

from __future__ import annotations

import ast
import io
import logging
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrator.core.tokens import mint
from migrator.redacting import REDACTED, logger, redacted
from tests.rig import sign

ROOT = Path(__file__).parents[1]


@pytest.fixture
def said() -> Iterator[io.StringIO]:
    """What a handler of the root logger wrote, with every extra field."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(message)s why=%(why)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    yield stream
    root.removeHandler(handler)


def fail_twice(why: str) -> None:
    try:
        raise ValueError(why)  # noqa: TRY301 - what a library does
    except ValueError as error:
        raise RuntimeError("outer") from error


def canaries() -> list[str]:
    minted = [mint(prefix, secrets.token_bytes(32)).decode() for prefix in ("sess", "pat")]
    jwt = sign("ann")
    return [
        *minted,
        jwt,
        f"{jwt}=",
        jwt.rpartition(".")[0] + ".",
        f"Bearer {secrets.token_hex(9)}",
    ]


@pytest.mark.parametrize("secret", canaries(), ids=range(6))
def test_p6_a_credential_in_a_message_a_field_or_a_traceback_is_taken_out(
    secret: str, said: io.StringIO
) -> None:
    log = logger("migrator.test")
    log.warning("refused %s here", secret, extra={"why": f"({secret})"})
    try:
        fail_twice(f"cannot read {secret!r}")
    except RuntimeError:
        log.exception("failed", extra={"why": secret})
    text = said.getvalue()
    assert secret not in text
    assert secret.rsplit(maxsplit=1)[-1].rstrip("=.") not in text
    assert text.count(REDACTED) >= 4
    assert "ValueError: cannot read" in text
    assert "RuntimeError: outer" in text


def test_p6_no_frame_is_handed_to_whoever_collects_errors(said: io.StringIO) -> None:
    records: list[logging.LogRecord] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    collector = Collector()
    logging.getLogger().addHandler(collector)
    token = mint("sess", secrets.token_bytes(32))
    try:
        fail_twice(str(len(token)))
    except RuntimeError:
        logger("migrator.test").exception("failed", extra={"why": ""})
    logging.getLogger().removeHandler(collector)
    assert [record.exc_info for record in records] == [None]
    assert token.decode() not in repr(vars(records[0]))


def test_what_is_no_credential_is_said_as_it_was(said: io.StringIO) -> None:
    text = "feed.silent 3f9a11c0-0b1c-7000-8000-000000000000 sess_ token k1 eyJ a.b.c 100%"
    assert redacted(text) == text
    logger("migrator.test").warning("%d left", 3, extra={"why": "100% sure"})
    assert said.getvalue() == "3 left why=100% sure\n"


def test_p6_every_logger_of_ours_is_such_a_one() -> None:
    files = [file for name in ("migrator", "shims") for file in (ROOT / name).rglob("*.py")]
    made = [str(file) for file in files if re.search(r"getLogger\(", file.read_text("utf-8"))]
    assert made == [str(ROOT / "migrator" / "redacting.py")]


def test_p6_every_engine_hides_its_parameters() -> None:
    """SQLAlchemy quotes them in every exception otherwise."""
    engines = [
        (file.name, ast.unparse(call))
        for name in ("migrator", "shims", "migrations")
        for file in (ROOT / name).rglob("*.py")
        for call in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(call, ast.Call) and ast.unparse(call.func).endswith("create_engine")
    ]
    assert len(engines) >= 2
    assert [each for each in engines if "hide_parameters=True" not in each[1]] == []
