"""How many servers and clients there may be, who waits for whom, and for how long."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import psycopg
import pytest
import trio

from pgpool_core.testing import PeerMismatch, PoolerProcess, PostgresServer, ScriptedPeer, connect_peer, frontend
from tests.conftest import DATABASES, PASSWORDS, PoolerFactory, copy_of
from tests.console import Console
from tests.peers import logged_in, values
from tests.watching import until, until_async

COUNT_USER = "select count(*), pg_sleep(0.003) from pg_stat_activity where usename = current_user"
COUNT_DATABASE = "select count(*), pg_sleep(0.003) from pg_stat_activity where datname = current_database()"


@pytest.fixture(scope="module")
def postgres(furnished: PostgresServer) -> Iterator[PostgresServer]:
    """A server that no pooler of another test is connected to, since connections are counted here."""
    with copy_of(furnished, max_connections=200) as server:
        yield server


@pytest.fixture(autouse=True)
def _nobody_is_connected(postgres: PostgresServer) -> None:
    """The backends of the last test's pooler may still be on their way out."""
    until(lambda: postgres.backends() == 0)


async def most_seen(
    place: PoolerProcess, sql: str, logins: Sequence[tuple[str, str]], *, clients: int = 12, turns: int = 8
) -> int:
    """The largest number that `sql` answered while `clients` clients asked it at once, as users and databases of `logins`."""
    seen = []

    async def ask(user: str, database: str) -> None:
        async with logged_in(place, user, database) as peer:
            for _ in range(turns):
                ((count, _),) = values(await peer.query(sql))
                assert count is not None
                seen.append(int(count))

    async with trio.open_nursery() as nursery:
        for number in range(clients):
            nursery.start_soon(ask, *logins[number % len(logins)])
    assert len(seen) == clients * turns
    return max(seen)


async def fatal(place: PoolerProcess, user: str = "app", database: str = "app") -> str:
    """What refuses a login."""
    async with await connect_peer((place.host, place.port)) as peer:
        with pytest.raises(PeerMismatch) as caught:
            await peer.log_in(user, database, PASSWORDS[user])
    return str(caught.value)


# -- servers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3])
async def test_a_pool_has_as_many_servers_as_it_may_as_postgres_counts_them(
    any_pooler: PoolerFactory, size: int
) -> None:
    place = any_pooler(default_pool_size=size)
    assert await most_seen(place, COUNT_USER, [("app", "app")]) == size


async def test_with_several_workers_the_size_of_a_pool_is_the_same(pooler: PoolerFactory) -> None:
    place = pooler(default_pool_size=3, workers=3)
    assert await most_seen(place, COUNT_USER, [("app", "app")]) == 3


async def test_the_size_of_one_database_goes_before_the_general_one(
    any_pooler: PoolerFactory, postgres: PostgresServer
) -> None:
    at = f"host={postgres.host} port={postgres.port}"
    place = any_pooler(databases={"app": f"{at} pool_size=2", "*": at}, default_pool_size=1)
    assert await most_seen(place, COUNT_USER, [("app", "app")]) == 2
    with Console(place) as console:
        assert len([row for row in console.rows("SHOW SERVERS") if row["database"] == "app"]) == 2


async def test_max_db_connections_counts_every_user_of_a_database(any_pooler: PoolerFactory) -> None:
    place = any_pooler(default_pool_size=5, max_db_connections=3)
    assert 1 <= await most_seen(place, COUNT_DATABASE, [("app", "other"), ("legacy", "other"), ("plain", "other")]) <= 3


async def test_max_user_connections_counts_every_database_of_a_user(any_pooler: PoolerFactory) -> None:
    place = any_pooler(default_pool_size=5, max_user_connections=3)
    assert 1 <= await most_seen(place, COUNT_USER, [("plain", "app"), ("plain", "other")]) <= 3


