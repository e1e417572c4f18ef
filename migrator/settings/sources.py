"""Where settings come from: the file, and the variables that override it key by key.

Only `MIGRATOR_<TOP_LEVEL_KEY>` and `MIGRATOR_<SECTION>__<KEY>` are settings, lists and tables as
JSON. A name with `__` that fits no key is an error, because it is a setting that would silently
not apply; every other `MIGRATOR_*` name (`MIGRATOR_SWAP_KEY`) is somebody's own and left alone.
"""

import json
import re
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path as FilePath
from types import UnionType
from typing import Annotated, Any, Final, TypeAlias, Union, get_args, get_origin, get_type_hints

from migrator.settings import model
from migrator.settings.bridge import Bridge
from migrator.settings.issuers import Issuer
from migrator.settings.ledgers import Ledger
from migrator.settings.problems import Findings
from migrator.settings.serve import Serve

Tables: TypeAlias = dict[str, Any]

FILE_NAME: Final = "migrator.toml"
GIVEN: Final = "the settings given"
_PREFIX: Final = "MIGRATOR_"

SECTIONS: Final[Mapping[str, type]] = {
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
LISTS: Final[Mapping[str, type]] = {
    "issuers": Issuer,
    "foreign": model.ForeignRule,
    "ledgers": Ledger,
}


def keys_of(section: type) -> dict[str, Any]:
    """The keys of a section with their types."""
    hints = get_type_hints(section, include_extras=True)
    return {name: hint for name, hint in hints.items() if name != "effective_name"}


HEAD: Final = keys_of(model.Head)


def locate(path: str | FilePath | None, environ: Mapping[str, str]) -> FilePath | None:
    """The settings file: as named, else by `MIGRATOR_CONFIG`, else the one that lies here."""
    named = path or environ.get("MIGRATOR_CONFIG")
    if named:
        return FilePath(named)
    here = FilePath(FILE_NAME)
    return here if here.exists() else None


def read(path: FilePath, findings: Findings) -> Tables:
    """The tables of the file at `path`; empty after recording why it cannot be read."""
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8"))
    except FileNotFoundError:
        findings.add("settings.missing-file", (), "there is no such file", do=_ANOTHER_FILE)
    except OSError as error:
        findings.add("settings.unreadable-file", (), str(error.strerror), do=_ANOTHER_FILE)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"at (line \d+, column \d+|end of document)", str(error))
        findings.add("settings.bad-toml", (), f"not TOML at {place[1] if place else 'some line'}")
    except UnicodeDecodeError as error:
        findings.add("settings.bad-toml", (), f"not UTF-8 at byte {error.start}")
    return {}


_ANOTHER_FILE: Final = "correct --config or MIGRATOR_CONFIG, or make one with `migrator init`"


def without_file(environ: Mapping[str, str], findings: Findings) -> Tables:
    """The settings when there is no file: the two URLs, each from its variable."""
    tables: Tables = {}
    for section, name in (("database", "MIGRATOR_DATABASE_URL"), ("redis", "MIGRATOR_REDIS_URL")):
        if environ.get(name):
            tables[section] = {"url": f"env:{name}"}
            findings.origins[(section, "url")] = name
    return tables


def underlay(tables: Tables, given: Mapping[str, object], findings: Findings) -> None:
    """Lay what a program gives beneath `tables`, which is changed in place.

    Key by key in sections; a list is appended. What comes from there may be the secret itself.
    """
    for name, value in given.items():
        if isinstance(value, Mapping):
            section = tables.setdefault(name, {})
            for key in value.keys() - section.keys() if isinstance(section, dict) else ():
                section[key] = value[key]
                findings.origins[(name, key)] = GIVEN
        elif isinstance(value, list | tuple):
            listed = tables.setdefault(name, [])
            for each in value if isinstance(listed, list) else ():
                findings.origins[(name, len(listed))] = GIVEN
                listed.append(each)
        elif name not in tables:
            tables[name] = value
            findings.origins[(name,)] = GIVEN


def overlay(tables: Tables, environ: Mapping[str, str], findings: Findings) -> None:
    """Apply the variables of `environ` to `tables`, which is changed in place."""
    for name in sorted(environ):
        if not name.startswith(_PREFIX):
            continue
        section, parted, key = name.removeprefix(_PREFIX).partition("__")
        section, key = section.lower(), key.lower()
        if parted:
            _overlay_key(tables, section, key, name, environ[name], findings)
        elif section in SECTIONS:
            findings.origins[(section,)] = name
            findings.add("settings.bad-env", (section,), "a section is set key by key")
        elif section in HEAD:
            findings.origins[(section,)] = name
            tables[section] = environ[name]
        elif section in LISTS:
            findings.origins[(section,)] = name
            tables[section] = _from_json(environ[name], (section,), findings, [])


def _overlay_key(
    tables: Tables, section: str, key: str, name: str, value: str, findings: Findings
) -> None:
    known = keys_of(SECTIONS[section]) if section in SECTIONS else {}
    findings.origins[(section, key)] = name
    if key not in known:
        why = "there is no such setting"
        if section in LISTS:
            why = f"{section} is a list: MIGRATOR_{section.upper()} sets all of it, as JSON"
        near = get_close_matches(key, known, 1)
        do = f"did you mean MIGRATOR_{section.upper()}__{near[0].upper()}?" if near else None
        findings.add("settings.unknown-key", (section, key), why, do=do)
        return
    table = tables.setdefault(section, {})
    if isinstance(table, dict):  # anything else is told when the section is validated
        structured = _is_structured(known[key])
        table[key] = _from_json(value, (section, key), findings, None) if structured else value


def _from_json(text: str, path: tuple[str, ...], findings: Findings, fallback: object) -> object:
    try:
        return json.loads(text)
    except ValueError:  # its message would quote the value
        findings.add("settings.bad-json", path, "lists and tables are given as JSON; this is none")
        return fallback


def _is_structured(hint: Any) -> bool:
    """Whether a value of this type is a list or a table, and so comes as JSON."""
    origin = get_origin(hint)
    if origin is Annotated:
        return _is_structured(get_args(hint)[0])
    if origin in {Union, UnionType}:
        return any(_is_structured(each) for each in get_args(hint))
    return origin in {tuple, dict, Mapping} or hasattr(hint, "__dataclass_fields__")
