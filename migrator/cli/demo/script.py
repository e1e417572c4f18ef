"""The play: what the operator does, what happens meanwhile, and what must have come of it.

Nothing here sleeps for effect: each step waits for the condition that the next one needs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from migrator.cli.demo.before import LEEWAY_SECONDS, REFRESH_SECONDS
from migrator.cli.demo.clients import Phone
from migrator.cli.demo.crowd import BLACKLISTED, Crowd
from migrator.cli.demo.deployment import AGENT_OF_BOT, ISSUER, WORKERS
from migrator.cli.demo.judge import Grant, Stolen
from migrator.cli.demo.operator import Operator, StepFailed, confirmed
from migrator.cli.demo.partner import TOKEN_SECONDS
from migrator.cli.demo.site import Reply, Site, Wires
from migrator.cli.demo.stage import Stage

_LIMIT_SECONDS = 60.0  # of any wait on a machine that is busy with other things
_POLL_SECONDS = 0.1
_LOOK_SECONDS = 1.5  # of traffic to look at in a phase, before the next move
_STATUS_SECONDS = 1.0
_REFUSED_BY_A_GATE = 3
_HORIZON_SECONDS = max(REFRESH_SECONDS, TOKEN_SECONDS) + LEEWAY_SECONDS


@dataclass(slots=True, kw_only=True)
class Play:
    """One rehearsal under way."""

    operator: Operator
    stage: Stage
    site: Site
    crowd: Crowd
    wires: Wires
    second_device: str
    stolen: list[Stolen] = field(default_factory=list)
    stragglers: list[str] = field(default_factory=list)
    probed: list[str] = field(default_factory=list)
    complete: bool = False

    async def perform(self) -> None:
        """The whole migration.

        Raises:
            StepFailed: something that had to happen did not.
        """
        await self._observe()
        await self._swap()
        await self._thefts()
        await self._tablets()
        await self._drain()
        await self._stragglers_last_minute()
        await self._cutover_and_back()
        await self._retire()
        self.complete = True

    async def perform_without_drain(self, force: Callable[[], Awaitable[None]]) -> None:
        """The same done wrong: `force` cuts over while legacy tokens are in use."""
        await self._observe()
        await self._move("swap 10 %", "advance", "swap", "--percent", "10")
        await self._look()
        await self._move("swap 100 %", "advance", "swap", "--percent", "100")
        await self._move("drain", "advance", "drain")
        self.stage.step("--skip-drain: the move to cutover is forced, no gate is asked")
        await force()
        self.stage.phase = "cutover, forced"
        self.stage.output(await self.operator.status_line())
        self.crowd.come_back.set()
        await self._look(5.0)
        self.complete = True

    # Acts.

    async def _observe(self) -> None:
        self.stage.phase = "observe"
        self.stage.step("observe: the shim watches, the app decides as before")
        await self._all_nodes()
        await self._look()
        self.stage.output(await self.operator.status_line())

    async def _swap(self) -> None:
        await self._move("swap 10 %", "advance", "swap", "--percent", "10")
        await self._until("first users adopt", lambda: self.site.scores.swaps > 0)
        await self.operator.run("backfill", "simplejwt", "--issuer", ISSUER)
        await self._move("swap 100 %", "advance", "swap", "--percent", "100")
        adopters = self.crowd.adopters
        await self._until(
            "everybody who can adopts a session",
            lambda: all(client.has_session for client in adopters),
            lacking=lambda: [client.name for client in adopters if not client.has_session],
        )
        self.stage.step(
            f"{len(self.crowd.adopters)} phones, browsers and partner programs hold sessions"
        )

    async def _thefts(self) -> None:
        victim = self.crowd.phones[0]
        self.stage.step("a phone's JWT was stolen; the thief uses it on both workers")
        jwt = Stolen("stolen JWT", victim.old_jwt)
        session = Stolen("the session it became", victim.grant.token)
        await self._must_admit(jwt, session)
        victim.grant.revoking = True
        async with self._used_by_thieves(jwt, session):
            await self.operator.run("sessions", "revoke", "--stdin", typed=victim.old_jwt + "\n")
            self._acknowledged(jwt, session)
            await self._seen_to_die(jwt, session)

        owner = self.crowd.phones[1]
        self.stage.step("log out everywhere: one device with a session, one JWT never seen before")
        session = Stolen("session of the first device", owner.grant.token)
        unseen = Stolen("JWT never seen before", self.second_device)
        await self._must_admit(session)
        owner.grant.revoking = True
        async with self._used_by_thieves(session):
            token = owner.grant.token
            reply = await self.site.ask(
                "POST", "/logout-everywhere", agent=Phone.agent, token=token
            )
            if reply.status != 200:
                raise StepFailed(f"log out everywhere was answered {reply.status}")
            self._acknowledged(session, unseen)
            async with self._used_by_thieves(unseen):
                await self._seen_to_die(session, unseen)

    async def _tablets(self) -> None:
        tablets = self.crowd.tablets
        self.stage.step(f"{len(tablets)} tablets come back with their refresh tokens")
        self.crowd.come_back.set()
        await self._until(
            "every tablet is answered", lambda: all(each.answered is not None for each in tablets)
        )
        refused = sum(each.answered == 401 for each in tablets if each.blacklisted)
        self.stage.detail(
            f"{self.site.scores.returned} adopted their backfilled sessions, "
            f"{refused} of {BLACKLISTED} blacklisted ones were refused"
        )

    async def _drain(self) -> None:
        await self._move("drain", "advance", "drain")
        stopped_at = time.monotonic()
        await self._probe("drain", 200)
        self.stage.step("waiting for the drain horizon: the last legacy token anybody may hold")
        await self._until_only_the_bot_is_left()
        # Nodes count from when they stopped, which was before the move returned.
        over_at = stopped_at + _HORIZON_SECONDS
        await self._until("unseen tokens are over", lambda: time.monotonic() > over_at)
        ran = await self.operator.run(
            *confirmed("cutover", "--all"), expected={_REFUSED_BY_A_GATE}
        )
        if AGENT_OF_BOT not in ran.said:
            raise StepFailed(f"cutover was refused without naming {AGENT_OF_BOT}")
        self.stragglers.append(AGENT_OF_BOT)

    async def _stragglers_last_minute(self) -> None:
        bot = self.crowd.bot
        self.stage.step(f"{AGENT_OF_BOT} gets an API token, and its old JWT is denied")
        grant = bot.grant
        owner = Phone(self.site, bot.user, bot.chance)
        await owner.start()
        reply = await self.site.ask(
            "POST",
            "/api-tokens",
            agent=owner.agent,
            token=owner.grant.token,
            json={"label": AGENT_OF_BOT},
        )
        bot.grant = Grant(str(reply.body["token"]), float("inf"))
        grant.revoking = True
        await self.operator.run("sessions", "revoke", "--stdin", typed=grant.token + "\n")
        self._acknowledged(Stolen("the bot's old JWT", grant.token))

    async def _cutover_and_back(self) -> None:
        await self._move("cutover", "cutover", "--all", "--wait-gates", "90")
        await self._probe("cutover", 401, reason="legacy_retired")
        await self._look()
        await self._move("drain again", "rollback", confirm=False)
        await self._probe("after rollback", 200)
        await self._dead_stay_dead()
        await self._move("cutover", "cutover", "--all", "--wait-gates", "90")
        await self._probe("cutover again", 401, reason="legacy_retired")

    async def _retire(self) -> None:
        await self._move("retired", "retire", "--wait-gates", "90")
        await self._probe("retired", 401, reason="legacy_retired")
        await self._dead_stay_dead()
        await self._look()

    # What acts are made of.

    async def _move(self, phase: str, *words: str, confirm: bool = True) -> None:
        self.stage.phase = f"→ {phase}"
        await self.operator.move(*(confirmed(*words) if confirm else words))
        self.stage.phase = phase

    async def _look(self, seconds: float = _LOOK_SECONDS) -> None:
        before, began = self.site.scores.requests, time.monotonic()
        await self._until(
            "traffic flows",
            lambda: self.site.scores.requests > before + 50 and time.monotonic() - began > seconds,
        )

    async def _all_nodes(self) -> None:
        async def have_beaten() -> bool:
            nodes = (await self.operator.status())["nodes"]
            return bool(nodes["live"] == WORKERS)

        await self._until_async("both workers report as nodes", have_beaten)

    async def _until_only_the_bot_is_left(self) -> None:
        said = ""

        async def only_the_bot() -> bool:
            nonlocal said
            status = await self.operator.status()
            names = {each["client"] for each in status["if_cut_over"]["clients"]}
            failing = set(status["ready"]["failing"])
            told = f"left: {', '.join(sorted(map(str, names))) or 'nobody'}"
            if told != said:
                said = told
                self.stage.detail(told)
            return names == {AGENT_OF_BOT} and "issuance-stopped" not in failing

        await self._until_async("only the bot is left", only_the_bot)

    async def _probe(self, where: str, status: int, *, reason: str | None = None) -> None:
        """An old JWT, out of a drawer, put to every worker."""
        replies = await self.wires.ask(self.crowd.phones[2].old_jwt, agent=Phone.agent)
        got = sorted({_verdict(reply) for reply in replies})
        expected = "admitted" if status == 200 else f"401 {reason}"
        if got != [expected]:
            raise StepFailed(f"{where}: an old JWT was answered {got}, not {expected}")
        self.probed.append(expected)
        self.stage.step(f"probe with an old JWT, on {len(replies)} workers: {expected}")

    async def _must_admit(self, *stolen: Stolen) -> None:
        for each in stolen:
            replies = await self.wires.ask(each.token, agent=Phone.agent)
            if {reply.status for reply in replies} != {200}:
                raise StepFailed(f"{each.name} was not admitted before its revocation")

    def _acknowledged(self, *stolen: Stolen) -> None:
        for each in stolen:
            each.acknowledged_at = time.time()
            self.stolen.append(each)

    @asynccontextmanager
    async def _used_by_thieves(self, *stolen: Stolen) -> AsyncIterator[None]:
        caught = asyncio.Event()

        async def use(each: Stolen) -> None:
            # Never cancelled in the middle of a request: the pool would lose the connection.
            while not caught.is_set():
                await self._try(each)
                await asyncio.sleep(_POLL_SECONDS)

        async with asyncio.TaskGroup() as group:
            for each in stolen:
                group.create_task(use(each))
            try:
                yield
            finally:
                caught.set()

    async def _try(self, each: Stolen) -> None:
        for reply in await self.wires.ask(each.token, agent=Phone.agent):
            admitted_late = each.answered(
                status=reply.status,
                worker=reply.worker,
                sent_at=reply.sent_at,
                got_at=reply.got_at,
            )
            if admitted_late:
                self.site.scores.past_bound += 1
                self.site.scores.note(f"{each.name}: admitted after the bound")

    async def _seen_to_die(self, *stolen: Stolen) -> None:
        await self._until(
            "every worker refuses",
            lambda: all(len(each.died_in) >= WORKERS for each in stolen),
        )
        for each in stolen:
            slowest = max(each.died_in.values())
            self.stage.detail(
                f"{each.name}: refused by {len(each.died_in)} workers, "
                f"the last {slowest * 1000:.0f} ms after the command returned"
            )
        # What is dead within the bound must still be dead past it.
        await asyncio.sleep(1.2)

    async def _dead_stay_dead(self) -> None:
        for each in self.stolen:
            await self._try(each)
        self.stage.detail(f"{len(self.stolen)} revoked credentials tried again on both workers")

    async def _until(
        self,
        what: str,
        holds: Callable[[], bool],
        *,
        lacking: Callable[[], Collection[str]] = tuple,
    ) -> None:
        async def ask() -> bool:
            return holds()

        try:
            await self._until_async(what, ask, pause_s=_POLL_SECONDS)
        except StepFailed:
            for name in lacking():
                self.site.scores.note(f"{name}: waited for in vain")
            raise

    async def _until_async(
        self, what: str, holds: Callable[[], Awaitable[bool]], *, pause_s: float = _STATUS_SECONDS
    ) -> None:
        deadline = time.monotonic() + _LIMIT_SECONDS
        while not await holds():
            if time.monotonic() > deadline:
                raise StepFailed(f"waited {_LIMIT_SECONDS:.0f} s in vain until {what}")
            await asyncio.sleep(pause_s)


def _verdict(reply: Reply) -> str:
    return "admitted" if reply.status == 200 else f"{reply.status} {reply.body.get('reason')}"
