"""What every command has: settings, the way its answer is printed, and how an early end is told.

stdout is data, stderr is talk. A result goes out as JSON or as text, never both; an error is a
page (what, why, what to do) on stderr, and with `--json` an object on stdout too. Nothing here
decides anything about a rollout.
"""

from __future__ import annotations

import getpass
import json
import os
import secrets
import signal
import socket
import sys
import threading
import traceback
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

import migrator
from migrator.core.errors import BadSettings, Exit, Problem, Stopped, Unavailable
from migrator.settings import Settings, sources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from rich.console import RenderableType

WIDTH = 100
ERROR = "migrator.error/1"
# The other early ends come before anything is written (exit codes of the command line).
_MAY_HAVE_CHANGED = frozenset(
    {Exit.INTERNAL, Exit.NOT_ACKNOWLEDGED, Exit.UNREACHABLE, Exit.LIMIT, Exit.INTERRUPTED}
)


class Context:
    """One run of the command line."""

    def __init__(self) -> None:
        self.config: Path | None = None
        self.as_json = False
        self.dry_run = False
        self.committed: str | None = None
        self.surely = False

    @cached_property
    def settings(self) -> Settings:
        """The settings, read the first time they are asked for.

        Raises:
            BadSettings: with every problem; told as exit 5.
        """
        return Settings.load(self.config)

    @property
    def has_settings(self) -> bool:
        """Whether there are settings at all: before `init` some commands do without."""
        named = ("MIGRATOR_DATABASE_URL", "MIGRATOR_DATABASE__URL")
        located = sources.locate(self.config, os.environ)
        return located is not None or any(map(os.environ.get, named))

    @property
    def interactive(self) -> bool:
        """Whether somebody is there to answer a question."""
        return sys.stdin.isatty() and sys.stderr.isatty()

    def operator(self) -> str:
        """Who runs this, for the record: MIGRATOR_OPERATOR, else user@host."""
        named = os.environ.get("MIGRATOR_OPERATOR", "").strip()
        if named:
            return named
        try:
            user = getpass.getuser()
        except (KeyError, OSError):  # a container whose uid has no name
            user = f"uid-{os.getuid()}"
        return f"{user}@{socket.gethostname()}"

    def talk(self, text: str) -> None:
        """Say something to the operator, on stderr."""
        click.echo(text, err=True)

    def note_committed(self, sentence: str, *, surely: bool = True) -> None:
        """Keep what is done for good: whoever interrupts from here on is told this sentence.

        `surely` False: something may be done by now, or nothing yet.
        """
        self.committed, self.surely = sentence, surely

    def changed(self, code: Exit) -> bool | None:
        """Whether a command that stopped early with `code` changed anything; None: not known."""
        if self.committed is None:
            return None if code is Exit.INTERNAL else False
        return (self.surely or None) if code in _MAY_HAVE_CHANGED else False

    def emit(
        self,
        result: Mapping[str, object],
        text: Callable[[], RenderableType],
        *,
        schema: str,
        changed: bool = False,
        exit_code: Exit = Exit.DONE,
        goes_on: bool = False,
    ) -> None:
        """Print the result, then leave with `exit_code` unless it is 0.

        From here on the command has ended as the result says, and Ctrl-C comes too late.

        Args:
            result: the JSON object, without schema, changed and exit_code.
            text: makes what is printed without `--json`: a string, or something of rich's.
            schema: its published name, for example "migrator.status/1".
            goes_on: the command does not end with it, and Ctrl-C is heard.
        """
        if not goes_on:
            _hear_no_interrupt()
        if self.as_json:
            head = {"schema": schema, "exit_code": int(exit_code), "changed": changed}
            click.echo(as_json({**head, **result}))
        else:
            _print(text())
        if exit_code is not Exit.DONE:
            click.get_current_context().exit(int(exit_code))

    def confirm(self, environment: str, given: str | None) -> None:
        """Have the environment's name typed, or take it from `--confirm`.

        Raises:
            Stopped: DECLINED, when it is wrong or nobody is there to ask.
        """
        if given is None:
            if not self.interactive:
                raise Stopped(_nobody_to_ask(environment), Exit.DECLINED)
            given = click.prompt(
                "Type the environment name to continue", default="", show_default=False, err=True
            )
        if given != environment:
            raise Stopped(_not_confirmed(environment), Exit.DECLINED)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let whoever runs a command inside their own process hear Ctrl-C again when it is over."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _hear_no_interrupt() -> None:
    # Ignored, not handled: a write that a signal cuts short is not gone on with where stdout is
    # unbuffered. Only a main thread hears any.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


pass_context = click.make_pass_decorator(Context, ensure=True)


def as_json(value: object) -> str:
    """JSON as every command prints it: times in RFC 3339 UTC, unknown as null."""
    return json.dumps(value, default=_plain, ensure_ascii=False, indent=2, allow_nan=False)


