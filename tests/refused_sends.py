"""`python tests/refused_sends.py ERRNO LENGTH serve FILE.ini`: pgpool-core where a send of just so many bytes is answered with that error.

The socket is as well as before, as where the kernel is short of memory or a packet filter has refused it. Source: seccomp(2), sendto(2).
"""

from __future__ import annotations

import platform
import runpy
import sys

from tests.without_io_uring import refuse

SENDTO = {"x86_64": 44, "aarch64": 206}[platform.machine()]

if __name__ == "__main__":
    error, length = map(int, sys.argv[1:3])
    sys.argv = ["pgpool-core", *sys.argv[3:]]
    refuse(SENDTO, error, third=length)
    runpy.run_module("pgpool_core", run_name="__main__")
