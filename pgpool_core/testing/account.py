"""Who runs PostgreSQL and PgBouncer when we are root: both refuse to run as root.

Nothing is created or opened up here: no user is added, no folder above ours changes its mode. A folder that the unprivileged
user cannot reach is reported, and the caller takes another one.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import subprocess
from pathlib import Path
from typing import TypedDict

import attrs

__all__ = ["Account", "Credentials", "service_account"]

_PREFERRED = ("postgres", "nobody")


class Credentials(TypedDict, total=False):
    """Keyword arguments for `subprocess.Popen`; empty where no user is to be changed."""

    user: int
    group: int
    extra_groups: list[int]


@attrs.frozen
class Account:
    """A user that a child process runs as."""

    name: str
    uid: int
    gid: int

    def credentials(self) -> Credentials:
        """What `subprocess.Popen` needs to start a child as this user."""
        if os.geteuid() == self.uid:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def own(self, path: Path) -> None:
        """Give `path` (one file or folder, not what is in it) to this user."""
        if os.geteuid() != self.uid:
            os.chown(path, self.uid, self.gid)

    def can_enter(self, folder: Path) -> bool:
        """Whether this user can reach `folder`: every parent must let it through."""
        return self._succeeds(["/bin/sh", "-c", 'cd -- "$1"', "sh", str(folder)])

    def can_run(self, program: Path) -> bool:
        """Whether this user can start `program` (tried with --version)."""
        return self._succeeds([str(program), "--version"])

    def _succeeds(self, command: list[str]) -> bool:
        with contextlib.suppress(OSError):
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                cwd="/",
                timeout=30,
                check=False,
                **self.credentials(),
            )
            return done.returncode == 0
        return False


def service_account() -> Account:
    """The user for `postgres` and `pgbouncer`: ourselves, or as root `postgres` where it exists, else `nobody`.

    Raises:
        LookupError: we are root and the system knows neither user.
    """
    if os.geteuid() != 0:
        return Account(name=str(os.geteuid()), uid=os.geteuid(), gid=os.getegid())
    for name in _PREFERRED:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid)
    raise LookupError(f"running as root, and there is no user {' or '.join(_PREFERRED)} to run PostgreSQL as")
