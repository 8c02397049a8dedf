"""`python tests/without_io_uring.py ERRNO serve FILE.ini`: pgpool-core where io_uring_setup answers with that error.

That is what a container's seccomp profile does (EPERM), and an old kernel (ENOSYS). Source: seccomp(2), linux/filter.h.
"""

from __future__ import annotations

import ctypes
import runpy
import struct
import sys

PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2
IO_URING_SETUP = 425  # on every architecture
ALLOW = 0x7FFF0000
ERRNO = 0x00050000
LOAD_NUMBER = (0x20, 0, 0, 0)
JUMP_IF_EQUAL = 0x15
RETURN = 0x06


class Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def refuse_io_uring(error: int) -> None:
    """For this process and its children, for ever."""
    steps = (LOAD_NUMBER, (JUMP_IF_EQUAL, 0, 1, IO_URING_SETUP), (RETURN, 0, 0, ERRNO | error), (RETURN, 0, 0, ALLOW))
    program = Program(len(steps), b"".join(struct.pack("=HBBI", *step) for step in steps))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program)
    ):
        raise OSError(ctypes.get_errno(), "seccomp")


if __name__ == "__main__":
    refuse_io_uring(int(sys.argv[1]))
    sys.argv = ["pgpool-core", *sys.argv[2:]]
    runpy.run_module("pgpool_core", run_name="__main__")
