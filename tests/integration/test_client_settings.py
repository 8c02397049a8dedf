"""Settings about what a client may say and is told: each with what comes of it."""

from __future__ import annotations

import base64
import os
import socket
import struct

import psycopg
import pytest
import trio

from pgpool_core.testing import (
    PoolerProcess,
    PostgresServer,
    ScriptedPeer,
    ScriptedServer,
    backend,
    connect_peer,
    frontend,
    open_scripted_server,
)
from tests.conftest import PoolerFactory, Target
from tests.console import Console
from tests.peers import letters, logged_in, values
from tests.programs import pgbouncer_before
from tests.watching import until, until_async


async def reload(place: PoolerProcess) -> None:
    """Apply the settings as they are now; wait until that is so."""
    before = place.log.count("configuration reloaded")
    place.reload()
    await until_async(lambda: place.log.count("configuration reloaded") > before)


# -- disable_pqexec -----------------------------------------------------------------------------------------------------


async def test_without_pqexec_a_simple_query_is_refused_and_never_reaches_a_server(any_pooler: PoolerFactory) -> None:
    place = any_pooler(disable_pqexec=1)
    async with logged_in(place) as peer:
        await peer.send(frontend.query("create table smuggled ()"))
        assert (await peer.expect("E")).fields["M"] == "PQexec disallowed"
        await peer.expect_end()
    with psycopg.connect(place.url("app", "app"), autocommit=True) as connection:
        assert connection.execute("select to_regclass('smuggled')", prepare=False, binary=True).fetchone() == (None,)


async def test_without_pqexec_a_simple_query_is_refused_to_who_has_a_server_too(
    pooler: PoolerFactory, postgres: PostgresServer
) -> None:
    place = pooler(disable_pqexec=1, default_pool_size=1)
    extended = (frontend.parse("begin"), frontend.bind(), frontend.execute(), frontend.sync())
    async with logged_in(place) as peer:
        await peer.send(*extended)
        await peer.until("Z")
        await peer.send(frontend.query("create table smuggled ()"))
        await peer.expect_error("0A000")
        await peer.expect_end()
    assert postgres.sql("select to_regclass('smuggled') is null", database="app") == "t"
    with Console(place) as console:  # which takes it as ever
        until(lambda: console.pool()["sv_idle"] == 1)


# -- login_notify_message -----------------------------------------------------------------------------------------------


async def greeting(place: PoolerProcess) -> str:
    """The text of the notice that stands where PgBouncer has it, in front of the first ReadyForQuery; "" without one."""
    async with await connect_peer((place.host, place.port)) as peer:
        await peer.send(frontend.startup("app", "app"))
        came = await peer.until("Z")
        said = letters(came)
        assert said.startswith("RS")
        assert said[-3:] in ("KNZ", "SKZ")
        return came[-2].fields["M"] if said.endswith("NZ") else ""


async def test_clients_read_a_notice_at_login(pooler: PoolerFactory) -> None:
    place = pooler(login_notify_message="Maintenance tonight: save your work", auth_type="trust")
    assert await greeting(place) == "Maintenance tonight: save your work"
    place.settings["login_notify_message"] = "x" * 4096
    await reload(place)
    assert await greeting(place) == "x" * 4096
    place.settings["login_notify_message"] = ""
    await reload(place)
    assert await greeting(place) == ""


# -- application_name_add_host ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mine", "begins"), [("mine", "mine - 127.0.0.1:"), ("", "app - 127.0.0.1:")])
async def test_postgres_sees_where_a_client_comes_from(any_pooler: PoolerFactory, mine: str, begins: str) -> None:
    place = any_pooler(application_name_add_host=1)
    async with logged_in(place, **({"application_name": mine} if mine else {})) as peer:
        address = peer.stream.socket.getsockname()
        ((name,),) = values(
            await peer.query("select application_name from pg_stat_activity where pid = pg_backend_pid()")
        )
        assert name == f"{begins}{address[1]}".encode()
        assert values(await peer.query("show application_name")) == [[name]]


def test_over_a_unix_socket_it_is_the_process(pooler: PoolerFactory) -> None:
    place = pooler(application_name_add_host=1)
    with psycopg.connect(place.url("app", "app", unix=True), application_name="job", autocommit=True) as connection:
        said = connection.execute("show application_name").fetchone()
    assert said == (f"job - unix({os.getpid()}@{socket.gethostname()}):{place.port}",)


async def test_reset_goes_back_to_the_name_with_the_host_in_it(pooler: PoolerFactory) -> None:
    place = pooler(application_name_add_host=1)
    async with logged_in(place, application_name="mine") as peer:
        first = values(await peer.query("show application_name"))
        await peer.query("set application_name = 'other'")
        assert values(await peer.query("show application_name")) == [[b"other"]]
        await peer.query("reset application_name")
        assert values(await peer.query("show application_name")) == first


