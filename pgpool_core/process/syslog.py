"""The system's log, by its socket.

Source: RFC 3164, and what syslog(3) writes.
"""

from __future__ import annotations

import logging
import socket
import time
from typing import Final

import attrs

from pgpool_core.logs import printable

SOCKET: Final = "/dev/log"
MAX_BYTES: Final = 8192  # of one line; what is more is cut, as daemons do
_PRIORITIES: Final = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}
_FACILITIES: Final = {"user": 1, "daemon": 3, "auth": 4, "authpriv": 10} | {f"local{n}": 16 + n for n in range(8)}
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_TRACE: Final = logging.Formatter()


@attrs.frozen
class Syslog:
    """The system's log: under what name and facility."""

    ident: str
    facility: str


class SyslogHandler(logging.Handler):
    """Writes to the system's log by its socket. A line that it does not take at once is lost, as where there is none: nobody waits."""

    def __init__(self, to: Syslog) -> None:
        super().__init__()
        self.to = to
        self._socket: socket.socket | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Send one line; where the one who listened has gone, look once whether another has come."""
        try:
            priority = _FACILITIES[self.to.facility] << 3 | _PRIORITIES.get(record.levelno, _PRIORITIES[logging.INFO])
            now = time.localtime(record.created)
            stamp = f"{_MONTHS[now.tm_mon - 1]} {now.tm_mday:2d} {time.strftime('%H:%M:%S', now)}"
            said = record.getMessage() + ("\n" + _TRACE.formatException(record.exc_info) if record.exc_info else "")
            text = f"<{priority}>{stamp} {printable(self.to.ident)}[{record.process}]: {said}"
            data = text.encode("utf-8", "backslashreplace")[:MAX_BYTES]
        except Exception:
            self.handleError(record)
            return
        for _ in range(2):
            try:
                self._connected().send(data)
            except BlockingIOError:
                return
            except OSError:
                self._disconnect()
            else:
                return

    def _connected(self) -> socket.socket:
        if self._socket is None:
            fresh = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            fresh.setblocking(False)
            try:
                fresh.connect(SOCKET)
            except OSError:
                fresh.close()
                raise
            self._socket = fresh
        return self._socket

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def close(self) -> None:
        """Close the socket too."""
        self._disconnect()
        super().close()
