"""`playbook` finds what is shipped, and the passage that a gate or exit code points to."""

from __future__ import annotations

import json
from pathlib import Path

import click.testing
import jsonschema
import pytest

from migrator.cli import main
from migrator.control import playbooks
from migrator.core.errors import Stopped

SCHEMAS = Path(__file__).parents[2] / "migrator" / "schemas"
TEXT = """# Cut over <a id="top"></a>

Intro.

## Gates

<a id="gates"></a>
### legacy-seen {#gate-legacy-seen}

Wait.

```sh
# not a heading
migrator status
```

### Drain horizon

Until then.

## Troubleshooting

| exit | meaning |
|---|---|
| 3 <a id="exit-3"></a> | a gate failed |
| 7 <a id="exit-7"></a> | not acknowledged |

<a id="note"></a>Mind this
and that.
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "30-cutover.md").write_text(TEXT)
    (tmp_path / "10-swap.md").write_text("no heading\n")
    return tmp_path


def show(place: Path, name: str) -> str:
    return playbooks.passage(name, place)[1]


def test_they_are_listed_in_rollout_order(place: Path) -> None:
    found = [(each.name, each.title) for each in playbooks.listed(place)]
    assert found == [("10-swap", "10-swap"), ("30-cutover", "Cut over")]


@pytest.mark.parametrize("anchor", ["gate-legacy-seen", "gates"])
def test_an_anchor_of_a_heading_shows_its_section(place: Path, anchor: str) -> None:
    part = show(place, f"30-cutover#{anchor}")
    assert "Wait." in part or "Drain horizon" in part
    assert "Troubleshooting" not in part


def test_a_section_ends_at_its_neighbour_and_not_at_a_comment(place: Path) -> None:
    part = show(place, "30-cutover#gate-legacy-seen")
    assert "migrator status" in part
    assert "Until then" not in part


def test_a_headings_slug_is_an_anchor(place: Path) -> None:
    assert show(place, "30-cutover#drain-horizon").startswith("### Drain horizon")


def test_an_anchor_in_a_table_shows_its_row_under_the_head(place: Path) -> None:
    part = show(place, "30-cutover#exit-7")
    assert part.splitlines()[0] == "| exit | meaning |"
    assert "not acknowledged" in part
    assert "a gate failed" not in part


def test_an_anchor_in_a_paragraph_shows_it(place: Path) -> None:
    assert show(place, "30-cutover#note").endswith("Mind this\nand that.\n")


def test_every_anchor_listed_is_found(place: Path) -> None:
    for anchor in playbooks.anchors(TEXT):
        assert show(place, f"30-cutover#{anchor}").strip()


@pytest.mark.parametrize("name", ["nope", "30-cutover#nope", "../../etc/passwd", ""])
def test_an_unknown_name_names_those_there_are(place: Path, name: str) -> None:
    with pytest.raises(Stopped) as stopped:
        show(place, name)
    assert stopped.value.exit_code == 2
    assert "30-cutover" in stopped.value.problem.why or "top" in stopped.value.problem.why
    page = "playbook show 30-cutover" if "#" in name else "playbook list"
    assert stopped.value.problem.do == f"migrator {page}"


def test_the_commands_print_what_is_shipped() -> None:
    for args, name in ((["list"], "playbooks"), (["show", "why"], "playbook")):
        result = click.testing.CliRunner().invoke(main, ["playbook", *args, "--json"])
        assert result.exit_code == 0, result.output
        schema = json.loads((SCHEMAS / f"{name}-1.json").read_text())
        jsonschema.validate(json.loads(result.stdout), schema)
    raw = click.testing.CliRunner().invoke(main, ["playbook", "show", "why"])
    assert raw.stdout.strip() == (playbooks.directory() / "why.md").read_text().strip()
