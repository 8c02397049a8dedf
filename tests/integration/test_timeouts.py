"""Timeouts of clients: which clock ends whom, what the client is told, what becomes of the server."""

from __future__ import annotations

import psycopg
import pytest

from pgpool_core.testing import PostgresServer, ScriptedPeer, frontend
from tests.conftest import PoolerFactory
from tests.peers import letters, logged_in, values
from tests.watching import until_async

FOREVER = "select pg_sleep(600)"
SHORT = 0.3  # s, of the timeout that is to end somebody
HOLD = "select pg_advisory_lock(7)"


async def ended(peer: ScriptedPeer) -> tuple[str, str]:
    """SQLSTATE and text of the FATAL that ends a client, whatever was on its way before."""
    error = (await peer.until("E"))[-1]
    await peer.expect_end()
    assert error.fields["S"] == "FATAL"
    return error.fields["C"], error.fields["M"]


def state_of(postgres: PostgresServer, answer: list[list[bytes | None]]) -> str:
    """State and query of the server whose process the answer to `select pg_backend_pid()` names, as PostgreSQL sees them."""
    pid = answer[0][0]
    assert pid is not None
    return postgres.sql(f"select state || ' ' || query from pg_stat_activity where pid = {int(pid)}")


# -- one after the other ------------------------------------------------------------------------------------------------


async def test_a_query_that_takes_too_long_ends_its_client(any_pooler: PoolerFactory) -> None:
    place = any_pooler(query_timeout=1)
    async with logged_in(place) as peer:
        await peer.send(frontend.query(FOREVER))
        assert (await ended(peer))[1] == "query timeout"


async def test_the_query_is_cancelled_and_the_server_used_again(
    pooler: PoolerFactory, postgres: PostgresServer
) -> None:
    place = pooler(query_timeout=SHORT, default_pool_size=1)
    async with logged_in(place) as peer:
        pid = values(await peer.query("select pg_backend_pid()"))
        await peer.query("begin")
        await peer.send(frontend.query(FOREVER))
        assert await ended(peer) == ("57014", "query timeout")
    async with logged_in(place) as after:
        assert values(await after.query("select pg_backend_pid()")) == pid
    assert state_of(postgres, pid) == "idle select pg_backend_pid()"


async def test_an_extended_query_that_is_flushed_and_never_synced_counts_too(pooler: PoolerFactory) -> None:
    place = pooler(query_timeout=SHORT)
    async with logged_in(place) as peer:
        await peer.send(frontend.parse(FOREVER), frontend.bind(), frontend.execute(), frontend.flush())
        assert await ended(peer) == ("57014", "query timeout")


async def test_the_time_in_the_queue_counts_as_time_of_the_query(pooler: PoolerFactory) -> None:
    # PgBouncer 1.18 ends the holder too, though it runs nothing
    place = pooler(query_timeout=SHORT, default_pool_size=1)
    async with logged_in(place) as holder, logged_in(place) as waiter:
        await holder.query("begin")
        await waiter.send(frontend.query("select 1"))
        assert (await ended(waiter))[1] == "query_timeout"
        assert values(await holder.query("select 2")) == [[b"2"]]


async def test_who_waited_has_only_the_rest_of_the_time_left(pooler: PoolerFactory, postgres: PostgresServer) -> None:
    place = pooler(query_timeout=3, default_pool_size=1, query_wait_notify=1)
    async with logged_in(place) as holder, logged_in(place) as waiter:
        await holder.query("begin")
        await waiter.send(frontend.query("select now() as began; " + FOREVER))
        await waiter.expect("N")  # a second has gone by in the queue
        began = postgres.sql("select clock_timestamp()")
        await holder.query("commit")
        assert await ended(waiter) == ("57014", "query timeout")
    took = postgres.sql(f"select clock_timestamp() < timestamptz '{began}' + interval '2.8 seconds'")
    assert took == "t", "it was given the whole time again"


async def test_an_answer_that_never_ends_is_cut_without_a_word_inside_it(pooler: PoolerFactory) -> None:
    place = pooler(query_timeout=3)
    async with logged_in(place) as peer:
        await peer.send(frontend.query("select repeat('x', 20000000)"))
        await peer.expect("T")  # with which the row begins
        await until_async(lambda: "closing because: query timeout" in place.log)
        with pytest.raises(Exception, match="the connection ended inside a message"):
            while await peer.receive() is not None:
                pass


async def test_a_pause_inside_a_transaction_may_be_too_long(any_pooler: PoolerFactory) -> None:
    place = any_pooler(idle_transaction_timeout=1)
    async with logged_in(place) as peer:
        await peer.query("begin")
        assert (await ended(peer))[1] == "idle transaction timeout"


async def test_what_was_begun_in_it_is_rolled_back_and_the_server_used_again(
    pooler: PoolerFactory, postgres: PostgresServer
) -> None:
    place = pooler(idle_transaction_timeout=SHORT, default_pool_size=1)
    async with logged_in(place) as peer:
        pid = values(await peer.query("select pg_backend_pid()"))
        await peer.query("begin")
        await peer.query("create table left_behind ()")
        assert await ended(peer) == ("25P03", "idle transaction timeout")
    async with logged_in(place) as after:
        answer = await after.query("select pg_backend_pid(), to_regclass('left_behind')")
        assert values(answer) == [[pid[0][0], None]]


