"""[peers]: a cancel request that reaches the wrong one of several processes finds its way, and ends where nobody knows it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

import pytest

from pgpool_core.testing import PostgresServer, frontend
from pgpool_core.testing.pooler import PoolerProcess
from tests.conftest import PASSWORDS
from tests.integration.test_cancel import RUNNING, cancel, cancel_until_told
from tests.peers import letters, logged_in
from tests.watching import until_async


def pooler(postgres: PostgresServer, own: int) -> PoolerProcess:
    return PoolerProcess(
        databases={"app": f"host={postgres.host} port={postgres.port} user=app password={PASSWORDS['app']}"},
        settings={"auth_type": "any", "pool_mode": "transaction", "peer_id": own},
    )


@contextlib.asynccontextmanager
async def three(postgres: PostgresServer, *, unix: bool = False) -> AsyncGenerator[list[PoolerProcess]]:
    """Three processes that know each other, and the third a fourth that is not there."""
    made = [pooler(postgres, own) for own in (1, 2, 300)]
    places = [f"host={each.folder if unix else each.host} port={each.port}" for each in made]
    with contextlib.ExitStack() as stack:
        for each in made:
            stack.callback(each.close)
            each.ini_tail = "[peers]\n" + "\n".join(
                f"{other.settings['peer_id']} = {place}" for other, place in zip(made, places, strict=True)
            )
            each.start()
        yield made


@pytest.mark.parametrize("unix", [False, True])
async def test_a_cancel_request_finds_its_way_from_any_process(postgres: PostgresServer, unix: bool) -> None:
    async with three(postgres, unix=unix) as poolers:
        for home in poolers:
            for reached in poolers:
                async with logged_in(home) as client:
                    await client.send(frontend.query("select pg_sleep(61)"))
                    await until_async(lambda: postgres.sql(RUNNING) == "1")
                    await cancel(reached, client.pid, client.key)
                    assert letters(await client.until("Z")) == "TEZ"
                    assert letters(await client.query("select 1")) == "TDCZ"


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