async def test_an_idle_server_makes_room_for_who_shares_its_limit(any_pooler: PoolerFactory) -> None:
    place = any_pooler(default_pool_size=5, max_db_connections=1)
    async with logged_in(place, "app") as one, logged_in(place, "legacy") as two:
        for client, name in ((one, b"app"), (two, b"legacy"), (one, b"app")):
            assert values(await client.query("select current_user")) == [[name]]


def test_min_pool_size_is_kept_for_a_pool_with_clients(any_pooler: PoolerFactory) -> None:
    place = any_pooler(min_pool_size=3, default_pool_size=5)
    with psycopg.connect(place.url("app", "app")) as connection, Console(place) as console:
        connection.execute("select 1")
        until(lambda: len(console.rows("SHOW SERVERS")) == 3, what="three servers")


def test_a_reserve_helps_who_has_waited(any_pooler: PoolerFactory) -> None:
    place = any_pooler(default_pool_size=1, reserve_pool_size=1, reserve_pool_timeout=1)
    with (
        psycopg.connect(place.url("app", "app")) as holder,
        psycopg.connect(place.url("app", "app"), autocommit=True) as waiter,
    ):
        holder.execute("select 1")
        assert waiter.execute("select 'served'").fetchone() == ("served",)
        row = waiter.execute("select count(*) from pg_stat_activity where usename = current_user").fetchone()
        assert row == (2,)


def test_without_a_reserve_who_waits_goes_on_waiting(any_pooler: PoolerFactory) -> None:
    place = any_pooler(default_pool_size=1, reserve_pool_size=0, query_wait_timeout=1)
    with (
        psycopg.connect(place.url("app", "app")) as holder,
        psycopg.connect(place.url("app", "app"), autocommit=True) as waiter,
    ):
        holder.execute("select 1")
        with pytest.raises(psycopg.OperationalError, match="query_wait_timeout"):
            waiter.execute("select 1")
        assert waiter.broken
        assert holder.execute("select 2").fetchone() == (2,)


def test_a_server_too_long_idle_is_closed(any_pooler: PoolerFactory) -> None:
    place = any_pooler(server_idle_timeout=1)
    with psycopg.connect(place.url("app", "app"), autocommit=True) as connection, Console(place) as console:
        connection.execute("select 1")
        assert len(console.rows("SHOW SERVERS")) == 1
        until(lambda: not console.rows("SHOW SERVERS"))
        assert connection.execute("select 1").fetchone() == (1,)


def test_a_server_lives_no_longer_than_it_may(any_pooler: PoolerFactory) -> None:
    place = any_pooler(server_lifetime=1, default_pool_size=1)
    with psycopg.connect(place.url("app", "app"), autocommit=True, prepare_threshold=None) as connection:
        first = connection.execute("select pg_backend_pid()").fetchone()
        until(lambda: connection.execute("select pg_backend_pid()").fetchone() != first)


def test_a_server_may_live_for_one_transaction(any_pooler: PoolerFactory) -> None:
    place = any_pooler(server_lifetime=0, default_pool_size=2)
    with psycopg.connect(place.url("app", "app"), autocommit=True, prepare_threshold=None) as connection:
        pids = [connection.execute("select pg_backend_pid()").fetchone() for _ in range(4)]
        assert len(set(pids)) == 4


# -- clients -----------------------------------------------------------------------------------------------------------


async def test_a_client_too_many_is_told_which_setting(any_pooler: PoolerFactory) -> None:
    place = any_pooler(max_client_conn=3)
    async with logged_in(place) as one, logged_in(place), logged_in(place):
        assert "no more connections allowed (max_client_conn)" in await fatal(place)
        assert values(await one.query("select 1")) == [[b"1"]]
    with Console(place) as console:  # three have left: there is room again
        until(lambda: console.lists()["used_clients"] <= 1)
        async with logged_in(place) as again:
            assert values(await again.query("select 1")) == [[b"1"]]


