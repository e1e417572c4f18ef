"""The simulated users: each kind is a client as found in the wild, with its habits and its bugs.

A client knows what it was answered and when that ends, and nothing of phases. What it meets is
judged in `judge.py`, at the moment it meets it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from typing import Any, ClassVar

from migrator.cli.demo.before import Device, end_of
from migrator.cli.demo.deployment import AGENT_OF_BOT
from migrator.cli.demo.judge import Grant, Loss, Scores
from migrator.cli.demo.partner import Partner
from migrator.cli.demo.site import Reply, Site

_TOKEN_HEADER = "session-token"  # noqa: S105 - the name of a header
_FOREVER = float("inf")


class Client:
    """A user with one program. `think_s` is the mean time between two requests."""

    agent: ClassVar[str]
    think_s: ClassVar[float] = 1.6

    def __init__(self, site: Site, user: str, chance: random.Random) -> None:
        self.site = site
        self.user = user
        self.chance = chance
        self.grant = Grant("", 0)

    @property
    def scores(self) -> Scores:
        """Where what was seen is kept."""
        return self.site.scores

    @property
    def name(self) -> str:
        """Who this is, for evidence."""
        return f"{self.agent} of user {self.user}"

    async def start(self) -> None:
        """Log in, before anything is migrated."""

    async def live(self) -> None:
        """Use the app until cancelled."""
        await asyncio.sleep(self.chance.uniform(0, self.think_s))
        while True:
            await self.act()
            await asyncio.sleep(self.chance.uniform(0.5, 1.5) * self.think_s)

    async def act(self) -> None:
        """Do one thing a user does."""
        raise NotImplementedError

    @property
    def has_session(self) -> bool:
        """Whether what it holds now is an opaque token."""
        return self.grant.is_session

    def check(self, reply: Reply) -> None:
        """Whether the app took us for somebody else."""
        if reply.status == 200 and reply.body.get("user") != self.user:
            self.scores.wrong_user += 1
            self.scores.note(f"{self.name}: answered as {reply.body.get('user')!r}")

    def judge(self, grant: Grant, reply: Reply, where: str) -> Loss:
        """Why we were sent away."""
        return self.scores.judge(grant, got_at=reply.got_at, client=self.name, where=where)

    async def log_in(self, device: Device, *, token: str | None = None) -> Mapping[str, Any]:
        """Type the password; `token`: a credential that is sent along, as old clients do."""
        said = {"user": self.user, "password": f"password of {self.user}", "device": device}
        reply = await self.site.ask("POST", "/login", agent=self.agent, token=token, json=said)
        if reply.status != 200:
            self.scores.losses[Loss.UNINTENDED] += 1
            self.scores.note(f"{self.name}: the right password was answered {reply.status}")
        return reply.body


class Phone(Client):
    """A header client with a long JWT: reads `Session-Token`, stores it where the JWT was."""

    agent = "acme-ios/7.2"

    def __init__(self, site: Site, user: str, chance: random.Random) -> None:
        super().__init__(site, user, chance)
        self.old_jwt = ""
        self.is_here = asyncio.Event()
        # Some answers never arrive (a tunnel, a lift): what was handed out is asked for again.
        self._answers_to_lose = chance.choice((0, 0, 0, 0, 1, 3))

    async def start(self) -> None:
        """Log in and keep the JWT."""
        self._keep(await self.log_in("phone"))
        self.old_jwt = self.grant.token
        self.is_here.set()

    async def act(self) -> None:
        """Fetch something; log in again only if sent away."""
        await self.is_here.wait()
        grant = self.grant
        reply = await self.site.ask("GET", "/me", agent=self.agent, token=grant.token)
        self.check(reply)
        if reply.status == 401:
            self.judge(grant, reply, "/me")
            self._keep(await self.log_in("phone"))
        elif handed := reply.headers.get(_TOKEN_HEADER):
            if self._answers_to_lose:
                self._answers_to_lose -= 1
                return
            # A swap ends no later than its JWT; until then we may count on it.
            self.grant = Grant(handed, grant.ends_at, revoking=grant.revoking)
            self.scores.swaps += 1

    def _keep(self, answer: Mapping[str, Any]) -> None:
        self.grant = grant_of(answer)


class OldApp(Client):
    """A client nobody can update: it only stores what login and refresh answer."""

    agent = "acme-android/2.9"

    def __init__(self, site: Site, user: str, chance: random.Random) -> None:
        super().__init__(site, user, chance)
        self.refresh = Grant("", 0)
        # Many HTTP layers attach whatever they hold to every call, login and refresh included.
        self.attaches = chance.random() < 0.4
        self._naps = chance.random() < 0.15

    async def start(self) -> None:
        """Log in for the first time."""
        await self._log_in_again(None)

    async def act(self) -> None:
        """Fetch something; on a 401 refresh, and only if that fails show the login screen."""
        access = self.grant
        reply = await self.site.ask("GET", "/me", agent=self.agent, token=access.token)
        self.check(reply)
        if reply.status == 401:
            await self._renew(access, reply)
        if self._naps and self.chance.random() < 0.1:
            await asyncio.sleep(self.chance.uniform(9, 13))

    async def _renew(self, access: Grant, reply: Reply) -> None:
        ended_early = reply.got_at < access.ends_at or access.revoking
        if ended_early or access.is_session:
            self.judge(access, reply, "/me")
        attached = access.token if self.attaches else None
        refresh = self.refresh
        reply = await self.site.ask(
            "POST",
            "/refresh",
            agent=self.agent,
            token=attached,
            json={"refresh": refresh.token},
        )
        if reply.status == 401:
            if not refresh.is_session:  # else judged above, being one and the same
                self.judge(refresh, reply, "/refresh")
            await self._log_in_again(attached)
        elif reply.status == 200:
            self.scores.renewals += 1
            self._store(reply.body)
            if self.grant.is_session and not refresh.is_session:
                self.scores.exchanges += 1

    async def _log_in_again(self, attached: str | None) -> None:
        self._store(await self.log_in("script", token=attached))

    def _store(self, answer: Mapping[str, Any]) -> None:
        if "access" not in answer:
            return
        self.grant = grant_of(answer)
        if self.grant.is_session:
            self.refresh = self.grant
        elif "refresh" in answer:
            self.refresh = Grant(answer["refresh"], end_of(answer["refresh"]))


class Tablet(OldApp):
    """A device from a drawer: it comes back once, with an access token long over."""

    agent = "acme-tablet/3.1"
    think_s = 2.0

    def __init__(
        self, site: Site, user: str, chance: random.Random, *, come_back: asyncio.Event
    ) -> None:
        super().__init__(site, user, chance)
        self.come_back = come_back
        self.blacklisted = False
        self.answered: int | None = None

    async def start(self) -> None:
        """Log in, and lie in the drawer."""
        answer = await self.log_in("tablet")
        self.grant = grant_of(answer)
        self.refresh = Grant(answer["refresh"], end_of(answer["refresh"]))

    async def live(self) -> None:
        """Come back when the others do."""
        await self.come_back.wait()
        await asyncio.sleep(self.chance.uniform(0, 1.5))
        refresh = self.refresh
        attached = self.grant.token if self.attaches else None
        said = {"refresh": refresh.token}
        reply = await self.site.ask(
            "POST", "/refresh", agent=self.agent, token=attached, json=said
        )
        self.answered = reply.status
        if reply.status != 200:
            self.judge(refresh, reply, "/refresh")
            return
        if self.blacklisted:
            self.scores.past_bound += 1
            self.scores.note(f"{self.name}: a blacklisted refresh token was taken")
        self._store(reply.body)
        if self.grant.is_session:
            self.scores.exchanges += 1
            self.scores.returned += 1
        await super().live()


class Browser(Client):
    """A browser: cookies, navigations, and a login screen where programs get a 401."""

    agent = "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0"
    _HEADERS: ClassVar[Mapping[str, str]] = {
        "Accept": "text/html",
        "Sec-Fetch-Site": "same-origin",
        "Sec-Fetch-Mode": "navigate",
    }

    def __init__(
        self, site: Site, user: str, chance: random.Random, *, session_cookie: str, jwt_cookie: str
    ) -> None:
        super().__init__(site, user, chance)
        self._jar = site.browser()
        self._session_cookie = session_cookie
        self._jwt_cookie = jwt_cookie

    async def start(self) -> None:
        """Log in; the cookie is the jar's."""
        said = {"user": self.user, "password": f"password of {self.user}", "device": "browser"}
        await self._ask("POST", "/login", said)
        jwt = self._jar.cookies.get(self._jwt_cookie)
        token = self._jar.cookies.get(self._session_cookie) or jwt or ""
        self.grant = Grant(token, end_of(jwt) if jwt == token and jwt else _FOREVER)

    async def act(self) -> None:
        """Open a page; log in again only if shown the login screen. Few ever log out."""
        grant = self.grant
        reply = await self._ask("GET", "/page")
        self.check(reply)
        if reply.is_login_screen:
            self.judge(grant, reply, "/page")
            await self.start()
            return
        session = self._jar.cookies.get(self._session_cookie)
        if session and session != grant.token:
            self.grant = Grant(session, grant.ends_at, revoking=grant.revoking)
            self.scores.swaps += 1
        elif session and self.chance.random() < 0.01:
            await self._ask("POST", "/logout")
            await self.start()

    async def _ask(
        self, method: str, path: str, said: Mapping[str, object] | None = None
    ) -> Reply:
        return await self.site.ask(
            method, path, agent=self.agent, json=said, headers=self._HEADERS, client=self._jar
        )


