"""Where the executable's log lines go: standard error, `logfile`, the system's log."""

from __future__ import annotations

import logging
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from pgpool_core.logs import LOGGER, LineFormatter, line
from pgpool_core.process.syslog import Syslog, SyslogHandler

_LOST_EVERY_S: Final = 60.0  # what standard error hears of lines that a log file does not take


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
