"""The operator: types the real commands, as subprocesses, and reads what they answer."""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from migrator.cli.demo.deployment import ENVIRONMENT, Deployment
from migrator.cli.demo.stage import Stage

_PROGRAM = (sys.executable, "-c", "from migrator.cli import main; main(prog_name='migrator')")
_LIMIT_SECONDS = 180.0


class StepFailed(Exception):
    """Something that had to happen did not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """Both, as a terminal shows them."""
        return f"{self.err.rstrip()}\n{self.out.rstrip()}".strip()

    def read(self) -> dict[str, Any]:
        """Its JSON."""
        answer: dict[str, Any] = json.loads(self.out)
        return answer


class Operator:
    """Runs commands in a deployment and shows them on the stage."""

    def __init__(self, deployment: Deployment, stage: Stage) -> None:
        self._deployment = deployment
        self._stage = stage

    async def run(
        self,
        *words: str,
        typed: str | None = None,
        expected: Collection[int] = (0,),
        aloud: bool = True,
    ) -> Ran:
        """Run `migrator WORDS…`.

        Args:
            typed: what it reads on stdin.
            expected: the exit codes that the play allows.
            aloud: whether the audience sees it.

        Raises:
            StepFailed: another exit code, or no end in sight.
        """
        line = f"migrator {shlex.join(words)}"
        if aloud:
            self._stage.command(line)
        ran = await self._run(words, typed)
        if aloud or ran.code not in expected:
            self._stage.output(ran.said)
        if ran.code not in expected:
            raise StepFailed(f"`{line}` ended with exit {ran.code}")
        return ran

    async def move(self, *words: str, expected: Collection[int] = (0,)) -> Ran:
        """Run a move, and show in one line where everything stands."""
        ran = await self.run(*words, expected=expected)
        status = await self.status_line()
        self._stage.output(status)
        return ran

    async def status_line(self) -> str:
        """`migrator status --line`."""
        ran = await self.run("status", "--line", aloud=False)
        return ran.out.strip()

    async def status(self) -> dict[str, Any]:
        """`migrator status --json`."""
        return (await self.run("status", "--json", aloud=False)).read()

    async def _run(self, words: tuple[str, ...], typed: str | None) -> Ran:
        process = await asyncio.create_subprocess_exec(
            *_PROGRAM,
            *words,
            stdin=asyncio.subprocess.DEVNULL if typed is None else asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=self._deployment.directory,
            env=self._deployment.variables(),
            start_new_session=True,  # Ctrl-C at the terminal is for us to act on
        )
        try:
            async with asyncio.timeout(_LIMIT_SECONDS):
                out, err = await process.communicate(None if typed is None else typed.encode())
        except TimeoutError:
            raise StepFailed(f"`migrator {shlex.join(words)}` did not end") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return Ran(
            code=process.returncode or 0,
            out=out.decode(errors="replace"),
            err=err.decode(errors="replace"),
        )


def confirmed(*words: str) -> tuple[str, ...]:
    """A move's words, with the environment's name typed."""
    return (*words, "--confirm", ENVIRONMENT)