# -- ignore_startup_parameters ------------------------------------------------------------------------------------------


async def test_options_that_are_ignored_lose_all_but_what_poolers_follow_anyway(pooler: PoolerFactory) -> None:
    place = pooler(ignore_startup_parameters="options")
    options = "-c work_mem=123MB --IntervalStyle=sql_standard -z -c DateStyle=German"
    async with logged_in(place, options=options) as peer:
        assert values(await peer.query("show intervalstyle")) == [[b"sql_standard"]]
        assert values(await peer.query("show work_mem")) != [[b"123MB"]]
        assert values(await peer.query("show datestyle")) != [[b"German, DMY"]]  # behind what cannot be read


@pytest.mark.parametrize("target", ["direct", "pgpool_core"], indirect=True)
async def test_options_are_cut_and_named_as_postgresql_does_it(target: Target) -> None:
    options = "-c work-mem=7MB\n--statement-timeout=5s\r\v-capplication-name=some\\ one"
    async with logged_in(target, options=options) as peer:
        show = "select current_setting('work_mem'), current_setting('statement_timeout'), current_setting('application_name')"
        assert values(await peer.query(show)) == [[b"7MB", b"5s", b"some one"]]


@pytest.mark.parametrize("target", ["direct", "pgpool_core"], indirect=True)
async def test_an_option_may_be_as_long_as_a_startup_packet(target: Target) -> None:
    path = ",".join(f"schema_{number}" for number in range(600))
    async with logged_in(target, options=f"-c search_path={path} -c work_mem=7MB") as peer:
        show = "select current_setting('search_path'), current_setting('work_mem')"
        assert values(await peer.query(show)) == [[path.encode(), b"7MB"]]


async def test_an_option_that_is_longer_is_told_as_too_long(pooler: PoolerFactory) -> None:
    place = pooler(auth_type="trust")
    async with await connect_peer((place.host, place.port)) as peer:
        await peer.send(frontend.startup("app", "app", options=f"-c search_path={'x' * 10_000}"))
        told = (await peer.until("E"))[-1].fields
        assert (told["C"], told["M"]) == ("54000", "the startup parameters are too long")


@pytest.mark.parametrize("session_state", ["auto", "off"])
async def test_a_parameter_that_is_ignored_is_so_although_it_would_follow(
    any_pooler: PoolerFactory, session_state: str
) -> None:
    ignored = {"ignore_startup_parameters": "TimeZone, DateStyle"}
    place = any_pooler(**ignored)
    if place.kind == "pgbouncer" and pgbouncer_before(1, 26):
        pytest.skip("PgBouncer ignores what it tracks since 1.26.1")
    if place.kind == "pgpool_core":
        place.settings["session_state"] = session_state
        await reload(place)
    async with logged_in(place, TimeZone="Asia/Tokyo", options="-c DateStyle=German -c IntervalStyle=iso_8601") as peer:
        show = "select current_setting('timezone') <> 'Asia/Tokyo', current_setting('datestyle'), current_setting('intervalstyle')"
        assert values(await peer.query(show)) == [[b"t", b"ISO, MDY", b"iso_8601"]]
        assert (peer.parameters["TimeZone"] != "Asia/Tokyo", peer.parameters["DateStyle"]) == (True, "ISO, MDY")
        await peer.query("set timezone = 'Asia/Tokyo'")  # which is no startup parameter
        async with logged_in(place) as other:
            assert values(await other.query(show)) == [[b"t", b"ISO, MDY", b"postgres"]]
            assert values(await peer.query(show)) == [[b"f", b"ISO, MDY", b"iso_8601"]]


# -- max_packet_size ----------------------------------------------------------------------------------------------------


async def test_a_message_may_be_no_longer_than_is_let_through(pooler: PoolerFactory) -> None:
    place = pooler(max_packet_size=100_000)
    async with logged_in(place) as peer:
        text = "x" * 90_000
        assert values(await peer.query(f"select length('{text}')")) == [[b"90000"]]
        await peer.send(b"Q" + struct.pack("!I", 100_005))
        await peer.expect_error("08P01")
        await peer.expect_end()


# -- scram_iterations ---------------------------------------------------------------------------------------------------


async def iterations(place: PoolerProcess, user: str) -> int:
    """What the server's first SCRAM message says; Source: RFC 5802, section 5.1, attribute i."""
    async with await connect_peer((place.host, place.port)) as peer:
        await peer.send(frontend.startup(user, "app"))
        await peer.expect("R")
        first = b"n,,n=,r=" + base64.b64encode(b"0123456789abcdef01")
        body = b"SCRAM-SHA-256\0" + struct.pack("!I", len(first)) + first
        await peer.send(b"p" + struct.pack("!I", len(body) + 4) + body)
        return int((await peer.expect("R")).body.rpartition(b",i=")[2])


