"""A process that has imported the command line and forks a child for each command it is told.

Run as a program of its own, so that it has one thread and nothing of the test in it. One JSON line
in: `argv`, `env`, `out`. Two lines out: the child's pid, then how it ended (as Popen says it).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from importlib import import_module


def main() -> None:
    from migrator.cli import COMMANDS  # noqa: PLC0415 - what is to be warm
    from migrator.cli import main as command_line  # noqa: PLC0415

    for entry in COMMANDS.values():
        import_module(entry.target.partition(":")[0])
    for name in ("alembic.command", "psycopg", "rich.console", "sqlalchemy.dialects.postgresql"):
        import_module(name)
    for line in sys.stdin:
        told = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _child(command_line, told)
        _say(pid)
        _, status = os.waitpid(pid, 0)
        _say(os.waitstatus_to_exitcode(status))


def _child(command_line: object, told: dict[str, object]) -> None:
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        out = os.open(str(told["out"]), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (out, 1), (out, 2)):
            os.dup2(source, target)
        os.environ.clear()
        os.environ.update(told["env"])  # type: ignore[call-overload] # a mapping of strings
        command_line(args=told["argv"], prog_name="migrator")  # type: ignore[operator] # Click's
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except BaseException:  # noqa: BLE001 - the test reads it in the output
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _say(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
