"""`init`: a commented migrator.toml and a swap key, from flags, questions and a sample JWT."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from migrator.cli.context import Context, pass_context
from migrator.cli.desk import stdin_bytes
from migrator.control import initialising, pasted, reach, sample, signers
from migrator.control.initialising import Answers
from migrator.core.presets import PRESETS
from migrator.settings.values import FAMILY_OF

if TYPE_CHECKING:
    from collections.abc import Callable

    from migrator.control.sample import Sample

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _name(value: str) -> str:
    if _NAME.fullmatch(value) is None:
        raise click.BadParameter("a name begins with a letter or digit; then also . _ : and -")
    return value


def _algorithm(value: str) -> str:
    if value not in FAMILY_OF:
        raise click.BadParameter("one of " + ", ".join(FAMILY_OF))
    return value


def _variable(value: str) -> str:
    if _VARIABLE.fullmatch(value) is None:  # it may be the secret itself
        raise click.BadParameter("this is the name of an environment variable, not its value")
    return value


@click.command()
@click.option("--environment", type=_name, help="Typed to confirm moves, for example prod.")
@click.option("--app", type=_name, help="The app's name; else that of this directory.")
@click.option(
    "--database-url-env",
    type=_variable,
    default="MIGRATOR_DATABASE_URL",
    show_default=True,
    help="The variable that holds the URL of Postgres.",
)
@click.option(
    "--redis-url-env",
    type=_variable,
    default="MIGRATOR_REDIS_URL",
    show_default=True,
    help="The variable that holds the URL of Redis.",
)
@click.option("--no-redis", is_flag=True, help="Run without Redis.")
@click.option("--issuer-name", type=_name, default="main", show_default=True)
@click.option("--algorithm", type=click.Choice(list(FAMILY_OF)), help="Else as the sample says.")
@click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    metavar="NAME",
    help=f"Else as the sample looks. One of: {', '.join(PRESETS)}.",
)
@click.option(
    "--key-env", type=_variable, help="The variable that holds the secret or public key."
)
@click.option("--key-file", help="The file that holds it, relative to the settings.")
@click.option("--jwks-url", help="Where the public keys are served.")
@click.option(
    "--swap-key-env",
    type=_variable,
    help="Print the swap key as an export line for this variable, instead of writing swap.key.",
)
@click.option("--sample", "source", metavar="PATH", help="A JWT to learn from; - is stdin.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Where to.")
@click.option(
    "--record",
    is_flag=True,
    help="Write nothing but the issuers' ids, as the settings have them, to the database.",
)
@click.option("--force", is_flag=True, help="Replace settings that lie there. swap.key stays.")
@pass_context
def command(
    context: Context,
    *,
    environment: str | None,
    app: str | None,
    database_url_env: str,
    redis_url_env: str,
    no_redis: bool,
    issuer_name: str,
    algorithm: str | None,
    preset: str | None,
    key_env: str | None,
    key_file: str | None,
    jwks_url: str | None,
    swap_key_env: str | None,
    source: str | None,
    output: Path | None,
    record: bool,
    force: bool,
) -> None:
    """Write a commented migrator.toml and make a swap key.

    A sample JWT by stdin fills in issuer, algorithm, claims and lifetime. It is not kept.
    """
    if record:
        _record(context)
        return
    if sum(each is not None for each in (key_env, key_file, jwks_url)) > 1:
        raise click.UsageError("give one of --key-env, --key-file and --jwks-url")
    learned = _sample(source)
    here = re.sub(r"[^A-Za-z0-9._-]", "-", Path.cwd().name).lstrip("._-") or "app"
    if context.interactive:
        environment = environment or _ask("Environment (typed to confirm moves)", "prod", _name)
        app = app or _ask("Name of the app", here, _name)
        if algorithm is None and preset is None and learned is None:
            algorithm = _ask("Algorithm of its JWTs", "HS256", _algorithm)
    made = initialising.initialise(
        Answers(
            output=output or context.config or Path("migrator.toml"),
            environment=environment or "prod",
            app=app or here,
            database_url_env=database_url_env,
            redis_url_env=None if no_redis else redis_url_env,
            issuer_name=issuer_name,
            algorithm=algorithm,
            preset=preset,
            key=f"env:{key_env}" if key_env else f"file:{key_file}" if key_file else None,
            jwks_url=jwks_url,
            swap_key_env=swap_key_env,
            force=force,
            sample=learned,
        ),
        environ=os.environ,
        dry_run=context.dry_run,
    )
    _emit(context, made, output or context.config or Path("migrator.toml"))


def _record(context: Context) -> None:
    settings = context.settings
    names = {issuer.id: issuer.name for issuer in settings.issuers}
    home = settings.database.schema
    with reach.reached(settings.database.url.get_secret_value(), home) as connection:
        known = signers.recorded(connection, home)
        is_new = any(known.get(one) != name for one, name in names.items())
        if is_new and not context.dry_run:
            signers.record(connection, home, names)
    context.emit(
        {"issuers": names},
        lambda: "\n".join(f"{one}  {name}" for one, name in names.items()) or "no issuers",
        schema="migrator.recorded/1",
        changed=is_new and not context.dry_run,
    )


def _emit(context: Context, made: initialising.Made, path: Path) -> None:
    plan = made.plan
    hazards = PRESETS[plan.preset].hazards if plan.preset else ()
    if plan.guess.endless:
        context.talk("The sample never ends: set max_age, or such tokens are refused.")
    if plan.preset and plan.preset == plan.guess.preset and plan.guess.rivals:
        others = ", ".join(plan.guess.rivals)
        context.talk(f"The sample is taken for {plan.preset}, and could also be of {others}.")
    for hazard in hazards:
        context.talk(f"mind {hazard.id}: {hazard.text}")
    issuer = {
        "id": plan.issuer_id,
        "name": plan.issuer_name,
        "preset": plan.preset,
        "algorithm": plan.algorithm,
    }
    result = {
        "path": path,
        "issuer": issuer,
        "swap_key": plan.swap_secret,
        "recorded": made.recorded,
        "export": made.export,
        "next": list(made.steps),
        "hazards": [{"id": each.id, "text": each.text} for each in hazards],
    }
    lines = [f"wrote {path}", *(f"  {step}" for step in made.steps)]
    lines += [made.export] if made.export else []
    context.emit(
        result,
        lambda: made.text if context.dry_run else "\n".join(lines),
        schema="migrator.init/1",
        changed=not context.dry_run,
    )


def _sample(source: str | None) -> Sample | None:
    if source not in {None, "-"}:
        try:
            raw = Path(str(source)).read_bytes()[: pasted.LARGEST_BYTES + 1]
        except OSError as error:
            raise click.UsageError(f"--sample cannot be read: {error.strerror}") from None
    elif source is None and (sys.stdin is None or sys.stdin.isatty()):
        return None
    else:
        raw = stdin_bytes(pasted.LARGEST_BYTES)
        if source is None and not raw.strip():
            return None
    read = sample.read(pasted.bare(raw))
    if read.kind != "jws":
        raise click.UsageError("the sample is no signed JWT")
    return read


def _ask(question: str, default: str, check: Callable[[str], str]) -> str:
    return str(click.prompt(question, default=default, value_proc=check, err=True))
