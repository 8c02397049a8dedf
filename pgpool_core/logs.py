"""Log lines: who, what, then `key=value` with units; and the handlers that the executable installs.

The library only ever writes to the logger `pgpool_core`; where that goes is the embedding program's business. Handlers are
installed by `LogOutput`, which the command line owns. Never SQL text, passwords, keys or tokens.

    2026-11-21 02:43:34.627 UTC [4711] LOG C-0x1f3: appdb/alice@10.0.0.8:51932 login attempt: db=appdb user=alice tls=no replication=no took_ms=14 method=scram-sha-256

Source: PgBouncer's lines, which begin the same way and which log shippers already cut at these places.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from pgpool_core.metrics.counters import Averages

LOGGER: Final = logging.getLogger("pgpool_core")

_LEVEL_WORDS: Final = {logging.INFO: "LOG", logging.CRITICAL: "FATAL"}  # PgBouncer's; the others are Python's too
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_NEEDS_QUOTES: Final = re.compile(r'[\s"=\\]')
SYSLOG_SOCKET: Final = "/dev/log"
MAX_SYSLOG_BYTES: Final = 8192  # of one line; what is more is cut, as daemons do
_PRIORITIES: Final = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}
_FACILITIES: Final = {"user": 1, "daemon": 3, "auth": 4, "authpriv": 10} | {f"local{n}": 16 + n for n in range(8)}
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_TRACE: Final = logging.Formatter()
_LOST_EVERY_S: Final = 60.0  # what standard error hears of lines that a log file does not take


def printable(text: str) -> str:
    """`text` on one line: control characters, line ends and broken bytes become escapes, so that no peer can forge a line."""
    return _UNPRINTABLE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def field_value(value: object) -> str:
    """One value as it stands after `key=`: quoted where a reader could not tell where it ends."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    text = str(value)
    if text and not _NEEDS_QUOTES.search(text):
        return printable(text)
    return '"' + printable(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def line(who: str, what: str, fields: Mapping[str, object] | None = None) -> str:
    """A log line without its time stamp: `who what key=value ...`; `who` may be empty, fields keep their order."""
    parts = [printable(who)] if who else []
    parts.append(printable(what))
    parts.extend(f"{key}={field_value(value)}" for key, value in (fields or {}).items())
    return " ".join(parts)


def server_tag(server_id: int, database: str, user: str, host: str, port: int) -> str:
    """How a server connection is called in a line: `S-0x1f3: db/user@host:port`; IPv6 in brackets, `unix:port` for a socket."""
    if not host or host.startswith(("/", "@")):
        place = f"unix:{port}"
    else:
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return f"S-0x{server_id:x}: {database}/{user}@{place}"


def stats_line(averages: Averages) -> str:
    """The operator's line once every stats_period, in PgBouncer's wording, so that pgBadger and scripts read it."""
    a = averages
    return (
        f"stats: {a.xacts} xacts/s, {a.queries} queries/s, {a.client_parses} client parses/s, "
        f"{a.server_parses} server parses/s, {a.binds} binds/s, {a.client_logins} client logins/s, "
        f"in {a.received} B/s, out {a.sent} B/s, xact {a.xact_us} us, query {a.query_us} us, wait {a.wait_us} us"
    )


class LineFormatter(logging.Formatter):
    """`YYYY-MM-DD HH:MM:SS.mmm UTC [PID] LEVEL message`; a traceback, if any, follows on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(record.created))
        level = _LEVEL_WORDS.get(record.levelno, record.levelname)
        text = f"{stamp}.{int(record.msecs):03d} UTC [{record.process}] {level} {record.getMessage()}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return text


class ReopeningFileHandler(logging.FileHandler):
    """A log file that can be opened anew after logrotate has moved it away; appends, line by line.

    What it does not take (the disk is full) is lost: standard error is told once a minute, the file when it takes lines again.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(path, mode="a", encoding="utf-8", errors="backslashreplace")
        self._torn = False  # the last line is there in part
        self._lost = 0  # lines that the file has not been told of
        self._lost_told = 0  # and of these, those that standard error has
        self._tell_at = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, past every buffer: what could not be written is not to come later, in part and out of order."""
        try:
            text = self.format(record)
        except Exception:
            self.handleError(record)
            return
        try:
            if self._lost:
                self._write(self._lost_line("the log file takes lines again", self._lost))
                self._lost = self._lost_told = 0
                self._tell_at = 0.0
            self._write(text)
        except OSError as error:
            self._lost += 1
            self._tell(error.strerror or str(error))

    def _write(self, text: str) -> None:
        if self.stream is None:
            return
        rest = memoryview((("\n" if self._torn else "") + text + "\n").encode("utf-8", "backslashreplace"))
        while rest:
            rest = rest[os.write(self.stream.fileno(), rest) :]
            self._torn = bool(rest)

    def _tell(self, reason: str) -> None:
        now = time.monotonic()
        if now >= self._tell_at and sys.stderr is not None:
            with suppress(OSError, ValueError):
                text = self._lost_line(f"the log file takes no lines: {reason}", self._lost - self._lost_told)
                print(text, file=sys.stderr, flush=True)
            self._tell_at, self._lost_told = now + _LOST_EVERY_S, self._lost

    def _lost_line(self, what: str, count: int) -> str:
        text = line("", f"{what}: {self.baseFilename} (logfile)", {"lost": count})
        return self.format(LOGGER.makeRecord(LOGGER.name, logging.ERROR, __file__, 0, text, (), None))

    def reopen(self) -> None:
        """Open the path again, then close the old file.

        Raises:
            OSError: it cannot be opened; the old file stays in use.
        """
        fresh = self._open()
        self.acquire()
        try:
            old, self.stream = self.stream, fresh
            self._torn = False
        finally:
            self.release()
        if old is not None:
            old.close()


@attrs.frozen
class Syslog:
    """The system's log: under what name and facility."""

    ident: str
    facility: str


class SyslogHandler(logging.Handler):
    """Writes to the system's log by its socket. A line that it does not take at once is lost, as where there is none: nobody waits.

    Source: RFC 3164, and what syslog(3) writes.
    """

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
            data = text.encode("utf-8", "backslashreplace")[:MAX_SYSLOG_BYTES]
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
                fresh.connect(SYSLOG_SOCKET)
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


class LogOutput:
    """The handlers of the executable: standard error unless quiet, and `logfile` and `syslog` where they are set."""

    def __init__(self, *, quiet: bool = False, verbose: int = 0) -> None:
        """Install standard error (not if `quiet`); `verbose` > 0, from -v, shows DEBUG lines whatever the file says."""
        self._verbose = verbose
        self._file: ReopeningFileHandler | None = None
        self._syslog: SyslogHandler | None = None
        self._formatter = LineFormatter()
        self._stderr: logging.Handler | None = None
        LOGGER.propagate = False
        LOGGER.setLevel(logging.DEBUG if verbose else logging.INFO)
        if not quiet:
            self._stderr = logging.StreamHandler(sys.stderr)
            self._add(self._stderr)

    def apply(self, logfile: str, verbose: int = 0, syslog: Syslog | None = None) -> None:
        """Use these settings of the file from now on; the same logfile is opened again.

        Raises:
            OSError: logfile cannot be opened; everything stays as it was, but for `verbose` where it is the same.
        """
        path = os.path.abspath(logfile) if logfile else None
        level = logging.DEBUG if self._verbose or verbose else logging.INFO
        if self._file is not None and self.writes_to(logfile):
            LOGGER.setLevel(level)
            self._file.reopen()
        else:
            fresh = ReopeningFileHandler(path) if path else None
            if self._file is not None:
                self._remove(self._file)
            if fresh is not None:
                self._add(fresh)
            self._file = fresh
        LOGGER.setLevel(level)
        if self._syslog is not None and self._syslog.to != syslog:
            self._remove(self._syslog)
            self._syslog = None
        if self._syslog is None and syslog is not None:
            self._syslog = SyslogHandler(syslog)
            self._add(self._syslog)

    def writes_to(self, logfile: str) -> bool:
        """Whether that is the file in use."""
        return self._file is not None and bool(logfile) and os.path.abspath(logfile) == self._file.baseFilename

    def leave_standard_error(self) -> None:
        """Log only to `logfile` and `syslog` from now on."""
        if self._stderr is not None:
            self._remove(self._stderr)
            self._stderr = None

    def close(self) -> None:
        """Take the handlers away again and close the file."""
        for handler in (self._file, self._stderr, self._syslog):
            if handler is not None:
                self._remove(handler)
        self._file = self._stderr = None

    def _add(self, handler: logging.Handler) -> None:
        handler.setFormatter(self._formatter)
        LOGGER.addHandler(handler)

    @staticmethod
    def _remove(handler: logging.Handler) -> None:
        LOGGER.removeHandler(handler)
        handler.close()
