"""README and playbooks: every command in them is typed into a real rollout, in rollout order."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.docs_blocks import blocks, front_matter, targets
from tests.docs_book import ALL, PAGES, README, REASONS, WALK
from tests.docs_rig import NODES, Differs, Rollout
from tests.docs_walk import NOT_RUN, note_drilled, walk

pytestmark = pytest.mark.xdist_group("docs")


class Journey:
    """One rollout, and how far along the playbooks it was walked."""

    def __init__(self, rollout: Rollout) -> None:
        self.rollout = rollout
        self.ran: dict[str, int] = {}
        self.stuck_at: str | None = None

    def reach(self, name: str) -> int:
        """Walk up to and including a playbook; returns how many commands it has."""
        for each in WALK[: WALK.index(name) + 1]:
            if each not in self.ran:
                assert self.stuck_at is None, f"{self.stuck_at} was not walked to its end"
                self.stuck_at = each
                self.ran[each] = walk(self.rollout, PAGES / f"{each}.md")
                self.stuck_at = None
                if self.ran[each]:
                    note_drilled(PAGES / f"{each}.md")
        return self.ran[name]


@pytest.fixture(scope="module")
def journey(postgres: Any, redis_server: Any, tmp_path_factory: Any) -> Iterator[Journey]:
    yield from _journeys(postgres, redis_server, tmp_path_factory.mktemp("playbooks"))


@pytest.fixture(scope="module")
def dropped_in(postgres: Any, redis_server: Any, tmp_path_factory: Any) -> Iterator[Rollout]:
    """A rollout of its own, where the README was walked."""
    for journey in _journeys(postgres, redis_server, tmp_path_factory.mktemp("readme")):
        assert walk(journey.rollout, README) >= 4
        yield journey.rollout


def _journeys(postgres: Any, redis_server: Any, directory: Path) -> Iterator[Journey]:
    name = f"docs_{directory.name}_{id(directory):x}".replace("-", "_").lower()
    url = postgres.create_database(name)
    rollout = Rollout(directory, database_url=url, redis_url=redis_server.url)
    try:
        yield Journey(rollout)
    finally:
        rollout.stop()
        postgres.drop_database(name)


# ---- commands ----------------------------------------------------------------------------------


@pytest.mark.timeout(600)
def test_every_command_of_the_readme_does_what_it_shows(dropped_in: Rollout) -> None:
    assert len(dropped_in.nodes) == NODES


@pytest.mark.timeout(600)
def test_the_snippets_of_the_readme_issue_what_the_phase_says(dropped_in: Rollout) -> None:
    rollout = dropped_in
    for node in rollout.nodes:
        assert _log_in(rollout, node).count(".") == 2
        assert _refresh(rollout, node, _refresh_token(rollout)).count(".") == 2
    code, printed = rollout.run("migrator advance swap --percent 100 --confirm prod")
    assert code == 0, printed
    for node in rollout.nodes:
        session, presented = _log_in(rollout, node), _refresh_token(rollout)
        assert session.startswith("sess_")
        assert _refresh(rollout, node, session) == session
        assert _refresh(rollout, node, presented).startswith("sess_")
        assert _status(rollout, node, "/auth/refresh", {"refresh": presented + "x"}) == 401
        wrong = {"username": "ann", "password": "bob's password"}
        assert _status(rollout, node, "/auth/login", wrong) == 401
        assert _status(rollout, node, "/me") == 401
        assert _status(rollout, node, "/me", token=session) == 200


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", WALK)
def test_every_command_of_a_playbook_does_what_it_shows(journey: Journey, name: str) -> None:
    drilled = front_matter(PAGES / f"{name}.md")["last_drilled"]
    assert (journey.reach(name) > 0) == (drilled != "none needed")


def _log_in(rollout: Rollout, node: str) -> str:
    return _access(rollout, node, "/auth/login", {"username": "ann", "password": "ann's password"})


def _refresh(rollout: Rollout, node: str, presented: str) -> str:
    return _access(rollout, node, "/auth/refresh", {"refresh": presented})


def _refresh_token(rollout: Rollout) -> str:
    return rollout.sign("ann", lasts_s=60, kind="refresh")


def _access(rollout: Rollout, node: str, path: str, said: Mapping[str, object]) -> str:
    answered = rollout.ask(node, path, said=said)
    assert answered is not None
    assert answered[0] == 200, answered
    return str(json.loads(answered[1])["access"])


def _status(
    rollout: Rollout,
    node: str,
    path: str,
    said: Mapping[str, object] | None = None,
    *,
    token: str | None = None,
) -> int:
    answered = rollout.ask(node, path, token, said=said)
    assert answered is not None
    return answered[0]


LIES = {
    "its output": "```console\n$ echo yes\nno\n```\n",
    "its silence": "```console\n$ echo yes\n```\n",
    "its exit code": "```console\n$ exit 4  # exit 3\n```\n",
    "its success": "```sh\nfalse\n```\n",
}


@pytest.mark.parametrize("lie", LIES)
def test_a_page_that_lies_about_a_command_is_found_out(lie: str, tmp_path: Path) -> None:
    """The test of the test."""
    page = tmp_path / "page.md"
    page.write_text(LIES[lie])
    rollout = Rollout(tmp_path, database_url="none", redis_url="none")
    with pytest.raises(Differs):
        walk(rollout, page)


def test_every_playbook_is_walked() -> None:
    assert sorted(WALK) == sorted(
        page.stem for page in PAGES.glob("*.md") if page.stem not in REASONS
    )


def test_what_is_not_run_is_known_and_has_a_reason() -> None:
    left_out = [
        line
        for page in ALL
        for block in blocks(page, "sh")
        for line in block.text.splitlines()
        if line.startswith(tuple(NOT_RUN))
    ]
    assert len(left_out) == 3
    assert all(NOT_RUN.values())


def test_status_points_into_playbooks_that_exist(journey: Journey) -> None:
    journey.reach("01-install-and-observe")
    _, printed = journey.rollout.run("migrator status --json 2>/dev/null")
    for gate in json.loads(printed)["gates"]:
        name, _, anchor = gate["playbook"].partition("#")
        assert anchor in targets(PAGES / f"{name}.md")