class PartnerProgram(Client):
    """A partner's program: signs a short JWT with its own key and trades it at our login."""

    agent = "partner-sync/4.0"

    def __init__(self, site: Site, user: str, chance: random.Random, *, partner: Partner) -> None:
        super().__init__(site, user, chance)
        self.partner = partner

    async def act(self) -> None:
        """Fetch something, with a fresh credential where the last one is nearly over."""
        if self.grant.ends_at - time.time() < 2:
            await self.start_anew()
        grant = self.grant
        reply = await self.site.ask("GET", "/me", agent=self.agent, token=grant.token)
        self.check(reply)
        if reply.status == 401:
            self.judge(grant, reply, "/me")
            self.grant = Grant("", 0)

    async def start_anew(self) -> None:
        """Sign a JWT and ask what to use from now on."""
        signed = self.partner.sign(self.user)
        reply = await self.site.ask("POST", "/partner/session", agent=self.agent, token=signed)
        if reply.status == 401:
            self.judge(Grant(signed, end_of(signed)), reply, "/partner/session")
        elif reply.status == 200:
            self.grant = grant_of(reply.body)


class PartnerRelic(Phone):
    """Another of the partner's programs: it was given a JWT for thirty days, yesterday."""

    agent = "partner-export/1.3"

    def __init__(self, site: Site, user: str, chance: random.Random, *, partner: Partner) -> None:
        super().__init__(site, user, chance)
        self.partner = partner

    async def start(self) -> None:
        """Find the JWT in a file."""
        jwt = self.partner.sign_long(self.user)
        self.grant = Grant(jwt, end_of(jwt))
        self.old_jwt = jwt
        self.is_here.set()


class Bot(Client):
    """A program with a JWT for thirty days that reads no header and knows no refresh."""

    agent = AGENT_OF_BOT
    think_s = 0.6

    async def start(self) -> None:
        """Get the JWT from the user it works for."""
        self.grant = grant_of(await self.log_in("phone"))

    async def act(self) -> None:
        """Fetch the report."""
        grant = self.grant
        reply = await self.site.ask("GET", "/me", agent=self.agent, token=grant.token)
        self.check(reply)
        if reply.status == 401:
            self.judge(grant, reply, "/me")


def grant_of(answer: Mapping[str, Any]) -> Grant:
    """What a login or refresh answered, with its end as the answer says it."""
    token = str(answer.get("access", ""))
    if not token:
        return Grant("", 0)
    if "expires_at" in answer:
        return Grant(token, float(answer["expires_at"]))
    return Grant(token, end_of(token))
