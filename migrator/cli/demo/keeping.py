"""The demo's app kept running under its users, for somebody to migrate it from another terminal.

What an operator finds on the first day is here: the app as it was, its settings as `init` wrote
them, a JWT of a test account, the bot's. Deploying is the one thing done for him: as soon as
`db upgrade` has made the tables, the app is started again, with the shim.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

import psycopg

from migrator.cli.demo import ledger
from migrator.cli.demo.clients import Bot, Phone, grant_of
from migrator.cli.demo.crowd import Crowd, gather, log_everybody_in, using_the_app
from migrator.cli.demo.deployment import WORKERS, Deployment
from migrator.cli.demo.fleet import FleetNotStarted, fleet, free_port
from migrator.cli.demo.judge import Grant, Loss, Scores
from migrator.cli.demo.partner import Partner
from migrator.cli.demo.rehearsal import grounds, leaves
from migrator.cli.demo.site import Site
from migrator.cli.demo.stage import Stage
from migrator.settings import Settings

ONE_IN: Final = 12  # of the rehearsal's users: somebody works beside them on the same machine
_ENVIRONMENT: Final = "operator.sh"
_POLL_SECONDS: Final = 0.5
_TABLES_ARE_THERE: Final = "SELECT to_regclass('migrator.rollout') IS NOT NULL"


class KeptBot(Bot):
    """A bot whose owner is told when its JWT was revoked, and makes it an API token."""

    async def act(self) -> None:
        """Fetch the report."""
        grant = self.grant
        reply = await self.site.ask("GET", "/me", agent=self.agent, token=grant.token)
        self.check(reply)
        if reply.status == 401:
            grant.revoking = reply.body.get("reason") == "revoked"
            self.judge(grant, reply, "/me")
            await self._ask_owner()

    async def _ask_owner(self) -> None:
        owner = Phone(self.site, self.user, self.chance)
        await owner.start()
        reply = await self.site.ask(
            "POST",
            "/api-tokens",
            agent=owner.agent,
            token=owner.grant.token,
            json={"label": self.agent},
        )
        if "token" in reply.body:
            self.grant = Grant(str(reply.body["token"]), float("inf"))


def keep(ready: Callable[[Path], None]) -> Scores:
    """Run until interrupted; leave nothing behind.

    Args:
        ready: told the file whose variables make another terminal the operator's.

    Raises:
        ServerMissing, ServerNotStarted: Postgres or Redis could not be had.
        FleetNotStarted: the app did not come up.
    """
    scores = Scores()
    with Stage(scores) as stage, grounds(stage) as (deployment, partner):
        try:
            asyncio.run(_run(deployment, partner, stage, ready))
        except KeyboardInterrupt:
            stage.step(
                f"{scores.requests} requests, {scores.swaps} swaps, {scores.exchanges} exchanges, "
                f"{scores.losses[Loss.UNINTENDED]} users logged out unintentionally"
            )
            for sentence in scores.evidence:
                stage.detail(sentence)
        except BaseExceptionGroup as failed:
            raise FleetNotStarted("; ".join(map(str, leaves(failed)))) from failed
    return scores


async def _run(
    deployment: Deployment, partner: Partner, stage: Stage, ready: Callable[[Path], None]
) -> None:
    port = free_port()
    site = Site(f"http://127.0.0.1:{port}", stage.scores)
    settings = Settings.load(deployment.config, environ=deployment.variables())
    crowd = gather(site, partner, session_cookie=settings.cookie.effective_name, one_in=ONE_IN)
    crowd = replace(crowd, bot=KeptBot(site, crowd.bot.user, crowd.bot.chance))
    crowd.come_back.set()
    try:
        async with AsyncExitStack() as before:
            await before.enter_async_context(fleet(deployment, port=port, shim=False))
            stage.step(f"{len(crowd)} users log in to the app as it was, and get JWTs")
            await log_everybody_in(crowd)
            ready(await _hand_over(deployment, site, crowd))
            # The app as it was knew nothing of the partner's programs.
            async with using_the_app(replace(crowd, programs=[])):
                await _until_there_are_tables(deployment.database_url)
                stage.phase = "with the shim"
                stage.step(f"there are tables: the app, deployed with the shim, {WORKERS} workers")
                await before.aclose()
                async with (
                    fleet(deployment, port=port, shim=True),
                    using_the_app(crowd.programs),
                ):
                    stage.step("it answers; on to you")
                    await asyncio.Event().wait()
    finally:
        await site.close()


async def _until_there_are_tables(url: str) -> None:
    async with await psycopg.AsyncConnection.connect(ledger.libpq(url), autocommit=True) as asking:
        while True:
            found = await (await asking.execute(_TABLES_ARE_THERE)).fetchone()
            if found is not None and found[0]:
                return
            await asyncio.sleep(_POLL_SECONDS)


async def _hand_over(deployment: Deployment, site: Site, crowd: Crowd) -> Path:
    """Write what an operator has; returns the file to read into a shell."""
    said = {"user": "probe", "password": "password of probe", "device": "phone"}
    probe = grant_of((await site.ask("POST", "/login", agent="probe/1.0", json=said)).body)
    folder = deployment.directory
    _write(folder / "probe.jwt", probe.token)
    _write(folder / "jwt.header", f"Authorization: Bearer {probe.token}\n")
    _write(folder / "bot.jwt", crowd.bot.grant.token)
    variables = {
        name: text
        for name, text in deployment.own_variables().items()
        if name not in {"MIGRATOR_OPERATOR", "PYTHONUNBUFFERED"}
    }
    lines = [
        f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"',
        *(f"export {name}={shlex.quote(text)}" for name, text in variables.items()),
        f"export APP={shlex.quote(site.url)}",
        f"cd {shlex.quote(str(folder))}",
    ]
    written = folder / _ENVIRONMENT
    _write(written, "\n".join(lines) + "\n")
    return written


def _write(path: Path, text: str) -> None:
    """A file that only its owner reads."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
