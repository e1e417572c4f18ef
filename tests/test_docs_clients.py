"""The clients of the clients' page, against servers that answer as a rollout would."""

from __future__ import annotations

import base64
import runpy
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest

from tests.docs_book import PAGES
from tests.docs_client import Answer, serving
from tests.docs_rig import snippets
from tests.rig import SECRET


def module(name: str, folder: Path) -> dict[str, Any]:
    """A snippet of the page, run as the file that its first line names."""
    path = folder / f"{name}.py"
    path.write_text(snippets(PAGES / "50-clients.md")[name])
    return runpy.run_path(str(path))


def test_the_client_of_the_playbook_adopts_the_token_and_survives_an_outage(
    tmp_path: Path,
) -> None:
    """The `after` snippet, against a server that hands out once, then is away once."""
    call: Callable[..., object] = module("after", tmp_path)["call"]
    answers = [
        Answer(200, {"Session-Token": "sess_new"}),
        Answer(503, {"Retry-After": "0"}),
        Answer(200, {}),
    ]
    store = {"token": "jwt"}
    with serving(answers) as (url, seen):
        call(url, store)
        call(url, store)
    assert store == {"token": "sess_new"}
    assert seen == ["Bearer jwt", "Bearer sess_new", "Bearer sess_new"]


def test_the_client_as_it_was_neither_adopts_nor_survives(tmp_path: Path) -> None:
    """What the other snippet is for."""
    call: Callable[..., object] = module("before", tmp_path)["call"]
    store = {"token": "jwt"}
    answers = [Answer(200, {"Session-Token": "sess_new"}), Answer(503, {"Retry-After": "0"})]
    with serving(answers) as (url, _):
        call(url, store)
        with pytest.raises(urllib.error.HTTPError):
            call(url, store)
    assert store == {"token": "jwt"}


def test_a_service_that_asks_knows_what_one_that_verifies_does_not(tmp_path: Path) -> None:
    verifies = module("verifies", tmp_path)["who"]
    asks = module("asks", tmp_path)["who"]
    token = jwt.encode({"sub": "ann"}, SECRET, algorithm="HS256")
    answers = [
        Answer(200, {}, b'{"active": true, "sub": "ann"}'),
        Answer(200, {}, b'{"active": false}'),  # since then somebody ended it
        Answer(503, {"Retry-After": "1"}),
    ]
    with serving(answers) as (url, seen):
        assert asks(token, url, "billing", "secret") == verifies(token, SECRET) == "ann"
        assert asks(token, url, "billing", "secret") is None
        with pytest.raises(urllib.error.HTTPError):
            asks(token, url, "billing", "secret")
    assert verifies(token, SECRET) == "ann"
    assert verifies("nonsense", SECRET) is None
    assert set(seen) == {"Basic " + base64.b64encode(b"billing:secret").decode()}
