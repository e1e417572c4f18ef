"""The drop-ins of the documentation, each around an app that knows nothing of us, as processes.

What a page shows is written to files as it stands there; around it is only what an operator has:
the app (`yourapp`), its variables, and the `migrator.toml` that `init` and he wrote.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from migrator.cli.demo.processes import kill_group
from tests.docs_blocks import blocks
from tests.docs_rig import ROOT, snippets
from tests.rig import SECRET, Rig

PAGE: Final = ROOT / "playbooks" / "01-install-and-observe.md"
_PATIENCE_S: Final = 40.0

_USUAL: Final = """\
environment = "test"
app = "yourapp"
expected_nodes = 1
[database]
url = "env:MIGRATOR_DATABASE_URL"
[memory]
poll_ms = 100
[swap]
keys = [{ id = "k1", secret = "env:SWAP_KEY" }]
min_remaining = "1m"
"""
_TODO: Final = """\
import os
from tests.apps.fastapi_tutorial.app import Database, create_app

database = Database()
database.add_user("ann@acme.example", "ann's password")
app = create_app(database, os.environ["JWT_SECRET_KEY"])
"""
_NOTEBOOK: Final = """\
import os
from tests.apps.flask_jwt_extended.app import create_app

app = create_app({"DATABASE": "notes.db", "JWT_SECRET_KEY": os.environ["JWT_SECRET_KEY"]})
"""
_DESK: Final = """\
import os
from migrator.stores.drivers import conninfo
from tests.apps.django_simplejwt.settings import *

