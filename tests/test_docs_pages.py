"""What README and playbooks say, held against the code: phases, gates, reasons, exit codes."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import pytest
from packaging.specifiers import SpecifierSet

from migrator.cli import COMMANDS, main
from migrator.control import playbooks, scaffold
from migrator.control.diagnosis import bridge as bridge_looks
from migrator.control.gates import SETS, Judge, comparing
from migrator.control.gates.model import PLAYBOOKS
from migrator.core.errors import Exit
from migrator.core.phases import RULES, Phase, back_of
from migrator.core.verdicts import Reason
from migrator.settings import Bridge, Serve, Settings, model
from tests.docs_blocks import anchors, blocks, front_matter, links, targets
from tests.docs_book import ALL, MOVES, PAGES, README, WALK
from tests.rig import ISSUER

HEAD = "id phase reversible owner min_role version duration rollback last_drilled alerts"
STALE_DAYS = 90
# Parts of the template, in their order; what they are about is said in the playbooks of operating.
SECTIONS_OF_A_MOVE = (
    "## Timeline",
    "## Preconditions",
    "## Steps",
    "## Verify",
    "## Abort when",
    "## Roll back",
    "## Troubleshooting",
    "## Point of no return",
    "## Afterwards",
)
MOST_STEPS = 9

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


def gate_id(judge: Judge) -> str:
    """A gate is called as the function that judges it, within its file's subject."""
    name = judge.__name__.removesuffix("_for_all").replace("_", "-")
    return f"verdict-{name}" if judge.__module__ == comparing.__name__ else name


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase in SETS])
def test_every_gate_is_anchored_once_in_the_playbook_of_its_phase(phase: Phase) -> None:
    ids = [gate_id(judge) for judge in SETS[phase]]
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
def test_settings_named_in_passing_exist(page: Path) -> None:
    for span in _spans(page):
        section, dot, key = span.partition(".")
        if dot and section in SECTIONS and key.isidentifier() and span not in FINDINGS:
            assert key in SECTIONS[section].__dataclass_fields__, span


@pytest.mark.parametrize("page", ALL, ids=lambda page: page.stem)
def test_commands_named_in_passing_exist_with_their_options(page: Path) -> None:
    """Those in blocks are run; those in a sentence or a table are looked up."""
    shown = [line for block in blocks(page, "text") for line in block.text.splitlines()]
    for line in (*_spans(page), *shown):
        words = line.split()
        if words[:1] == ["migrator"] and len(words) > 1 and words[1].isidentifier():
            assert words[1] in COMMANDS, line
            _is_typed_right(words[1:], line)


def _spans(page: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", page.read_text())


def _is_typed_right(words: list[str], line: str) -> None:
    context = click.Context(main)
    command: click.Command | None = main
    for word in words:
        if isinstance(command, click.Group):
            command = command.get_command(context, word.partition("|")[0])
            assert command is not None, line
        elif word.startswith("--") and command is not None:
            known = {name for parameter in command.params for name in parameter.opts}
            for name in word.removesuffix("…").rstrip(".,").split("|"):
                assert name.partition("=")[0] in known, line


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
    assert SpecifierSet(head["version"].strip('"')).contains(version("jwt-way-out"))


@pytest.mark.parametrize("name", WALK)
def test_a_playbook_was_drilled_within_ninety_days(name: str) -> None:
    """The day is written by the run that typed its commands: UPDATE_DOCS=1."""
    drilled = front_matter(PAGES / f"{name}.md")["last_drilled"]
    typed = blocks(PAGES / f"{name}.md", "console")
    assert (drilled == "none needed") == (not typed)
    if typed:
        day = date.fromisoformat(drilled.partition(",")[0])
        assert timedelta(-1) <= datetime.now(UTC).date() - day <= timedelta(STALE_DAYS)


@pytest.mark.parametrize("name", [name for name in WALK if name != "00-decide"])
def test_a_playbook_begins_with_what_a_reader_in_a_hurry_needs(name: str) -> None:
    text = (PAGES / f"{name}.md").read_text()
    assert "**In one breath.**" in text
    assert "## Troubleshooting" in text or name == "90-what-if"
    assert len(text.partition("**In one breath.**")[2].partition("\n\n")[0].splitlines()) <= 5


@pytest.mark.parametrize("name", MOVES)
def test_a_playbook_of_a_move_has_every_part_in_its_order(name: str) -> None:
    text = (PAGES / f"{name}.md").read_text()
    found = [line for line in text.splitlines() if line in SECTIONS_OF_A_MOVE]
    assert found == list(SECTIONS_OF_A_MOVE)
    for part in ("**Use", "**Not", "**Roles.**", "reversible?", "**Announce**", "**Not** "):
        assert part in text, part
    steps = text.partition("## Steps\n")[2].partition("\n## ")[0]
    assert 1 <= len(re.findall(r"(?m)^\d+\. ", steps)) <= MOST_STEPS
    back = text.partition("## Roll back\n")[2].partition("\n## ")[0]
    assert "not cover" in back


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase in SETS])
def test_every_gate_is_shown_by_the_link_that_the_gate_gives(phase: Phase) -> None:
    for judge in SETS[phase]:
        name = gate_id(judge)
        shown = playbooks.passage(f"{PLAYBOOKS[phase]}#gate-{name}")[1]
        assert f"`{name}`" in shown


def test_every_exit_code_and_reason_is_shown_by_its_link() -> None:
    wanted = [*map(str, Reason), *(f"exit-{int(code)}" for code in Exit)]
    for anchor in wanted:
        shown = playbooks.passage(f"90-what-if#{anchor}")[1]
        assert shown.splitlines()[-1].startswith(f'| <a id="{anchor}"></a>')


def test_blocks_are_of_kinds_that_are_checked_or_declared_output() -> None:
    kinds = {language for page in ALL for language in _languages(page)}
    assert kinds <= {"console", "sh", "python", "toml", "text", "js", "swift", "kotlin"}


@pytest.mark.parametrize("page", ALL, ids=lambda page: page.stem)
def test_settings_shown_are_toml(page: Path) -> None:
    for block in blocks(page, "toml"):
        assert tomllib.loads(block.text)


def _languages(page: Path) -> list[str]:
    fences = re.findall(r"^ *```(\w*)", page.read_text(), re.MULTILINE)
    return fences[::2]
