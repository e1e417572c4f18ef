"""What stands in a page of documentation: fenced blocks, marks for the test, anchors, links.

```console      commands and what they print: `$ command`, then its output. `…` on a line of
                its own stands for any lines, within a line for any characters; `# exit 3` at
                the end of a command is the exit code it must have.
```sh           commands, shown without what they print; each must succeed.
```text         never run.
<!-- rollout: NAME -->   what happens here in a real rollout and no command does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^( *)```(\w*)\s*$")
_MARK = re.compile(r"^\s*<!-- rollout: ([a-z-]+) -->\s*$")
_EXIT = re.compile(r"\s+# exit (\d+)$")
_ANCHOR = re.compile(r'<a id="([^"]+)"></a>')
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
ANY = "…"


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block."""

    language: str
    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happens here without a command."""

    name: str
    line: int


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a console block."""

    line: int
    command: str
    exit_code: int
    output: tuple[str, ...]


def pieces(page: Path) -> Iterator[Block | Mark]:
    """Every block and mark of a page, in order."""
    opened: tuple[int, str, str] | None = None
    held: list[str] = []
    for number, line in enumerate(page.read_text().splitlines(), 1):
        fence = _FENCE.match(line)
        if opened is None and fence:
            opened, held = (number, fence[1], fence[2]), []
        elif opened is None:
            if mark := _MARK.match(line):
                yield Mark(mark[1], number)
        elif fence and not fence[2]:
            start, indent, language = opened
            yield Block(language, "\n".join(each.removeprefix(indent) for each in held), start)
            opened = None
        else:
            held.append(line)
    if opened is not None:
        raise ValueError(f"{page.name}: the block of line {opened[0]} has no end")


def blocks(page: Path, language: str) -> list[Block]:
    """Every block of one language."""
    return [
        piece for piece in pieces(page) if isinstance(piece, Block) and piece.language == language
    ]


def commands(block: Block) -> list[Command]:
    """The commands of a console block, each with what it must print."""
    found: list[tuple[int, list[str], list[str]]] = []
    continues = False
    for offset, line in enumerate(block.text.splitlines()):
        if line.startswith("$ "):
            found.append((block.line + 1 + offset, [line[2:]], []))
        elif continues and line.startswith("> "):
            found[-1][1].append(line[2:])
        elif found:
            found[-1][2].append(line)
        else:
            raise ValueError(f"line {block.line + 1 + offset}: output before any command")
        continues = line.startswith(("$ ", "> ")) and line.endswith("\\")
    return [_command(number, typed, output) for number, typed, output in found]


def _command(number: int, typed: list[str], output: list[str]) -> Command:
    whole = "\n".join(typed)
    marked = _EXIT.search(whole)
    return Command(
        line=number,
        command=_EXIT.sub("", whole),
        exit_code=int(marked[1]) if marked else 0,
        output=tuple(line.rstrip() for line in output),
    )


def prints(expected: tuple[str, ...], printed: str) -> bool:
    """Whether what was printed is what the page shows."""
    pattern = "".join(
        r"(?:[^\n]*\n)*" if line.strip() == ANY else _within(line) + r"[ \t]*\n"
        for line in expected
    )
    lines = "".join(f"{line}\n" for line in printed.rstrip().splitlines())
    return re.fullmatch(pattern, lines) is not None


def _within(line: str) -> str:
    return r"[^\n]*?".join(re.escape(part) for part in line.split(ANY))


def anchors(page: Path) -> list[str]:
    """Every anchor set by hand."""
    return _ANCHOR.findall(page.read_text())


def targets(page: Path) -> set[str]:
    """Everything a link to this page may name after `#`."""
    headings = {
        re.sub(r"[^\w\- ]", "", re.sub(r"<[^>]*>", "", text).strip().lower()).replace(" ", "-")
        for text in _HEADING.findall(page.read_text())
    }
    return headings | set(anchors(page))


def links(page: Path) -> list[str]:
    """Where the page's links lead, those to the web left out."""
    return [link for link in _LINK.findall(page.read_text()) if "://" not in link]


def front_matter(page: Path) -> dict[str, str]:
    """The header block of a playbook; empty where there is none."""
    text = page.read_text()
    if not text.startswith("---\n"):
        return {}
    head = text[4:].split("\n---\n", 1)[0]
    return {
        name.strip(): value.strip()
        for name, _, value in (line.partition(":") for line in head.splitlines())
    }
