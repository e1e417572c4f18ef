"""From tables to validated sections: presets fill, secrets are fetched, each section stands alone.

Every step goes on after a problem with what is left, so that one start tells everything that is
wrong: a section with a bad value is validated again without it, and only then compared with
others.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, TypeVar

from pydantic import SecretBytes, TypeAdapter, ValidationError

from migrator.core.presets import PRESETS, BridgeFacts
from migrator.settings import checks, model
from migrator.settings import ledgers as theirs
from migrator.settings.bridge import Bridge
from migrator.settings.issuers import Issuer, Key
from migrator.settings.problems import Findings, Path
from migrator.settings.secrets import Vault, bare_der, decode, form_of
from migrator.settings.serve import SHORTEST_SECRET_BYTES, Serve, ServeClient, check_clients
from migrator.settings.sources import HEAD, LISTS, SECTIONS, Tables, keys_of
from migrator.settings.strength import weakness_of

_SWAP_SECRET: Final = re.compile(rb"[A-Za-z0-9_-]+")
T = TypeVar("T")

_NO_DATABASE: Final = 'write url = "env:NAME" under [database], or set MIGRATOR_DATABASE__URL'
_BRIDGED: Final = (
    *("access", "refresh", "refresh_cookies", "constants", "refresh_constants", "mirrors"),
    *("refresh_mirrors", "expiring"),
)  # of [bridge], which a preset fills
_MERGED: Final = ("claims", "purpose")  # tables of an issuer that a preset fills key by key


def assemble(tables: Tables, vault: Vault) -> dict[str, Any]:
    """The arguments of `Settings`; incomplete once the vault's findings hold a problem."""
    findings = vault.findings
    head = {key: tables[key] for key in HEAD if key in tables}
    made: dict[str, Any] = {}
    settled = _validate(model.Head, head, (), findings) or model.Head()
    made |= {key: getattr(settled, key) for key in HEAD}

    for key in tables.keys() - HEAD.keys() - SECTIONS.keys() - LISTS.keys():
        findings.add("settings.unknown-key", (key,), "there is no such setting")
    for name, section in SECTIONS.items():
        if name in tables or name == "database":
            table = _table(tables.get(name, {}), (name,), findings)
            _fetch(name, table, vault)
            if name == "database" and "url" not in table:
                findings.add(
                    "settings.missing-key", (name, "url"), "it is required", do=_NO_DATABASE
                )
            made[name] = (
                table if name == "bridge" else _validate(section, table, (name,), findings)
            )
    made["foreign"] = tuple(
        rule
        for at, table in enumerate(_listed(tables, "foreign", findings))
        if (rule := _validate(model.ForeignRule, table, ("foreign", at), findings))
        and not rule.is_empty
    )
    issuers = _issuers(tables, made, vault)
    made["issuers"] = tuple(issuers.values())
    if "bridge" in made:  # filled by its issuer's preset, so it is validated after the issuers
        made["bridge"] = _bridge(made["bridge"], issuers, vault)
    made["ledgers"] = _ledgers(tables, made, vault)
    _check(made, issuers, findings)
    return {key: value for key, value in made.items() if value is not None}


def _bridge(table: Tables, issuers: Mapping[int, Issuer], vault: Vault) -> Bridge | None:
    """The bridge, filled from the preset of the issuer whose tokens the app understands."""
    path: Path = ("bridge",)
    named = table.setdefault("issuer", next((each.id for each in issuers.values()), None))
    issuer = next((each for each in issuers.values() if each.id == named), None)
    if issuer is None:
        why = "there is no such issuer, and the app understands the tokens of one"
        vault.findings.add("settings.bridge-issuer", (*path, "issuer"), why)
        return None
    facts = PRESETS[issuer.preset].bridge if issuer.preset else BridgeFacts()
    for name in _BRIDGED:
        table.setdefault(name, getattr(facts, name))
    for name in ("key", "refresh_key"):
        if table.get(name) is not None:
            listed = {name: [table[name]], "encoding": issuer.encoding}
            table[name] = next(iter(_keys(listed, name, path, vault)), None)
    if table.get("key") is None and not any(key.form == "secret" for key in issuer.keys):
        why = f"{issuer.name} signs with a key that only it has"
        vault.findings.add("settings.bridge-key", (*path, "key"), why)
    return _validate(Bridge, table, path, vault.findings)


