"""P6: the rule that nobody says a credential, on what it must find and on what it must not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lint import findings, main

SAID = [
    '_log.warning("refused %s", token)',
    '_log.info("swapped", extra={"event": "swapped", "jwt": claims.raw_jwt})',
    'logger.exception(f"could not read {request.cookies}")',
    'logging.debug("".join([a, self.session_token]))',
    "print(secret)",
    'print(f"{swap_key.secret!r}")',
    'click.echo(f"use {issued.token}")',
    'console.print("x", credential.value, presented)',
    'warnings.warn(f"bad {authorization}", stacklevel=2)',
    'raise ValueError(f"not a token: {token}")',
    "raise Refused(presented) from error",
    'raise KeyError("no " + headers["authorization"])',
    'raise Wrong("x", value=bearer[:20])',
    'raise Wrong(why=str(token, "ascii"))',
    "raise Wrong(token.decode())",
    "raise Wrong(legacyToken)",
    "raise Wrong(TOKEN)",
    "sys.stderr.write(password)",
    'assert ok, f"{dsn} does not answer"',
    '_log.error("x", exc_info=True, extra=dict(cookie=cookie))',
    "raise Wrong([token for token in tokens])",
]
NOT_SAID = [
    '_log.warning("refused", extra={"event": "token.refused", "why": reason})',
    '_log.info("%d left", len(tokens))',
    "raise Refused(Reason.UNKNOWN_TOKEN)",
    'raise ValueError("a token has 49 characters")',
    "print(token_type, swap_key_id, cookie_name, token_digest.hex())",
    "raise Wrong(type(secret))",
    "raise Wrong(cookie.name)",
    "return token",
    "digest = hashed(token)",
    "raise Wrong from error",
    "raise",
    "writer.write(token)",
]


@pytest.mark.parametrize("line", SAID)
def test_p6_what_says_a_credential_is_found(line: str) -> None:
    assert findings(line), line


@pytest.mark.parametrize("line", NOT_SAID)
def test_what_says_none_is_let_be(line: str) -> None:
    assert findings(line) == [], line


def test_a_call_of_several_lines_is_found_where_the_credential_stands() -> None:
    (found,) = findings('_log.warning(\n    "refused",\n    token,\n)\n', "a.py")
    assert str(found) == "a.py:3: says `token`"


def test_a_mark_excuses_its_call_and_needs_a_reason() -> None:
    assert findings("print(token)  # says-secret: the operator asked for a new one\n") == []
    bare = findings("print(token)  # says-secret\n")
    assert [one.what for one in bare] == ["a mark without a reason", "says `token`"]


def test_a_mark_that_excuses_nothing_is_found() -> None:
    (found,) = findings("x = 1  # says-secret: it once did\n")
    assert found.what == "a mark that excuses nothing"


def test_p6_nothing_of_ours_says_a_credential(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    files, _, rest = capsys.readouterr().out.partition(" ")
    assert int(files) > 300
    assert rest == "files: 0 credentials said\n"


def test_one_planted_in_a_file_fails_the_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "planted.py").write_text("def f(token):\n    print(token)\n")
    assert main([str(tmp_path)]) == 1
    assert "planted.py:2: says `token`" in capsys.readouterr().out
