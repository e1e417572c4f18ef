"""How what is wrong with the settings is told: every problem at once, each with a stable id.

A problem names the key and where it came from (the file or the variable), never the value: it may
be a secret. Ids are greppable; what to do about each stands in the table below.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Final, TypeAlias

from pydantic import ValidationError

from migrator.core.errors import Problem

Path: TypeAlias = tuple[str | int, ...]

REMEDIES: Final[Mapping[str, str]] = {
    "settings.alg-not-allowed": "add it to the issuer's `algorithms`, or correct the key's `alg`",
    "settings.bad-algorithm": 'list the algorithms by name, for example ["HS256"]',
    "settings.bad-database-url": "write postgresql+psycopg://user@host/database",
    "settings.bad-duration": 'write it like "30s", "10m", "24h", "14d" or "1500ms"',
    "settings.bad-encoding": (
        "correct `encoding` (base64, base64url, hex), or leave it out for text"
    ),
    "settings.bad-env": "set MIGRATOR_SECTION__KEY; the keys are in the commented migrator.toml",
    "settings.bad-json": 'write a list as JSON, for example ["a", "b"], and a table as {"key": 1}',
    "settings.bad-origin": 'write it like "https://app.example"',
    "settings.bad-path": 'write it like "/auth/login" or "/files/**"',
    "settings.bad-redis-url": "write redis://host:6379/0",
    "settings.bad-reference": "write env:NAME or file:PATH",
    "settings.bad-toml": (
        "mend the syntax; strings need quotes, a table's keys come before the next [table]"
    ),
    "settings.bad-transport": (
        'write { header = "Authorization", scheme = "Bearer" }, { cookie = "name" } or { '
        'query = "name" }'
    ),
    "settings.bad-url": "write https://host/path",
    "settings.bad-value": "give a value of that kind",
    "settings.cookie-in-use": (
        "clear copies under another name, domain or path; give the hint a name of its own"
    ),
    "settings.bridge-issuer": "name the id of one of [[issuers]], or leave it out for the first",
    "settings.bridge-key": (
        'set bridge.key = { key = "env:NAME", kid = "…" } to a private key or secret of its own, '
        "and give the app what verifies it"
    ),
    "settings.cookie-insecure": (
        "set cookie.secure = true, or name a development environment and keep same_site lax"
    ),
    "settings.duplicate-client": "give each client its own id",
    "settings.duplicate-issuer": "give each issuer its own id and name",
    "settings.duplicate-kid": "give each key its own kid",
    "settings.duplicate-swap-key": "give each swap key its own id; rows remember it",
    "settings.empty-secret": "put the secret there",
    "settings.inline-secret": "put it in a variable or a file and write env:NAME or file:PATH",
    "settings.insecure-jwks-url": (
        "use https, or fetch the set yourself and name it in keys as file:jwks.json"
    ),
    "settings.key-family-mismatch": (
        "HS* take a secret, all others a public key; correct `algorithms` or the key"
    ),
    "settings.missing-env": "export the variable in the environment of this process",
    "settings.missing-file": (
        "create the file or correct its path; it is relative to migrator.toml"
    ),
    "settings.missing-key": "add the key",
    "settings.missing-realm": (
        'write realm in each issuer: the same where one "user 1" is one person'
    ),
    "settings.missing-refresh-lifetime": (
        "set refresh_lifetime to what its signer gives a refresh token"
    ),
    "settings.mixed-families": (
        'pin every key: { key = "env:X", alg = "HS256" }; or make two issuers of it'
    ),
    "settings.no-algorithms": "set algorithms, or a preset",
    "settings.no-keys": "set keys or jwks_url",
    "settings.no-swap-key": (
        'run `migrator init`, or set swap.keys to [{ id = "k1", secret = '
        '"env:MIGRATOR_SWAP_KEY" }]'
    ),
    "settings.public-hmac": (
        "rotate the secret now: anyone can sign with it. Then `migrator playbook show 36-key-leak`"
    ),
    "settings.route-twice": "keep it under one name",
    "settings.same-prefix": "choose prefixes that tell the two kinds apart",
    "settings.shared-secret": "give swap.keys a secret of its own: `migrator init` makes one",
    "settings.trust-below-poll": (
        "raise memory.trust_ms above memory.poll_ms, or set it to 0 (strict)"
    ),
    "settings.twin-issuers": (
        "make one issuer with both transports, or tell them apart by issuer, audience or purpose"
    ),
    "settings.two-key-sources": (
        "keep one: jwks_url where the signer rotates, keys where it does not"
    ),
    "settings.unknown-key": "remove it or correct its name",
    "settings.unknown-preset": "choose one that is known, or leave preset out and write the facts",
    "settings.unreadable-file": "make it a readable file of at most 1 MiB",
    "settings.weak-client-secret": (
        "make one: `python -c 'import secrets; print(secrets.token_urlsafe(32))'`"
    ),
    "settings.weak-hmac": (
        "rotate to a random secret of the hash's size: `openssl rand -hex 32` (HS512: 64)"
    ),
    "settings.weak-swap-key": (
        "make one: `python -c 'import secrets; print(secrets.token_urlsafe(32))'`"
    ),
}

_PYDANTIC: Final[Mapping[str, tuple[str, str]]] = {
    "missing": ("settings.missing-key", "it is required"),
    "unexpected_keyword_argument": ("settings.unknown-key", "there is no such setting"),
    "extra_forbidden": ("settings.unknown-key", "there is no such setting"),
}


class Findings:
    """Collects problems; `source` is the origin of all settings that `origins` does not name."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.origins: dict[Path, str] = {}
        self.problems: list[Problem] = []
        self._at: list[Path] = []

    def add(self, problem_id: str, path: Path, why: str, *, do: str | None = None) -> None:
        """Record that the setting at `path` is wrong. `why` must not contain its value."""
        self._at.append(path)
        what = f"{spell(path)} in {self.origin(path)}" if path else self.origin(path)
        self.problems.append(Problem(problem_id, what, why, do or REMEDIES[problem_id]))

    def covers(self, path: Path) -> bool:
        """Whether `path`, a part of it or a whole it belongs to is known to be wrong."""
        return any(at[: len(path)] == path[: len(at)] for at in self._at if at)

    def origin(self, path: Path) -> str:
        """The file or variable that the setting at `path` came from."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.origins:
                return self.origins[path[:end]]
        return self.source

    def translate(self, error: ValidationError, path: Path, known: tuple[str, ...]) -> None:
        """Record what pydantic found below `path`; `known` are the keys that exist there."""
        for each in error.errors(include_url=False, include_input=False, include_context=False):
            at = (*path, *each["loc"])
            if self.covers(at):
                continue
            kind = each["type"]
            own = (kind, each["msg"]) if kind in REMEDIES else ("settings.bad-value", each["msg"])
            problem_id, why = _PYDANTIC.get(kind, own)
            near = get_close_matches(str(at[-1]), known, 1) if at else []
            do = (
                f"did you mean `{near[0]}`?"
                if near and problem_id.endswith("unknown-key")
                else None
            )
            self.add(problem_id, at, why, do=do)


def spell(path: Path) -> str:
    """`issuers[0].keys[1]`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def no_swap_key() -> Problem:
    """What wiring raises when something needs a swap key and none is set; loading needs none."""
    problem_id = "settings.no-swap-key"
    why = "a swap derives its token from a swap key, so that every node derives the same one"
    return Problem(problem_id, "swap.keys is empty", why, REMEDIES[problem_id])
