"""Who takes part: how many of each kind, and the few whom the script has plans for."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count

from migrator.cli.demo.app import LEGACY_COOKIE
from migrator.cli.demo.clients import (
    Bot,
    Browser,
    Client,
    OldApp,
    PartnerProgram,
    PartnerRelic,
    Phone,
    Tablet,
)
from migrator.cli.demo.partner import Partner
from migrator.cli.demo.site import Site

PHONES = 130
OLD_APPS = 90
BROWSERS = 60
TABLETS = 30
BLACKLISTED = 6
PARTNER_PROGRAMS = 4
PARTNER_RELICS = 2
_LOGINS_AT_ONCE = 24
# The play is the same each time; what the machine makes of it is not.
_SEED = 20_261_123


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """Everybody. Tablets come back when `come_back` is set."""

    phones: list[Phone]
    old_apps: list[OldApp]
    browsers: list[Browser]
    tablets: list[Tablet]
    programs: list[Client]
    bot: Bot
    come_back: asyncio.Event

    def __iter__(self) -> Iterator[Client]:
        """Each of them once."""
        yield from (*self.phones, *self.old_apps, *self.browsers, *self.tablets)
        yield from (*self.programs, self.bot)

    def __len__(self) -> int:
        """How many there are."""
        return sum(1 for _ in self)

    @property
    def adopters(self) -> list[Client]:
        """Those who will hold a session once everybody is offered one."""
        return [*self.phones, *self.browsers, *self.programs]


def gather(site: Site, partner: Partner, *, session_cookie: str, one_in: int = 1) -> Crowd:
    """The crowd, not yet logged in; of phones, browsers and such one in `one_in`."""
    chance = random.Random(_SEED)  # noqa: S311 - think times, not keys
    users = map(str, count(1001))
    come_back = asyncio.Event()
    return Crowd(
        phones=[Phone(site, next(users), chance) for _ in range(PHONES // one_in)],
        old_apps=[OldApp(site, next(users), chance) for _ in range(OLD_APPS // one_in)],
        browsers=[
            Browser(
                site,
                next(users),
                chance,
                session_cookie=session_cookie,
                jwt_cookie=LEGACY_COOKIE,
            )
            for _ in range(BROWSERS // one_in)
        ],
        tablets=[
            Tablet(site, next(users), chance, come_back=come_back)
            for _ in range(TABLETS // one_in)
        ],
        programs=[
            *(
                PartnerProgram(site, f"sync-{number}", chance, partner=partner)
                for number in range(PARTNER_PROGRAMS)
            ),
            *(
                PartnerRelic(site, f"export-{number}", chance, partner=partner)
                for number in range(PARTNER_RELICS)
            ),
        ],
        bot=Bot(site, next(users), chance),
        come_back=come_back,
    )


async def log_everybody_in(crowd: Crowd) -> None:
    """Have each of them log in, as on any day before."""
    turns = asyncio.Semaphore(_LOGINS_AT_ONCE)

    async def start(client: Client) -> None:
        async with turns:
            await client.start()

    async with asyncio.TaskGroup() as group:
        for client in crowd:
            group.create_task(start(client))


@asynccontextmanager
async def using_the_app(clients: Iterable[Client]) -> AsyncIterator[None]:
    """All of them use the app for the length of the block; an error in one of them ends it."""
    async with asyncio.TaskGroup() as group:
        lives = [group.create_task(client.live()) for client in clients]
        try:
            yield
        finally:
            for life in lives:
                life.cancel()
