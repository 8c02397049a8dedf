"""-d: the process goes into the background, and who started it learns whether it came up.

PgBouncer's parent ends before anything is listened on; ours waits until the pooler is ready, and has its exit status if it never is.
"""

from __future__ import annotations

import os
import sys
from typing import Final

_READY: Final = b"\1"


class Background:
    """The child's side of going into the background."""

    def __init__(self, report: int) -> None:
        """Own `report`, the pipe to the waiting parent."""
        self._report = report

    def ready(self) -> None:
        """Let the parent go; from here on nothing is said on its terminal.

        Raises:
            OSError: the parent has gone already.
        """
        if self._report < 0:
            return
        nowhere = os.open(os.devnull, os.O_RDWR)
        sys.stdout.flush()
        sys.stderr.flush()
        for standard in (0, 1, 2):
            os.dup2(nowhere, standard)
        os.close(nowhere)
        report, self._report = self._report, -1
        try:
            os.write(report, _READY)
        finally:
            os.close(report)


def go() -> Background | int:
    """Fork. In the child: its `Background`, in a session of its own. In the parent: the exit status, when there is one to tell.

    To be called before any thread is started.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        os.setsid()
        return Background(writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        if pipe.read(1) == _READY:
            return 0
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) or 1