async def test_the_console_is_open_when_no_client_may_enter(any_pooler: PoolerFactory) -> None:
    place = any_pooler(max_client_conn=1)
    with Console(place) as console:
        until(lambda: console.lists()["used_clients"] == 1, what="whoever tried the socket has gone")
    place.wait_for_log(r"pgbouncer/admin@\S+ closing because")  # to PgBouncer the console is a client like others
    async with logged_in(place):
        with Console(place) as console:
            assert console.pool()


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("place", ["everybody", "entry"])
async def test_a_database_and_a_user_may_have_so_many_clients(
    pooler: PoolerFactory, postgres: PostgresServer, place: str, workers: int
) -> None:
    at = f"host={postgres.host} port={postgres.port}"
    if place == "everybody":
        there = pooler(workers=workers, databases={"*": at}, max_db_client_connections=3, max_user_client_connections=2)
    else:
        there = pooler(
            workers=workers,
            databases={"app": f"{at} max_db_client_connections=3", "other": at},
            users={"app": "max_user_client_connections=2"},
            max_db_client_connections=1,
            max_user_client_connections=1,
        )
    async with logged_in(there), logged_in(there) as one, logged_in(there, "plain"):
        by_user = "53300', 'M': 'client connections exceeded (max_user_client_connections)"
        by_database = "53300', 'M': 'client connections exceeded (max_db_client_connections)"
        assert by_user in await fatal(there, "app", "other")
        for _ in range(2):  # who is refused counts no more
            assert by_database in await fatal(there, "legacy")
        async with logged_in(there, "legacy", "other"):
            assert values(await one.query("select 1")) == [[b"1"]]
        with Console(there) as console:
            databases = {row["name"]: row for row in console.rows("SHOW DATABASES")}
            users = {row["name"]: row for row in console.rows("SHOW USERS")}
        row = databases["app"]
        assert (row["max_client_connections"], row["current_client_connections"]) == (3, 3)
        row = users["app"]
        assert (row["max_user_client_connections"], row["current_client_connections"]) == (2, 2)
    with Console(there) as console:
        await until_async(lambda: not [row for row in console.rows("SHOW CLIENTS") if row["database"] != "pgbouncer"])
    async with logged_in(there), logged_in(there):  # their places are free again
        assert by_user in await fatal(there)


async def test_new_limits_of_clients_count_for_who_comes_after_the_reload(
    pooler: PoolerFactory, postgres: PostgresServer
) -> None:
    at = f"host={postgres.host} port={postgres.port}"
    there = pooler(databases={"app": at, "other": at})
    async with logged_in(there) as one, logged_in(there), logged_in(there, "plain", "other"):
        there.databases = {"app": f"{at} max_db_client_connections=1", "other": at}
        there.users = {"plain": "max_user_client_connections=1"}
        there.reload()
        await until_async(lambda: "configuration reloaded" in there.log)
        assert "(max_db_client_connections)" in await fatal(there, "legacy")
        assert "(max_user_client_connections)" in await fatal(there, "plain", "other")
        assert values(await one.query("select 1")) == [[b"1"]]
        there.users = {}
        there.reload()
        await until_async(lambda: there.log.count("configuration reloaded") == 2)
        async with logged_in(there, "plain", "other") as two:
            assert values(await two.query("select 1")) == [[b"1"]]


async def test_the_console_is_open_to_a_user_with_too_many_clients(pooler: PoolerFactory) -> None:
    there = pooler(admin_users="app", max_user_client_connections=1, auth_type="plain")
    async with logged_in(there):
        with Console(there, "app") as console:
            assert console.pool()


async def test_many_who_come_at_once_never_exceed_a_limit_of_clients(pooler: PoolerFactory) -> None:
    there = pooler(max_user_client_connections=5, max_client_conn=1000, workers=3)
    let_in: list[int] = []
    enough = trio.Event()

    async def come(number: int) -> None:
        async with await connect_peer((there.host, there.port)) as peer:
            try:
                await peer.log_in("app", "app", PASSWORDS["app"])
            except PeerMismatch as refused:
                assert "(max_user_client_connections)" in str(refused)
                left.append(number)
            else:
                let_in.append(number)
            if len(let_in) + len(left) == 40:
                enough.set()
            await enough.wait()  # nobody leaves before

    left: list[int] = []
    async with trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(come, number)
    assert (len(let_in), len(left)) == (5, 35)


