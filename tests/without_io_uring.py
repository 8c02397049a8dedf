"""`python tests/without_io_uring.py ERRNO serve FILE.ini`: pgpool-core where io_uring_setup answers with that error.

That is what a container's seccomp profile does (EPERM), and an old kernel (ENOSYS). With `later:ERRNO` it is io_uring_enter that does, in
every thread from the signal LATER on. Source: seccomp(2), linux/filter.h.
"""

from __future__ import annotations

import ctypes
import platform
import runpy
import signal
import struct
import sys

PR_SET_NO_NEW_PRIVS = 38
SECCOMP = {"x86_64": 317, "aarch64": 277}  # the system call's number
SECCOMP_SET_MODE_FILTER = 1
SECCOMP_FILTER_FLAG_TSYNC = 1
IO_URING_SETUP = 425  # on every architecture
IO_URING_ENTER = 426
LATER = signal.SIGRTMIN
ALLOW = 0x7FFF0000
ERRNO = 0x00050000
LOAD_NUMBER = (0x20, 0, 0, 0)
LOAD_THIRD = (0x20, 0, 0, 32)  # the low half of an argument; the machines above are little-endian
JUMP_IF_EQUAL = 0x15
RETURN = 0x06


class Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def refuse(call: int, error: int, *, third: int | None = None) -> None:
    """For this process, all of its threads, and its children, for ever; `third`: only with that as the third argument."""
    steps = [LOAD_NUMBER, (JUMP_IF_EQUAL, 0, 1, call), (RETURN, 0, 0, ERRNO | error), (RETURN, 0, 0, ALLOW)]
    if third is not None:
        steps[1:2] = [(JUMP_IF_EQUAL, 0, 3, call), LOAD_THIRD, (JUMP_IF_EQUAL, 0, 1, third)]
    program = Program(len(steps), b"".join(struct.pack("=HBBI", *step) for step in steps))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.syscall(
        SECCOMP[platform.machine()], SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, ctypes.byref(program)
    ):
        raise OSError(ctypes.get_errno(), "seccomp")


def main(when: str, error: int) -> None:
    if when == "later":
        signal.signal(LATER, lambda *_: refuse(IO_URING_ENTER, error))
    else:
        refuse(IO_URING_SETUP, error)
    runpy.run_module("pgpool_core", run_name="__main__")


if __name__ == "__main__":
    at, _, number = sys.argv[1].rpartition(":")
    sys.argv = ["pgpool-core", *sys.argv[2:]]
    main(at, int(number))
