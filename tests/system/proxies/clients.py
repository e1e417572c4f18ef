"""A client that nobody can update, as front ends and mobile apps are: it was written for JWTs.

It stores what login answered, sends it back, refreshes when it is told 401, and decodes nothing.
It has never heard of a session token's header. What it counts is how often it had to show its user
a login screen.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import jwt

from tests.http.servers import Answer, Line
from tests.system.proxies.standing import ACCESS_SECRET, REFRESH_SECRET, Site

_PATIENCE_S: Final = 20.0
# What header clients and browsers call the two, and what the app signs each with.
_SIGNED: Final = {
    "accessToken": ACCESS_SECRET,
    "access_token": ACCESS_SECRET,
    "refreshToken": REFRESH_SECRET,
    "refresh_token": REFRESH_SECRET,
}


@dataclass(slots=True)
class Client:
    """One installation of it. `kept` is what a header client stores, `jar` a browser's cookies."""

    site: Site
    transport: str
    kept: dict[str, str] = field(default_factory=dict)
    jar: dict[str, tuple[str, str]] = field(default_factory=dict)  # name -> value, path
    login_screens: int = 0

    def log_in(self, name: str = "ann", *, past: bool = False) -> Answer:
        """Log in, `past` the proxy where there is none yet."""
        account = {"email": f"{name}@notes.example", "password": f"{name}-s-password"}
        answer = self._ask("POST", "/api/auth/login", account, past=past)
        assert answer.status == 200, answer
        self._keep(answer)
        return answer

    def me(self) -> Answer:
        """Ask who one is; on 401 refresh and ask again, as everywhere in such a client."""
        answer = self._ask("GET", "/api/me")
        if answer.status == 401:
            if self.refresh().status in {200, 204}:
                answer = self._ask("GET", "/api/me")
            if answer.status == 401:
                self.login_screens += 1
        return answer

    def refresh(self, *, lost: bool = False) -> Answer:
        """Refresh; a `lost` answer never arrives."""
        answer = self._ask("POST", "/api/auth/refresh", self._refresh_body())
        if not lost and answer.status in {200, 204}:
            self._keep(answer)
        return answer

    def log_out(self) -> Answer:
        """Log out; what was stored is still there, as a thief would have it."""
        return self._ask("POST", "/api/auth/logout", self._refresh_body())

    def outlive_access_token(self) -> None:
        """Return when the app itself would not take the access token any more."""
        deadline = time.monotonic() + _PATIENCE_S
        while self._ask("GET", "/api/me", past=True).status != 401:
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def outlive_login(self) -> None:
        """Let every JWT that it holds be over, as after a month."""
        for name, secret in _SIGNED.items():
            if name in self.kept:
                self.kept[name] = _aged(self.kept[name], secret)
            if name in self.jar:
                value, where = self.jar[name]
                self.jar[name] = (_aged(value, secret), where)

    @property
    def access(self) -> str:
        """What it sends as its access token: whatever it is."""
        return self._held("accessToken", "access_token")

    @property
    def refreshing(self) -> str:
        """What it sends as its refresh token: whatever it is."""
        return self._held("refreshToken", "refresh_token")

    def _held(self, kept: str, cookie: str) -> str:
        return self.kept[kept] if self.transport == "header" else self.jar.get(cookie, ("", ""))[0]

    def _refresh_body(self) -> Mapping[str, str]:
        return {"refreshToken": self.kept["refreshToken"]} if self.kept else {}

    def _ask(
        self,
        method: str,
        path: str,
        content: Mapping[str, str] | None = None,
        *,
        past: bool = False,
    ) -> Answer:
        lines = self._lines(path)
        if content is not None:
            return self.site.post(path, content, *lines, past=past)
        answer = self.site.send(method, path, *lines, past=past)
        if not past:
            self._store(answer)
        return answer

    def _lines(self, path: str) -> list[Line]:
        lines = []
        if "accessToken" in self.kept:
            lines.append(("Authorization", f"Bearer {self.kept['accessToken']}"))
        sent = [
            f"{name}={value}"
            for name, (value, where) in self.jar.items()
            if path.startswith(where)
        ]
        return [*lines, ("Cookie", "; ".join(sent))] if sent else lines

    def _keep(self, answer: Answer) -> None:
        self._store(answer)
        if self.transport == "header":
            said = answer.json
            self.kept |= {name: said[name] for name in said if name.endswith("Token")}

    def _store(self, answer: Answer) -> None:
        """What a browser does with Set-Cookie, whoever wrote the page."""
        for line in answer.all("set-cookie"):
            pair, *attributes = [part.strip() for part in line.split(";")]
            name, _, value = pair.partition("=")
            named = {
                key.lower(): said
                for key, _, said in (attribute.partition("=") for attribute in attributes)
            }
            over = named.get("max-age") == "0" or "1970" in named.get("expires", "")
            if over:
                self.jar.pop(name, None)
            else:
                self.jar[name] = (value, named.get("path", "/"))


def _aged(held: str, secret: str) -> str:
    """A JWT as it will be once it is over; anything else is left as it is."""
    if not held.startswith("eyJ"):
        return held
    claims = jwt.decode(held, options={"verify_signature": False})
    lasts = claims["exp"] - claims["iat"]
    claims["exp"] = int(time.time()) - 60
    claims["iat"] = claims["exp"] - lasts
    return jwt.encode(claims, secret, algorithm="HS256")
