"""Which random scripts are played."""

from __future__ import annotations

import os
import secrets

__all__ = ["SEED", "seeds"]

SEED = "PGPOOL_ORACLE_SEED"


def seeds(count: int) -> list[int]:
    """The one of the environment, or `count` new ones."""
    if given := os.environ.get(SEED):
        return [int(given)]
    first = secrets.randbelow(2**31)
    return list(range(first, first + count))
