"""LISTEN in transaction mode: clients listen without a server, through one connection of the pooler's for each pool."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator, Sequence

import psycopg
import pytest
import trio

from pgpool_core.testing import Message, PostgresServer, ScriptedPeer, frontend
from tests.conftest import PoolerFactory, Target
from tests.console import Console
from tests.peers import letters, logged_in, values
from tests.watching import until, until_async

SAME = pytest.mark.parametrize("target", ["direct", "pgpool_core"], indirect=True)
ONE_SERVER = pytest.mark.pooler(default_pool_size=1)


def codes(messages: Sequence[Message]) -> list[str]:
    """The SQLSTATE of every ErrorResponse."""
    return [message.fields["C"] for message in messages if message.type == b"E"]


def notified(message: Message) -> tuple[int, bytes, bytes]:
    """Process id, channel and payload of a NotificationResponse."""
    assert message.type == b"A"
    (pid,) = struct.unpack_from("!I", message.body)
    channel, payload, rest = message.body[4:].split(b"\0")
    assert not rest
    return pid, channel, payload


async def payloads(peer: ScriptedPeer, count: int) -> list[bytes]:
    return [notified(await peer.expect("A"))[2] for _ in range(count)]


async def one_value(client: ScriptedPeer, sql: str) -> bytes | None:
    return values(await client.query(sql))[0][0]


def unnamed(sql: str, *more: bytes) -> bytes:
    parts = (frontend.parse(sql), frontend.bind(), *more, frontend.execute(), frontend.sync())
    return b"".join(parts)


@SAME
@ONE_SERVER
async def test_who_listens_hears_in_order_and_who_does_not_hears_nothing(target: Target) -> None:
    async with logged_in(target) as one, logged_in(target) as two, logged_in(target) as three:
        assert letters(await one.query("listen news")) == "CZ"
        assert letters(await two.query('/* also */ LISTEN "news" ;')) == "CZ"
        assert letters(await three.query("listen weather")) == "CZ"
        for number in range(50):
            await three.query(f"notify news, 'n{number}'")
        expected = [b"n%d" % number for number in range(50)]
        assert await payloads(one, 50) == expected
        assert await payloads(two, 50) == expected
        await two.query("select pg_notify('weather', 'rain')")
        assert await payloads(three, 1) == [b"rain"]
        await one.expect_silence()


@ONE_SERVER
@pytest.mark.parametrize("target", ["pgpool_core"], indirect=True)
async def test_listening_takes_no_server(target: Target) -> None:
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(logged_in(target)) for _ in range(10)]
        for number, client in enumerate(clients):
            assert letters(await client.query(f"listen c{number % 3}")) == "CZ"
        pids = {await one_value(client, "select pg_backend_pid()") for client in clients}
        assert len(pids) == 1


@SAME
@ONE_SERVER
@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (unnamed("listen news"), "12CZ"),
        (unnamed("listen news", frontend.describe("", b"P")), "12nCZ"),
        (frontend.parse("listen news") + frontend.describe() + unnamed("x")[len(frontend.parse("x")) :], "1tn2CZ"),
        (frontend.query("listen a") + frontend.query("listen news"), "CZCZ"),
        (frontend.query("listen a;listen news"), "CCZ"),
        (frontend.query("begin;listen news;commit"), "CCCZ"),
    ],
    ids=["unnamed", "portal described", "statement described", "pipelined", "two statements", "transaction"],
)
async def test_every_way_to_listen(target: Target, sent: bytes, answer: str) -> None:
    async with logged_in(target) as one, logged_in(target, database="app") as two:
        await one.send(sent)
        told = ""
        while len(told) < len(answer):
            message = await one.receive()
            assert message is not None
            told += letters([message])
        assert told == answer
        if target.is_direct or "unnamed" in told or answer.count("C") == 1 or answer == "CZCZ":
            await two.query("notify news, 'heard'")
            assert await payloads(one, 1) == [b"heard"]


@SAME
@ONE_SERVER
async def test_names_are_folded_as_postgres_does(target: Target) -> None:
    async with logged_in(target) as one, logged_in(target) as two:
        for name in ("MixedCase", '"MixedCase"', '"a ""quoted"" name"'):
            assert letters(await one.query(f"listen {name}")) == "CZ"
        for name in ("mixedcase", '"MixedCase"', '"a ""quoted"" name"'):
            await two.query(f"notify {name}, ''")
        heard = [notified(await one.expect("A"))[1] for _ in range(3)]
        assert heard == [b"mixedcase", b"MixedCase", b'a "quoted" name']


ENDINGS = {
    "unlisten": "unlisten news",
    "unlisten all": "unlisten *",
    "discard": "discard all",
    "among others": "select 1; unlisten news",
    "as a pool resets": "select pg_advisory_unlock_all(); close all; unlisten *; reset all",
    "in a transaction": "begin; unlisten news; commit",
}


@SAME
@ONE_SERVER
@pytest.mark.parametrize("text", ENDINGS.values(), ids=ENDINGS.keys())
async def test_who_unlistens_hears_no_more(target: Target, text: str) -> None:
    async with logged_in(target) as one, logged_in(target) as two, logged_in(target) as three:
        await one.query("listen news")
        await three.query("listen other")
        assert not codes(await one.query(text))
        await two.query("notify news, 'too late'")
        await two.query("notify other")  # what came before it has been handled when this one arrives
        await three.expect("A")
        await one.expect_silence()


@SAME
@ONE_SERVER
@pytest.mark.parametrize("end", ["rollback", "select 1/0; commit"])
async def test_an_unlisten_that_is_rolled_back_ends_nothing(target: Target, end: str) -> None:
    async with logged_in(target) as one, logged_in(target) as two:
        await one.query("listen news")
        await one.query("begin")
        await one.query("unlisten news")
        await one.query(end)
        await one.query("rollback")
        await two.query("notify news, 'still here'")
        assert await payloads(one, 1) == [b"still here"]


@SAME
@ONE_SERVER
async def test_a_notification_that_is_rolled_back_reaches_nobody(target: Target) -> None:
    async with logged_in(target) as one, logged_in(target) as two:
        await one.query("listen news")
        await two.query("begin; notify news, 'no'; rollback")
        await two.query("begin; notify news, 'yes'; commit")
        assert await payloads(one, 1) == [b"yes"]


@SAME
@pytest.mark.pooler(default_pool_size=2)
async def test_nothing_comes_inside_a_transaction_and_all_of_it_behind(target: Target) -> None:
    async with logged_in(target) as one, logged_in(target) as two, logged_in(target) as three:
        await one.query("listen news")
        await three.query("listen news")
        await one.query("begin")
        for number in range(5):
            await two.query(f"notify news, '{number}'")
        await payloads(three, 5)
        assert letters(await one.query("select 1")) == "TDCZ"
        await one.send(frontend.query("commit"))
        rest = [message for _ in range(7) if (message := await one.receive())]
        assert letters(rest).replace("A", "") == "CZ"
        assert [notified(message)[2] for message in rest if message.type == b"A"] == [b"%d" % n for n in range(5)]


@SAME
@pytest.mark.pooler(default_pool_size=2)
async def test_nothing_comes_inside_a_message(target: Target) -> None:
    """A big result streams to a slow reader while notifications come in."""
    async with logged_in(target) as one, logged_in(target) as two, logged_in(target) as three:
        await one.query("listen news")
        await three.query("listen news")
        await one.send(frontend.query("select repeat('x', 100000) from generate_series(1, 300)"))
        for number in range(20):
            await two.query(f"notify news, '{number}'")
        await payloads(three, 20)
        answer = await one.until("Z")
        assert letters(answer).replace("A", "") == "T" + "D" * 300 + "CZ"
        before = letters(answer).count("A")
        assert before in (0, 20)
        assert all(value == b"x" * 100000 for (value,) in values(answer))
        if not before:
            assert await payloads(one, 20) == [b"%d" % number for number in range(20)]


@SAME
@pytest.mark.pooler(default_pool_size=2)
async def test_who_notifies_itself_knows_its_own_process_id(target: Target) -> None:
    with psycopg.connect(target.url("app", "app"), autocommit=True) as one:
        own = one.info.backend_pid
        one.execute("listen news")
        with psycopg.connect(target.url("app", "app"), autocommit=True) as two:
            two.execute("notify news, 'theirs'")
            heard = list(one.notifies(timeout=10, stop_after=1))  # before the two may be confused: docs/listen.md
            one.execute("select pg_notify('news', 'own')")
            with one.transaction():
                one.execute("notify news, 'own too'")
            heard += one.notifies(timeout=10, stop_after=2)
            theirs = two.info.backend_pid
    assert [(note.pid == own, note.payload) for note in heard] == [(False, "theirs"), (True, "own"), (True, "own too")]
    assert heard[0].pid == theirs


@pytest.fixture
def talk(postgres: PostgresServer) -> Iterator[None]:
    """A table that tells of what is written into it."""
    postgres.sql(
        "create table talk(t text); grant all on talk to public;"
        "create function talks() returns trigger language plpgsql as"
        " $$begin perform pg_notify('news', new.t); return null; end$$;"
        "create trigger talks after insert on talk for each row execute function talks()",
        database="app",
    )
    yield
    postgres.sql("drop table talk; drop function talks()", database="app")


@SAME
@ONE_SERVER
@pytest.mark.parametrize("way", ["literal", "called", "prepared", "triggered"])
async def test_nobody_takes_what_another_has_said_for_his_own(target: Target, way: str, talk: None) -> None:
    """Two clients speak in turn, on one server, faster than they are heard."""
    with contextlib.ExitStack() as stack:
        url = target.url("app", "app")
        one, two = (stack.enter_context(psycopg.connect(url, autocommit=True)) for _ in range(2))
        own = {client: client.info.backend_pid for client in (one, two)}
        one.execute("listen news", prepare=False)
        one.prepare_threshold = two.prepare_threshold = 0 if way == "prepared" else None
        for number in range(10):
            for client, who in ((one, "one"), (two, "two")):
                if way == "literal":
                    client.execute(f"notify news, '{who} {number}'")
                elif way == "triggered" and who == "two":
                    client.execute(f"insert into talk values ('{who} {number}')")
                else:
                    client.execute("select pg_notify('news', %s)", (f"{who} {number}",))
        heard = list(one.notifies(timeout=20, stop_after=20))
        assert len(heard) == 20
        for note in heard:
            speaker = one if note.payload.startswith("one") else two
            assert note.pid == own[speaker] or note.pid not in own.values()


@ONE_SERVER
@pytest.mark.parametrize("target", ["pgpool_core"], indirect=True)
async def test_a_backend_that_no_client_uses_keeps_its_process_id(target: Target, postgres: PostgresServer) -> None:
    async with logged_in(target) as one:
        await one.query("listen news")
        pid = postgres.sql("select pg_backend_pid(), pg_notify('news', 'from outside')", database="app").split("|")[0]
        assert notified(await one.expect("A")) == (int(pid), b"news", b"from outside")


async def test_a_lost_connection_is_replaced_and_everybody_told(
    pooler: PoolerFactory, postgres: PostgresServer
) -> None:
    target = pooler(default_pool_size=1)
    with Console(target) as console:
        async with logged_in(target) as one, logged_in(target) as two, logged_in(target) as idle:
            await one.query("listen news")
            await one.query("listen weather")
            await two.query("listen news")
            (row, _) = await trio.to_thread.run_sync(console.rows, "SHOW CHANNELS")
            assert (row["channel"], row["clients"], row["state"]) == ("news", 2, "listening")
            await trio.to_thread.run_sync(postgres.sql, f"select pg_terminate_backend({row['server_pid']})")
            for client in (one, two):
                notice = await client.expect("N")
                assert notice.fields["C"] == "01000"
                assert "may have been missed" in notice.fields["M"]
            await idle.query("notify news, 'again'")
            assert await payloads(one, 1) == [b"again"]
            assert await payloads(two, 1) == [b"again"]
            await one.expect_silence()
            await idle.expect_silence()
            (after, _) = await trio.to_thread.run_sync(console.rows, "SHOW CHANNELS")
            assert (after["state"], after["reconnects"]) == ("listening", 1)
            assert after["server_pid"] != row["server_pid"]


async def test_channels_are_shown_and_forgotten(pooler: PoolerFactory) -> None:
    target = pooler()
    with Console(target) as console:
        async with logged_in(target) as one:
            await one.query("listen a")
            async with logged_in(target) as two:
                await two.query("listen a")
                await two.query("listen b")
                rows = await trio.to_thread.run_sync(console.rows, "SHOW CHANNELS")
                assert [(row["database"], row["channel"], row["clients"]) for row in rows] == [
                    ("app", "a", 2),
                    ("app", "b", 1),
                ]
            await until_async(lambda: [row["clients"] for row in console.rows("SHOW CHANNELS")] == [1])
            assert await trio.to_thread.run_sync(console.rows, "SHOW PINS") == []


async def test_a_listening_connection_counts_against_shared_limits(pooler: PoolerFactory) -> None:
    target = pooler(default_pool_size=5, max_db_connections=2)
    async with logged_in(target) as one, logged_in(target) as two, logged_in(target) as three:
        await one.query("begin")
        await two.query("begin")
        await three.send(frontend.query("listen news"))
        await three.expect_silence()
        await two.query("rollback")
        assert letters(await three.until("Z")) == "CZ"
        await one.query("notify news, 'made room'")
        await one.query("commit")
        assert await payloads(three, 1) == [b"made room"]
        assert await one_value(two, "select 1") == b"1"


async def test_a_limit_of_one_leaves_no_room_to_listen(pooler: PoolerFactory) -> None:
    target = pooler(max_db_connections=1)
    async with logged_in(target) as one:
        assert codes(await one.query("listen news")) == ["53300"]
        assert await one_value(one, "select 1") == b"1"


async def test_where_no_server_can_be_had_listen_fails_and_the_session_lives(
    pooler: PoolerFactory, own_postgres: PostgresServer
) -> None:
    target = pooler(server=own_postgres, server_login_retry=1)
    async with logged_in(target) as one:
        await trio.to_thread.run_sync(own_postgres.stop, "immediate")
        assert codes(await one.query("listen news")) == ["08001"]
        await trio.to_thread.run_sync(own_postgres.start)

        async def listens() -> None:
            while codes(await one.query("listen news")):
                await trio.lowlevel.checkpoint()

        with trio.fail_after(10):
            await listens()


async def test_who_never_reads_is_ended(pooler: PoolerFactory) -> None:
    target = pooler(default_pool_size=2)
    async with logged_in(target) as one, logged_in(target) as two, logged_in(target) as witness:
        await one.query("listen news")
        await witness.query("listen news")
        await one.query("begin")
        for _ in range(3):
            await two.query("select count(pg_notify('news', g || repeat('x', 7000))) from generate_series(1, 60) g")
            await payloads(witness, 60)
        await one.expect_error("54000")
        await one.expect_end()
        assert await one_value(two, "select 1") == b"1"


async def test_a_client_in_another_encoding_keeps_a_server(pooler: PoolerFactory) -> None:
    target = pooler(default_pool_size=3)
    with Console(target) as console:
        async with logged_in(target, client_encoding="LATIN1") as one, logged_in(target) as two:
            await one.query("listen news")
            await one.query("select 1")  # behind the question what is left in the session
            rows = await trio.to_thread.run_sync(console.rows, "SHOW PINS")
            assert [row["reasons"] for row in rows] == ["listen"]
            await two.query("select pg_notify('news', chr(233))")
            assert await payloads(one, 1) == [b"\xe9"]


async def test_a_pinned_listener_hears_once_and_knows_itself(pooler: PoolerFactory) -> None:
    target = pooler(default_pool_size=3)
    with psycopg.connect(target.url("app", "app"), autocommit=True) as one:
        one.execute("listen news")
        one.execute("begin; listen news; commit")
        one.execute("select 1")
        one.execute("notify news, 'once'")
        heard = list(one.notifies(timeout=10, stop_after=1))
        one.execute("notify news, 'twice'")
        heard += list(one.notifies(timeout=10, stop_after=1))
        assert [(note.pid, note.payload) for note in heard] == [
            (one.info.backend_pid, "once"),
            (one.info.backend_pid, "twice"),
        ]


async def test_a_database_that_is_removed_ends_its_connection(pooler: PoolerFactory, postgres: PostgresServer) -> None:
    entry = f"host={postgres.host} port={postgres.port}"
    target = pooler(databases={"app": entry, "other": entry})
    async with logged_in(target, "plain", "other") as one:
        await one.query("listen news")
        until(lambda: postgres.backends(user="plain") == 2)
        target.databases = {"app": entry}
        target.reload()
        await one.expect_error("57P01")
        await until_async(lambda: postgres.backends(user="plain") == 0)


@pytest.mark.slow
async def test_two_thousand_listeners_on_one_connection(pooler: PoolerFactory, postgres: PostgresServer) -> None:
    target = pooler(default_pool_size=1, max_client_conn=2100, auth_type="trust", workers=2)
    heard = 0
    listening, all_listen = 0, trio.Event()

    async def client() -> None:
        nonlocal heard, listening
        async with logged_in(target, "trusted", patience_s=60) as peer:
            assert letters(await peer.query("listen news")) == "CZ"
            listening += 1
            if listening == 2000:
                all_listen.set()
            assert await payloads(peer, 3) == [b"1", b"2", b"3"]
            heard += 1

    async with trio.open_nursery() as nursery:
        for _ in range(2000):
            nursery.start_soon(client)
        await all_listen.wait()
        assert await trio.to_thread.run_sync(lambda: postgres.backends(user="trusted")) <= 2
        async with logged_in(target, "trusted") as other:
            for payload in "123":
                await other.query(f"notify news, '{payload}'")
    assert heard == 2000


async def test_what_is_answered_without_a_server_counts_as_sent(pooler: PoolerFactory) -> None:
    """The answers of both kinds: at once, and when the listening connection has asked."""
    place = pooler()
    async with logged_in(place) as one, logged_in(place) as two:
        sent = 0
        with Console(place) as console:

            def told(count: int) -> bool:
                [row] = [row for row in console.rows("SHOW STATS") if row["database"] == "app"]
                return int(row["total_sent"]) == count

            for peer in (one, two):
                answer = await peer.query("listen news")
                assert letters(answer) == "CZ"
                sent += sum(5 + len(message.body) for message in answer)
            await until_async(lambda: told(sent))
