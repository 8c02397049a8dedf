"""The two ends of a takeover: when all that the old process has offered has been taken, and whose it is when one of them ends."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import trio
import trio.testing

from pgpool_core.control.arrivals import Parcel, PoolFacts
from pgpool_core.process.exchange import Sender, packets_from
from pgpool_core.process.moving import Giver, take_all
from pgpool_core.process.packets import MAX_PACKET, answer, answered, parcel_packets, pool_packet, refusal


class Given:
    """A pooler that gives; what is offered, and what comes back."""

    def __init__(self) -> None:
        self.offer: Callable[[Parcel], None] | None = None
        self.back: list[Parcel] = []
        self.given: object = None

    @property
    def gives(self) -> bool:
        return self.offer is not None

    def give_to(self, take: Callable[[Parcel], None] | None) -> None:
        self.offer = take

    def take_back(self, parcel: Parcel) -> None:
        self.back.append(parcel)

    def pool_facts(self, pool: int) -> None:
        return None

    def client_keys(self) -> frozenset[bytes]:
        return frozenset()


def parcel() -> Parcel:
    return Parcel(pool=0, client_fd=socket.socket().detach(), server_fd=-1, data=b"somebody")


async def waits(giver: Giver) -> bool:
    """Whether `wait_given` does, once everybody else has done what there was to do."""
    over = trio.Event()

    async def wait() -> None:
        await giver.wait_given()
        over.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    return not over.is_set()


@asynccontextmanager
async def giving() -> AsyncIterator[tuple[Given, Giver, Callable[[Parcel], None]]]:
    """A pooler, its giver at work, and the way in which it offers; the other process answers nothing by itself."""
    async with giving_to() as (pooler, giver, offer, _, _):
        yield pooler, giver, offer


@asynccontextmanager
async def giving_to() -> AsyncIterator[
    tuple[Given, Giver, Callable[[Parcel], None], socket.socket, trio.socket.SocketType]
]:
    """As `giving`, with the other process's end of the connection and ours."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pooler = Given()
    with theirs, trio.socket.from_stdlib_socket(ours) as connection:
        giver = Giver(connection, cast(Any, pooler))
        giver.begin()
        assert pooler.offer is not None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(giver.run)
            await trio.testing.wait_all_tasks_blocked()
            yield pooler, giver, pooler.offer, theirs, connection


async def test_what_has_been_offered_and_not_been_sent_yet_is_waited_for() -> None:
    """The answer to an earlier parcel comes when the next one is neither in the queue any more nor on its way."""
    async with giving() as (pooler, giver, offer):
        offer(parcel())
        await trio.testing.wait_all_tasks_blocked()
        offer(parcel())
        assert giver.received(answer(1))
        assert await waits(giver)
        assert giver.received(answer(2))
        assert not await waits(giver)
        assert giver.received(answer(2)), "twice: nothing happens"
        giver.ended()
    assert pooler.back == []


async def test_what_is_offered_while_somebody_waits_is_waited_for_too() -> None:
    over = trio.Event()

    async def wait(giver: Giver) -> None:
        await giver.wait_given()
        over.set()

    async with giving() as (_, giver, offer), trio.open_nursery() as nursery:
        offer(parcel())
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(wait, giver)
        await trio.testing.wait_all_tasks_blocked()
        offer(parcel())
        await trio.testing.wait_all_tasks_blocked()
        assert giver.received(answer(1))
        await trio.testing.wait_all_tasks_blocked()
        assert not over.is_set()
        assert giver.received(answer(2))
        with trio.fail_after(10):
            await over.wait()
        giver.ended()


async def test_what_has_not_been_answered_comes_back_when_the_other_one_ends() -> None:
    async with giving() as (pooler, giver, offer):
        offer(parcel())
        await trio.testing.wait_all_tasks_blocked()
        assert await waits(giver)
        giver.ended()
    assert not await waits(giver)
    for one in pooler.back:
        one.close()
    assert len(pooler.back) == 1


