"""`serve`: the shim for apps in any language, beside a proxy or in front of the app itself."""

from __future__ import annotations

import socket
from importlib.util import find_spec
from typing import Final

import click

from migrator.cli.context import Context, pass_context
from migrator.core.errors import Exit, Problem, Stopped
from migrator.settings.serve import UPSTREAM

# Of the extra `server`; the rest of the command line does without.
_NEEDS: Final = ("uvicorn", "starlette", "prometheus_client", "httpx")
_BACKLOG: Final = 2048


def _upstream(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None and UPSTREAM.fullmatch(value) is None:
        raise click.BadParameter("write http://host:port, without a path")
    return value


@click.command()
@click.option("--host", metavar="ADDRESS", help="Where to listen; else serve.host.")
@click.option("--port", type=click.IntRange(0, 65_535), help="Else serve.port; 0 is any free one.")
@click.option(
    "--upstream",
    metavar="URL",
    callback=_upstream,
    help="The app that all other requests are passed on to, with the shim around it.",
)
@pass_context
def command(context: Context, host: str | None, port: int | None, upstream: str | None) -> None:
    """Answer a proxy's questions about credentials, and services' and front ends'.

    Serves /forward-auth, /oauth2/introspect, /oauth2/revoke, /session, /sessions, /healthz,
    /readyz and /metrics until it is told to stop. It counts as one of expected_nodes.
    """
    missing = [name for name in _NEEDS if find_spec(name) is None]
    if missing:
        raise Stopped(_no_extra(missing), Exit.UNFIT)
    settings = context.settings
    host = settings.serve.host if host is None else host
    port = settings.serve.port if port is None else port
    upstream = upstream or settings.serve.upstream
    from migrator.cli import serving  # noqa: PLC0415 - what it imports is an extra

    app = serving.application(settings, upstream)
    bound = _bind(host, port)
    url = f"http://{f'[{host}]' if ':' in host else host}:{bound.getsockname()[1]}"
    if context.dry_run:
        bound.close()
        context.talk(f"would listen on {url}" + (f", in front of {upstream}" if upstream else ""))
        return
    context.talk(f"listening on {url}" + (f", in front of {upstream}" if upstream else ""))
    serving.run(app, bound)


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named, since asyncio turns Nagle's delay off for such alone: 40 ms for each kept connection.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
        bound.listen(_BACKLOG)
    except OSError as error:
        bound.close()
        raise Stopped(_not_there(host, port, str(error.strerror or error)), Exit.UNFIT) from error
    return bound


def _no_extra(missing: list[str]) -> Problem:
    return Problem(
        id="serve.extra",
        what=f"not installed: {', '.join(missing)}",
        why="only `migrator serve` needs them, so they are an extra",
        do="pip install 'jwt-way-out[server]'",
    )


def _not_there(host: str, port: int, why: str) -> Problem:
    return Problem(
        id="serve.address",
        what=f"cannot listen on {host}, port {port}",
        why=why,
        do="free the port, or name another: --port, or serve.port",
    )
