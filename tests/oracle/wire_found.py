"""Sequences that the oracle has found, in their shortest form: each once got another answer through the pooler."""

from __future__ import annotations

from pgpool_core.testing import frontend
from tests.oracle.wire_script import Burst, Part, WireScript

__all__ = ["FOUND"]

Q, P, B, E, D, S = frontend.query, frontend.parse, frontend.bind, frontend.execute, frontend.describe, frontend.sync()


BAD = frontend.copy_data(b"bad\n")


def _sequence(number: int, *bursts: bytes) -> WireScript:
    return WireScript(number, [Burst([Part(data, f"burst {at}")]) for at, data in enumerate(bursts)])


FOUND = (
    # A COPY that fails while the Syncs behind it are sent already: they are answered, not part of the copy.
    _sequence(
        1,
        P("copy load from stdin", "s2")
        + B("s2", "p1")
        + E("p1", 2)
        + frontend.copy_data(b"bad\n")
        + P("select 1")
        + S
        + frontend.copy_data(b"")
        + S
        + P("rollback"),
    ),
    # A Query in a group that has failed is skipped.
    _sequence(2, P("selec") + Q("select 1") + S, Q("select 2")),
    _sequence(3, P("select 1") + B() + E() + Q("select 1/0") + P("select 2") + S),
    # A text that the server knows, in a transaction that has failed in front of it in the same pipeline.
    _sequence(4, P("select 5", "s1") + S, Q("begin") + Q("select 1/0") + P("select 5", "s2") + B("s2") + E() + S),
    _sequence(5, P("begin", "s2") + B("s2") + E() + E() + S + P("fetch 1 from c", "s1") + S, P("select 1", "s1") + S),
    # The statement that was only judged is still there under the name that had it.
    _sequence(6, P("begin", "s1") + B("s1") + E(), B("s1") + E() + E() + S + P("begin", "s2"), B("s1", values=("7",))),
    # What is prepared behind a DEALLOCATE ALL is prepared when that has been done.
    _sequence(7, P("select 6", "s1") + S, Q("deallocate all") + P("select 6", "s1") + B("s1") + E() + S + D("s1") + S),
    # The name in an error behind a Sync that a COPY has swallowed.
    _sequence(
        8,
        P("copy load from stdin", "s1") + B("s1", "p1") + E("p1") + S + frontend.copy_done() + P("copy load", "s1"),
        P("select 1", "s1") + S,
    ),
    # Syncs behind the bad row are answered, also the second one, and what is behind them is not skipped.
    _sequence(
        9,
        P("copy load from stdin", "s2")
        + B("s2")
        + E()
        + BAD
        + S
        + S
        + B("s2", values=("7",))
        + P("select 1", "s2")
        + S,
        P("select 2", "s2") + S,
    ),
    # The server answers the Sync, whatever is sent of the COPY behind it.
    _sequence(10, P("copy load from stdin", "s1") + B("s1") + E() + BAD + S + frontend.copy_fail("no more")),
    # A Sync that was read in the COPY, and one behind its end; the end is told when something asks for it.
    _sequence(11, P("copy load from stdin", "s1") + B("s1") + E() + S + frontend.copy_fail("no more") + Q("select 1")),
    _sequence(12, P("copy load from stdin") + B() + E() + S + frontend.copy_done() + P("select 1", "s1") + B("s1") + S),
)
