"""The rollout that the documentation's commands are typed into: real servers, two live nodes.

What an operator has around the commands is here: variables, a test account's JWT, the app with the
README's own snippets in it (one node each), and what happens between two commands in real life:
a deployment, traffic, days of waiting. Days are seconds here, by the settings that say so.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import jwt
import psycopg

from migrator.stores.drivers import conninfo
from tests import docs_legacy
from tests.docs_blocks import blocks

ROOT = Path(__file__).parent.parent
NODES = 2
_LEAKED_KID = "2023-07"
# The files an operator has: a JWT of whom, under which key.
_HELD = (
    ("probe", "probe", docs_legacy.KID),
    ("stolen", "carol", docs_legacy.KID),
    ("bot", "bot-7", docs_legacy.KID),
    ("leaked", "probe", _LEAKED_KID),
)
_LONG_SECONDS = 3600
# Of the old refresh tokens: the backfill of 01 is walked meanwhile, and a cutover waits for it.
_LEDGER_SECONDS = 30
_PATIENCE_S = 90.0
# What was seen is written every second, and dated then.
_UNWRITTEN_S = 1.5
# What is days in production. Everything else is as `init` wrote it.
_SHORT = {
    "MIGRATOR_GATES__LEGACY_QUIET": "2s",
    "MIGRATOR_GATES__FOREIGN_QUIET": "2s",
    "MIGRATOR_GATES__RETIRE_QUIET": "2s",
}
# What the README tells the operator to set, and lifetimes that are over soon. Each line begins so,
# once; comments after it stay.
_EDITS = {
    "# expected_nodes = 24": f"expected_nodes = {NODES}",
    '# leeway = "30s"': 'leeway = "1s"',
    'lifetime = "1h"': f'lifetime = "{docs_legacy.ACCESS_SECONDS}s"',
    '# refresh_lifetime = "30d"': f'refresh_lifetime = "{docs_legacy.REFRESH_SECONDS}s"',
    '# refresh = { token_type = "refresh" }': 'refresh = { token_type = "refresh" }',
    '# login = ["/auth/login"]': 'login = ["/auth/login"]',
    '# refresh = ["/auth/refresh"]': 'refresh = ["/auth/refresh"]',
}
_COUNTED = "SELECT sum(count) FROM migrator.legacy_usage WHERE outcome LIKE 'legacy%'"
_ISOLATED = ("MIGRATOR_", "DEMO_")


_LEDGER = """
CREATE TABLE token_blacklist_outstandingtoken (
  id bigint PRIMARY KEY, token text NOT NULL, created_at timestamptz,
  expires_at timestamptz NOT NULL, user_id integer, jti varchar(255) NOT NULL UNIQUE);
CREATE TABLE token_blacklist_blacklistedtoken (
  id bigint PRIMARY KEY, blacklisted_at timestamptz NOT NULL,
  token_id bigint NOT NULL UNIQUE REFERENCES token_blacklist_outstandingtoken (id))
