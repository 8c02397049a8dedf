"""The file with our process number, for `kill $(cat FILE)` and for service managers.

A file whose process lives is somebody's; one whose process is gone is removed. A file that holds something else is left alone.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import Final

from pgpool_core import logs
from pgpool_core.errors import ConfigError, ConfigProblem

PIDFILE_LEN: Final = 32  # bytes that are looked at
_NUMBER: Final = re.compile(rb"\s*([1-9][0-9]{0,9})\s*")


class Pidfile:
    """One pid file; ours between `write` and `remove`."""

    def __init__(self, path: str) -> None:
        """`path` may be empty: then there is none, and nothing is done."""
        self._path = os.path.abspath(path) if path else ""  # a daemon may be asked to remove it from elsewhere

    def check(self) -> None:
        """Remove a stale file.

        Raises:
            ConfigError: the file is that of a process that lives, or no pid file.
        """
        if not self._path or (content := self._content()) is None:
            return
        if not may_be_pidfile(content):
            raise self._problem("the file holds no process number")
        found = _NUMBER.fullmatch(content)
        if found is not None and _lives(int(found[1])):
            raise self._problem("pidfile exists, another instance running?")
        logs.LOGGER.info("stale pidfile, removing")
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._problem(f"cannot remove the stale file: {error.strerror}") from error

    def write(self) -> None:
        """Write our number.

        Raises:
            ConfigError: it cannot be written, or somebody else has just written one.
        """
        if not self._path:
            return
        self.prepare()
        try:
            os.link(self._own, self._path)  # whole at once, and never over another one
        except FileExistsError as error:
            raise self._problem("pidfile exists, another instance running?") from error
        except OSError as error:
            raise self._problem(f"cannot write: {error.strerror}") from error
        finally:
            self._remove_own()

    def prepare(self) -> None:
        """Write our number beside the file, for `replace`.

        Raises:
            ConfigError: it cannot be written.
        """
        if not self._path:
            return
        try:
            with open(os.open(self._own, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644), "w") as file:
                file.write(f"{os.getpid()}\n")
        except OSError as error:
            raise self._problem(f"cannot write: {error.strerror}") from error

    def replace(self) -> None:
        """Take the file over from a process that has agreed, with what is prepared.

        Raises:
            ConfigError: that is not possible.
        """
        if not self._path:
            return
        try:
            os.rename(self._own, self._path)
        except OSError as error:
            raise self._problem(f"cannot replace: {error.strerror}") from error

    def leave(self) -> None:
        """Leave the file to a successor, who will replace it."""
        self._path = ""

    def remove(self) -> None:
        """Remove the file, if it is still ours, and what was prepared."""
        if self._path:
            self._remove_own()
        if self._path and self._content() == f"{os.getpid()}\n".encode():
            with suppress(OSError):
                os.unlink(self._path)

    @property
    def _own(self) -> str:
        return f"{self._path}.{os.getpid()}"

    def _remove_own(self) -> None:
        with suppress(OSError):
            os.unlink(self._own)

    def _content(self) -> bytes | None:
        try:
            with open(self._path, "rb") as file:
                return file.read(PIDFILE_LEN)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._problem(f"cannot read: {error.strerror}") from error

    def _problem(self, text: str) -> ConfigError:
        return ConfigError([ConfigProblem(f"{text}: {self._path} (pidfile)", section="pgbouncer", key="pidfile")])


def may_be_pidfile(content: bytes) -> bool:
    """Whether a file that begins like this may be removed, should its process be gone."""
    return not content.strip() or _NUMBER.fullmatch(content) is not None


def _lives(pid: int) -> bool:
    """Whether somebody else has that number. It is ours again where each start counts from 1, as in a container."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