async def test_who_gives_up_at_login_gives_its_place_back(any_pooler: PoolerFactory) -> None:
    place = any_pooler(max_client_conn=2)
    for _ in range(20):
        async with await connect_peer((place.host, place.port)) as peer:
            await peer.send(frontend.startup("app", "app"))
            await peer.receive()
            await peer.cut()
    with Console(place) as console:
        until(lambda: console.lists()["used_clients"] == 1)
        async with logged_in(place) as one:
            assert values(await one.query("select 1")) == [[b"1"]]


# -- waiting -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 3])
async def test_who_came_first_is_served_first(pooler: PoolerFactory, postgres: PostgresServer, workers: int) -> None:
    place = pooler(default_pool_size=1, workers=workers)
    await check_order(place, postgres)


async def test_who_came_first_is_served_first_by_pgbouncer(pgbouncer: PoolerFactory, postgres: PostgresServer) -> None:
    await check_order(pgbouncer(default_pool_size=1), postgres)


async def check_order(place: PoolerProcess, postgres: PostgresServer) -> None:
    """Queue clients up one after the other and let each draw a number."""
    names = [("app", "app")] * 12
    await trio.to_thread.run_sync(
        lambda: postgres.sql(
            "drop sequence if exists turn; create sequence turn; grant all on turn to app", database="app"
        )
    )
    drawn: dict[int, bytes | None] = {}

    async def draw(number: int) -> None:
        async with logged_in(place) as peer:
            await queue[number].wait()
            ((drawn[number],),) = values(await peer.query("select nextval('turn')"))

    with Console(place) as console:
        queue = [trio.Event() for _ in names]
        async with logged_in(place) as holder, trio.open_nursery() as nursery:
            await holder.query("begin")
            for number in range(len(names)):
                nursery.start_soon(draw, number)
            for number, event in enumerate(queue, start=1):
                event.set()
                await until_async(lambda: console.waiting() == number, what=f"{number} waiting")  # noqa: B023
            await holder.query("commit")
    assert drawn == {number: str(number + 1).encode() for number in range(len(names))}


def test_who_has_waited_too_long_is_told_which_setting(any_pooler: PoolerFactory) -> None:
    place = any_pooler(default_pool_size=1, query_wait_timeout=1)
    with psycopg.connect(place.url("app", "app")) as holder:
        holder.execute("select 1")
        for _ in range(2):
            with (
                psycopg.connect(place.url("app", "app"), autocommit=True) as waiter,
                pytest.raises(psycopg.OperationalError, match="query_wait_timeout"),
            ):
                waiter.execute("select 1")
        holder.commit()
    with psycopg.connect(place.url("app", "app"), autocommit=True) as late:
        assert late.execute("select 1").fetchone() == (1,)


async def test_who_leaves_the_queue_leaves_no_gap(pooler: PoolerFactory) -> None:
    # PgBouncer does not look at a client that waits, so it cannot see it leave.
    place = pooler(default_pool_size=1)
    with Console(place) as console:
        async with logged_in(place) as holder, logged_in(place) as gone, logged_in(place) as stays:
            await holder.query("begin")
            await gone.send(frontend.query("select 'gone'"))
            await until_async(lambda: console.waiting() == 1)
            await stays.send(frontend.query("select 'stays'"))
            await until_async(lambda: console.waiting() == 2)
            await gone.cut()
            await until_async(lambda: console.waiting() == 1)
            await holder.query("commit")
            assert values(await stays.until("Z")) == [[b"stays"]]


