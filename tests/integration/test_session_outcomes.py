"""A text whose outcome is sure is asked about once; then its outcome is known, and the settings are right all the same."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

import pgpool_core
from pgpool_core.testing import Message, PostgresServer, ScriptedPeer, frontend
from tests.in_process import Place, config
from tests.peers import logged_in, values


@asynccontextmanager
async def two_clients(postgres: PostgresServer) -> AsyncIterator[tuple[Place, ScriptedPeer, ScriptedPeer]]:
    """Two who share the servers of a proxy, and where they meet."""
    async with pgpool_core.open_proxy(config(postgres)) as proxy:
        place = Place(proxy)
        async with logged_in(place) as one, logged_in(place) as two:
            yield place, one, two


def shown(messages: Sequence[Message]) -> bytes | None:
    return values(messages)[0][0]


@pytest.mark.parametrize(
    ("text", "ask", "value", "back"),
    [
        ("SET search_path TO one, two", "show search_path", b"one, two", b'"$user", public'),
        ("set app.tenant = '7'", "select current_setting('app.tenant', true)", b"7", b""),
        ("SET work_mem = '9MB'; SET lock_timeout = 7", "show work_mem", b"9MB", b"4MB"),
    ],
)
async def test_the_same_text_is_asked_about_once(
    postgres: PostgresServer, text: str, ask: str, value: bytes, back: bytes
) -> None:
    async with pgpool_core.open_proxy(config(postgres)) as proxy:
        place = Place(proxy)
        for round_ in range(4):
            async with logged_in(place) as one, logged_in(place) as two:
                await one.query(text)
                assert shown(await two.query(ask)) in (back, None)
                assert shown(await one.query(ask)) == value
                assert shown(await two.query(ask)) in (back, None)
            assert place.counted("probes") == 1, round_


async def test_a_text_behind_a_replay_is_asked_about_once(postgres: PostgresServer) -> None:
    async with two_clients(postgres) as (place, one, two):
        asked = []
        for _ in range(8):
            for client, value in ((one, 5000), (two, 7000)):
                await client.query(f"set statement_timeout = {value}")
                await client.query("reset statement_timeout")
                await client.query(f"set statement_timeout = {value}")  # the next one comes to another's server
            asked.append(place.counted("probes"))
        assert asked[-1] == asked[-4], asked
        assert shown(await one.query("show statement_timeout")) == b"5s"
        assert shown(await two.query("show statement_timeout")) == b"7s"


async def test_the_reset_of_a_drivers_pool_is_known_after_once(postgres: PostgresServer) -> None:
    text = "SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;"
    async with pgpool_core.open_proxy(config(postgres)) as proxy:
        place = Place(proxy)
        async with logged_in(place) as one:
            for _ in range(5):
                await one.query(text)
            assert place.counted("probes") == 1


async def test_a_text_that_fails_or_depends_on_data_is_asked_about_each_time(postgres: PostgresServer) -> None:
    async with two_clients(postgres) as (place, one, two):
        await one.query("set work_mem = '9MB'")
        await two.query("set work_mem = 'no number'")
        assert shown(await two.query("show work_mem")) == b"4MB"
        for number in range(3):
            before = place.counted("probes")
            await one.query(f"select set_config('app.n', pg_backend_pid()::text, false), {number}")
            await one.query("select 1")
            assert place.counted("probes") == before + 1
        await two.query("set work_mem = 'no number'")
        assert shown(await two.query("show work_mem")) == b"4MB"
        assert shown(await one.query("show work_mem")) == b"9MB"


async def test_texts_in_quick_succession_are_not_taken_for_each_other(postgres: PostgresServer) -> None:
    """While one is being asked about, the next is said already."""
    async with pgpool_core.open_proxy(config(postgres)) as proxy:
        place = Place(proxy)
        for _ in range(8):
            async with logged_in(place) as one:
                for number in range(6):
                    await one.query(f"set work_mem = '{number + 5}MB'")
            async with logged_in(place) as two:
                for number in range(6):
                    await two.query(f"set work_mem = '{number + 5}MB'")
                    assert shown(await two.query("show work_mem")) == b"%dMB" % (number + 5)
                    async with logged_in(place) as three:
                        assert shown(await three.query("show work_mem")) == b"4MB"
                    assert shown(await two.query("show work_mem")) == b"%dMB" % (number + 5)


async def test_what_one_client_goes_back_to_is_not_what_another_does(postgres: PostgresServer) -> None:
    """The same RESET on the same settings: each goes back to what it began with itself."""
    async with pgpool_core.open_proxy(config(postgres)) as proxy:
        place = Place(proxy)
        async with logged_in(place) as plain, logged_in(place, work_mem="7MB") as own:
            for _ in range(3):
                for client, start in ((plain, b"4MB"), (own, b"7MB")):
                    await client.query("set work_mem = '8MB'")
                    await client.query("select 1")  # answered behind the question about the text before it
                    await client.query("reset work_mem")
                    await client.query("select 1")
                    assert shown(await client.query("show work_mem")) == start


async def test_how_its_transaction_ends_is_not_remembered_of_its_beginning(postgres: PostgresServer) -> None:
    async with two_clients(postgres) as (_, one, two):
        for end, own in (("rollback", b"4MB"), ("commit", b"9MB"), ("rollback", b"9MB")):
            for _ in range(2):
                await one.query("begin; set work_mem = '9MB'")
                await one.query(end)
                assert shown(await two.query("show work_mem")) == b"4MB"
                assert shown(await one.query("show work_mem")) == own


async def prepare(client: ScriptedPeer, name: str, text: str) -> None:
    await client.send(frontend.parse(text, name), frontend.sync())
    await client.until("Z")


async def send_with(client: ScriptedPeer, text: str, name: str) -> None:
    """A Query, and behind it, before it has been answered, the use of a prepared statement."""
    await client.send(frontend.query(text), frontend.bind(name), frontend.execute(), frontend.sync())
    await client.until("Z")
    await client.until("Z")


async def test_what_a_statement_does_behind_a_known_text_is_asked_about(postgres: PostgresServer) -> None:
    text = "set work_mem = '9MB'"
    async with pgpool_core.open_proxy(config(postgres, default_pool_size=2)) as proxy:
        place = Place(proxy)
        async with logged_in(place) as one:
            for known in ("select 1", text, "select 1"):
                await one.query(known)
        async with logged_in(place) as one, logged_in(place) as two:
            await prepare(one, "makes", "create temp table mine as select 1 as n")
            await one.query("select 1")
            await send_with(one, text, "makes")
            for _ in range(3):
                assert shown(await two.query("select to_regclass('mine')")) is None
                assert shown(await one.query("select n from mine")) == b"1"


async def test_what_a_statement_does_behind_a_text_is_not_learnt_of_that_text(postgres: PostgresServer) -> None:
    text = "set work_mem = '9MB'"
    async with two_clients(postgres) as (_, one, two):
        await prepare(one, "sets", "select set_config('work_mem', '7MB', false)")
        await one.query("select 1")
        await send_with(one, text, "sets")
        assert shown(await one.query("show work_mem")) == b"7MB"
        assert shown(await two.query("show work_mem")) == b"4MB"
        await two.query(text)
        assert shown(await one.query("show work_mem")) == b"7MB"
        assert shown(await two.query("show work_mem")) == b"9MB"


async def test_an_update_of_pg_settings_depends_on_data(postgres: PostgresServer) -> None:
    text = "update pg_settings set setting = v from wanted where name = 'work_mem'"
    async with two_clients(postgres) as (_, one, two):
        await two.query("drop table if exists wanted; create table wanted as select '5MB' as v")
        for value in (b"5MB", b"5MB", b"6MB", b"7MB"):
            await two.query(f"update wanted set v = '{value.decode()}'")
            await one.query("select 1")  # its settings stand before the text comes
            await one.query(text)
            assert shown(await one.query("show work_mem")) == value
            assert shown(await two.query("show work_mem")) == b"4MB"
            assert shown(await one.query("show work_mem")) == value


async def test_whose_session_it_is_counts(postgres: PostgresServer) -> None:
    """SET SESSION AUTHORIZATION to oneself changes nothing; for anybody else it does."""
    async with pgpool_core.open_proxy(config(postgres, users=("app", "boss"))) as proxy:
        place = Place(proxy)
        async with logged_in(place, database="app") as one, logged_in(place, database="boss") as two:
            for _ in range(2):
                await one.query("set session authorization app")
            await two.query("set session authorization app")
            async with logged_in(place, database="boss") as three:
                assert shown(await three.query("select current_user")) == b"boss"
            assert shown(await two.query("select current_user")) == b"app"


async def test_rows_in_a_text_are_read_up_to_a_mebibyte(postgres: PostgresServer) -> None:
    """As psycopg2's execute_values sends them: no question follows, but what is behind the rows is seen."""
    rows = ", ".join(f"({number}, '{'x' * 1000}')" for number in range(1000))
    text = f"select count(*) from (values {rows}) many (a, b)"
    async with two_clients(postgres) as (place, one, two):
        assert shown(await one.query(text)) == b"1000"
        assert place.counted("probes") == 0
        await one.query(f"{text}; set work_mem = '77MB'")
        assert place.counted("probes") == 1
        assert shown(await two.query("show work_mem")) == b"4MB"
        assert shown(await one.query("show work_mem")) == b"77MB"
