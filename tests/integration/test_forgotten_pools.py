"""Pools that nobody uses any more: forgotten, and there again for whoever comes."""

from __future__ import annotations

from pgpool_core.testing import PostgresServer
from tests.conftest import PoolerFactory
from tests.console import Console
from tests.peers import logged_in, values
from tests.watching import until_async


def shown(console: Console) -> set[tuple[str, str]]:
    return {(row["database"], row["user"]) for row in console.rows("SHOW POOLS")} - {("pgbouncer", "pgbouncer")}


def databases(console: Console) -> set[str]:
    return {row["name"] for row in console.rows("SHOW DATABASES")} - {"pgbouncer", "*"}


async def test_a_database_of_the_star_is_forgotten_and_found_again(
    pooler: PoolerFactory, postgres: PostgresServer
) -> None:
    at = f"host={postgres.host} port={postgres.port}"
    place = pooler(databases={"app": at, "*": at}, autodb_idle_timeout=1, server_idle_timeout=1, workers=2)
    with Console(place) as console:
        async with logged_in(place, "app", "app") as named, logged_in(place, "app", "other") as auto:
            for peer in (named, auto):
                await peer.query("select 1")
            assert databases(console) == {"app", "other"}
        async with logged_in(place, "plain", "other") as stays:  # another pool of the same database
            await until_async(lambda: len(console.rows("SHOW SERVERS")) == 0)
            assert values(await stays.query("select 1")) == [[b"1"]]
        await until_async(lambda: databases(console) == {"app"})
        assert shown(console) == {("app", "app")}  # which has an entry of its own
        async with logged_in(place, "app", "other") as again:
            assert values(await again.query("select current_database()")) == [[b"other"]]
            assert databases(console) == {"app", "other"}
            assert ("other", "app") in shown(console)


async def test_any_pool_may_be_forgotten_but_not_while_somebody_is_there(
    pooler: PoolerFactory, postgres: PostgresServer
) -> None:
    at = f"host={postgres.host} port={postgres.port}"
    place = pooler(databases={"app": at}, pool_idle_timeout=0.5, server_idle_timeout=0.5)
    with Console(place) as console:
        async with logged_in(place, "app") as idle:
            async with logged_in(place, "plain") as gone:
                await gone.query("select 1")
            await idle.query("select 1")
            await until_async(lambda: shown(console) == {("app", "app")})  # `idle` has no server either
            await until_async(lambda: not console.rows("SHOW SERVERS"))
            assert values(await idle.query("select 1")) == [[b"1"]]
        await until_async(lambda: shown(console) == set())
        assert databases(console) == {"app"}


def counted(console: Console) -> tuple[int, int]:
    """Servers given to clients since the start: for the database `app`, and for all databases."""
    rows = {row["database"]: int(row["total_server_assignment_count"]) for row in console.rows("SHOW STATS")}
    totals = {row["name"]: int(row["value"]) for row in console.rows("SHOW TOTALS")}
    return rows.get("app", 0), totals["total_server_assignment_count"]


async def test_what_a_forgotten_pool_has_counted_stays_counted(pooler: PoolerFactory, postgres: PostgresServer) -> None:
    at = f"host={postgres.host} port={postgres.port}"
    place = pooler(databases={"app": at}, pool_idle_timeout=0.5, server_idle_timeout=0.5)
    with Console(place) as console:
        async with logged_in(place, "app") as stays:
            async with logged_in(place, "plain") as gone:
                for _ in range(3):
                    await gone.query("select 1")
            await until_async(lambda: shown(console) == {("app", "app")})
            assert counted(console)[0] == 3
            await stays.query("select 1")
            assert counted(console)[0] == 4
        await until_async(lambda: shown(console) == set())
        assert "app" not in {row["database"] for row in console.rows("SHOW STATS")}
        async with logged_in(place, "app") as again:
            await again.query("select 1")
            assert counted(console)[0] == 5


async def test_what_a_database_has_counted_stays_counted_when_its_entry_goes_and_comes_again(
    pooler: PoolerFactory, postgres: PostgresServer
) -> None:
    at = f"host={postgres.host} port={postgres.port}"
    place = pooler(databases={"app": at, "other": at})

    def with_databases(*names: str) -> None:
        place.databases = dict.fromkeys(names, at)
        place.write()
        console.run("RELOAD")

    with Console(place) as console:
        async with logged_in(place, "app") as before:
            await before.query("select 1")
        with_databases("other")
        await until_async(lambda: shown(console) == set())
        assert counted(console) == (0, 1)
        with_databases("app", "other")
        async with logged_in(place, "app") as after:
            await after.query("select 1")
            assert counted(console) == (2, 2)


async def test_a_forgotten_pool_comes_back_as_the_configuration_is_by_then(
    pooler: PoolerFactory, postgres: PostgresServer
) -> None:
    at = f"host={postgres.host} port={postgres.port}"
    place = pooler(databases={"app": at}, pool_idle_timeout=0.2, server_idle_timeout=0.2, default_pool_size=7)
    with Console(place) as console:
        async with logged_in(place) as peer:
            await peer.query("select 1")
        await until_async(lambda: shown(console) == set())
        place.databases = {"app": f"{at} dbname=other"}
        place.settings["default_pool_size"] = 3
        place.reload()
        await until_async(lambda: "configuration reloaded" in place.log)
        async with logged_in(place) as again:
            assert values(await again.query("select current_database()")) == [[b"other"]]
        assert [row["pool_size"] for row in console.rows("SHOW DATABASES") if row["name"] == "app"] == [3]
