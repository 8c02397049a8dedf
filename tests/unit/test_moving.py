"""The old process's end of a takeover: when all that it has offered has been taken."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import trio
import trio.testing

from pgpool_core.control.arrivals import Parcel
from pgpool_core.process.moving import Giver
from pgpool_core.process.packets import answer


class Given:
    """A pooler that gives; what is offered, and what comes back."""

    def __init__(self) -> None:
        self.offer: Callable[[Parcel], None] | None = None
        self.back: list[Parcel] = []

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
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pooler = Given()
    with theirs, trio.socket.from_stdlib_socket(ours) as connection:
        giver = Giver(connection, cast(Any, pooler))
        giver.begin()
        assert pooler.offer is not None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(giver.run)
            await trio.testing.wait_all_tasks_blocked()
            yield pooler, giver, pooler.offer


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
    assert not giver.came_back
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
    assert giver.came_back
    for one in pooler.back:
        one.close()
    assert len(pooler.back) == 1
