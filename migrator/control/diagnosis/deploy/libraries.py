"""Libraries around JWTs that are installed here in a version with a known hole."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from migrator.control.diagnosis.finding import Finding


@dataclass(frozen=True, slots=True)
class Hazard:
    """A library, the first version without the hole, and what the hole is."""

    library: str
    mended: tuple[int, ...]
    advisory: str
    what: str


HAZARDS: Final = (
    Hazard("authlib", (1, 3, 1), "CVE-2024-37568", "public keys taken as HMAC secrets"),
    Hazard("djangorestframework-simplejwt", (5, 5, 1), "CVE-2024-22513", "inactive users get in"),
    Hazard("jwcrypto", (1, 5, 6), "CVE-2024-28102", "compressed tokens exhaust memory"),
    Hazard("python-jose", (3, 4, 0), "CVE-2024-33663", "public keys taken as HMAC secrets"),
    Hazard("python-jwt", (3, 3, 4), "CVE-2022-39227", "claims can be forged"),
)


def looks() -> list[Finding]:
    """The hazards that are installed beside us: in the app's own environment, as a rule."""
    found = []
    for hazard in HAZARDS:
        installed = _installed(hazard.library)
        if installed is not None and _numbers(installed) < hazard.mended:
            wanted = ".".join(map(str, hazard.mended))
            told = f"{hazard.library} {installed}: {hazard.what} ({hazard.advisory})"
            do = f"upgrade it to {wanted} or later: the app reads JWTs with it until the cutover"
            found.append(Finding("libraries.hazard", "warn", told, do))
    return found


def _installed(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:3] if part.isdigit())
