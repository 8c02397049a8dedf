"""What PgBouncer hands over, row by row: nothing that is wrong with one connection costs another one."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any, cast

import pytest
import trio

from pgpool_core.control.arrivals import Parcel, PoolFacts
from pgpool_core.control.strangers import ASKED_S, Strangers

CLIENT = {"task": "client", "user": "app", "database": "app", "cancel": "1", "link": "0"}
SERVER = {"task": "server", "user": "app", "database": "app", "cancel": "2", "link": "0"}


class Takes:
    """Arrivals: when what was taken, in which pool nobody ever finds a server."""

    def __init__(self) -> None:
        self.parcels: list[Parcel] = []
        self.times: list[float] = []

    def take(self, facts: PoolFacts, parcel: Parcel) -> None:
        self.parcels.append(parcel)
        self.times.append(trio.current_time())

    async def pool_of(self, facts: PoolFacts, user: bytes | None) -> None:
        await trio.sleep_forever()


async def take(*rows: tuple[Mapping[str, str], int]) -> Takes:
    arrivals = Takes()
    nothing = cast("Any", None)
    await Strangers(nothing, nothing, nothing, cast("Any", arrivals)).take(rows, [])
    for parcel in arrivals.parcels:
        parcel.close()
    return arrivals


async def test_a_server_whose_connection_was_reset_costs_its_client_alone() -> None:
    ours, theirs = socket.socketpair()
    other, client = socket.socketpair()
    reset = socket.socket()  # as one that was: it has no peer
    with ours, other:
        arrivals = await take(
            (CLIENT | {"link": "7"}, theirs.detach()),
            (SERVER | {"fd": "7", "link": "1"}, reset.detach()),
            (CLIENT, client.detach()),
        )
        assert b"its server could not be taken over" in ours.recv(1000)
        assert ours.recv(1000) == b""
    assert len(arrivals.parcels) == 1


@pytest.mark.parametrize("broken", [{"cancel": "none"}, {"cancel": ""}])
async def test_a_row_that_makes_no_sense_costs_itself(broken: dict[str, str]) -> None:
    ours, theirs = socket.socketpair()
    other, client = socket.socketpair()
    with ours, other:
        arrivals = await take((CLIENT | broken, theirs.detach()), (CLIENT, client.detach()))
        assert ours.recv(1000)[:1] == b"E"
    assert len(arrivals.parcels) == 1


async def test_servers_that_do_not_answer_keep_no_client_waiting(autojump_clock: trio.abc.Clock) -> None:
    ours, theirs = socket.socketpair()
    other, server = socket.socketpair()
    with ours, other:
        began = trio.current_time()
        arrivals = await take((SERVER | {"fd": "7"}, server.detach()), (CLIENT, theirs.detach()))
        assert arrivals.times == [began]
        assert trio.current_time() - began >= ASKED_S