"""


class Differs(AssertionError):
    """A command did not do what its page shows."""


class Rollout:
    """One directory, one database, one Redis, and the app's processes."""

    def __init__(self, directory: Path, *, database_url: str, redis_url: str) -> None:
        self.directory = directory
        self.url = database_url
        self.secret = secrets.token_hex(32)
        self.nodes: dict[str, subprocess.Popen[bytes]] = {}
        self.ports = {"asgi_app": _free_port(), "wsgi_app": _free_port()}
        self.variables = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(_ISOLATED) and not name.lower().endswith("_proxy")
        } | {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "MIGRATOR_DATABASE_URL": database_url,
            "MIGRATOR_REDIS_URL": redis_url,
            "MIGRATOR_OPERATOR": "dana",
            "JWT_SECRET": self.secret,
            "APP": f"http://127.0.0.1:{self.ports['asgi_app']}",
            "PYTHONUNBUFFERED": "1",
            **_SHORT,
        }
        for name, user, kid in _HELD:
            token = self.sign(user, kid=kid)
            (directory / f"{name}.jwt").write_text(token)
            (directory / f"{name}.header").write_text(f"Authorization: Bearer {token}")
        shutil.copy(Path(docs_legacy.__file__), directory / "yourapp.py")
        if shutil.which("curl") is None:
            self._lend_curl()

    # ---- commands -----------------------------------------------------------------------------

    def run(self, command: str) -> tuple[int, str]:
        """What a command line printed, on both streams, and its exit code."""
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=self.directory,
            env=self.variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_PATIENCE_S,
            check=False,
        )
        return done.returncode, done.stdout.decode()

    def sign(
        self,
        user: str,
        *,
        lasts_s: float = _LONG_SECONDS,
        kid: str = docs_legacy.KID,
        kind: str = "access",
    ) -> str:
        """A JWT as the app issued it before there was a shim."""
        now = int(time.time())
        claims = {"sub": user, "token_type": kind, "iat": now, "exp": now + int(lasts_s)}
        return jwt.encode(
            {**claims, "jti": secrets.token_hex(8)},
            self.secret,
            algorithm="HS256",
            headers={"kid": kid},
        )

    # ---- what happens between commands ----------------------------------------------------------

    def happen(self, name: str) -> None:
        """Let what a page marks happen."""
        happenings: Mapping[str, Callable[[], None]] = {
            "settings": self.write_settings,
            "deploy": self.deploy,
            "ledger": self.ledger,
            "theft": self.theft,
            "straggler": self.straggler,
            "forward": self.go_forward,
            "brownout-over": self.outlast_brownouts,
            "clean-up": self.clean_up,
            "wait-for-cutover": lambda: self.wait_for("cutover"),
            "wait-for-retire": lambda: self.wait_for("retire"),
        }
        happenings[name]()

    def write_settings(self) -> None:
        """The operator's edits, as the README lists them; lifetimes that are over soon."""
        config = self.directory / "migrator.toml"
        text = config.read_text()
        for written, edited in _EDITS.items():
            text, hits = re.subn(rf"(?m)^{re.escape(written)}", edited, text)
            assert hits == 1, (written, text)
        config.write_text(text)

    def deploy(self) -> None:
        """Restart the app with the README's snippets: one ASGI process, one WSGI process."""
        for module, snippet in snippets(ROOT / "README.md").items():
            (self.directory / f"{module}.py").write_text(snippet)
        self._restart()
        self.traffic()

    def _restart(self) -> None:
        self.stop()
        python, ports = sys.executable, self.ports
        asgi = [python, "-m", "uvicorn", "asgi_app:app", "--port", str(ports["asgi_app"])]
        wsgi = [python, "-m", "gunicorn", "wsgi_app:app", "-b", f"127.0.0.1:{ports['wsgi_app']}"]
        self._start("asgi_app", [*asgi, "--no-access-log"])
        self._start("wsgi_app", [*wsgi, "--workers", "1", "--no-control-socket"])
        for module in self.nodes:
            self._until(partial(self._answers, module), f"{module} to answer")

    def traffic(self) -> None:
        """Some requests of users with JWTs, on every node."""
        for module in self.nodes:
            for user in ("ann", "bob"):
                self._answers_200(module, self.sign(user, lasts_s=20))
        self._until(lambda: self._counted() == 2 * len(self.nodes), "usage to be written")

    def theft(self) -> None:
        """Somebody uses carol's JWT."""
        self._answers_200("wsgi_app", (self.directory / "stolen.jwt").read_text())

    def ledger(self) -> None:
        """The old system's refresh tokens, as simplejwt keeps them; one is blacklisted."""
        with psycopg.connect(**conninfo(self.url), autocommit=True) as connection:
            connection.execute(_LEDGER)
            for user in range(1, 4):
                token = self.sign(str(user), lasts_s=_LEDGER_SECONDS, kind="refresh")
                connection.execute(
                    "INSERT INTO token_blacklist_outstandingtoken"
                    " VALUES (%s, %s, now(), now() + %s * interval '1 s', %s, %s)",
                    (user, token, _LEDGER_SECONDS, user, _jti_of(token)),
                )
            connection.execute("INSERT INTO token_blacklist_blacklistedtoken VALUES (1, now(), 3)")

    def straggler(self) -> None:
        """A bot that nobody can update comes by, and stores nothing."""
        bot = (self.directory / "bot.jwt").read_text()
        self._answers_200("wsgi_app", bot, agent="report-bot/1.0")

    def go_forward(self) -> None:
        """The playbooks 10, 20 and 30 once more, as they were walked before."""
        for command in (
            "migrator advance swap --percent 100 --confirm prod",
            "migrator advance drain --confirm prod",
            f"migrator cutover --all --confirm prod --wait-gates {_PATIENCE_S:.0f}",
        ):
            code, printed = self.run(command)
            if code != 0:
                raise Differs(f"{command}: exit {code}\n{printed}")

    def outlast_brownouts(self) -> None:
        """The minutes until no window is open."""
        self._until(
            lambda: '"open"' not in self.run("migrator brownout list --json")[1], "its end"
        )

    def clean_up(self) -> None:
        """The deployment after the end: no issuers, no swap key, no signing secret."""
        config = self.directory / "migrator.toml"
        text = config.read_text()
        issuers = text[text.index("[[issuers]]") : text.index("[routes]")]
        config.write_text(text.replace(issuers, "").replace("\nkeys = ", "\n# keys = "))
        (self.directory / "swap.key").unlink()
        del self.variables["JWT_SECRET"]
        self._restart()

    def wait_for(self, phase: str) -> None:
        """The days until the gates of a phase pass."""
        time.sleep(_UNWRITTEN_S)
        self._until(lambda: self.run(f"migrator gates {phase}")[0] == 0, f"gates {phase}")

    def _counted(self) -> int:
        with psycopg.connect(**conninfo(self.url), autocommit=True) as connection:
            found = connection.execute(_COUNTED).fetchone()
        return int(found[0] or 0) if found else 0

    def _answers(self, module: str) -> bool:
        return self.ask(module, "/") is not None

    def _answers_200(self, module: str, token: str, *, agent: str = "acme-web/3.1") -> None:
        answered = self.ask(module, "/me", token, agent=agent)
        assert answered is not None
        assert answered[0] == 200, answered

    def ask(
        self,
        module: str,
        path: str,
        token: str | None = None,
        *,
        agent: str = "acme-web/3.1",
        said: Mapping[str, object] | None = None,
    ) -> tuple[int, bytes] | None:
        """What one node answers; None where nobody listens."""
        url = f"http://127.0.0.1:{self.ports[module]}{path}"
        body = None if said is None else json.dumps(said).encode()
        headers = {"User-Agent": agent, "Content-Type": "application/json"}
        request = urllib.request.Request(url, body, headers)
        if token is not None:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=_PATIENCE_S) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()
        except OSError:
            return None

    # ---- processes ------------------------------------------------------------------------------

    def stop(self) -> None:
        """End the app's processes."""
        for process in self.nodes.values():
            process.send_signal(signal.SIGTERM)
        for process in self.nodes.values():
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self.nodes.clear()

    def _start(self, module: str, argv: list[str]) -> None:
        with (self.directory / f"{module}.log").open("ab") as log:
            self.nodes[module] = subprocess.Popen(
                argv,
                cwd=self.directory,
                env=self.variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _until(self, holds: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while not holds():
            for module, process in self.nodes.items():
                if process.poll() is not None:
                    raise Differs((self.directory / f"{module}.log").read_text()[-3000:])
            if time.monotonic() > deadline:
                said = self.run("migrator status")[1]
                raise Differs(f"waited {_PATIENCE_S:.0f} s in vain for {what}\n{said}")
            time.sleep(0.2)

    def _lend_curl(self) -> None:
        directory = self.directory / "bin"
        directory.mkdir()
        program = directory / "curl"
        program.write_text(_CURL.format(python=sys.executable))
        program.chmod(0o755)
        self.variables["PATH"] = os.pathsep.join([str(directory), self.variables["PATH"]])


def snippets(page: Path) -> dict[str, str]:
    """The modules a page shows, by the name in their first line: `# name.py`."""
    found: dict[str, str] = {}
    for block in blocks(page, "python"):
        if named := re.match(r"# (\w+)\.py\n", block.text):
            found[named[1]] = block.text + "\n"
    return found


def _jti_of(token: str) -> str:
    return str(jwt.decode(token, options={"verify_signature": False})["jti"])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# Where there is no curl: the three options that the pages use, and no others.
_CURL = """#!{python}
import sys, urllib.error, urllib.request
url, headers, shows, data = "", {{}}, False, None
words = iter(sys.argv[1:])
for word in words:
    if word == "-H":
        line = next(words)
        line = open(line[1:]).read().strip() if line.startswith("@") else line
        name, _, value = line.partition(":")
        headers[name] = value.strip()
    elif word == "--data":
        line = next(words)
        data = open(line[1:], "rb").read() if line.startswith("@") else line.encode()
    elif word.startswith("-"):
        shows = shows or "i" in word
    else:
        url = word
request = urllib.request.Request(url, data, headers)
try:
    answer = urllib.request.urlopen(request)
except urllib.error.HTTPError as error:
    answer = error
if shows:
    print("HTTP/1.1", answer.status, answer.reason)
    print("".join(f"{{n.lower()}}: {{v}}\\n" for n, v in answer.headers.items()))
sys.stdout.write(answer.read().decode())
"""
