"""A pooler and the other process of a takeover: what it gives to one that takes its place, and takes from the one whose place it takes."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

from pgpool_core import logs
from pgpool_core.control.pooler import Pooler
from pgpool_core.errors import PgPoolError
from pgpool_core.process.exchange import Sender, packets_from
from pgpool_core.process.moving import Giver, take_all
from pgpool_core.process.packets import MAX_PACKET
from pgpool_core.process.predecessor import Predecessor
from pgpool_core.process.takeover import Sockets, Successor


def sockets_of(pooler: Pooler) -> Sockets:
    """What another process gets; it stays ours, too.

    Raises:
        OSError: the pooler is shutting down, and listens on a part of it only.
    """
    if pooler.orders.ending:
        raise OSError(errno.ESHUTDOWN, "shutting down")
    foreign = tuple(at for at, listener in enumerate(pooler.listeners) if listener.foreign)
    return Sockets(*pooler.listening_sockets(), texts=pooler.last_text, mock_key=pooler.mock_key, foreign=foreign)


async def give_all(
    connection: trio.socket.SocketType, pooler: Pooler, *, moves: bool, others: Callable[[], int]
) -> None:
    """Return when no client is left here: each has left, or (`moves`) is the other process's. Cancel requests come over the connection meanwhile.

    Args:
        others: how many more are to be waited for, that may become clients.
    """
    async with trio.open_nursery() as nursery:
        giver = Giver(connection, pooler.succession)
        nursery.start_soon(_listen_to, connection, pooler, giver)
        if moves:
            giver.begin()
            nursery.start_soon(giver.run)
        await pooler.wait_for_clients(others)
        if moves:
            await pooler.succession.give_servers()
        await pooler.succession.wait_given()
        await pooler.wait_for_clients()  # for those who have come back
        nursery.cancel_scope.cancel(reason="no client is left that anybody could cancel")


async def _listen_to(connection: trio.socket.SocketType, pooler: Pooler, giver: Giver) -> None:
    """What the new process says: that it has taken something, or the key of a cancel request. No such request keeps the rest waiting."""
    async with trio.open_nursery() as nursery:
        async for packet in packets_from(connection, MAX_PACKET):
            if not giver.received(packet):
                nursery.start_soon(_cancel, pooler, packet)
        giver.ended()


async def _cancel(pooler: Pooler, key: bytes) -> None:
    with suppress(PgPoolError):  # the pooler has just ended
        await pooler.succession.cancel(key)


async def take_from(successor: Successor, pooler: Pooler) -> None:
    """Take whatever comes, until the old process has ended."""

    def take(connection: trio.socket.SocketType, sender: Sender) -> Awaitable[None]:
        return take_all(connection, sender, pooler.succession)

    await successor.wait_ended(take)
    await pooler.succession.took_all()
    _tell_moved(pooler)
    pooler.succession.pass_cancels_to(None)


async def take_strangers(predecessor: Predecessor, pooler: Pooler) -> None:
    """Take what PgBouncer has handed over; it has ended."""
    fds, predecessor.fds = predecessor.fds, []
    await pooler.succession.take_strangers(fds, predecessor.clients)
    _tell_moved(pooler)


def _tell_moved(pooler: Pooler) -> None:
    clients, servers = pooler.succession.moved
    if clients or servers:
        logs.LOGGER.info("%s", logs.line("", "connections taken over", {"clients": clients, "servers": servers}))