async def test_a_failed_transaction_is_a_pause_too(pooler: PoolerFactory) -> None:
    place = pooler(idle_transaction_timeout=SHORT)
    async with logged_in(place) as peer:
        await peer.query("begin")
        await peer.query("select 1/0")
        assert await ended(peer) == ("25P03", "idle transaction timeout")


async def test_a_transaction_may_be_too_long_though_it_never_pauses(pooler: PoolerFactory) -> None:
    place = pooler(transaction_timeout=1, idle_transaction_timeout=60, query_timeout=60)
    async with logged_in(place) as peer:
        await peer.query("begin")
        seen = b""
        while seen != b"E":
            await peer.send(frontend.query("select pg_sleep(0.01)"))
            answer = await peer.receive()
            while answer is not None and answer.type not in (b"Z", b"E"):
                answer = await peer.receive()
            assert answer is not None
            seen = answer.type
        assert (answer.fields["C"], answer.fields["M"]) == ("25P04", "transaction timeout")


async def test_a_single_query_is_a_transaction_too(pooler: PoolerFactory) -> None:
    place = pooler(transaction_timeout=SHORT)
    async with logged_in(place) as peer:
        await peer.send(frontend.query(FOREVER))
        assert await ended(peer) == ("25P04", "transaction timeout")


@pytest.mark.parametrize("mode", ["session", "transaction"])
async def test_a_client_that_is_silent_for_too_long_is_sent_away(any_pooler: PoolerFactory, mode: str) -> None:
    place = any_pooler(client_idle_timeout=1, pool_mode=mode)
    async with logged_in(place) as peer:
        if mode == "transaction":  # in session mode it would have a server from then on
            await peer.query("select 1")
        assert (await ended(peer))[1] == "client_idle_timeout"


async def test_a_client_that_keeps_its_server_for_its_session_state_may_be_silent_too_long_as_well(
    pooler: PoolerFactory,
) -> None:
    place = pooler(client_idle_timeout=SHORT)
    async with logged_in(place) as peer:
        await peer.query("create temporary table kept ()")
        assert await ended(peer) == ("57P05", "client_idle_timeout")


async def test_idle_in_session_mode_with_a_server_is_not_silent(any_pooler: PoolerFactory) -> None:
    place = any_pooler(client_idle_timeout=1, pool_mode="session")
    async with logged_in(place) as keeps, logged_in(place) as none:
        await keeps.query("select 1")
        assert (await ended(none))[1] == "client_idle_timeout"
        async with logged_in(place) as again:
            assert (await ended(again))[1] == "client_idle_timeout"
        assert values(await keeps.query("select 2")) == [[b"2"]]


# -- who is told ----------------------------------------------------------------------------------------------------------


async def test_who_waits_is_told_once(pooler: PoolerFactory) -> None:
    place = pooler(query_wait_notify=SHORT, default_pool_size=1)
    async with logged_in(place) as holder, logged_in(place) as waiter:
        for _ in range(2):
            await holder.query("begin")
            await waiter.send(frontend.query("select 1"))
            notice = await waiter.expect("N")
            assert (notice.fields["S"], notice.fields["C"], notice.fields["M"]) == (
                "NOTICE",
                "00000",
                "No server connection available in postgres backend, client being queued",
            )
            async with logged_in(place) as other:  # another notice later, so the first waiter could have had a second
                await other.send(frontend.query("select 1"))
                await other.expect("N")
                await holder.query("commit")
                assert letters(await other.until("Z")) == "TDCZ"
            assert letters(await waiter.until("Z")) == "TDCZ"


async def test_nobody_is_told_where_nobody_wants_to_be(pooler: PoolerFactory) -> None:
    place = pooler(query_wait_notify=0, query_wait_timeout=1, default_pool_size=1)
    async with logged_in(place) as holder, logged_in(place) as waiter:
        await holder.query("begin")
        await waiter.send(frontend.query("select 1"))
        assert letters(await waiter.until("E")) == "E"


# -- whose clock --------------------------------------------------------------------------------------------------------


SILENCE = {"query_timeout": HOLD, "transaction_timeout": HOLD, "idle_transaction_timeout": "begin"}


