"""`migrator demo`: the whole migration on servers of its own, and the table at its end."""

from __future__ import annotations

from importlib.util import find_spec

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
@pass_context
def demo(context: Context, skip_drain: bool) -> None:  # noqa: FBT001 - click's signature
    """Migrate a small app, from JWTs to sessions, under some hundreds of simulated users.

    Starts a Postgres, a Redis and the app on loopback, drives the real commands, and counts who
    was logged out. About 45 seconds. Ends with 0 only if nobody was, and if all that had to happen
    did.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise Stopped(_not_installed(missing), Exit.UNFIT)
    if context.dry_run:
        context.talk(_PLAN)
        return
    from migrator.cli.demo.rehearsal import rehearse  # noqa: PLC0415 - needs the extra `demo`
    from migrator.cli.demo.servers import ServerMissing, ServerNotStarted  # noqa: PLC0415 - as above

    try:
        outcome = rehearse(skip_drain=skip_drain)
    except (ServerMissing, ServerNotStarted) as error:
        raise Stopped(_no_servers(error), Exit.UNFIT) from error
    context.emit(
        outcome.as_json(),
        outcome.screen,
        schema="migrator.demo/1",
        exit_code=Exit.INTERNAL if outcome.faults() else Exit.DONE,
    )


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


def _no_servers(error: Exception) -> Problem:
    return Problem(
        id="demo.no_servers",
        what=str(error),
        why="the rehearsal runs on a Postgres and a Redis of its own",
        do="pip install 'jwt-way-out[demo]', then run this again",
    )
