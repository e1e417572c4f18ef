"""Where secrets come from: `env:NAME` or `file:PATH`, and nothing that lies in the settings file.

A value set from the environment, or handed over by the program, may be the secret itself. What is
found is wrapped at once (pydantic's Secret types), so that no repr and no error shows it.
"""

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Final

from pydantic import SecretBytes, SecretStr

from migrator.settings.issuers import Form
from migrator.settings.problems import Findings, Path

_LARGEST: Final = 1 << 20
_SMALLEST_DER_KEY: Final = 44  # an Ed25519 SubjectPublicKeyInfo
_PASSWORD: Final = re.compile(r"://.*:.*@|[?&](ssl)?passw(or)?d=", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A secret and where it was: `env:NAME`, `file:PATH` or `inline`."""

    value: bytes = field(repr=False)
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Vault:
    """Fetches secrets; `allows_inline(path)`: the value there may be the secret itself."""

    environ: Mapping[str, str] = field(repr=False)
    directory: FilePath
    findings: Findings
    allows_inline: Callable[[Path], bool]

    def fetch(self, value: object, path: Path) -> Found | None:
        """The secret that `value` names, or is; None after recording why there is none."""
        match value:
            case SecretStr() | SecretBytes():
                return self.fetch(value.get_secret_value(), path)
            case bytes():
                found = self._inline(value, path)
            case str() if value.startswith("env:"):
                found = self._from_env(value.removeprefix("env:"), path)
            case str() if value.startswith("file:"):
                found = self._from_file(value.removeprefix("file:"), path)
            case str():
                found = self._inline(value.encode(), path)
            case _:
                self.findings.add("settings.bad-reference", path, "a secret is named by a string")
                return None
        if found is not None and not found.value.strip():
            self.findings.add("settings.empty-secret", path, f"{found.origin} is empty")
            return None
        return found

    def fetch_url(self, value: object, path: Path) -> SecretStr | None:
        """The URL that `value` names or is. A URL without a password is no secret and may stay."""
        if isinstance(value, str) and "://" in value and not _PASSWORD.search(value):
            return SecretStr(value)
        found = self.fetch(value, path)
        return None if found is None else SecretStr(found.value.decode(errors="replace").strip())

    def _inline(self, value: bytes, path: Path) -> Found | None:
        if self.allows_inline(path):
            return Found(value=value, origin="inline")
        self.findings.add(
            "settings.inline-secret", path, "a file that is copied, mailed and committed"
        )
        return None

    def _from_env(self, name: str, path: Path) -> Found | None:
        if not name:
            self.findings.add("settings.bad-reference", path, "env: without a name")
        elif name not in self.environ:
            self.findings.add("settings.missing-env", path, f"the variable {name} is not set")
        else:
            value = self.environ[name].encode(errors="surrogateescape")
            return Found(value=value, origin=f"env:{name}")
        return None

    def _from_file(self, name: str, path: Path) -> Found | None:
        if not name:
            self.findings.add("settings.bad-reference", path, "file: without a path")
            return None
        try:
            with (self.directory / name).open("rb") as opened:
                value = opened.read(_LARGEST + 1)
        except FileNotFoundError:
            self.findings.add("settings.missing-file", path, f"{name} does not exist")
        except OSError as error:
            self.findings.add("settings.unreadable-file", path, f"{name}: {error.strerror}")
        except ValueError:
            self.findings.add("settings.bad-reference", path, "a path without NUL")
        else:
            if len(value) <= _LARGEST:
                return Found(value=value, origin=f"file:{name}")
            self.findings.add("settings.unreadable-file", path, f"{name} is larger than a key is")
        return None


def form_of(raw: bytes) -> Form:
    """What `raw` looks like. A public key is never taken for a secret (CVE-2022-29217)."""
    text = raw.removeprefix(b"\xef\xbb\xbf").strip()
    if b"-----BEGIN" in text:
        return "pem"
    if re.match(rb"(ssh-|ecdsa-sha2-|sk-ssh-|sk-ecdsa-)", text):
        return "ssh"
    if _is_der(raw) or bare_der(text):
        return "der"
    if text[:1] in {b"{", b"["}:
        with suppress(ValueError):
            json.loads(text)
            return "json"
    return "secret"


def bare_der(text: bytes) -> bytes | None:
    """The key in `text` if it is a PEM's body without its frame, as Keycloak shows it."""
    try:
        raw = base64.b64decode(b"".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if _is_der(raw) else None


def decode(text: bytes, encoding: str) -> bytes | None:
    """`text` decoded; padding may be there or not. None: it is not of that encoding."""
    text = b"".join(text.split())
    try:
        if encoding == "hex":
            return bytes.fromhex(text.decode("ascii"))
        body = text.rstrip(b"=")
        altchars = b"-_" if encoding == "base64url" else None
        padded = body + b"=" * (-len(body) % 4)
        return base64.b64decode(padded, altchars=altchars, validate=True)
    except ValueError:
        return None


def _is_der(raw: bytes) -> bool:
    """An ASN.1 SEQUENCE of exactly this length that begins with a SEQUENCE or an INTEGER."""
    if len(raw) < _SMALLEST_DER_KEY or raw[0] != 0x30:
        return False
    width = raw[1] & 0x7F if raw[1] & 0x80 else 0
    length = int.from_bytes(raw[2 : 2 + width], "big") if width else raw[1]
    head = 2 + width
    return width <= 3 and len(raw) == head + length and raw[head] in {0x30, 0x02}