@pytest.mark.parametrize("setting", ["query_timeout", "transaction_timeout", "idle_transaction_timeout"])
@pytest.mark.parametrize(
    ("everybody", "database", "user"),
    [(SHORT, None, 0), (SHORT, 0, None), (0, SHORT, 0), (SHORT, SHORT, 0)],
)
async def test_the_user_goes_before_the_database_and_the_database_before_everybody(
    pooler: PoolerFactory,
    postgres: PostgresServer,
    setting: str,
    everybody: float,
    database: float | None,
    user: float | None,
) -> None:
    at = f"host={postgres.host} port={postgres.port}"
    place = pooler(
        databases={"app": at + ("" if database is None else f" {setting}={database}"), "*": at},
        users={
            **({} if user is None else {"plain": f"{setting}={user}"}),
            "legacy": f"{setting}={SHORT}",
        },
        **{setting: everybody},
    )
    with psycopg.connect(postgres.dsn("boss", "app")) as lock:
        lock.execute(HOLD)
        async with logged_in(place, "plain") as spared, logged_in(place, "legacy") as first:
            for peer in (spared, first):
                await peer.send(frontend.query(SILENCE[setting]))
            assert (await ended(first))[1] == setting.replace("_", " ")
            async with logged_in(place, "legacy") as second:  # the first one's clock began later than the spared one's
                await second.send(frontend.query(SILENCE[setting]))
                assert (await ended(second))[1] == setting.replace("_", " ")
            lock.rollback()
            lock.execute("select pg_advisory_unlock_all()")
            assert letters(await spared.until("Z"))[-1] == "Z"
            assert values(await spared.query("select 1")) == [[b"1"]]


async def test_one_users_silence_is_no_other_users_matter(pooler: PoolerFactory) -> None:
    place = pooler(users={"legacy": f"client_idle_timeout={SHORT}"})
    async with logged_in(place, "app") as other, logged_in(place, "legacy") as silent:
        assert await ended(silent) == ("57P05", "client_idle_timeout")
        assert values(await other.query("select 1")) == [[b"1"]]


async def test_one_users_patience_in_the_queue_is_their_own(pooler: PoolerFactory) -> None:
    place = pooler(users={"legacy": "query_wait_timeout=0"}, query_wait_timeout=SHORT, max_db_connections=1)
    async with logged_in(place) as holder, logged_in(place, "legacy") as patient:
        await holder.query("begin")
        await patient.send(frontend.query("select 1"))
        for _ in range(2):
            async with logged_in(place) as other:
                await other.send(frontend.query("select 1"))
                assert await ended(other) == ("53000", "query_wait_timeout")
        await holder.query("commit")
        assert letters(await patient.until("Z"))[-4:] == "TDCZ"


async def test_login_name_counts_where_the_servers_user_is_forced(
    pooler: PoolerFactory, postgres: PostgresServer
) -> None:
    place = pooler(
        databases={"app": f"host={postgres.host} port={postgres.port} user=app password=app-secret"},
        users={"app": f"query_timeout={SHORT}", "plain": "query_timeout=0", "legacy": f"query_timeout={SHORT}"},
    )
    with psycopg.connect(postgres.dsn("boss", "app")) as lock:
        lock.execute(HOLD)
        async with logged_in(place, "plain") as spared:
            await spared.send(frontend.query(HOLD))
            for user in ("legacy", "trusted"):  # `trusted` has no entry: that of the servers' user counts
                async with logged_in(place, user) as peer:
                    await peer.send(frontend.query(HOLD))
                    assert (await ended(peer))[1] == "query timeout"
            lock.execute("select pg_advisory_unlock_all()")
            assert letters(await spared.until("Z")) == "TDCZ"


# -- reload -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["everybody", "database", "user", "new user"])
async def test_a_reload_counts_for_clients_that_are_there(
    pooler: PoolerFactory, postgres: PostgresServer, level: str
) -> None:
    at = f"host={postgres.host} port={postgres.port}"
    place = pooler(databases={"app": at}, users={} if level == "new user" else {"app": "query_timeout=0"})
    if level in ("everybody", "database"):
        place.users = {"plain": "pool_size=1"}
        place.reload()
        place.wait_for_log("configuration reloaded")
    async with logged_in(place) as busy, logged_in(place) as transaction:
        await busy.send(frontend.query(FOREVER))
        await transaction.query("begin")
        if level == "everybody":
            place.settings |= {"query_timeout": SHORT, "idle_transaction_timeout": SHORT}
        elif level == "database":
            place.databases = {"app": f"{at} query_timeout={SHORT} idle_transaction_timeout={SHORT}"}
        else:
            place.users = {"app": f"query_timeout={SHORT} idle_transaction_timeout={SHORT}"}
        place.reload()
        assert (await ended(busy))[1] == "query timeout"
        assert (await ended(transaction))[1] == "idle transaction timeout"


async def test_a_reload_can_take_a_users_timeouts_away(pooler: PoolerFactory) -> None:
    legacy = {"legacy": "query_timeout=1"}
    place = pooler(users={"app": "query_wait_timeout=1 idle_transaction_timeout=1", **legacy}, default_pool_size=1)
    async with logged_in(place) as holder, logged_in(place) as waiter:
        await holder.query("begin")
        await waiter.send(frontend.query("select 1"))
        place.users = legacy
        place.reload()
        await until_async(lambda: "configuration reloaded" in place.log)
        async with logged_in(place, "legacy") as clock:  # for whom a second goes by
            await clock.send(frontend.query(FOREVER))
            assert await ended(clock) == ("57014", "query timeout")
        await holder.query("commit")
        assert letters(await waiter.until("Z"))[-4:] == "TDCZ"
