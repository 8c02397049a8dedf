"""Ports that are found free stay so until somebody listens, beside whatever else runs on the machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

from pgpool_core.testing import free_port

_ASK = "from pgpool_core.testing import free_port; print(*[free_port() for _ in range(200)])"


def test_two_processes_are_never_given_the_same_port() -> None:
    ours = {free_port() for _ in range(200)}
    # Another run of the suite, whose workers have the same names as those of this one.
    with subprocess.Popen([sys.executable, "-c", _ASK], stdout=subprocess.PIPE, env=os.environ) as other:
        assert other.stdout is not None
        theirs = {int(port) for port in other.stdout.read().split()}
    assert len(theirs) == 200
    assert not ours & theirs


def test_who_asks_twice_before_listening_has_two() -> None:
    assert len({free_port() for _ in range(100)}) == 100


def test_a_port_where_somebody_listens_is_passed_over() -> None:
    with socket.create_server(("127.0.0.1", free_port())) as listener:
        taken = listener.getsockname()[1]
        assert taken not in {free_port() for _ in range(1000)}  # more than once around
