"""Both ends of what systemd asks of a service: telling it how we are, and taking the sockets that it has opened for us.

Source: sd_notify(3), systemd.service(5) Type=notify-reload, sd_listen_fds(3). A few lines each, so there is no dependency for them.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping
from typing import Final

from pgpool_core import logs
from pgpool_core.errors import ConfigError, ConfigProblem

FIRST_FD: Final = 3  # SD_LISTEN_FDS_START


class Notifier:
    """Tells the service manager; says nothing where there is none."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        """Take NOTIFY_SOCKET out of `environ`, so that no child inherits it."""
        path = environ.pop("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) if path else None

    def ready(self) -> None:
        """Up, or done with a reload."""
        self._tell("READY=1")

    def reloading(self) -> None:
        """A reload begins; `ready` ends it, whatever came of it."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """The end begins."""
        self._tell("STOPPING=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._tell("STATUS=" + text.replace("\n", " "))

    def main_pid(self, pid: int) -> None:
        """Another process is the one to look after from now on; only we may say so (NotifyAccess=main)."""
        self._tell(f"MAINPID={pid}")

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _tell(self, text: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto(text.encode("utf-8", "backslashreplace"), socket.MSG_DONTWAIT, self._address)
        except OSError as error:  # it will notice; our clients do not depend on it
            logs.LOGGER.warning("%s", logs.line("", f"cannot tell the service manager: {error.strerror}"))


def sockets_given(environ: MutableMapping[str, str]) -> list[socket.socket]:
    """The listening sockets that were opened for us; none without socket activation. The variables are taken out of `environ`.

    Raises:
        ConfigError: there is something among them that is not a listening stream socket.
    """
    pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    given: list[socket.socket] = []
    for fd in range(FIRST_FD, FIRST_FD + int(count)):
        try:
            os.set_inheritable(fd, False)
            sock = socket.socket(fileno=fd)
            given.append(sock)
            listens = sock.type == socket.SOCK_STREAM and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError as error:
            raise _problem(fd, error.strerror or str(error)) from error
        if not listens or sock.family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
            raise _problem(fd, "it is not a listening stream socket")
        sock.setblocking(False)
    return given


def _problem(fd: int, text: str) -> ConfigError:
    return ConfigError([ConfigProblem(f"cannot use descriptor {fd} of the service manager: {text} (LISTEN_FDS)")])
