"""HAProxy as what it is best at: bytes from one socket to another, TCP and unix, without a look at them. The least that a proxy costs."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

import attrs

from pgpool_core.testing.account import Account
from pgpool_core.testing.ports import free_port
from pgpool_core.testing.process import GuardedProcess

HOST: Final = "127.0.0.1"
CONFIGURATION: Final = """\
global
    nbthread {threads}
    maxconn 4000
    log stderr format raw local0 notice
defaults
    mode tcp
    timeout connect 10s
    timeout client 1h
    timeout server 1h
listen postgres
    bind {host}:{port}
    bind unix@{folder}/.s.PGSQL.{port} mode 666
    server postgres {host}:{server_port}
"""


def find_haproxy() -> Path | None:
    """The program; None where it is not installed."""
    found = shutil.which("haproxy", path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")
    return Path(found) if found else None


@attrs.define(eq=False, kw_only=True)
class Forwarder:
    """HAProxy in front of one server, not started; configuration and socket live in a temporary folder, until it is closed."""

    server_port: int
    threads: int
    port: int = attrs.field(factory=free_port)
    folder: Path = attrs.field(factory=lambda: Path(tempfile.mkdtemp(prefix="haproxy-", dir="/tmp")), init=False)
    _process: GuardedProcess | None = attrs.field(default=None, init=False)

    def start(self) -> GuardedProcess:
        """Start it, and return when it accepts connections.

        Raises:
            ProcessFailed: it ended instead; the text carries what it said.
            FileNotFoundError: there is none on this machine.
        """
        program = find_haproxy()
        if program is None:
            raise FileNotFoundError("no haproxy found: `apt-get install haproxy`, or leave it out (--targets)")
        file = self.folder / "haproxy.cfg"
        file.write_text(
            CONFIGURATION.format(
                threads=self.threads, host=HOST, port=self.port, folder=self.folder, server_port=self.server_port
            )
        )
        ourselves = Account(name=str(os.geteuid()), uid=os.geteuid(), gid=os.getegid())
        self._process = GuardedProcess([program, "-db", "-f", file], account=ourselves)
        self._process.wait_for_listener((HOST, self.port))
        return self._process

    def close(self) -> None:
        """Stop it and remove the folder."""
        try:
            if self._process is not None:
                self._process.stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
