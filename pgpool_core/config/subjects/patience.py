"""Settings of [pgbouncer]: how long clients may wait, work and be silent."""

from __future__ import annotations

import attrs

from pgpool_core.config.declare import setting
from pgpool_core.config.units import Seconds


@attrs.frozen(kw_only=True, slots=False)
class Patience:
    """How long clients may wait, work and be silent."""

    query_wait_timeout: float = setting(120.0, Seconds(), "longest wait of a client for a server; 0 = any")
    query_wait_notify: float = setting(
        5.0, Seconds(), "a client that has waited for so long is told so by a notice, once; 0 = it is not"
    )
    query_timeout: float = setting(
        0.0,
        Seconds(),
        "longest time for a query, its wait for a server included; 0 = any. Cancels it and ends the client",
    )
    transaction_timeout: float = setting(
        0.0, Seconds(), "longest time for a transaction; 0 = any. Rolls it back and ends the client"
    )
    idle_transaction_timeout: float = setting(
        0.0, Seconds(), "longest pause of a client inside a transaction; 0 = any. Rolls it back and ends the client"
    )
    client_idle_timeout: float = setting(
        0.0, Seconds(), "longest silence of a client outside a transaction, without a server of its session; 0 = any"
    )
    cancel_wait_timeout: float = setting(
        10.0, Seconds(), "longest wait of a cancel request for its turn, when many are on their way; 0 = any"
    )
    message_stall_timeout: float = setting(
        30.0,
        Seconds(positive=True),
        "ours: how long a client may pause in the middle of a message while it holds a server",
    )