async def test_keys_of_plain_passwords_have_so_many_rounds_for_strangers_too(pooler: PoolerFactory) -> None:
    place = pooler(scram_iterations=5000)
    assert (await iterations(place, "app"), await iterations(place, "nobody")) == (5000, 5000)
    place.settings["scram_iterations"] = 6000
    await reload(place)
    assert (await iterations(place, "app"), await iterations(place, "nobody")) == (6000, 6000)
    async with logged_in(place) as peer:
        assert values(await peer.query("select 1")) == [[b"1"]]


# -- servers ------------------------------------------------------------------------------------------------------------


async def test_servers_take_turns_or_the_last_one_is_used_again(any_pooler: PoolerFactory) -> None:
    for turns, different in ((1, 3), (0, 1)):
        place = any_pooler(server_round_robin=turns, default_pool_size=3)
        async with logged_in(place) as one, logged_in(place) as two, logged_in(place) as three:
            for peer in (one, two, three):
                await peer.query("begin")
            for peer in (one, two, three):
                await peer.query("commit")
            pids = {values(await one.query("select pg_backend_pid()"))[0][0] for _ in range(6)}
            assert len(pids) == different


async def changed(peer: ScriptedPeer) -> None:
    assert (await peer.expect("E")).fields["M"] == "database configuration changed"
    await peer.expect_end()


@pytest.mark.parametrize("when", ["before", "with", "after"])
async def test_fast_close_parts_idle_session_clients_from_servers_that_are_to_be_closed(
    pooler: PoolerFactory, postgres: PostgresServer, when: str
) -> None:
    at = f"host={postgres.host} port={postgres.port} connect_query="
    place = pooler(
        pool_mode="session", databases={"app": f"{at}'select 1'"}, server_fast_close=int(when == "before"), workers=2
    )
    async with logged_in(place) as idle, logged_in(place) as busy, logged_in(place) as without:
        await idle.query("select 1")
        await busy.query("begin")
        place.databases = {"app": f"{at}'select 2'"}
        place.settings["server_fast_close"] = int(when != "after")
        await reload(place)
        if when == "after":
            assert values(await idle.query("select 3")) == [[b"3"]]  # it keeps its server until it leaves
            place.settings["server_fast_close"] = 1
            await reload(place)
        await changed(idle)
        assert values(await busy.query("select 4")) == [[b"4"]]
        await busy.send(frontend.query("commit"))
        assert letters([await busy.expect("C"), await busy.expect("Z")]) == "CZ"
        await changed(busy)
        assert values(await without.query("select 5")) == [[b"5"]]
    with Console(place) as console:  # PostgreSQL has the servers of other tests' poolers too
        until(lambda: len(console.rows("SHOW SERVERS")) == 1)


async def test_without_fast_close_a_session_client_keeps_its_server(
    any_pooler: PoolerFactory, postgres: PostgresServer
) -> None:
    at = f"host={postgres.host} port={postgres.port} connect_query="
    place = any_pooler(pool_mode="session", databases={"app": f"{at}'select 1'"})
    async with logged_in(place) as idle:
        pid = values(await idle.query("select pg_backend_pid()"))
        place.databases = {"app": f"{at}'select 2'"}
        with Console(place) as console:
            place.write()
            console.run("RELOAD")
        assert values(await idle.query("select pg_backend_pid()")) == pid


# -- track_extra_parameters -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extra", ["IntervalStyle, Default_Transaction_Read_Only", ""], ids=["named", "by itself"])
async def test_with_session_state_off_what_postgresql_reports_follows_its_client(
    pooler: PoolerFactory, extra: str
) -> None:
    place = pooler(session_state="off", track_extra_parameters=extra, default_pool_size=1)
    question = "show default_transaction_read_only"
    async with logged_in(place, default_transaction_read_only="on") as asked, logged_in(place) as sets:
        assert values(await asked.query(question)) == [[b"on"]]
        assert values(await sets.query(question)) == [[b"off"]]
        await sets.query("set default_transaction_read_only = on")  # which PostgreSQL reports
        await asked.query("set default_transaction_read_only = off")
        for _ in range(2):
            assert values(await sets.query(question)) == [[b"on"]]
            assert values(await asked.query(question)) == [[b"off"]]
        async with logged_in(place, options="-c default_transaction_read_only=true") as third:
            assert values(await third.query(question)) == [[b"on"]]
        async with logged_in(place) as fresh:
            assert values(await fresh.query(question)) == [[b"off"]]