def _validate(kind: type[T], table: Tables, path: Path, findings: Findings) -> T | None:
    adapter = TypeAdapter(kind)
    known = tuple(keys_of(kind))
    try:
        return adapter.validate_python(table)
    except ValidationError as error:
        findings.translate(error, path, known)
        wrong = {each["loc"][0] for each in error.errors() if each["loc"]}
    try:
        return adapter.validate_python({k: v for k, v in table.items() if k not in wrong})
    except ValidationError:
        return None


def _table(value: object, path: Path, findings: Findings) -> Tables:
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return dict(value)
    findings.add("settings.bad-value", path, "it is a table")
    return {}


def _listed(tables: Tables, name: str, findings: Findings) -> list[Tables]:
    value = tables.get(name, [])
    if not isinstance(value, list | tuple):
        findings.add("settings.bad-value", (name,), f"it is a list of tables: [[{name}]]")
        return []
    return [_table(each, (name, at), findings) for at, each in enumerate(value)]


def _fetch(name: str, table: Tables, vault: Vault) -> None:
    """Put the secrets of a section in their places; what cannot be had is taken out."""
    if name in {"database", "redis"} and "url" in table:
        table["url"] = vault.fetch_url(table["url"], (name, "url"))
    if name == "swap" and isinstance(table.get("keys"), list | tuple):
        entries = [
            _swap_key(_table(each, ("swap", "keys", at), vault.findings), at, vault)
            for at, each in enumerate(table["keys"])
        ]
        table["keys"] = [each for each in entries if each is not None]
    if name == "serve" and isinstance(table.get("clients"), list | tuple):
        clients = [
            _serve_client(_table(each, ("serve", "clients", at), vault.findings), at, vault)
            for at, each in enumerate(table["clients"])
        ]
        table["clients"] = [each for each in clients if each is not None]


def _serve_client(entry: Tables, at: int, vault: Vault) -> ServeClient | None:
    path: Path = ("serve", "clients", at)
    if "secret" in entry:
        found = vault.fetch(entry["secret"], (*path, "secret"))
        secret = found.value.strip() if found else b""
        weakness = weakness_of(secret, at_least=SHORTEST_SECRET_BYTES)
        if found is not None and weakness is not None:
            why = f"{weakness}; who knows it may ask about tokens and end sessions"
            vault.findings.add("settings.weak-client-secret", (*path, "secret"), why)
        entry["secret"] = SecretBytes(secret)
    return _validate(ServeClient, entry, path, vault.findings)


def _swap_key(entry: Tables, at: int, vault: Vault) -> model.SwapKey | None:
    path: Path = ("swap", "keys", at)
    if "secret" in entry:
        found = vault.fetch(entry["secret"], (*path, "secret"))
        text = found.value.strip() if found else b""
        secret = decode(text, "base64url") if _SWAP_SECRET.fullmatch(text) else None
        weakness = "not unpadded base64url" if secret is None else weakness_of(secret)
        if found is not None and weakness is not None:
            why = "every session handed out is as strong as this secret: at least 32 random bytes"
            vault.findings.add("settings.weak-swap-key", (*path, "secret"), f"{weakness}; {why}")
        entry["secret"] = SecretBytes(secret or b"")
    return _validate(model.SwapKey, entry, path, vault.findings)


def _issuers(tables: Tables, made: Mapping[str, Any], vault: Vault) -> dict[int, Issuer]:
    listed = _listed(tables, "issuers", vault.findings)
    sessions = made.get("sessions") or model.Sessions()
    issuers = {}
    for at, given in enumerate(listed):
        path: Path = ("issuers", at)
        if vault.findings.covers(path):
            continue
        table = _with_preset(given, path, vault.findings)
        if isinstance(table.get("id"), str):
            table.setdefault("name", table["id"])
        if len(listed) == 1:
            table.setdefault("realm", sessions.realm)
        elif "realm" not in table:
            why = 'without it nobody can say whether two issuers\' "user 1" are one person'
            vault.findings.add("settings.missing-realm", (*path, "realm"), why)
        if not table.get("algorithms"):
            why = "what a token claims of itself is not asked"
            vault.findings.add("settings.no-algorithms", (*path, "algorithms"), why)
        if not table.get("keys") and not table.get("jwks_url"):
            vault.findings.add("settings.no-keys", (*path, "keys"), "nothing could be verified")
        for field in ("keys", "refresh_keys"):
            if isinstance(table.get(field), list | tuple):
                table[field] = _keys(table, field, path, vault)
        issuer = _validate(Issuer, table, path, vault.findings)
        if issuer is not None:
            issuers[at] = issuer
    return issuers