def rfc3339(at: datetime) -> str:
    """A time as contracts want it, to the millisecond."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _plain(value: object) -> Any:
    match value:
        case datetime():
            return rfc3339(value)
        case UUID() | Path():
            return str(value)
        case set() | frozenset():
            return sorted(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _print(renderable: RenderableType) -> None:
    if isinstance(renderable, str):
        click.echo(renderable)
        return
    from rich.console import Console  # noqa: PLC0415 - 40 ms that plain text need not pay

    width = None if sys.stdout.isatty() else WIDTH
    Console(file=sys.stdout, width=width, highlight=False, soft_wrap=False).print(renderable)


# ---- options taken everywhere ------------------------------------------------------------------


def _config(ctx: click.Context, _: click.Parameter, value: Path | None) -> None:
    if value is not None:
        ctx.ensure_object(Context).config = value


def _as_json(ctx: click.Context, _: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's signature
    if value:
        ctx.ensure_object(Context).as_json = True


def _dry_run(ctx: click.Context, _: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's signature
    if value:
        ctx.ensure_object(Context).dry_run = True


def _options() -> list[click.Option]:
    return [
        click.Option(
            ["--config"],
            type=click.Path(path_type=Path),
            expose_value=False,
            callback=_config,
            help="The settings file; else MIGRATOR_CONFIG, else ./migrator.toml.",
        ),
        click.Option(
            ["--json"],
            is_flag=True,
            expose_value=False,
            callback=_as_json,
            help="Print the result as JSON.",
        ),
        click.Option(
            ["--dry-run"],
            is_flag=True,
            expose_value=False,
            callback=_dry_run,
            help="Say what would happen and write nothing.",
        ),
    ]


def accept_everywhere(command: click.Command) -> click.Command:
    """Let `command`, and every command below it, take the options that all of them take."""
    taken = {name for parameter in command.params for name in parameter.opts}
    command.params += [option for option in _options() if option.opts[0] not in taken]
    if isinstance(command, click.Group):
        for below in command.commands.values():
            accept_everywhere(below)
    return command


# ---- early ends --------------------------------------------------------------------------------


@contextmanager
def told(context: Context) -> Iterator[None]:
    """Tell whatever ends the command early, and leave with its exit code."""
    try:
        yield
    except Stopped as stopped:
        _end(context, (stopped.problem,), stopped.exit_code)
    except BadSettings as bad:
        _end(context, bad.problems, Exit.UNFIT)
    except Unavailable as unavailable:
        _end(context, (_unavailable(unavailable),), Exit.UNREACHABLE)
    except (KeyboardInterrupt, click.Abort):
        _end(context, (_interrupted(context.committed),), Exit.INTERRUPTED)
    except (click.ClickException, click.exceptions.Exit, BrokenPipeError):
        raise  # Click's own endings
    except Exception as error:  # noqa: BLE001 - the last line: no traceback, whose text may hold a secret
        _end(context, (_internal(error),), Exit.INTERNAL)


def _end(context: Context, problems: tuple[Problem, ...], code: Exit) -> None:
    _hear_no_interrupt()
    for problem in problems:
        context.talk(str(problem))
    if context.as_json:
        told_as = [
            {"id": problem.id, "what": problem.what, "why": problem.why, "do": problem.do}
            for problem in problems
        ]
        more = {"errors": told_as} if len(told_as) > 1 else {}
        head = {"schema": ERROR, "exit_code": int(code), "changed": context.changed(code)}
        click.echo(as_json({**head, "error": told_as[0], **more}))
    click.get_current_context().exit(int(code))


def _unavailable(error: Unavailable) -> Problem:
    return Problem(
        id="store.unavailable",
        what=str(error),
        why="the answer is unknown, and nothing was changed that was not acknowledged",
        do="check the server with `migrator doctor`, then run this again: repeating is safe",
    )


def _interrupted(committed: str | None) -> Problem:
    return Problem(
        id="interrupted",
        what="stopped by the operator",
        why=committed or "nothing was committed by this command",
        do="run it again to go on: repeating is safe",
    )


def _internal(error: Exception) -> Problem:
    ours = str(Path(migrator.__file__).parent)
    frames = [
        f"{Path(frame.filename).relative_to(Path(ours).parent)}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename.startswith(ours)
    ]
    return Problem(
        id=f"internal.{secrets.token_hex(4)}",
        what=f"an error of ours: {type(error).__name__} at {' < '.join(reversed(frames[-3:]))}",
        why="something happened that this release does not expect; its text may hold a secret "
        "and is not printed",
        do="report the line above; `migrator status` says where the rollout stands",
    )


def _nobody_to_ask(environment: str) -> Problem:
    return Problem(
        id="confirm.nobody",
        what="this has to be confirmed, and there is no terminal to ask on",
        why="it changes what happens to users",
        do=f"run it on a terminal, or add --confirm {environment}",
    )


def _not_confirmed(environment: str) -> Problem:
    return Problem(
        id="confirm.declined",
        what="not confirmed: that is not the environment's name",
        why=f"the settings name {environment!r}; nothing was changed",
        do=f"look whether these are the settings you meant, then type {environment}",
    )
