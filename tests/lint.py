"""`python -m tests.lint`: no credential is logged, printed, warned of, written or raised (P6).

Reads every call that says something to somebody, and looks at the names that go into it: one
whose last word is `token`, `jwt`, `secret`, `cookie`, … holds a credential, whatever it is a part
of. What only measures it (`len`, `bool`, `type`) says nothing of it. A line that has to is marked,
with its reason: `# says-secret: the operator asked for it`. A mark that excuses nothing is a
finding too.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
WHERE: Final = ("migrator", "shims", "migrations")
SECRETS: Final = frozenset(
    {
        *("authorization", "bearer", "cookie", "cookies", "credential", "credentials", "dsn"),
        *("jwt", "jwts", "password", "passwords", "pepper", "presented", "secret", "secrets"),
        *("token", "tokens"),
    }
)
SAYS: Final = frozenset(
    {
        *("critical", "debug", "error", "exception", "info", "log", "warning"),  # a logger's
        *("print", "print_exception", "print_exc", "echo", "secho", "warn", "fail"),
    }
)
WRITES: Final = frozenset({"stdout", "stderr"})
MEASURES: Final = frozenset({"bool", "isinstance", "len", "sum", "type"})
MARK: Final = re.compile(r"#.*\bsays-secret: (\S.*)$")
_BARE_MARK: Final = re.compile(r"#.*\bsays-secret\b")
_WORDS: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One place where a credential would be said."""

    path: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.what}"


def findings(source: str, path: str = "<source>") -> list[Finding]:
    """What is wrong with a module's source."""
    lines = source.splitlines()
    marked = {at for at, line in enumerate(lines, 1) if MARK.search(line)}
    found = [
        Finding(path, at, "a mark without a reason")
        for at, line in enumerate(lines, 1)
        if _BARE_MARK.search(line) and at not in marked
    ]
    excused: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        for said in _said(node):
            for name in _secrets(said):
                here = marked & _lines_of(node)
                if here:
                    excused |= here
                else:
                    found.append(Finding(path, said.lineno, f"says `{name}`"))
    found += [Finding(path, at, "a mark that excuses nothing") for at in marked - excused]
    return sorted(set(found))


def _lines_of(node: ast.AST) -> set[int]:
    if not isinstance(node, ast.stmt | ast.expr):
        return set()
    return set(range(node.lineno, (node.end_lineno or node.lineno) + 1))


def _said(node: ast.AST) -> Iterator[ast.expr]:
    """The expressions that this says to somebody."""
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
        yield from _arguments(node.exc)
    elif isinstance(node, ast.Call) and _speaks(node.func):
        yield from _arguments(node)
    elif isinstance(node, ast.Assert) and node.msg is not None:
        yield node.msg


def _arguments(call: ast.Call) -> Iterator[ast.expr]:
    yield from call.args
    yield from (keyword.value for keyword in call.keywords)


def _speaks(function: ast.expr) -> bool:
    match function:
        case ast.Name(id=name):
            return name in SAYS
        case ast.Attribute(attr="write" | "writelines", value=ast.Attribute(attr=name)):
            return name in WRITES
        case ast.Attribute(attr=name):
            return name in SAYS
    return False


def _secrets(expression: ast.expr) -> Iterator[str]:
    """The names in it that hold a credential, where more than its measure is said."""
    if isinstance(expression, ast.Call):
        if isinstance(expression.func, ast.Name) and expression.func.id in MEASURES:
            return
        if isinstance(expression.func, ast.Attribute):
            yield from _secrets(expression.func.value)
        for argument in _arguments(expression):
            yield from _secrets(argument)
        return
    name = _name(expression)
    if name is not None and _is_secret(name):
        yield name
        return
    if isinstance(expression, ast.Attribute):  # the class of a token, the day of a secret
        return
    for child in ast.iter_child_nodes(expression):
        if isinstance(child, ast.expr):
            yield from _secrets(child)


def _name(expression: ast.expr) -> str | None:
    match expression:
        case ast.Attribute(attr=name) if name.isupper():
            return None  # a member of an enumeration is called so, and is none
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Subscript(slice=ast.Constant(value=str(name))):
            return name
    return None


def _is_secret(name: str) -> bool:
    words = _WORDS.findall(name.replace("_", " ").replace("-", " "))
    return bool(words) and words[-1].lower() in SECRETS


def main(arguments: Sequence[str]) -> int:
    """Print what was found; 1 if anything was."""
    roots = [Path(one) for one in arguments] or [ROOT / name for name in WHERE]
    files = sorted(
        file for root in roots for file in ([root] if root.is_file() else root.rglob("*.py"))
    )
    found = [
        one
        for file in files
        for one in findings(
            file.read_text("utf-8"),
            str(file.relative_to(ROOT) if file.is_relative_to(ROOT) else file),
        )
    ]
    for one in found:
        print(one)  # noqa: T201 - what a linter does
    print(f"{len(files)} files: {len(found)} credentials said")  # noqa: T201 - as above
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
