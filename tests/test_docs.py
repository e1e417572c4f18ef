"""README and playbooks: every command in them is typed into a real rollout, in rollout order.

What they say about phases, gates, reasons and exit codes is compared with the code.
"""

from __future__ import annotations

import json
import re
import runpy
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from migrator.cli import COMMANDS
from migrator.control import scaffold
from migrator.control.diagnosis import bridge as bridge_looks
from migrator.control.gates import SETS
from migrator.control.gates.model import PLAYBOOKS
from migrator.core.errors import Exit
from migrator.core.phases import RULES, Phase, back_of
from migrator.core.verdicts import Reason
from migrator.settings import Bridge, Serve, Settings, model
from tests.docs_blocks import anchors, blocks, front_matter, links, targets
from tests.docs_client import Answer, serving
from tests.docs_rig import NODES, NOT_RUN, ROOT, Differs, Rollout, walk
from tests.rig import ISSUER

README = ROOT / "README.md"
PAGES = ROOT / "playbooks"
# In rollout order. A leak happens while JWTs still work; the fears are looked up after a cutover.
WALK = (
    "00-decide",
    "01-install-and-observe",
    "10-swap",
    "50-clients",
    "55-behind-a-proxy",
    "56-serve",
    "57-bridge",
    "36-key-leak",
    "20-drain",
    "30-cutover",
    "35-rollback",
    "90-what-if",
    "40-retire",
)
HEAD = "id phase reversible owner min_role duration rollback last_drilled"
ALL = [README, *sorted(PAGES.glob("*.md"))]

pytestmark = pytest.mark.xdist_group("docs")


class Journey:
    """One rollout, and how far along the playbooks it was walked."""

    def __init__(self, rollout: Rollout) -> None:
        self.rollout = rollout
        self.ran: dict[str, int] = {}

    def reach(self, name: str) -> int:
        """Walk up to and including a playbook; returns how many commands it has."""
        for each in WALK[: WALK.index(name) + 1]:
            if each not in self.ran:
                self.ran[each] = walk(self.rollout, PAGES / f"{each}.md")
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


@pytest.mark.timeout(300)
def test_every_command_of_the_readme_does_what_it_shows(dropped_in: Rollout) -> None:
    assert len(dropped_in.nodes) == NODES


@pytest.mark.timeout(300)
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


@pytest.mark.timeout(300)
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
    assert sorted(WALK) == sorted(page.stem for page in PAGES.glob("*.md") if page.stem != "why")


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


def test_blocks_are_of_kinds_that_are_checked_or_declared_output() -> None:
    kinds = {language for page in ALL for language in _languages(page)}
    assert kinds <= {"console", "sh", "python", "toml", "text", "js"}


@pytest.mark.parametrize("page", ALL, ids=lambda page: page.stem)
def test_settings_shown_are_toml(page: Path) -> None:
    for block in blocks(page, "toml"):
        assert tomllib.loads(block.text)


def _languages(page: Path) -> list[str]:
    fences = re.findall(r"^ *```(\w*)", page.read_text(), re.MULTILINE)
    return fences[::2]


# ---- the client's page -------------------------------------------------------------------------


def test_the_client_of_the_playbook_adopts_the_token_and_survives_an_outage(
    tmp_path: Path,
) -> None:
    """The `after` snippet, against a server that hands out once, then is away once."""
    snippet = next(b for b in blocks(PAGES / "50-clients.md", "python") if "# after.py" in b.text)
    (tmp_path / "after.py").write_text(snippet.text)
    call = runpy.run_path(str(tmp_path / "after.py"))["call"]
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


# ---- what they say, against the code -----------------------------------------------------------

_LEGACY = {
    "shadow": "the app decides; verified in the shadow, counted",
    "verify": "verified, admitted",
    "verify_then_refuse": "verified, then refused by name",
    "unread": "refused unread",
}
_COLUMNS = (
    "phase",
    "legacy token",
    "session",
    "swap hands out to",
    "login and refresh give a session to",
    "way back",
)
_SHARE = {"none": "nobody", "cohort": "the cohort", "all": "everybody"}


