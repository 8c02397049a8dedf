"""`python -m tests.has_io_uring`: status 0 where this build and this system have io_uring, else 1 and why not."""

from __future__ import annotations

import sys

from pgpool_core.engine.plane import Engine


def refusal() -> str:
    """Why there is none; "" where there is."""
    return Engine(workers=1, io_backend="auto").io_refusal


if __name__ == "__main__":
    sys.exit(f"no io_uring here: {why}" if (why := refusal()) else 0)
