"""The Node app of tests/apps/node_jsonwebtoken: its packages from npm, its server, its own tests.

Nothing is locked to an address: packages come from whatever registry this machine's npm uses, once
for each package.json, into .venv.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[3]
SOURCE: Final = ROOT / "tests/apps/node_jsonwebtoken"
_KEPT: Final = ROOT / ".venv/node"
_INSTALL: Final = (
    *("npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"),
    *("--loglevel", "error"),
)
_INSTALL_S: Final = 240


def installed(folder: Path) -> Path:
    """A copy of the app in `folder`, ready to run."""
    app = folder / "node_jsonwebtoken"
    shutil.copytree(SOURCE, app)
    (app / "node_modules").symlink_to(_modules() / "node_modules")
    return app


def own_tests(app: Path, base_url: str, environ: Mapping[str, str]) -> str:
    """Run the app's own tests against an address; what they printed, if all passed."""
    done = subprocess.run(
        ["node", "--test", *sorted(str(file) for file in app.glob("test/*.test.js"))],
        cwd=app,
        env={"PATH": os.environ["PATH"], "BASE_URL": base_url, **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-6000:]
    return said


def _modules() -> Path:
    """Where this package.json's packages are; workers wait for the one that installs."""
    digest = hashlib.sha256((SOURCE / "package.json").read_bytes()).hexdigest()[:16]
    home = _KEPT / digest
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "whole").exists():
            shutil.copy(SOURCE / "package.json", home)
            done = subprocess.run(
                _INSTALL,
                cwd=home,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_INSTALL_S,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            (home / "whole").touch()
    return home