def phase_table() -> str:
    """The phases as the README shows them, from the one table."""
    lines = [f"| {' | '.join(_COLUMNS)} |", "|---" * len(_COLUMNS) + "|"]
    for phase, rule in RULES.items():
        legacy = _LEGACY[rule.legacy] + (", told to go" if rule.notice else "")
        back = back_of(phase)
        way = f"`{back}`, free" if back else ("**none**" if phase is Phase.RETIRED else "-")
        lines.append(
            f"| `{phase}` | {legacy} | admitted | {_SHARE[rule.swap]} | {_SHARE[rule.issue]} |"
            f" {way} |"
        )
    return "\n".join(lines)


def test_the_phase_picture_of_the_readme_is_the_phase_table() -> None:
    assert phase_table() in README.read_text()


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase in SETS])
def test_every_gate_is_anchored_once_in_the_playbook_of_its_phase(phase: Phase) -> None:
    ids = [judge.__name__.replace("_", "-") for judge in SETS[phase]]
    found = [each for each in anchors(PAGES / f"{PLAYBOOKS[phase]}.md") if "gate-" in each]
    assert sorted(found) == sorted(f"gate-{each}" for each in ids)


def test_every_reason_and_exit_code_is_anchored_exactly_once() -> None:
    found = [each for page in PAGES.glob("*.md") for each in anchors(page)]
    wanted = [*(str(reason) for reason in Reason), *(f"exit-{int(code)}" for code in Exit)]
    assert sorted(each for each in found if not each.startswith("gate-")) == sorted(wanted)


SECTIONS: Mapping[str, Any] = {
    "database": model.Database,
    "redis": model.Redis,
    "memory": model.Memory,
    "gates": model.Gates,
    "tokens": model.Tokens,
    "sessions": model.Sessions,
    "swap": model.Swap,
    "routes": model.Routes,
    "cookie": model.Cookie,
    "http": model.Http,
    "serve": Serve,
    "bridge": Bridge,
}
# What `doctor` finds is named like a key of the section it is about.
_FOUND = re.findall(r'"(bridge\.[a-z-]+)"', Path(bridge_looks.__file__).read_text())
FINDINGS = {*_FOUND, "bridge.no-login", "bridge.no-logout"}


@pytest.mark.parametrize("page", ALL, ids=lambda page: page.stem)
def test_commands_and_settings_named_in_passing_exist(page: Path) -> None:
    for span in re.findall(r"`([^`\n]+)`", page.read_text()):
        words = span.split()
        if words[0] == "migrator" and len(words) > 1:
            assert words[1] in COMMANDS, span
        section, dot, key = span.partition(".")
        if dot and section in SECTIONS and key.isidentifier() and span not in FINDINGS:
            assert key in SECTIONS[section].__dataclass_fields__, span


def test_the_page_of_the_bridge_tells_every_key_and_every_finding() -> None:
    told = set(re.findall(r"`([^`\n]+)`", (PAGES / "57-bridge.md").read_text()))
    assert set(Bridge.__dataclass_fields__) - told == set()
    assert {each for each in FINDINGS if each != "bridge.probe"} - told == set()


def test_the_settings_of_the_bridge_load_and_init_shows_no_key_that_is_not_there() -> None:
    (block,) = blocks(PAGES / "57-bridge.md", "toml")
    usual = {"database": {"url": "postgresql://h/d"}, "issuers": [ISSUER]}
    assert Settings.build({**usual, **tomllib.loads(block.text)}, environ={}).bridge is not None
    lines = scaffold._FILE.partition("# [bridge]\n")[2].partition("\n\n")[0].splitlines()
    shown = {line.removeprefix("# ").partition(" = ")[0] for line in lines}
    assert shown - set(Bridge.__dataclass_fields__) == set()


@pytest.mark.parametrize("page", ALL, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in targets(target), link


@pytest.mark.parametrize("name", WALK)
def test_a_playbook_says_what_it_is_on_top(name: str) -> None:
    head = front_matter(PAGES / f"{name}.md")
    assert head.keys() == set(HEAD.split())
    assert head["id"] == name
    assert all(head.values())


def test_status_points_into_playbooks_that_exist(journey: Journey) -> None:
    journey.reach("01-install-and-observe")
    _, printed = journey.rollout.run("migrator status --json 2>/dev/null")
    for gate in json.loads(printed)["gates"]:
        name, _, anchor = gate["playbook"].partition("#")
        assert anchor in targets(PAGES / f"{name}.md")
