"""Timeouts of a proxy for those who have borrowed one of its servers: what its clients may not do for too long, they may not either.

The clocks are those of `engine.patience`; the wait for a server is timed there, for both.
"""

from __future__ import annotations

from time import perf_counter_ns

from pgpool_core.client import sqlstate
from pgpool_core.client.lent import LentLink
from pgpool_core.client.line import IDLE
from pgpool_core.control.routing import Patience


def overdue(link: LentLink, patience: Patience, *, listens: bool) -> sqlstate.PostgresError | None:
    """What a client that had this server would be told, where one of its timeouts is over.

    Args:
        listens: nothing is asked there, and nothing need be.
    """

    def over(since_ns: int, limit_us: int | None) -> bool:
        return bool(since_ns and limit_us) and perf_counter_ns() - since_ns >= (limit_us or 0) * 1000

    asked, begun, rested = link.clocks()
    if over(asked, patience.query_us):
        return _fatal("57014", "query timeout")
    if over(begun, patience.transaction_us):
        return _fatal("25P04", "transaction timeout")
    if link.status != IDLE:
        return _fatal("25P03", "idle transaction timeout") if over(rested, patience.idle_transaction_us) else None
    if not listens and over(rested, patience.client_idle_us):
        return _fatal("57P05", "client_idle_timeout")
    return None


def _fatal(code: str, text: str) -> sqlstate.PostgresError:
    return sqlstate.error_of({"S": "FATAL", "V": "FATAL", "C": code, "M": text})
