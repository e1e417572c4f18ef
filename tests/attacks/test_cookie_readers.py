"""A cookie that any reader of cookies would find is found here, or the request is refused."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from http.cookies import CookieError, SimpleCookie

import pytest
from starlette.requests import cookie_parser
from werkzeug.http import parse_cookie

from migrator.core.legacy import FOREIGN
from shims.credentials import clear, find
from tests.attacks.test_respellings import PLACES, TOKEN, VERIFIER, app_takes

BEFORE = ["", "a=b; ", "a=b;", "a=b ", "a=b\t", "a=b, ", "a=b,", 'a="b" ', 'a="b;c" ', 'a="; ']
NAME = ["access_token=", "access_token =", "access_token= ", "access_token\x0b="]
QUOTED = ["", '"', "Bearer ", '"Bearer ', "a.a.a.a.a.a.a ", "A" * 9000 + " ", "Bearer%20", "x ,"]
AFTER = ["", "=", '"', ";x=y", " x=y", ", x=y"]


def jars(line: str) -> Iterator[dict[str, str]]:
    """What the readers of several frameworks make of a Cookie header."""
    try:
        jar: SimpleCookie = SimpleCookie(line)
    except CookieError:
        pass
    else:
        yield {name: morsel.value for name, morsel in jar.items()}
    yield dict(parse_cookie(line))
    yield cookie_parser(line)
    anywhere = re.findall(r"([\w!#$%&'*+.^`|~-]+)\s*=\s*(\"(?:[^\"\\]|\\.)*\"|[^\s;,]*)", line)
    yield dict(anywhere)  # as WebOb does


def passed_on(line: str) -> bool:
    presented, _ = find(PLACES, [(b"cookie", line.encode("latin-1"))], method="GET", path="/")
    if presented is None:
        return True
    legacy = presented.legacy
    if presented.fault is not None or legacy is None:
        return presented.fault is None
    return VERIFIER.whose(legacy.value, allowed=legacy.issuers) is FOREIGN


def test_no_reader_finds_a_legacy_token_that_we_do_not() -> None:
    parts = itertools.product(BEFORE, NAME, QUOTED, AFTER)
    lines = [before + name + quoted + TOKEN + after for before, name, quoted, after in parts]
    taken = [
        line for line in lines if any(app_takes(jar.get("access_token", "")) for jar in jars(line))
    ]
    assert len(taken) > 200
    assert [line.replace(TOKEN, "JWT")[:60] for line in taken if passed_on(line)] == []


@pytest.mark.parametrize(
    "line",
    [
        "theme=dark, access_token=1; lang=de",
        "note=my access_token=lost",
        f"xaccess_token={TOKEN}",
        f"a=b; my-access_token={TOKEN}",
    ],
)
def test_what_merely_mentions_our_cookie_is_nobody_s_business(line: str) -> None:
    presented, _ = find(PLACES, [(b"cookie", line.encode())], method="GET", path="/")
    assert presented is None


def test_a_cookie_taken_out_is_out_for_every_reader() -> None:
    parts = itertools.product(BEFORE, NAME, QUOTED, AFTER)
    for line in (before + name + quoted + TOKEN + after for before, name, quoted, after in parts):
        headers = [(b"cookie", line.encode("latin-1"))]
        kept = clear(PLACES, headers, cookies=frozenset({b"access_token"}), explicit=False)
        for _, rest in kept:
            for jar in jars(rest.decode("latin-1")):
                assert not app_takes(jar.get("access_token", "")), line.replace(TOKEN, "JWT")[:60]
