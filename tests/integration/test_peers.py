"""[peers]: a cancel request that reaches the wrong one of several processes finds its way, and ends where nobody knows it."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncGenerator
from functools import partial
from pathlib import Path
from signal import SIGTERM

import attrs
import pytest
import trio

from pgpool_core.testing import PostgresServer, ScriptedPeer, find_pgbouncer, frontend
from pgpool_core.testing.pooler import Kind, PoolerProcess
from tests.conftest import PASSWORDS
from tests.integration.test_cancel import RUNNING, cancel, cancel_until_told
from tests.peers import letters, logged_in
from tests.programs import pgbouncer_before
from tests.watching import until_async


def pooler(postgres: PostgresServer, own: int, kind: Kind = "pgpool_core") -> PoolerProcess:
    return PoolerProcess(
        kind=kind,
        databases={"app": f"host={postgres.host} port={postgres.port} user=app password={PASSWORDS['app']}"},
        settings={"auth_type": "any", "pool_mode": "transaction", "peer_id": own},
    )


@contextlib.asynccontextmanager
async def three(
    postgres: PostgresServer, *, unix: bool = False, second: Kind = "pgpool_core"
) -> AsyncGenerator[list[PoolerProcess]]:
    """Three processes that know each other."""
    made = [pooler(postgres, 1), pooler(postgres, 2, second), pooler(postgres, 300)]
    places = [f"host={each.folder if unix else each.host} port={each.port}" for each in made]
    with contextlib.ExitStack() as stack:
        for each in made:
            stack.callback(each.close)
            each.ini_tail = "[peers]\n" + "\n".join(
                f"{other.settings['peer_id']} = {place}" for other, place in zip(made, places, strict=True)
            )
            each.start()
        yield made


@pytest.mark.parametrize("second", ["pgpool_core", pytest.param("pgbouncer", marks=pytest.mark.pgbouncer)])
@pytest.mark.parametrize("unix", [False, True])
async def test_a_cancel_request_finds_its_way_from_any_process(
    postgres: PostgresServer, unix: bool, second: Kind
) -> None:
    if second == "pgbouncer" and (find_pgbouncer() is None or pgbouncer_before(1, 21) or unix):
        pytest.skip("needs PgBouncer 1.21, whose keys have what ours have; its account does not see our sockets")
    async with three(postgres, unix=unix, second=second) as poolers:
        for home in poolers:
            for reached in poolers:
                async with logged_in(home) as client:
                    await client.send(frontend.query("select pg_sleep(61)"))
                    await until_async(lambda: postgres.sql(RUNNING) == "1")
                    await cancel(reached, client.pid, client.key)
                    assert letters(await client.until("Z")) == "TEZ"
                    assert letters(await client.query("select 1")) == "TDCZ"


def listening(port: int) -> int:
    """How many sockets listen on a port of 127.0.0.1. Source: proc(5), /proc/net/tcp; state 0A is LISTEN."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(words[1].endswith(f":{port:04X}") and words[3] == "0A" for words in lines)


def running(postgres: PostgresServer, count: int) -> bool:
    return postgres.sql(RUNNING) == str(count)


def home(client: ScriptedPeer) -> int:
    """The peer_id in its cancel key."""
    return int.from_bytes(client.pid.to_bytes(4)[1:3], "little")


@pytest.mark.slow
async def test_processes_on_one_port_are_replaced_one_after_the_other_while_queries_are_cancelled(
    postgres: PostgresServer,
) -> None:
    """so_reuseport: whoever a cancel request reaches, also while the one that it is meant for takes nobody in any more."""
    first = pooler(postgres, 1)
    second = attrs.evolve(pooler(postgres, 2), port=first.port)
    peers = "[peers]\n" + "\n".join(
        f"{each.settings['peer_id']} = host={each.folder} port={first.port}" for each in (first, second)
    )
    with contextlib.ExitStack() as stack:
        for each in (first, second):
            stack.callback(each.close)
            each.ini_tail, each.settings["so_reuseport"] = peers, 1
            each.start()
        for leaving in (first, second):
            async with contextlib.AsyncExitStack() as clients:
                there: list[ScriptedPeer] = []
                while min(Counter(home(client) for client in there)[number] for number in (1, 2)) < 2:
                    there.append(await clients.enter_async_context(logged_in(first)))  # the kernel shares them out
                for client in there:
                    await client.send(frontend.query("select pg_sleep(61)"))
                await until_async(partial(running, postgres, len(there)))
                for client in there[::2]:
                    assert await cancel_until_told(first, client) == "TEZ"
                leaving.process.signal(SIGTERM)
                await until_async(lambda: listening(first.port) == 1)
                for client in there[1::2]:
                    assert await cancel_until_told(first, client) == "TEZ"
                for client in there:
                    assert letters(await client.query("select 1")) == "TDCZ"
            assert await trio.to_thread.run_sync(leaving.process.wait) == 0
            await trio.to_thread.run_sync(leaving.start)


async def test_a_request_that_nobody_knows_ends(postgres: PostgresServer) -> None:
    async with three(postgres) as (one, _, _), logged_in(one) as client:
        key = client.pid.to_bytes(4) + client.key
        unknown = key[:1] + (77).to_bytes(2, "little") + key[3:]
        await cancel(one, int.from_bytes(unknown[:4]), unknown[4:])
        one.wait_for_log("peer 77, which is not in")
        tired = key[:1] + (2).to_bytes(2, "little") + key[3:7] + bytes([key[7] & 0xFC])
        await cancel(one, int.from_bytes(tired[:4]), tired[4:])
        one.wait_for_log("peer 2 has been passed on too often")
        assert letters(await client.query("select 1")) == "TDCZ"


async def test_a_peer_that_is_not_there_disturbs_nobody(postgres: PostgresServer) -> None:
    async with three(postgres) as (one, two, _):
        async with logged_in(two) as lost:
            key = lost.pid, lost.key
        two.stop()
        async with logged_in(one) as client:
            await cancel(one, *key)
            one.wait_for_log("peer-2 cannot send a cancel request")
            assert letters(await client.query("select 1")) == "TDCZ"


async def test_reload_changes_who_is_known(postgres: PostgresServer) -> None:
    async with three(postgres) as (one, two, _):
        one.ini_tail = "[peers]\n1 = host=127.0.0.1"
        one.reload()
        one.wait_for_log("configuration reloaded")
        async with logged_in(two) as client:
            await cancel(one, client.pid, client.key)
            one.wait_for_log("peer 2, which is not in")
            await client.send(frontend.query("select pg_sleep(61)"))
            await until_async(lambda: postgres.sql(RUNNING) == "1")
            assert await cancel_until_told(two, client) == "TEZ"
