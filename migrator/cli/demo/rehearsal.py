"""A rehearsal as a whole: servers, the app as it was, the app with the shim, the play."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import psycopg

from migrator.cli.demo import ledger, script
from migrator.cli.demo.binaries import Account, scratch_directory
from migrator.cli.demo.clients import Phone
from migrator.cli.demo.crowd import BLACKLISTED, Crowd, gather, log_everybody_in, using_the_app
from migrator.cli.demo.deployment import WORKERS, Deployment, deploy
from migrator.cli.demo.fleet import FleetNotStarted, fleet, free_port
from migrator.cli.demo.judge import Scores
from migrator.cli.demo.operator import Operator, StepFailed
from migrator.cli.demo.partner import Partner
from migrator.cli.demo.processes import Warden
from migrator.cli.demo.servers import embedded_postgres, embedded_redis
from migrator.cli.demo.site import Site, wires
from migrator.cli.demo.stage import Stage
from migrator.cli.demo.table import Outcome
from migrator.control import flip, moving, rollout
from migrator.settings import Settings

_ACK_SECONDS = 30
_ADOPTED = """
SELECT count(*) FROM migrator.sessions
WHERE origin = 'backfill' AND digest IS NOT NULL AND revoked_at IS NULL"""


def rehearse(*, skip_drain: bool) -> Outcome:
    """Run the whole migration on servers of its own; leave nothing behind, whatever happens.

    Args:
        skip_drain: do it wrong, and see users logged out.

    Raises:
        ServerMissing, ServerNotStarted: Postgres or Redis could not be had.
    """
    scores = Scores()
    with Stage(scores) as stage, grounds(stage) as (deployment, partner):
        performance = _Performance(deployment, partner, stage, skip_drain=skip_drain)
        try:
            asyncio.run(performance.run())
        except* (StepFailed, FleetNotStarted) as failed:
            performance.ended_early = "; ".join(map(str, leaves(failed)))
            stage.step(performance.ended_early)
            stage.output(deployment.app_log_tail())
        return performance.outcome()


class _Performance:
    """One run, and what is left of it when it ends."""

    def __init__(
        self, deployment: Deployment, partner: Partner, stage: Stage, *, skip_drain: bool
    ) -> None:
        self.deployment = deployment
        self.partner = partner
        self.stage = stage
        self.skip_drain = skip_drain
        self.settings = Settings.load(deployment.config, environ=deployment.variables())
        self.operator = Operator(deployment, stage)
        self.play: script.Play | None = None
        self.users = 0
        self.ended_early: str | None = None

    async def run(self) -> None:
        """The app as it was, then with the shim, then the play."""
        port = free_port()
        site = Site(f"http://127.0.0.1:{port}", self.stage.scores)
        crowd = gather(site, self.partner, session_cookie=self.settings.cookie.effective_name)
        self.users = len(crowd)
        try:
            second_device = await self._before(site, crowd, port)
            self.stage.step(f"the same app inside DualAcceptMiddleware, {WORKERS} workers")
            async with (
                fleet(self.deployment, port=port, shim=True),
                wires(site) as each_worker,
                using_the_app(crowd),
            ):
                self.play = script.Play(
                    operator=self.operator,
                    stage=self.stage,
                    site=site,
                    crowd=crowd,
                    wires=each_worker,
                    second_device=second_device,
                )
                await self._perform(self.play)
        finally:
            await site.close()

    async def _perform(self, play: script.Play) -> None:
        if self.skip_drain:
            await play.perform_without_drain(partial(asyncio.to_thread, self._force_cutover))
        else:
            await play.perform()

    async def _before(self, site: Site, crowd: Crowd, port: int) -> str:
        """Log everybody in to the app as it was; return the JWT of a second device."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.operator.run("db", "upgrade"))
            async with fleet(self.deployment, port=port, shim=False):
                self.stage.step(f"{self.users} users log in to the app as it was, and get JWTs")
                await log_everybody_in(crowd)
                for tablet in crowd.tablets[:BLACKLISTED]:
                    said = {"refresh": tablet.refresh.token}
                    await site.ask("POST", "/blacklist", agent=tablet.agent, json=said)
                    tablet.blacklisted = tablet.refresh.revoking = True
                twin = Phone(site, crowd.phones[1].user, crowd.phones[1].chance)
                await twin.start()
        return twin.old_jwt

    def _force_cutover(self) -> None:
        """What the CLI does not offer: the move without its gates, by the function behind it."""
        before, _ = flip.read(self.settings)
        target = rollout.cut_over(before)
        if target is None:
            raise StepFailed("it stands in cutover already")
        order = flip.Order(who="rehearsal", why="--skip-drain", command="demo --skip-drain")
        planned = moving.Plan(before=before, target=target, gates=(), hit=None)
        moving.make(self.settings, planned, order, wait=timedelta(seconds=_ACK_SECONDS))

    def outcome(self) -> Outcome:
        """What it came to; the servers still run."""
        play, scores = self.play, self.stage.scores
        return Outcome(
            scores=scores,
            users=self.users,
            seconds=self.stage.elapsed_s,
            adopted=self._adopted(),
            stragglers=play.stragglers if play else [],
            probed=play.probed if play else [],
            ended_early=self.ended_early or self._unfinished(),
            is_whole=not self.skip_drain,
        )

    def _unfinished(self) -> str | None:
        done = self.play is not None and self.play.complete
        return None if done else "the play did not reach its end"

    def _adopted(self) -> int:
        try:
            with psycopg.connect(ledger.libpq(self.deployment.database_url)) as connection:
                row = connection.execute(_ADOPTED).fetchone()
        except psycopg.Error:  # it never came to tables of ours
            return 0
        return int(row[0]) if row else 0


@contextmanager
def grounds(stage: Stage) -> Iterator[tuple[Deployment, Partner]]:
    """Servers of its own, the partner's, and the app as it is to be deployed on them.

    Raises:
        ServerMissing, ServerNotStarted: Postgres or Redis could not be had.
    """
    stage.step("starting a Postgres and a Redis of our own")
    with ExitStack() as stack:
        directory = stack.enter_context(_scratch())
        postgres = stack.enter_context(embedded_postgres())
        redis = stack.enter_context(embedded_redis())
        partner = Partner()
        stack.enter_context(partner.serve())
        deployment = deploy(
            directory,
            database_url=postgres.create_database("acme"),
            redis_url=redis.url,
            jwks_url=partner.jwks_url,
        )
        ledger.make_tables(deployment.database_url)
        yield deployment, partner


@contextmanager
def _scratch() -> Iterator[Path]:
    """A directory that is gone afterwards, however this process ends."""
    directory = scratch_directory(Account())
    warden = Warden(directory, end_signal=signal.SIGTERM)
    try:
        yield directory
    finally:
        warden.dismiss()


def leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """Every error of a group of groups."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from leaves(error)
        else:
            yield error
