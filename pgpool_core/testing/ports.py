"""Free ports, and whether somebody listens on one."""

from __future__ import annotations

import contextlib
import os
import random
import socket
from pathlib import Path

__all__ = ["can_connect", "free_port"]

# Below Linux' range for outgoing connections (net.ipv4.ip_local_port_range, 32768 upwards): a port that the kernel hands to some
# client between our look and the server's bind() is the classic reason for tests that fail one time in a hundred.
_RANGE = range(20_000, 32_000)
_TRIED = 200


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port on which nobody listens at `host` now."""
    ours = _ours()
    for port in random.sample(ours, min(_TRIED, len(ours))):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe, contextlib.suppress(OSError):
            probe.bind((host, port))
            return port
    raise OSError(f"none of the ports tried at {host} is free")


def _ours() -> range:
    """All of the range, or under pytest-xdist the share of this worker: what one has found, no other can take before it listens."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return _RANGE[int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % workers :: workers]


def can_connect(address: tuple[str, int] | Path, *, timeout_s: float = 5.0) -> bool:
    """Whether somebody listens at `address`: (host, port), or the path of a Unix socket."""
    family = socket.AF_UNIX if isinstance(address, Path) else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.settimeout(timeout_s)
        with contextlib.suppress(OSError):
            probe.connect(str(address) if isinstance(address, Path) else address)
            return True
    return False