async def test_maxwait_tells_how_long_the_first_has_waited(pooler: PoolerFactory) -> None:
    place = pooler(default_pool_size=1)
    with Console(place) as console:
        async with logged_in(place) as holder, logged_in(place) as waiter:
            await holder.query("begin")
            await waiter.send(frontend.query("select 1"))
            await until_async(lambda: console.pool()["maxwait"] >= 1)
            await holder.query("commit")
            await waiter.until("Z")
            pool = console.pool()
            assert (pool["maxwait"], pool["maxwait_us"], pool["cl_waiting"]) == (0, 0, 0)


async def test_limits_and_timeouts_of_several_users_and_databases_hold_all_at_once(
    pooler: PoolerFactory, postgres: PostgresServer
) -> None:
    """Two workers, three users, two databases, as PostgreSQL counts: each limit is reached, none is exceeded; a timeout ends whom it is for."""
    process = pooler(
        workers=2,
        default_pool_size=3,
        max_db_connections=5,
        databases=dict.fromkeys(DATABASES, f"host={postgres.host} port={postgres.port}")
        | {"other": f"host={postgres.host} port={postgres.port} max_db_connections=4 transaction_timeout=0.6"},
        users={
            "legacy": "max_user_connections=3 idle_transaction_timeout=0.3",
            "plain": "query_timeout=0.3 pool_size=2",
        },
    )
    most: dict[str, int] = {}
    over = trio.Event()
    victims: list[str] = []

    def look(connection: psycopg.Connection) -> None:
        for database, user, count in connection.execute(
            "select datname, usename, count(*) from pg_stat_activity where usename in ('app', 'legacy', 'plain')"
            " group by grouping sets ((datname), (usename), (datname, usename))"
        ):
            name = f"{database or 'any'}/{user or 'any'}"
            most[name] = max(most.get(name, 0), count)

    async def watch() -> None:
        with psycopg.connect(postgres.dsn("boss", "postgres"), autocommit=True) as connection:
            while not over.is_set():
                await trio.to_thread.run_sync(look, connection)

    async def works(user: str, database: str) -> None:
        async with logged_in(process, user, database, patience_s=60) as peer:
            while not over.is_set():
                assert values(await peer.query("select 1, pg_sleep(0.01)"))[0][0] == b"1"

    async def is_sent_away(user: str, database: str, sqlstate: str, *queries: str) -> None:
        """Again and again: what was begun ends with that error, and with nothing else."""
        for _ in range(3):
            async with logged_in(process, user, database, patience_s=60) as peer:
                for query in queries[:-1]:
                    await peer.query(query)
                await peer.send(frontend.query(queries[-1]) if queries[-1] else b"")
                await ends_with(peer, sqlstate)
            victims.append(sqlstate)

    async def ends_with(peer: ScriptedPeer, sqlstate: str) -> None:
        while (message := await peer.receive()) is not None:
            if message.type == b"E":
                assert message.fields["C"] == sqlstate

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        for _ in range(4):
            for user in ("app", "legacy"):
                for database in DATABASES:
                    nursery.start_soon(works, user, database)
        async with trio.open_nursery() as sent:
            sent.start_soon(is_sent_away, "legacy", "app", "25P03", "begin", "")
            sent.start_soon(is_sent_away, "plain", "app", "57014", "select pg_sleep(60)")
            sent.start_soon(is_sent_away, "app", "other", "25P04", "begin", "select pg_sleep(60)")
        await until_async(lambda: [most.get(name) for name in ("app/any", "other/any", "any/legacy")] == [5, 4, 3])
        over.set()
    assert sorted(victims) == ["25P03"] * 3 + ["25P04"] * 3 + ["57014"] * 3
    assert [most[name] for name in ("app/any", "other/any", "any/legacy")] == [5, 4, 3]
    assert max(count for name, count in most.items() if "any" not in name) == 3
    assert most["app/plain"] <= 2
    left = "select count(*) from pg_stat_activity where query like '%pg_sleep(60)%' and state = 'active' and pid <> pg_backend_pid()"
    await until_async(lambda: postgres.sql(left) == "0")
