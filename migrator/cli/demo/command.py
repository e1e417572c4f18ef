"""`migrator demo`: the whole migration on servers of its own, and the table at its end."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import click

from migrator.cli.context import Context, pass_context
from migrator.core.errors import Exit, Problem, Stopped

_NEEDED = ("httpx", "starlette", "uvicorn")


@click.command()
@click.option(
    "--skip-drain",
    is_flag=True,
    help="Do it wrong: force the cutover without waiting, and see users logged out.",
)
@click.option(
    "--keep",
    is_flag=True,
    help="Migrate nothing: keep the app running under its users, for you to do it by hand.",
)
@pass_context
def demo(context: Context, skip_drain: bool, keep: bool) -> None:  # noqa: FBT001 - click's signature
    """Migrate a small app, from JWTs to sessions, under some hundreds of simulated users.

    Starts a Postgres, a Redis and the app on loopback, drives the real commands, and counts who
    was logged out. About 45 seconds. Ends with 0 only if nobody was, and if all that had to happen
    did.

    With --keep you do the driving: it prints a line to paste into another terminal, where the
    playbooks can be followed command by command, and runs until Ctrl-C.
    """
    if keep and skip_drain:
        raise click.UsageError("--keep leaves the moves to you; --skip-drain makes them")
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise Stopped(_not_installed(missing), Exit.UNFIT)
    if context.dry_run:
        context.talk(_PLAN_OF_KEEPING if keep else _PLAN)
        return
    from migrator.cli.demo.rehearsal import rehearse  # noqa: PLC0415 - needs the extra `demo`
    from migrator.cli.demo.servers import ServerMissing, ServerNotStarted  # noqa: PLC0415 - as above

    try:
        if keep:
            _keep(context)
            return
        outcome = rehearse(skip_drain=skip_drain)
    except (ServerMissing, ServerNotStarted) as error:
        raise Stopped(_no_servers(error), Exit.UNFIT) from error
    context.emit(
        outcome.as_json(),
        outcome.screen,
        schema="migrator.demo/1",
        exit_code=Exit.INTERNAL if outcome.faults() else Exit.DONE,
    )


def _keep(context: Context) -> None:
    from migrator.cli.demo.fleet import FleetNotStarted  # noqa: PLC0415 - needs the extra `demo`
    from migrator.cli.demo.keeping import keep  # noqa: PLC0415 - as above

    def ready(variables: Path) -> None:
        result = {"variables": variables, "directory": variables.parent}
        context.emit(result, lambda: f". {variables}", schema="migrator.demo-kept/1", goes_on=True)
        context.talk(_KEPT)

    try:
        keep(ready)
    except FleetNotStarted as error:
        raise Stopped(_no_app(error), Exit.UNFIT) from error


_KEPT = """\
in another terminal, paste the line above; then: migrator db upgrade, and on with
`migrator playbook show 01-install-and-observe`. The environment is called demo, a week is seconds
here. Ctrl-C ends it and says how many users were logged out"""

_PLAN_OF_KEEPING = """\
would start a Postgres, a Redis and a small app (uvicorn, 2 workers) on loopback, in a directory of
their own, log some dozens of simulated users in, and keep all of it running until Ctrl-C
nothing was started"""

_PLAN = """\
would start a Postgres, a Redis and a small app (uvicorn, 2 workers) on loopback, in a directory of
their own, log some hundreds of simulated users in, and run, with --confirm demo:
  migrator db upgrade
  migrator advance swap --percent 10
  migrator backfill simplejwt --issuer a1
  migrator advance swap --percent 100
  migrator sessions revoke --stdin
  migrator advance drain
  migrator cutover --all
  migrator rollback
  migrator cutover --all
  migrator retire
nothing was started"""


def _not_installed(missing: list[str]) -> Problem:
    return Problem(
        id="demo.not_installed",
        what=f"not installed: {', '.join(missing)}",
        why="the rehearsal runs a real app and real clients; production needs neither",
        do="pip install 'jwt-way-out[demo]'",
    )


def _no_app(error: Exception) -> Problem:
    return Problem(
        id="demo.no_app",
        what=str(error),
        why="there is nothing to migrate",
        do="pip install 'jwt-way-out[demo]', then run this again",
    )


def _no_servers(error: Exception) -> Problem:
    return Problem(
        id="demo.no_servers",
        what=str(error),
        why="the rehearsal runs on a Postgres and a Redis of its own",
        do="pip install 'jwt-way-out[demo]', then run this again",
    )