def _ledgers(tables: Tables, made: Mapping[str, Any], vault: Vault) -> tuple[theirs.Ledger, ...]:
    findings = vault.findings
    given = _listed(tables, "ledgers", findings)
    sessions, issuers = made.get("sessions") or model.Sessions(), made["issuers"]
    ledgers = {}
    for at, each in enumerate(given):
        table = theirs.named(each, at, given)
        if "url" in table:
            table["url"] = vault.fetch_url(table["url"], ("ledgers", at, "url"))
        ledger = _validate(theirs.Ledger, table, ("ledgers", at), findings)
        if ledger is not None:
            ledgers[at] = replace(ledger, **theirs.settled(ledger, issuers, sessions.realm))
    theirs.check_ledgers(ledgers, given, issuers, findings)
    return tuple(ledgers.values())


def _with_preset(given: Tables, path: Path, findings: Findings) -> Tables:
    """What the preset says, under what is given; `claims` and `purpose` are merged key by key."""
    name = given.get("preset")
    if name is None:
        return given
    if name not in PRESETS:
        why = "the presets are " + ", ".join(PRESETS)
        findings.add("settings.unknown-preset", (*path, "preset"), why)
        return given
    defaults = dict(PRESETS[name].defaults)
    if given.get("keys"):
        defaults.pop("jwks_url", None)  # keys that are given replace those the preset points to
    for table in _MERGED:
        facts, ours = defaults.get(table), given.get(table)
        if isinstance(facts, Mapping) and isinstance(ours, Mapping):
            defaults[table] = {**facts, **ours}
            given = {key: value for key, value in given.items() if key != table}
    return {**defaults, **given}


def _keys(table: Tables, field: str, path: Path, vault: Vault) -> list[Key]:
    keys = []
    for at, entry in enumerate(table[field]):
        where: Path = (*path, field, at)
        parts = (
            _table(entry, where, vault.findings) if isinstance(entry, Mapping) else {"key": entry}
        )
        source = parts.pop("key", None)
        if source is None:
            vault.findings.add("settings.missing-key", (*where, "key"), "it is required")
            continue
        found = vault.fetch(source, where)
        if found is None:
            continue
        value = _decoded(found.value, table.get("encoding"))
        if value is None:
            why = f"{found.origin} is not {table['encoding']}"
            vault.findings.add("settings.bad-encoding", where, why)
            continue
        made = {**parts, "value": value, "form": form_of(value), "origin": found.origin}
        if (key := _validate(Key, made, where, vault.findings)) is not None:
            keys.append(key)
    return keys


def _decoded(value: bytes, encoding: object) -> bytes | None:
    """The key's own bytes: an HMAC secret without a file's last line end, and decoded."""
    form = form_of(value)
    if form == "der":
        return bare_der(value.strip()) or value
    if form != "secret":
        return value
    value = value.removesuffix(b"\n").removesuffix(b"\r")
    return decode(value, encoding) if encoding in {"base64", "base64url", "hex"} else value


def _check(made: Mapping[str, Any], issuers: Mapping[int, Issuer], findings: Findings) -> None:
    swap = made.get("swap") or model.Swap()
    checks.check_memory(made.get("memory") or model.Memory(), findings)
    checks.check_tokens(made.get("tokens") or model.Tokens(), findings)
    checks.check_cookie(made.get("cookie") or model.Cookie(), made["environment"], findings)
    checks.check_routes(made.get("routes") or model.Routes(), findings)
    checks.check_swap_keys(swap, findings)
    check_clients(made.get("serve") or Serve(), findings)
    checks.check_issuers(issuers, swap, findings)
