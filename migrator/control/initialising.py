"""`init`: from answers and a sample to a settings file, a swap key and the issuer's id.

What was said wins, then what the sample tells, then the preset. Only names of secrets are written;
the one secret made here lies in a file of its own, or is handed over to be exported.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from migrator.control import keymaking, reach, scaffold, signers
from migrator.control.guesses import Guess, guess
from migrator.core.errors import Exit, Problem, Stopped
from migrator.core.presets import PRESETS
from migrator.settings.values import FAMILY_OF
from migrator.stores.tables import SCHEMA

if TYPE_CHECKING:
    from migrator.control.sample import Sample

SWAP_KEY_FILE: Final = "swap.key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What the operator said. None: not said.

    Args:
        key: `env:NAME` or `file:PATH` of the issuer's key.
        swap_key_env: the swap key is to be exported under this name, instead of lying in a file.
    """

    output: Path
    environment: str
    app: str
    database_url_env: str
    redis_url_env: str | None
    issuer_name: str
    algorithm: str | None = None
    preset: str | None = None
    key: str | None = None
    jwks_url: str | None = None
    swap_key_env: str | None = None
    force: bool = False
    sample: Sample | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What was written, or would be.

    Args:
        recorded: the database knows the issuer's id.
        export: a line for a shell or secret store; holds the swap key.
        steps: what to do now.
    """

    plan: scaffold.Plan
    text: str
    recorded: bool
    steps: tuple[str, ...]
    export: str | None = field(default=None, repr=False)


def initialise(answers: Answers, *, environ: Mapping[str, str], dry_run: bool) -> Made:
    """Write the settings, make the swap key, record the issuer's id where the database is there.

    Raises:
        Stopped: DECLINED, settings lie there already; USAGE, nothing says how tokens are signed.
    """
    if not dry_run:
        keymaking.require_free(answers.output, force=answers.force)
    url = environ.get(answers.database_url_env)
    told = guess(answers.sample) if answers.sample else Guess()
    plan = _plan(answers, told, {**_in_file(answers.output), **_in_database(url)})
    text = scaffold.written(plan)
    export = None
    if answers.swap_key_env and not dry_run:
        export = f"export {answers.swap_key_env}={keymaking.swap_secret()}"
    if dry_run:
        return Made(plan=plan, text=text, recorded=False, steps=())
    if not answers.swap_key_env:
        keymaking.keep_or_make_key(answers.output.parent / SWAP_KEY_FILE)
    keymaking.write_whole(answers.output, text)
    recorded = _record(url, {plan.issuer_id: plan.issuer_name})
    return Made(
        plan=plan, text=text, recorded=recorded, export=export, steps=_steps(plan, recorded)
    )


def _plan(answers: Answers, told: Guess, known: Mapping[str, str]) -> scaffold.Plan:
    preset = answers.preset or told.preset
    defaults = PRESETS[preset].defaults if preset else {}
    listed = defaults.get("algorithms")
    usual = listed[0] if isinstance(listed, tuple) else None
    algorithm = answers.algorithm or told.algorithm or usual
    if algorithm is None:
        raise _no_algorithm()
    jwks_url = answers.jwks_url or (None if answers.key else told.jwks_url)
    has_keys = jwks_url is not None or "jwks_url" in defaults
    secret = FAMILY_OF[algorithm] == "hmac"
    key = answers.key or (
        None if has_keys and not secret else "env:JWT_SECRET" if secret else "env:JWT_PUBLIC_KEY"
    )
    return scaffold.Plan(
        environment=answers.environment,
        app=answers.app,
        database_url_env=answers.database_url_env,
        redis_url_env=answers.redis_url_env,
        issuer_id=signers.id_for(answers.issuer_name, known),
        issuer_name=answers.issuer_name,
        algorithm=algorithm,
        preset=preset,
        key=key,
        jwks_url=None if secret else jwks_url,
        swap_secret=f"env:{answers.swap_key_env}"
        if answers.swap_key_env
        else f"file:{SWAP_KEY_FILE}",
        guess=told,
    )


def _in_file(path: Path) -> dict[str, str]:
    """The issuers of the file that is to be replaced: their ids stay theirs."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        issuers = tomllib.loads(path.read_text("utf-8"))["issuers"]
        return {str(one["id"]): str(one.get("name", one["id"])) for one in issuers}
    return {}


def _in_database(url: str | None) -> dict[str, str]:
    with suppress(Stopped):
        if url:
            with reach.reached(url, SCHEMA) as connection:
                return signers.recorded(connection, SCHEMA)
    return {}


def _record(url: str | None, names: Mapping[str, str]) -> bool:
    with suppress(Stopped):
        if url:
            with reach.reached(url, SCHEMA) as connection:
                signers.record(connection, SCHEMA, names)
                return True
    return False


def _steps(plan: scaffold.Plan, recorded: bool) -> tuple[str, ...]:  # noqa: FBT001 - a fact of the run
    named = [
        plan.database_url_env,
        plan.redis_url_env,
        _env_of(plan.key),
        _env_of(plan.swap_secret),
    ]
    steps = ["set in the environment of every process: " + ", ".join(filter(None, named))]
    if plan.swap_secret.startswith("file:"):
        steps.append(f"take {SWAP_KEY_FILE} to every node, and never into version control")
    if not recorded:
        steps.append("migrator db upgrade, then migrator init --record")
    return (
        *steps,
        *_gaps(plan),
        "migrator doctor",
        "set expected_nodes, and the [routes] of login and refresh",
    )


def _gaps(plan: scaffold.Plan) -> list[str]:
    """What no sample tells all of, and the drain cannot do without."""
    defaults = PRESETS[plan.preset].defaults if plan.preset else {}
    told = {"lifetime": plan.guess.lifetime, "refresh_lifetime": plan.guess.refresh_lifetime}
    unset = [name for name, value in told.items() if not (value or defaults.get(name))]
    rules = defaults.get("purpose")
    steps = []
    if unset:
        steps.append(
            f"set {' and '.join(unset)} as the signer gives them: else the drain has no horizon"
        )
    if not (isinstance(rules, Mapping) and "refresh" in rules):
        steps.append(
            "say in [issuers.purpose] refresh what tells a refresh token, if there are any"
        )
    return steps


def _env_of(reference: str | None) -> str | None:
    return reference.removeprefix("env:") if reference and reference.startswith("env:") else None


def _no_algorithm() -> Stopped:
    problem = Problem(
        id="init.no-algorithm",
        what="nothing says how legacy tokens are signed",
        why="what a token claims of itself is not asked, so the settings have to",
        do="pipe a sample JWT in, or give --algorithm or --preset",
    )
    return Stopped(problem, Exit.USAGE)