parts = conninfo(os.environ["MIGRATOR_DATABASE_URL"])
names = {"NAME": "dbname", "USER": "user", "PASSWORD": "password", "HOST": "host", "PORT": "port"}
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        **{key: str(parts.get(name) or "") for key, name in names.items()},
    }
}
MIGRATION_MODULES = dict.fromkeys(("contenttypes", "auth", "sessions", "token_blacklist"))
"""
# `manage.py` as Django writes it; before the shim there was the app with its tables and a user.
_MANAGE: Final = """\
import os, sys
from django.core.management import execute_from_command_line
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "django_settings")
execute_from_command_line(sys.argv)
"""
_FOUND: Final = """\
import os
os.environ["DJANGO_SETTINGS_MODULE"] = "yourapp.settings"
import django
from django.core.management import call_command
django.setup()
call_command("migrate", verbosity=0, run_syncdb=True)
from django.contrib.auth.models import User
User.objects.create_user("ann", password="ann's password")
"""
_LEGACY: Final = "from tests.bridge.app import LegacyApp\napp = LegacyApp().asgi\n"
_UVICORN: Final = ("uvicorn", "--no-access-log", "--port", "{port}")
_GUNICORN: Final = ("gunicorn", "-b", "127.0.0.1:{port}", "--no-control-socket")


@dataclass(frozen=True, kw_only=True)
class DropIn:
    """One way of dropping in, and what a client knows of the app.

    Args:
        files: the app, by name.
        runs: what the operator runs, modules of Python; the last one answers clients.
        settings: of `migrator.toml`, besides the usual and what the page says.
        login: path, body, and whether that is a form.
        refresh: path, where a client sends `{"refresh": …}` there.
    """

    files: Mapping[str, str]
    runs: tuple[tuple[str, ...], ...]
    settings: str
    login: tuple[str, Mapping[str, str], bool]
    access: str
    me: str
    before: tuple[str, ...] = ()
    refresh: str | None = None
    secret: str = field(default_factory=lambda: secrets.token_hex(32))


DROP_INS: Final[Mapping[str, DropIn]] = {
    "FastAPI": DropIn(
        files={"yourapp.py": _TODO},
        runs=((*_UVICORN, "fastapi_app:app"),),
        settings='[[issuers]]\nid = "a1"\nname = "main"\npreset = "fastapi-tutorial"\n'
        'keys = ["env:JWT_SECRET_KEY"]\n[routes]\nlogin = ["/token"]\n',
        login=("/token", {"username": "ann@acme.example", "password": "ann's password"}, True),
        access="access_token",
        me="/users/me",
    ),
    "Flask": DropIn(
        files={"yourapp.py": _NOTEBOOK},
        runs=((*_GUNICORN, "flask_app:app"),),
        settings='[routes]\nlogin = ["/login"]\nrefresh = ["/refresh"]\nlogout = ["/logout"]\n',
        before=("flask --app flask_app migrator-issuer >> migrator.toml",),
        login=("/login", {"name": "ann", "password": "ann's password"}, False),
        access="access_token",
        me="/me",
    ),
    "Django": DropIn(
        files={
            "yourapp/__init__.py": "",
            "yourapp/settings.py": _DESK,
            "manage.py": _MANAGE,
            "found.py": _FOUND,
        },
        runs=((*_GUNICORN, "django.core.wsgi:get_wsgi_application()"),),
        settings="",
        before=("python found.py", "python manage.py migrator doctor"),
        login=("/api/token/", {"username": "ann", "password": "ann's password"}, False),
        access="access",
        me="/api/me/",
        refresh="/api/token/refresh/",
        secret="the desk has signed with this since its first day, 2q8v",
    ),
    "any language": DropIn(
        files={"yourapp.py": _LEGACY},
        runs=(
            (*_UVICORN, "--interface", "asgi3", "yourapp:app"),
            ("migrator.cli", "--port", "{port}"),
        ),
        settings='[[issuers]]\nid = "a1"\nname = "main"\nalgorithms = ["HS256"]\n'
        'keys = ["env:JWT_SECRET_KEY"]\nlifetime = "1h"\nrefresh_lifetime = "30d"\n'
        '[issuers.purpose]\nrequire = { token_type = "access" }\n'
        'refresh = { token_type = "refresh" }\n'
        '[routes]\nlogin = ["/login"]\nrefresh = ["/refresh"]\nlogout = ["/logout"]\n',
        login=("/login", {"user": "ann"}, False),
        access="access",
        me="/me",
        refresh="/refresh",
        secret=SECRET,
    ),
}


class Around:
    """One drop-in, running. Its address, and what an operator and a client do."""

    def __init__(self, drop_in: DropIn, folder: Path, database_url: str, redis_url: str) -> None:
        self.drop_in = drop_in
        self.rig = Rig(database_url)
        self.url = ""
        self._folder = folder
        self._running: list[subprocess.Popen[bytes]] = []
        self._variables = {
            name: value for name, value in os.environ.items() if not name.startswith("MIGRATOR_")
        } | {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
            "MIGRATOR_DATABASE_URL": database_url,
            "MIGRATOR_REDIS__URL": redis_url,
            "JWT_SECRET_KEY": drop_in.secret,
            "SWAP_KEY": secrets.token_urlsafe(32),
            "DJANGO_SETTINGS_MODULE": "django_settings",
        }

    def begin(self) -> None:
        """Write the files, type what is typed before, and start what answers."""
        shown = {f"{name}.py": text for name, text in snippets(PAGE).items()}
        for name, text in {**self.drop_in.files, **shown}.items():
            (self._folder / name).parent.mkdir(exist_ok=True)
            (self._folder / name).write_text(text)
        settings = self._folder / "migrator.toml"
        settings.write_text(_USUAL + self.drop_in.settings + one_line())
        for line in self.drop_in.before:
            self._type(line)
        for argv in self.drop_in.runs:
            self._start(argv)

    def _type(self, line: str) -> None:
        done = subprocess.run(
            ["/bin/sh", "-c", line],
            cwd=self._folder,
            env=self._variables,
            capture_output=True,
            timeout=_PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, (line, done.stdout, done.stderr)

    def _start(self, argv: tuple[str, ...]) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        words = [each.format(port=port) for each in argv]
        if argv[0] == "migrator.cli":
            command = shown_command("migrator serve")
            before = command.replace("http://127.0.0.1:3000", self.url)
            assert before != command
            words = [*before.split(), *words[1:]]
        else:
            words = [sys.executable, "-m", *words]
        with (self._folder / f"{port}.log").open("wb") as log:
            process = subprocess.Popen(
                words,
                cwd=self._folder,
                env=self._variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._running.append(process)
        self.url = f"http://127.0.0.1:{port}"
        self._until(lambda: self.answers(process), (self._folder / f"{port}.log").read_text)

    def answers(self, process: subprocess.Popen[bytes]) -> bool:
        """Whether somebody listens."""
        assert process.poll() is None, [log.read_text() for log in self._folder.glob("*.log")]
        try:
            with urllib.request.urlopen(self.url, timeout=5):
                return True
        except urllib.error.HTTPError as error:
            error.close()
            return True
        except OSError:
            return False

    def reach(self, phase: str) -> None:
        """Move the rollout, and wait until the node acts under the new phase."""
        self.rig.move(phase)
        behind = (
            "SELECT count(*) FILTER (WHERE n.epoch = r.epoch) = 0 OR"
            " count(*) FILTER (WHERE n.epoch IS DISTINCT FROM r.epoch) > 0"
            " FROM migrator.rollout r LEFT JOIN migrator.nodes n ON n.lease_until > now()"
            " GROUP BY r.epoch"
        )
        self._until(lambda: not self.rig.execute(behind)[0][0], lambda: f"{phase} is not reached")

    def _until(self, holds: Callable[[], bool], why: Callable[[], str]) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while not holds():
            assert time.monotonic() < deadline, why()
            time.sleep(0.05)

    def stop(self) -> None:
        """End every process."""
        for process in self._running:
            kill_group(process)

    # ---- a client -----------------------------------------------------------------------------

    def log_in(self) -> dict[str, Any]:
        """What a login answers."""
        path, body, is_form = self.drop_in.login
        kind = "application/x-www-form-urlencoded" if is_form else "application/json"
        sent = urllib.parse.urlencode(body) if is_form else json.dumps(body)
        request = urllib.request.Request(self.url + path, sent.encode(), {"Content-Type": kind})
        with urllib.request.urlopen(request, timeout=_PATIENCE_S) as response:
            said: dict[str, Any] = json.load(response)
            return said

    def me(self, token: str) -> tuple[int, str | None]:
        """The status of a request with a credential, and the token that it was answered with."""
        request = urllib.request.Request(self.url + self.drop_in.me)
        request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=_PATIENCE_S) as response:
                return response.status, response.headers["Session-Token"]
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers["Session-Token"]


def one_line() -> str:
    """The settings that switch the bridge on, as the page shows them."""
    return next(block.text for block in blocks(PAGE, "toml") if "[bridge]" in block.text) + "\n"


def shown_command(begins: str) -> str:
    """The command line that a page shows and that begins so."""
    lines = [line for block in blocks(PAGE, "text") for line in block.text.splitlines()]
    return next(line for line in lines if line.startswith(begins))


def shown_commands() -> list[str]:
    """Every command line that the page shows and the walk leaves to the drop-ins."""
    lines = [line for block in blocks(PAGE, "text") for line in block.text.splitlines()]
    return [line for line in lines if re.match(r"(?:flask|python|migrator) ", line)]
