"""Known holes in what an app installs with us: `python -m tests.audit`, part of `make check`.

Two questions, and the second needs a package index that serves advisories:

* does every dependency that an advisory once concerned have a floor in pyproject.toml at or above
  the version that mended it (`FLOORS`), and is that what is installed;
* does pip-audit know of anything in the installed closure of our dependencies.

What an index knows nothing of is counted and said, never passed off as clean.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

PYPROJECT: Final = Path(__file__).parents[1] / "pyproject.toml"
EXTRAS: Final = ("server", "frameworks", "django", "demo")
_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class Advisory:
    """What sets a floor: the version that mended it, and what it would have meant here."""

    id: str
    mended_in: str
    here: str


FLOORS: Final[Mapping[str, tuple[Advisory, ...]]] = {
    "pyjwt": (
        Advisory("CVE-2026-101918", "2.15.0", "deep nesting raised RecursionError: a 500"),
        Advisory("CVE-2026-102269", "2.14.0", "a revoked token had other spellings"),
        Advisory("CVE-2026-102267", "2.14.0", "its JWKS client followed redirects; ours never"),
        Advisory("CVE-2026-32597", "2.12.0", "crit was ignored; we refuse it before"),
    ),
    "cryptography": (
        Advisory("CVE-2026-39892", "46.0.7", "a buffer overflow by buffers with gaps"),
        Advisory("CVE-2026-26007", "46.0.5", "binary curves, none of which we accept"),
    ),
    "redis": (
        Advisory("CVE-2023-28858", "4.5.3", "a cancelled command crossed its reply over"),
        Advisory("CVE-2023-28859", "4.5.5", "the same, mended in full"),
    ),
    "starlette": (
        Advisory("PYSEC-2026-249", "1.3.1", "limits of form fields were not kept"),
        Advisory("CVE-2025-62727", "0.49.1", "a Range header of quadratic cost"),
    ),
}


def main() -> int:
    """Print what was found; 1 if anything has to be mended."""
    installed = closure("jwt-way-out", EXTRAS)
    wrong = [*too_low(floors(PYPROJECT.read_text())), *too_old(installed)]
    known, unknown = audited(installed)
    for line in (*wrong, *known):
        print(line)  # noqa: T201 - its result
    asked = len(installed) - unknown
    print(  # noqa: T201 - as above
        f"{len(FLOORS)} floors checked; pip-audit knows {asked} of {len(installed)} packages"
        + ("" if asked else ": this index serves no advisories, so the floors are all there is")
    )
    return 1 if wrong or known else 0


def floors(pyproject: str) -> dict[str, Version]:
    """The lowest version of each dependency that pyproject.toml lets in."""
    project = tomllib.loads(pyproject)["project"]
    extras = project["optional-dependencies"].values()
    found: dict[str, Version] = {}
    for text in (*project["dependencies"], *(text for extra in extras for text in extra)):
        wanted = Requirement(text)
        for one in wanted.specifier:
            if one.operator == ">=":
                found[canonicalize_name(wanted.name)] = Version(one.version)
    return found


def too_low(floors: Mapping[str, Version]) -> Iterable[str]:
    """The floors that let a known hole in."""
    for name, advisories in FLOORS.items():
        for one in advisories:
            if name not in floors or floors[name] < Version(one.mended_in):
                stands = floors.get(name, "none")
                yield f"{name}: floor {stands}, {one.id} needs {one.mended_in} ({one.here})"


def too_old(installed: Mapping[str, str]) -> Iterable[str]:
    """The packages installed here that a known hole is in."""
    for name, advisories in FLOORS.items():
        for one in advisories:
            if name in installed and Version(installed[name]) < Version(one.mended_in):
                yield f"{name} {installed[name]} is installed, {one.id} needs {one.mended_in}"


def closure(name: str, extras: Iterable[str]) -> dict[str, str]:
    """Name and version of everything that is installed because of `name`."""
    found: dict[str, str] = {}
    left = [(name, frozenset(extras))]
    seen = set()
    while left:
        one = left.pop()
        if one in seen:
            continue
        seen.add(one)
        try:
            distribution = metadata.distribution(one[0])
        except metadata.PackageNotFoundError:  # its marker is of another platform
            continue
        found[canonicalize_name(one[0])] = distribution.version
        for text in distribution.requires or ():
            wanted = Requirement(text)
            taken = ("", *one[1])
            if wanted.marker is None or any(wanted.marker.evaluate({"extra": e}) for e in taken):
                left.append((wanted.name, frozenset(wanted.extras)))
    found.pop(canonicalize_name(name))
    return found


def audited(installed: Mapping[str, str]) -> tuple[list[str], int]:
    """What pip-audit knows of these, and of how many it knows nothing."""
    with tempfile.TemporaryDirectory() as folder:
        pinned = Path(folder) / "pinned.txt"
        pinned.write_text("".join(f"{name}=={at}\n" for name, at in sorted(installed.items())))
        asked = [*("--requirement", str(pinned)), "--no-deps", "--disable-pip", "--format", "json"]
        try:
            done = subprocess.run(
                [sys.executable, "-m", "pip_audit", *asked, "--progress-spinner", "off"],
                check=False,
                capture_output=True,
                text=True,
                timeout=_SECONDS,
            )
            answered = json.loads(done.stdout)["dependencies"]
        except (subprocess.TimeoutExpired, ValueError):  # no index, or none that answers
            return [], len(installed)
    known = [
        f"{one['name']} {one['version']}: {hole['id']}, mended in {hole['fix_versions']}"
        for one in answered
        for hole in one.get("vulns", ())
    ]
    return known, sum("skip_reason" in one for one in answered)


if __name__ == "__main__":
    sys.exit(main())
