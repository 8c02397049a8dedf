"""The same work with each library: so many tasks that fetch from one pool, for a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

import attrs

from benchmarks.macro.procfs import cpu_spent, read_cpu

POOL_SIZE: Final = 10
ONE_ROW: Final = "select 1 as id, 'Ada Lovelace' as name, 36 as age, 1815.5::float8 as score where 1 = {}"
MANY_ROWS: Final = "select n as id, 'name ' || n as name, n * 2 as age, n / 3.0::float8 as score from generate_series(1, 1000) n where 1 = {}"


@attrs.frozen(kw_only=True)
class Work:
    """What is to be done.

    Attributes:
        rows: of each answer, 1 or 1,000.
        tasks: that do it at once.
        seconds: how long, after `warm_up` seconds that do not count.
        server: process id of PostgreSQL.
    """

    rows: int
    tasks: int
    seconds: float
    server: int
    warm_up: float = 0.3

    def sql(self, parameter: str) -> str:
        """The query, with the library's own form of its parameter."""
        return (ONE_ROW if self.rows == 1 else MANY_ROWS).format(parameter)


@attrs.frozen(kw_only=True)
class Figures:
    """What came of it."""

    per_second: float
    cpu_us: float
    """CPU time of this process per query, in microseconds."""
    server_us: float
    """The same of PostgreSQL, all its processes."""


class Clock:
    """Counts queries between the end of the warm-up and the end of the work."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._begin = time.monotonic() + work.warm_up
        self._end = self._begin + work.seconds
        self._cpu = self._wall = 0.0
        self._server = read_cpu(work.server)
        self._count = 0

    def goes_on(self) -> bool:
        """Called before each query; whether there is to be another one."""
        now = time.monotonic()
        if now < self._begin:
            return True
        if self._wall == 0:
            self._server = read_cpu(self._work.server)
            self._wall, self._cpu = now, time.process_time()
        self._count += 1
        return now < self._end

    def figures(self) -> Figures:
        """After the last query, while the connections are open."""
        wall, cpu = time.monotonic() - self._wall, time.process_time() - self._cpu
        server = cpu_spent(self._server, read_cpu(self._work.server))
        return Figures(
            per_second=self._count / wall,
            cpu_us=cpu / self._count * 1e6,
            server_us=server.total_us / self._count,
        )


def ours(dsn: str, work: Work) -> Figures:
    """pgpool_core.open_pool on trio."""
    import trio

    import pgpool_core

    clock, sql = Clock(work), work.sql("$1::int")

    async def task(pool: pgpool_core.Pool) -> None:
        while clock.goes_on():
            assert len(await pool.fetch(sql, 1)) == work.rows

    async def main() -> Figures:
        async with pgpool_core.open_pool(dsn, min_size=POOL_SIZE, max_size=POOL_SIZE) as pool:
            async with trio.open_nursery() as nursery:
                for _ in range(work.tasks):
                    nursery.start_soon(task, pool)
            return clock.figures()

    return trio.run(main)


def with_uvloop(dsn: str, work: Work) -> Figures:
    """asyncpg.Pool on uvloop."""
    import uvloop

    return with_asyncpg(dsn, work, uvloop.run)


def with_asyncpg(dsn: str, work: Work, run: Callable[[Coroutine[Any, Any, Figures]], Figures] = asyncio.run) -> Figures:
    """asyncpg.Pool on asyncio."""
    import asyncpg

    clock, sql = Clock(work), work.sql("$1::int")

    async def main() -> Figures:
        async with asyncpg.create_pool(dsn, min_size=POOL_SIZE, max_size=POOL_SIZE) as pool:

            async def task() -> None:
                while clock.goes_on():
                    assert len(await pool.fetch(sql, 1)) == work.rows

            await asyncio.gather(*(task() for _ in range(work.tasks)))
            return clock.figures()

    return run(main())


def with_psycopg(dsn: str, work: Work) -> Figures:
    """psycopg_pool.AsyncConnectionPool on asyncio, autocommit, binary results, prepared after the first executions."""
    from psycopg_pool import AsyncConnectionPool

    clock, sql = Clock(work), work.sql("%s::int")

    async def main() -> Figures:
        pool = AsyncConnectionPool(
            dsn, min_size=POOL_SIZE, max_size=POOL_SIZE, open=False, kwargs={"autocommit": True, "prepare_threshold": 0}
        )
        async with pool:
            await pool.wait()

            async def task() -> None:
                while clock.goes_on():
                    async with pool.connection() as connection, connection.cursor(binary=True) as cursor:
                        await cursor.execute(sql, (1,))
                        assert len(await cursor.fetchall()) == work.rows

            await asyncio.gather(*(task() for _ in range(work.tasks)))
            return clock.figures()

    return asyncio.run(main())


DRIVERS: Final[dict[str, Callable[[str, Work], Figures]]] = {
    "pgpool_core": ours,
    "asyncpg": with_asyncpg,
    "asyncpg+uvloop": with_uvloop,
    "psycopg_pool": with_psycopg,
}
