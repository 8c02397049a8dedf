"""The end of a process as something to wait for. Source: pidfd_open(2)."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def open_pidfd(process: int) -> Iterator[int | None]:
    """A descriptor that becomes readable when the process ends; None where it has ended, or the system has no such thing."""
    try:
        descriptor = os.pidfd_open(process)
    except OSError as error:
        if error.errno not in (errno.ESRCH, errno.ENOSYS, errno.EPERM):
            raise
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)
