"""`open_proxy_asyncio`: started, asked, cancelled and stopped from asyncio, whose loop never waits for it."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections import Counter
from contextlib import suppress

import asyncpg
import pytest

import pgpool_core
from pgpool_core.errors import CommandRefused, ConfigError, PoolClosed
from pgpool_core.testing import PostgresServer
from tests.watching import descriptors, until

NOWHERE = "postgresql://u@h/d"


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "pgpool_core proxy"]


def test_a_driver_of_asyncio_and_the_proxy_beside_it(postgres: PostgresServer) -> None:
    gc.collect()
    before = Counter(descriptors(os.getpid()))

    async def main() -> pgpool_core.AsyncioProxy:
        async with pgpool_core.open_proxy_asyncio(postgres.dsn("app", "app"), default_pool_size=2) as proxy:
            assert proxy.environ()["PGPASSWORD"] not in repr(proxy)
            pool = await asyncpg.create_pool(proxy.url_for("asyncpg"), min_size=4, max_size=4)
            try:
                found = await asyncio.gather(*(pool.fetchval("select $1::int", n) for n in range(50)))
                assert found == [*range(50)]
                seen = await proxy.statistics()
                assert (seen.overall.totals.client_logins, seen.pools[0].servers_total <= 2) == (4, True)
                assert len((await proxy.snapshot()).clients) == 4
                assert (await proxy.features()).named_statements > 0
            finally:
                await pool.close()
            await proxy.pause()
            with pytest.raises(CommandRefused):
                await proxy.pause()
            await proxy.resume()
            with pytest.raises(ConfigError):
                await proxy.reload(pgpool_core.Config(databases={}, auth_type="md5", auth_file="/no/such/file"))
        return proxy

    proxy = asyncio.run(main())
    assert proxy.closed
    assert not threads()
    gc.collect()
    until(lambda: not Counter(descriptors(os.getpid())) - before, what="no descriptor is left")


async def until_paused(proxy: pgpool_core.AsyncioProxy, paused: bool) -> None:
    async with asyncio.timeout(10):
        while (await proxy.statistics()).state.paused is not paused:
            pass


def test_the_loop_goes_on_while_a_pause_waits_and_a_cancelled_pause_resumes(postgres: PostgresServer) -> None:
    async def main() -> None:
        async with pgpool_core.open_proxy_asyncio(postgres.dsn("app", "app")) as proxy:
            connection = await asyncpg.connect(proxy.url)
            try:
                await connection.execute("begin")
                pausing = asyncio.create_task(proxy.pause())
                await until_paused(proxy, True)
                assert not pausing.done()
                pausing.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await pausing
                await until_paused(proxy, False)
                await connection.execute("rollback")
                assert await connection.fetchval("select 2") == 2
            finally:
                await connection.close()

    asyncio.run(main())


def test_shutdown_in_the_block_and_every_call_after_it() -> None:
    async def main() -> None:
        async with pgpool_core.open_proxy_asyncio(NOWHERE) as proxy:
            await proxy.shutdown()
            await proxy.shutdown()
            assert proxy.closed
            for call in (proxy.statistics, proxy.features, proxy.snapshot, proxy.reload, proxy.pause, proxy.resume):
                with pytest.raises(PoolClosed):
                    await call()

    asyncio.run(main())
    assert not threads()


def test_a_question_that_the_end_overtakes_is_answered(postgres: PostgresServer) -> None:
    async def main() -> None:
        async with pgpool_core.open_proxy_asyncio(postgres.dsn("app", "app")) as proxy:
            connection = await asyncpg.connect(proxy.url)
            await connection.execute("begin")
            pausing = asyncio.create_task(proxy.pause())
            await until_paused(proxy, True)
            stopping = asyncio.create_task(proxy.shutdown())
            with suppress(PoolClosed):  # or the end has let the last server go
                await pausing
            await stopping
            connection.terminate()

    asyncio.run(main())
    assert not threads()


def test_an_error_at_the_start_and_one_in_the_block_come_out_as_themselves() -> None:
    async def start() -> None:
        async with pgpool_core.open_proxy_asyncio(NOWHERE, no_such_setting=1):
            pytest.fail("it must not start")

    async def fail() -> None:
        async with pgpool_core.open_proxy_asyncio(NOWHERE):
            raise LookupError("mine")

    with pytest.raises(ConfigError, match="no_such_setting"):
        asyncio.run(start())
    with pytest.raises(LookupError, match="mine"):
        asyncio.run(fail())
    assert not threads()


@pytest.mark.parametrize("turns", range(4))
def test_a_task_that_is_cancelled_while_it_starts_leaves_nothing(turns: int) -> None:
    async def life() -> None:
        async with pgpool_core.open_proxy_asyncio(NOWHERE):
            await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(life())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert not threads()


@pytest.mark.parametrize("turns", range(4))
def test_a_task_that_is_cancelled_while_it_stops_leaves_nothing(turns: int) -> None:
    async def life(leaving: asyncio.Event) -> None:
        async with pgpool_core.open_proxy_asyncio(NOWHERE):
            leaving.set()

    async def main() -> None:
        leaving = asyncio.Event()
        task = asyncio.create_task(life(leaving))
        await leaving.wait()
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert not threads()