async def test_what_was_answered_before_the_other_one_ended_does_not_come_back() -> None:
    """It has ended with packets unread, so our next one fails before its last answers are read."""
    async with giving_to() as (pooler, giver, offer, theirs, connection):
        for _ in range(3):
            offer(parcel())
            await trio.testing.wait_all_tasks_blocked()
        theirs.send(answer(1))
        theirs.send(answer(2))
        theirs.close()
        offer(parcel())
        await trio.testing.wait_all_tasks_blocked()
        assert pooler.back == []
        async for packet in packets_from(connection, MAX_PACKET):
            assert giver.received(packet)
        giver.ended()
    for one in pooler.back:
        one.close()
    assert len(pooler.back) == 2


async def test_what_cannot_be_taken_comes_back_and_nothing_more_is_given() -> None:
    async with giving() as (pooler, giver, offer):
        offer(parcel())
        offer(parcel())
        await trio.testing.wait_all_tasks_blocked()
        assert giver.received(refusal(1))
        assert not pooler.gives
        assert len(pooler.back) == 1
        assert await waits(giver)
        assert giver.received(answer(2))
        assert not await waits(giver)
        giver.ended()
    for one in pooler.back:
        one.close()
    assert len(pooler.back) == 1


async def test_when_this_process_stops_the_other_one_has_what_was_sent() -> None:
    """What was not is the pooler's to close."""
    async with giving_to() as (pooler, giver, offer, theirs, _):
        ours, client = socket.socketpair()
        offer(Parcel(pool=0, client_fd=client.detach(), server_fd=-1, data=b"somebody"))
        await trio.testing.wait_all_tasks_blocked()
        with trio.CancelScope() as scope:
            scope.cancel()
            await giver.run()
        assert pooler.back == []
        _, fds, _, _ = socket.recv_fds(theirs, MAX_PACKET, 1)
        with ours, socket.socket(fileno=fds[0]) as taken:
            taken.send(b"served")
            assert ours.recv(100) == b"served"
        giver.ended()


class Taken:
    """A pooler that takes."""

    def __init__(self) -> None:
        self.parcels: list[Parcel] = []
        self.learnt: list[bytes] = []

    def take(self, facts: PoolFacts, parcel: Parcel) -> None:
        self.parcels.append(parcel)

    def learn_texts(self, parcel: Parcel) -> None:
        self.learnt.append(parcel.data)


FACTS = PoolFacts(database="app", user="app", target="abc")


async def take(theirs: trio.socket.SocketType) -> Taken:
    pooler = Taken()
    with trio.fail_after(10):
        await take_all(theirs, Sender(theirs), cast(Any, pooler))
    return pooler


def send(ours: socket.socket, number: int, *, copies: int = 1) -> None:
    one = parcel()
    for packet in parcel_packets(number, one):
        socket.send_fds(ours, [packet], [one.client_fd] * copies)
    one.close()


async def test_what_the_old_process_had_sent_is_taken_though_it_has_ended() -> None:
    """It has not read an earlier answer, and hears no further one."""
    ours, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with trio.socket.from_stdlib_socket(other) as theirs:
        with ours:
            ours.send(pool_packet(0, FACTS))
            send(ours, 1)
            send(ours, 2)
            await theirs.send(b"unread")
        pooler = await take(theirs)
    for one in pooler.parcels:
        one.close()
    assert len(pooler.parcels) == 2


async def test_a_parcel_without_its_descriptors_is_refused_and_the_next_one_taken() -> None:
    """Which have been lost on the way: the kernel gives no more than there is room for."""
    ours, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, trio.socket.from_stdlib_socket(other) as theirs:
        ours.send(pool_packet(0, FACTS))
        send(ours, 1, copies=3)
        send(ours, 2)
        ours.shutdown(socket.SHUT_WR)
        pooler = await take(theirs)
        assert [answered(ours.recv(100)) for _ in range(2)] == [(1, False), (2, True)]
    assert pooler.learnt == [b"somebody"]
    for one in pooler.parcels:
        one.close()
    assert len(pooler.parcels) == 1
