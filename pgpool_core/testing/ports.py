"""Free ports, and whether somebody listens on one."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import socket
from collections.abc import Sequence
from pathlib import Path

__all__ = ["can_connect", "free_port"]

# Below Linux' range for outgoing connections (net.ipv4.ip_local_port_range, 32768 upwards): a port that the kernel hands to some
# client between our look and the server's bind() is the classic reason for tests that fail one time in a hundred.
_RANGE = range(20_000, 32_000)
_SHARES = 24


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port on which nobody listens at `host` now, and which no other process that asks here is given meanwhile.

    Raises:
        OSError: none is free.
    """
    share = _share(os.getpid())
    for port in itertools.islice(share.ports, share.size):
        if _is_free(host, port):
            return port
    raise OSError(f"none of the {share.size} ports tried at {host} is free")


class _Share:
    """Every 24th port of the range: the first stays bound, which tells other processes that the rest are ours.

    They are handed out in turn, so that who asks twice before it listens gets two.
    """

    def __init__(self, ports: Sequence[int]) -> None:
        self.size = len(ports)
        self.ports = itertools.cycle(ports)


@functools.cache
def _share(pid: int) -> _Share:
    """The share of the process `pid`, which is this one: what is forked takes another."""
    for first in range(_SHARES):
        ports = _RANGE[first::_SHARES]
        guard = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            guard.bind(("127.0.0.1", ports[0]))
        except OSError:
            guard.close()
        else:
            guard.detach()  # for as long as we live
            return _Share(ports[1:])
    start = pid % len(_RANGE)
    return _Share([*_RANGE[start:], *_RANGE[:start]])  # no share is left: chance has to do


def _is_free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe, contextlib.suppress(OSError):
        probe.bind((host, port))
        return True
    return False


def can_connect(address: tuple[str, int] | Path, *, timeout_s: float = 5.0) -> bool:
    """Whether somebody listens at `address`: (host, port), or the path of a Unix socket."""
    family = socket.AF_UNIX if isinstance(address, Path) else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.settimeout(timeout_s)
        with contextlib.suppress(OSError):
            probe.connect(str(address) if isinstance(address, Path) else address)
            return True
    return False
