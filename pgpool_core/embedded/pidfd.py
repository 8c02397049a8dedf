"""The end of a process as something to wait for. Source: pidfd_open(2)."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def open_pidfd(process: int) -> Iterator[int | None]:
    """A descriptor that becomes readable when the process ends; None where it has ended, or the system or the interpreter has no such thing."""
    if not hasattr(os, "pidfd_open"):  # as in conda's, which is built for older kernels
        yield None
        return
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
