"""The built wheel, installed where nothing else is, holds all that an operator needs."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# What a wheel must carry, as (folder, pattern): each must match at least one file.
SHIPPED = [
    ("migrator", "py.typed"),
    ("migrator/core", "gate.py"),
    ("migrator/migrations", "env.py"),
    ("migrator/migrations", "**/0001_expand_*.py"),
    ("migrator/migrations", "**/*_contract_*.py"),
    ("migrator/playbooks", "why.md"),
    ("migrator/playbooks", "threat-model.md"),
    ("migrator/playbooks", "30-cutover.md"),
    ("migrator/playbooks", "60-drill.md"),
    ("migrator/playbooks", "proxies/nginx.conf"),
    ("migrator/playbooks", "grafana.json"),
    ("migrator/schemas", "status-1.json"),
    ("shims", "asgi.py"),
    ("shims", "wsgi.py"),
]

pytestmark = [
    pytest.mark.timeout(420),  # resolves and installs the dependencies anew
    pytest.mark.xdist_group("wheel"),  # so once, not once per worker
]


@dataclass(frozen=True, slots=True)
class Clean:
    """A virtual environment with the wheel in it, and an empty directory to work from."""

    bin: Path
    elsewhere: Path

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run(str(self.bin / program), *arguments, cwd=self.elsewhere)


def run(*argv: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    ours = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    environment = {name: text for name, text in os.environ.items() if name not in ours}
    done = subprocess.run(
        argv, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{argv} exited {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    argv = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    run(*argv, str(ROOT), cwd=ROOT)
    [built] = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Clean:
    home = tmp_path_factory.mktemp("clean")
    venv.create(home / "venv", with_pip=True)
    (home / "elsewhere").mkdir()
    environment = Clean(bin=home / "venv/bin", elsewhere=home / "elsewhere")
    environment.run("python", "-m", "pip", "install", "--quiet", "--no-input", str(wheel))
    return environment


@pytest.mark.parametrize(("folder", "pattern"), SHIPPED)
def test_wheel_ships(clean: Clean, folder: str, pattern: str) -> None:
    top = Path(folder).parts[0]
    where = clean.run("python", "-c", f"import {top}; print({top}.__file__)")
    package = Path(where.stdout.strip()).parent
    assert clean.bin.parent in package.parents, "the source tree was imported, not the wheel"
    assert list((package.parent / folder).glob(pattern))


def test_wheel_puts_nothing_beside_its_two_packages(wheel: Path) -> None:
    """A user's app nearly always has a `migrations` and a `tests` of its own."""
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"migrator", "shims"}


def test_wheel_ships_every_schema_that_is_published(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        shipped = {name for name in archive.namelist() if name.startswith("migrator/schemas/")}
    published = (ROOT / "migrator/schemas").glob("*.json")
    assert shipped == {f"migrator/schemas/{path.name}" for path in published}


def test_every_module_of_the_core_wheel_imports_without_extras(clean: Clean) -> None:
    """Only what serves a framework or starts our own servers may need an extra."""
    modules = ["migrator.settings", "migrator.wiring", "migrator.cli", "shims.asgi", "shims.wsgi"]
    for module in modules:
        clean.run("python", "-W", "error", "-c", f"import {module}")


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["db", "--help"], ["status", "--help"], ["playbook", "list"]],
    ids=" ".join,
)
def test_command_works_away_from_the_source_tree(clean: Clean, arguments: list[str]) -> None:
    assert clean.run("migrator", *arguments).stdout


def test_installed_commands_reach_the_migrations_in_the_wheel(clean: Clean, database: str) -> None:
    """`db upgrade` from the wheel leaves the tables, with no source tree in sight."""
    script = (
        "import sys; from migrator.control import schema; schema.upgrade(sys.argv[1]);"
        "import psycopg; c = psycopg.connect(sys.argv[1].replace('+psycopg', ''));"
        "print(c.execute(\"select to_regclass('migrator.sessions') is not null\").fetchone()[0])"
    )
    assert clean.run("python", "-c", script, database).stdout.split()[-1] == "True"
