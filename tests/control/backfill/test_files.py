"""Exported ledgers: JSON lines and CSV, read by the rules the tokens will be read by later."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from migrator.control.backfill.runner import Limits
from migrator.core.errors import Stopped
from migrator.core.tokens import fingerprint
from tests.control.backfill.ledgers import Ledger, backfill, body, counts, refresh

DOTTED: dict[str, Any] = {"deep.sid": "flat"}
ROWS = (
    "SELECT fingerprint, issuer, jti, family, realm, subject, client, percent_bucket, kid,"
    " purpose, iat, exp, keep_until, swap_key_id FROM migrator.legacy_tokens ORDER BY fingerprint"
)


def lines(*records: Any) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def run(ledger: Ledger, kind: str, content: bytes, **order: Any) -> Any:
    order.setdefault("place", "-")
    return backfill(ledger.url, kind, standard_input=io.BytesIO(content), **order)


def test_a_file_seeds_the_very_rows_that_the_ledger_itself_would(
    ledger: Ledger, postgres: Any, migrated_template: str
) -> None:
    """The same tokens read in SQL and in Python: two readers, one rule."""
    issuer = {"claims": {"subject": "user_id", "family": "deep.sid", "client": "azp"}}
    tokens = [
        refresh("7", azp="ios", deep={"sid": "f1"}),
        refresh(8, deep={"sid": 12}),
        refresh("zoë", **DOTTED),
        refresh("9", exp=4_000_000_000.5),
        refresh("5", jti=""),
        refresh("6", jti=7),
        refresh("4", token_type="access"),
        refresh("3", token_type="reset"),
        refresh("2", iss="elsewhere"),
        refresh("", days=3),
        refresh("11", days=-3),
        "not.a.token!",
    ]
    for token in tokens:
        ledger.add(token)
    inside = backfill(ledger.url, issuer=issuer)
    seeded = ledger.execute(ROWS)
    name = "twin_" + ledger.url.rpartition("/")[2].partition("?")[0]
    twin = Ledger(postgres.create_database(name, migrated_template))
    try:
        content = lines(*({"token": token} for token in tokens))
        outside = run(twin, "jsonl", content, issuer=issuer)
        assert twin.execute(ROWS) == seeded
    finally:
        postgres.drop_database(name)
    assert len(seeded) == 5
    assert counts(outside) == counts(inside)


def test_csv_with_quotes_a_mark_and_short_rows(ledger: Ledger) -> None:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["JWT", "note", "gone"])
    writer.writerow([refresh("1"), 'a "quoted", note\nover two lines', "false"])
    writer.writerow([refresh("2"), "", "true"])
    writer.writerow(["only one"])
    writer.writerow([refresh("3"), "", "perhaps"])
    writer.writerow(["x" * 70_000, "", "no"])
    writer.writerow([refresh("4"), "", ""])
    content = b"\xef\xbb\xbf" + out.getvalue().encode() + b'"' + b"\xff.\xff.\xff" + b'",,\r\n'
    report = run(ledger, "csv", content, columns="token=JWT,revoked=gone")
    assert counts(report) == {
        "read": 7,
        "seeded": 2,
        "denied": 1,
        "unreadable": 3,
        "not_a_jws": 1,
    }
    assert report.outcome.examples[0] == ("row 3", "unreadable")


def test_fingerprints_with_subject_and_exp_need_no_token(ledger: Ledger) -> None:
    token = refresh("7")
    named = fingerprint("a1", token.rpartition(".")[0].encode())
    exp = body(token)["exp"]
    content = lines(
        {"fingerprint": named.hex(), "subject": 7, "exp": exp, "family": "f"},
        {"fingerprint": named.hex(), "subject": "7", "exp": str(exp)},
        {"fingerprint": "00" * 32, "subject": "8", "exp": "2099-01-01T00:00:00Z", "revoked": 1},
        {"fingerprint": "11" * 32, "subject": "9", "exp": "2099-01-01"},
        {"fingerprint": "22" * 32, "subject": "9"},
        {"fingerprint": "zz", "subject": "9", "exp": exp},
        {"fingerprint": "33" * 32, "subject": "a\0b", "exp": exp},
        {"fingerprint": "44" * 32, "subject": "9", "exp": exp, "jti": {"no": "text"}},
        {"token": token},
        ["not", "an", "object"],
    )
    content += b"{broken\n" + b'{"token": "' + b"x" * 70_000 + b'"}\n' + b"\xff\xfe\n"
    assert counts(run(ledger, "jsonl", content)) == {
        "read": 13,
        "seeded": 2,
        "already": 2,
        "denied": 1,
        "no_expiry": 1,
        "bad_fingerprint": 1,
        "bad_subject": 1,
        "bad_claim": 1,
        "unreadable": 4,
    }
    assert ledger.execute("SELECT family FROM migrator.legacy_tokens WHERE family IS NOT NULL")


def test_a_file_goes_on_where_it_was_left(ledger: Ledger, tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(lines(*({"token": refresh(str(user))} for user in range(10))))
    first = backfill(
        ledger.url,
        "jsonl",
        place=str(path),
        standard_input=io.BytesIO(),
        limits=Limits(rows=4, batch=3),
    )
    assert (first.outcome.end, first.exit_code, first.outcome.here) == ("limit", 13, 4)
    assert first.outcome.total == 10
    second = backfill(ledger.url, "jsonl", place=str(path), standard_input=io.BytesIO())
    assert (second.outcome.resumed, second.outcome.here) == (True, 6)
    assert counts(second) == {"read": 10, "seeded": 10}


def test_another_file_under_the_old_name_is_not_gone_on_with(ledger: Ledger) -> None:
    content = lines(*({"token": refresh(str(user))} for user in range(5)))
    run(ledger, "jsonl", content, limits=Limits(rows=2))
    other = lines(*({"token": refresh(str(user))} for user in range(5)))
    with pytest.raises(Stopped) as stopped:
        run(ledger, "jsonl", other)
    assert (stopped.value.problem.id, stopped.value.exit_code) == ("backfill.changed", 3)
    assert "begins" in stopped.value.problem.what
    assert counts(run(ledger, "jsonl", other, restart=True)) == {"read": 5, "seeded": 5}
    assert ledger.count("sessions") == 7


def test_an_empty_file_is_done(ledger: Ledger) -> None:
    assert counts(run(ledger, "jsonl", b"")) == {}
    assert counts(run(ledger, "csv", b"token\n")) == {}
    with pytest.raises(Stopped):
        run(ledger, "csv", b"")


def test_a_file_that_is_not_there_is_refused(ledger: Ledger) -> None:
    with pytest.raises(Stopped) as stopped:
        run(ledger, "csv", b"", place="/nowhere/ledger.csv")
    assert stopped.value.problem.id == "backfill.no_file"