@pytest.mark.parametrize("state", ["off", "warn"])
async def test_without_session_state_what_postgresql_reports_follows_as_with_pgbouncer(
    any_pooler: PoolerFactory, state: str
) -> None:
    """PostgreSQL 14 reports default_transaction_read_only, 18 search_path."""
    place = any_pooler(default_pool_size=1)
    if place.kind == "pgbouncer" and pgbouncer_before(1, 26):
        pytest.skip("PgBouncer tracks all that is reported since 1.26")
    if place.kind == "pgpool_core":
        place.settings["session_state"] = state
        await reload(place)
    show = "select current_setting('default_transaction_read_only'), current_setting('search_path')"
    usual = [[b"off", b'"$user", public']]
    begins = {"search_path": "pg_catalog", "default_transaction_read_only": "on"}
    async with logged_in(place, **begins) as asked, logged_in(place) as sets, logged_in(place) as other:
        assert asked.parameters["default_transaction_read_only"] == "on"
        assert values(await asked.query(show)) == [[b"on", b"pg_catalog"]]
        assert values(await sets.query(show)) == usual
        await sets.query("set default_transaction_read_only = on")
        assert values(await other.query(show)) == usual
        assert values(await sets.query(show)) == [[b"on", usual[0][1]]]
        assert values(await other.query(show)) == usual


@pytest.mark.parametrize("io_backend", ["epoll", "io_uring"])
@pytest.mark.parametrize("length", [4_000, 300_000])
async def test_with_session_state_off_a_very_long_value_follows_too(
    pooler: PoolerFactory, io_backend: str, length: int
) -> None:
    """PostgreSQL 18 reports search_path, which has no limit."""
    path = ", ".join(f"schema_{number}" for number in range(length))[:length]
    async with open_scripted_server() as fake:
        place = pooler(
            auth_type="trust",
            databases={"app": f"host={fake.host} port={fake.port} user=app"},
            session_state="off",
            default_pool_size=1,
            function_check_period=0,
            io_backend=io_backend,
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(log_in_with_search_path, fake)
            async with logged_in(place) as one, logged_in(place) as two:
                server = fake.accepted[0]
                done = backend.command_complete("SET") + backend.ready()
                for client, value in ((one, path), (two, "public")):
                    await client.send(frontend.query("set"))
                    asked = await server.expect("Q")
                    if client is two:
                        assert "RESET" in asked.text, "the other's is taken back first"
                        await server.send(backend.parameter("search_path", "public"), done)
                        asked = await server.expect("Q")
                    assert asked.text == "set"
                    await server.send(backend.parameter("search_path", value), done)
                    told = await client.until("Z")
                    assert letters(told) == "SCZ"
                    assert told[0].body == f"search_path\0{value}\0".encode()
                await one.send(frontend.query("select 1"))
                assert path in (await server.expect("Q")).text
                await server.send(backend.parameter("search_path", path), done)
                assert (await server.expect("Q")).text == "select 1"
                await server.send(done)
                assert letters(await one.until("Z")) == "CZ"
        for peer in fake.accepted:
            peer.stream.socket.close()


async def log_in_with_search_path(fake: ScriptedServer) -> None:
    parameters = {"server_version": "18.0", "client_encoding": "UTF8", "DateStyle": "ISO, MDY", "search_path": "public"}
    await (await fake.accept()).accept_login(parameters=parameters)


async def test_with_session_state_off_a_session_authorization_does_not_stay_for_the_next_client(
    any_pooler: PoolerFactory, pgbouncers_way: dict[str, str]
) -> None:
    place = any_pooler(default_pool_size=1, **pgbouncers_way)
    if place.kind == "pgbouncer" and pgbouncer_before(1, 26):
        pytest.skip("PgBouncer tracks all that is reported since 1.26")
    async with logged_in(place, "boss") as sets, logged_in(place, "boss") as other:
        await sets.query("set session authorization app")
        assert values(await other.query("select current_user")) == [[b"boss"]]
        assert values(await sets.query("select current_user")) == [[b"app"]]
        await sets.query("reset session authorization")
        assert values(await sets.query("select current_user")) == [[b"boss"]]


async def test_with_session_state_off_any_other_parameter_is_refused_still(pooler: PoolerFactory) -> None:
    place = pooler(session_state="off", track_extra_parameters="default_transaction_read_only", auth_type="trust")
    async with await connect_peer((place.host, place.port)) as peer:
        await peer.send(frontend.startup("app", "app", work_mem="1MB"))
        assert (await peer.expect("E")).fields["M"] == "unsupported startup parameter: work_mem"
