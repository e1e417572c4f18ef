"""Every drop-in that the documentation shows lives through the phases, its clients with it."""

from __future__ import annotations

import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from tests.docs_dropins import DROP_INS, PAGE, Around, shown_commands
from tests.docs_rig import ROOT, snippets

CLIENTS = ROOT / "playbooks" / "50-clients.md"

pytestmark = [pytest.mark.xdist_group("docs-drop-ins"), pytest.mark.timeout(180)]


@pytest.fixture(params=DROP_INS)
def around(
    request: pytest.FixtureRequest, migrated: str, redis_url: str, tmp_path: Path
) -> Iterator[Around]:
    """One drop-in, in `observe`."""
    running = Around(DROP_INS[request.param], tmp_path, migrated, redis_url)
    try:
        running.begin()
        yield running
    finally:
        running.stop()


def test_clients_new_and_old_live_through_every_phase_and_none_logs_in_again(
    around: Around, tmp_path: Path
) -> None:
    """The snippets of both pages together: what is dropped in, and who comes by."""
    drop_in, me = around.drop_in, around.url + around.drop_in.me
    by_rules, never = client("after", tmp_path), client("never_updated", tmp_path)

    around.reach("observe")
    pair = around.log_in()
    access = pair[drop_in.access]
    assert access.count(".") == 2
    assert around.me(access) == (200, None)
    kept = {"token": access}

    around.reach("swap")
    by_rules(me, kept)
    assert kept["token"].startswith("sess_")

    around.reach("drain")
    held = [kept["token"], around.log_in()[drop_in.access]]
    if drop_in.refresh is not None:
        store = {"access": over(access, drop_in.secret), "refresh": pair["refresh"]}
        never(me, around.url + drop_in.refresh, store)
        held += [store["access"], store["refresh"]]
    assert all(token.startswith("sess_") for token in held)
    assert [around.me(token) for token in held] == [(200, None)] * len(held)

    around.reach("cutover")
    assert [around.me(token) for token in held] == [(200, None)] * len(held)
    assert around.me(access)[0] == 401


def client(name: str, folder: Path) -> Callable[..., Any]:
    """The `call` of a client of the clients' page."""
    (folder / f"{name}.py").write_text(snippets(CLIENTS)[name])
    found: Callable[..., Any] = runpy.run_path(str(folder / f"{name}.py"))["call"]
    return found


def over(token: str, secret: str) -> str:
    """The same JWT, expired."""
    claims = jwt.decode(token, secret, algorithms=["HS256"])
    iat = int(claims.get("iat", claims["exp"])) - 3600
    return jwt.encode({**claims, "iat": iat, "exp": iat + 60}, secret, algorithm="HS256")


def test_every_drop_in_that_is_shown_is_run() -> None:
    run = " ".join(word for each in DROP_INS.values() for argv in each.runs for word in argv)
    for name in snippets(PAGE):
        assert f"{name}:" in run or name == "django_settings"
    typed = [line for each in DROP_INS.values() for line in each.before]
    for line in shown_commands():
        assert line in typed or line.startswith("migrator serve --upstream ")


def test_a_snippet_that_two_pages_show_is_the_same_on_both() -> None:
    shown: dict[str, str] = {}
    for page in (ROOT / "README.md", *sorted((ROOT / "playbooks").glob("*.md"))):
        for name, text in snippets(page).items():
            assert shown.setdefault(name, text) == text, f"{page.name}: {name}"
