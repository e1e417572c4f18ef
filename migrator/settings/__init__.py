"""The settings: `migrator.toml` and `MIGRATOR_*`, read once, frozen, every problem told at once.

`model.py` and the files named after a section say which keys there are, `values.py` what a value
may be, `sources.py` which source wins, `secrets.py` where secrets lie, `strength.py` which are
refused, `checks.py` what contradicts, `problems.py` how it is told, `assemble.py` in which order.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic.dataclasses import dataclass

from migrator.core.errors import BadSettings
from migrator.settings import sources
from migrator.settings.assemble import assemble
from migrator.settings.bridge import Bridge
from migrator.settings.issuers import ClaimNames, Issuer, Key, PurposeRules, Transport
from migrator.settings.ledgers import Ledger
from migrator.settings.model import (
    STRICT,
    Cookie,
    Database,
    ForeignRule,
    Gates,
    Http,
    Memory,
    OldCookie,
    Redis,
    Refusal,
    Routes,
    Sessions,
    Swap,
    SwapKey,
    Tokens,
)
from migrator.settings.problems import Findings, no_swap_key
from migrator.settings.secrets import Vault
from migrator.settings.serve import Serve, ServeClient

__all__ = [
    "Bridge",
    "ClaimNames",
    "Cookie",
    "Database",
    "ForeignRule",
    "Gates",
    "Http",
    "Issuer",
    "Key",
    "Ledger",
    "Memory",
    "OldCookie",
    "PurposeRules",
    "Redis",
    "Refusal",
    "Routes",
    "Serve",
    "ServeClient",
    "Sessions",
    "Settings",
    "Swap",
    "SwapKey",
    "Tokens",
    "Transport",
    "no_swap_key",
]

_NOTHING: Mapping[str, object] = {}


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Settings:
    """All settings, checked. Made by `load` or `build`; the constructor itself compares nothing.

    `redis` None: run without. `swap.keys` may be empty: what needs one raises `no_swap_key()`.
    """

    environment: str
    app: str
    expected_nodes: int | None = None
    database: Database
    redis: Redis | None = None
    memory: Memory = Memory()
    gates: Gates = Gates()
    tokens: Tokens = Tokens()
    sessions: Sessions = Sessions()
    swap: Swap = Swap()
    issuers: tuple[Issuer, ...] = ()
    routes: Routes = Routes()
    cookie: Cookie = Cookie()
    foreign: tuple[ForeignRule, ...] = ()
    ledgers: tuple[Ledger, ...] = ()
    http: Http = Http()
    serve: Serve = Serve()
    bridge: Bridge | None = None

    @classmethod
    def load(
        cls,
        path: str | Path | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        beneath: Mapping[str, object] = _NOTHING,
    ) -> Self:
        """The settings of this process.

        Args:
            path: the file; else `MIGRATOR_CONFIG` names it, else ./migrator.toml if it exists,
                else there is none and the environment says everything.
            environ: the variables; the process's own unless given.
            beneath: what a framework's own settings say already, in the shape of the file and laid
                beneath it: keys that are missing there, and further issuers. Its secrets may be
                given as they are.

        Raises:
            BadSettings: with every problem found.
        """
        environ = os.environ if environ is None else environ
        found = sources.locate(path, environ)
        findings = Findings("the environment" if found is None else str(found))
        if found is None:
            tables = sources.without_file(environ, findings)
        else:
            tables = sources.read(found, findings)
            if findings.problems:  # everything else would follow from it
                raise BadSettings(tuple(findings.problems))
        sources.underlay(tables, beneath, findings)
        sources.overlay(tables, environ, findings)
        directory = Path() if found is None else found.parent
        from_environ = findings.origins.copy()
        vault = Vault(
            environ=environ,
            directory=directory,
            findings=findings,
            allows_inline=lambda at: any(
                at[:end] in from_environ for end in range(1, len(at) + 1)
            ),
        )
        return cls._made(tables, vault)

    @classmethod
    def build(
        cls,
        tables: Mapping[str, object],
        *,
        environ: Mapping[str, str] | None = None,
        directory: str | Path = ".",
    ) -> Self:
        """Settings handed over by a program, in the shape of the file.

        Secrets may be given as they are (str or bytes), or by `env:NAME` and `file:PATH` as in the
        file. `MIGRATOR_*` overrides nothing here. Everything else is checked as `load` does.

        Args:
            tables: what `tomllib` would have read.
            environ: where `env:NAME` is looked up; the process's own variables unless given.
            directory: where relative `file:` paths begin.

        Raises:
            BadSettings: with every problem found.
        """
        vault = Vault(
            environ=os.environ if environ is None else environ,
            directory=Path(directory),
            findings=Findings("the settings given"),
            allows_inline=lambda _: True,
        )
        return cls._made(dict(tables), vault)

    @classmethod
    def _made(cls, tables: sources.Tables, vault: Vault) -> Self:
        arguments = assemble(tables, vault)
        if vault.findings.problems:
            raise BadSettings(tuple(vault.findings.problems))
        return cls(**arguments)
