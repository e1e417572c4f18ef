"""Where the playbooks are, and how one of their passages is found.

An anchor is a heading's GitHub slug, `{#name}` at its end, or `<a id="name"></a>`: before or in a
heading it means that passage, in a row of a table that row.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import migrator
from migrator.core.errors import Exit, Problem, Stopped

_HEADING: Final = re.compile(r"(#{1,6})\s+(.*?)\s*(?:\{#([\w.-]+)\})?\s*")
_MARK: Final = re.compile(r"""<a\s+(?:id|name)=["']([\w.-]+)["']\s*>(?:</a>)?""")
_FENCE: Final = re.compile(r"\s*(```|~~~)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Playbook:
    """One file: its name without `.md`, and its first heading."""

    name: str
    title: str
    path: Path

    def text(self) -> str:
        """All of it."""
        return self.path.read_text("utf-8")


def directory() -> Path:
    """Where they are: inside the installed package, else beside it in the source tree."""
    package = Path(migrator.__file__).parent
    inside = package / "playbooks"
    return inside if inside.is_dir() else package.parent / "playbooks"


def listed(place: Path | None = None) -> list[Playbook]:
    """Every playbook, in rollout order."""
    return [
        Playbook(name=path.stem, title=_title(path), path=path)
        for path in sorted((place or directory()).glob("*.md"))
    ]


def passage(name: str, place: Path | None = None) -> tuple[Playbook, str]:
    """The playbook called `name`, and its text; with `name#anchor` that passage alone.

    Raises:
        Stopped: USAGE, naming those there are.
    """
    called, _, anchor = name.partition("#")
    known = {each.name: each for each in listed(place)}
    found = known.get(called.removesuffix(".md"))
    if found is None:
        raise _unknown(
            "playbook.unknown",
            "there is no such playbook",
            list(known),
            do="migrator playbook list",
        )
    text = found.text()
    if not anchor:
        return found, text
    part = _part(text.splitlines(), anchor)
    if part is None:
        raise _unknown(
            "playbook.no-anchor",
            f"{found.name} has no such anchor",
            anchors(text),
            do=f"migrator playbook show {found.name}",
        )
    return found, part


def anchors(text: str) -> list[str]:
    """Every anchor of a text, in its order."""
    found: list[str] = []
    for line, heading in _lines(text.splitlines()):
        found += _MARK.findall(line)
        if heading is not None:
            found.append(heading[3] or _slug(heading[2]))
    return list(dict.fromkeys(found))


def _part(lines: list[str], anchor: str) -> str | None:
    read = _lines(lines)
    for at, (line, heading) in enumerate(read):
        here = anchor in _MARK.findall(line)
        if heading is not None and (here or anchor in {heading[3], _slug(heading[2])}):
            return _section(read, at, len(heading[1]))
        if here and line.lstrip().startswith("|"):
            return _row(lines, at)
        if here:
            after = next((n for n in range(at + 1, len(read)) if read[n][0].strip()), at)
            following = read[after][1]
            if following is not None and not _MARK.sub("", line).strip():
                return _section(read, after, len(following[1]))
            return _paragraph(lines, at)
    return None


def _section(read: list[tuple[str, re.Match[str] | None]], start: int, level: int) -> str:
    end = next(
        (
            at
            for at in range(start + 1, len(read))
            if (heading := read[at][1]) is not None and len(heading[1]) <= level
        ),
        len(read),
    )
    return "\n".join(line for line, _ in read[start:end]).strip() + "\n"


def _row(lines: list[str], at: int) -> str:
    top = at
    while top and lines[top - 1].lstrip().startswith("|"):
        top -= 1
    head = lines[top : top + 2] if at > top + 1 else []
    return "\n".join([*head, lines[at]]) + "\n"


def _paragraph(lines: list[str], at: int) -> str:
    end = next((n for n in range(at + 1, len(lines)) if not lines[n].strip()), len(lines))
    return "\n".join(lines[at:end]) + "\n"


def _lines(lines: list[str]) -> list[tuple[str, re.Match[str] | None]]:
    """Each line with its heading, if it is one; a comment in a code block is none."""
    fenced = False
    found = []
    for line in lines:
        if _FENCE.match(line):
            fenced = not fenced
        found.append((line, None if fenced else _HEADING.fullmatch(line)))
    return found


def _title(path: Path) -> str:
    for _, heading in _lines(path.read_text("utf-8").splitlines()):
        if heading is not None:
            return _MARK.sub("", heading[2]).strip()
    return path.stem


def _slug(heading: str) -> str:
    kept = re.sub(r"[^\w\- ]", "", _MARK.sub("", heading).strip().lower())
    return kept.replace(" ", "-")


def _unknown(problem_id: str, what: str, names: list[str], *, do: str) -> Stopped:
    problem = Problem(
        id=problem_id,
        what=what,
        why="there are: " + (", ".join(names) or "none"),
        do=do,
    )
    return Stopped(problem, Exit.USAGE)
