"""A client ends at each step of a conversation, in each way that a connection can end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import attrs
import pytest
import trio

from pgpool_core.testing import Message, ScriptedPeer, connect_peer, frontend
from tests.chaos.conftest import Scene
from tests.console import Console
from tests.peers import logged_in, values
from tests.watching import until_async


@attrs.frozen
class Step:
    """How far a conversation goes before its client vanishes: what is sent, and what is waited for."""

    name: str
    sent: tuple[bytes, ...] = ()
    awaited: str = ""
    before: tuple[str, ...] = ()
    """Simple queries that are answered first."""


TEMP = ("begin", "create temp table t(x int) on commit drop")
COPY_EXTENDED = frontend.parse("copy t from stdin") + frontend.bind() + frontend.execute() + frontend.sync()
STEPS = (
    Step("idle, never asked"),
    Step("idle, asked before", before=("select 1",)),
    Step("one byte of a message", (b"Q",)),
    Step("half a header", (b"Q\0\0",)),
    Step("half a message", (frontend.query("select 1")[:9],)),
    Step("half a large message", (frontend.query("select '" + "x" * 300_000 + "'")[:200_000],)),
    Step("a query and half of the next", (frontend.query("select 1") + frontend.query("select 2")[:7],)),
    Step("query sent", (frontend.query("select 1"),)),
    Step("slow query running", (frontend.query("select pg_sleep(61)"),)),
    Step("large answer on its way", (frontend.query("select repeat('x', 1000) from generate_series(1, 100000)"),), "TD"),
    Step("answer read", (frontend.query("select 1"),), "TDCZ"),
    Step("transaction open", before=("begin",)),
    Step("transaction with changes", before=("begin", "create table vanished(x int)")),
    Step("transaction failed", before=("begin", "select 1/0")),
    Step("query in a transaction", (frontend.query("select pg_sleep(61)"),), before=("begin",)),
    Step("half a message in a transaction", (frontend.query("select 1")[:9],), before=("begin",)),
    Step("half a large message in a transaction", (frontend.query("x" * 300_000)[:200_000],), before=("begin",)),
    Step("parsed, not synced", (frontend.parse("select 1"), frontend.flush()), "1"),
    Step("bound, not synced", (frontend.parse("select 1") + frontend.bind() + frontend.flush(),), "12"),
    Step("executed, not synced", (frontend.parse("select 1") + frontend.bind() + frontend.execute(),)),
    Step("executed and flushed", (frontend.parse("select 1") + frontend.bind() + frontend.execute() + frontend.flush(),), "12DC"),
    Step("error, not synced", (frontend.parse("selekt") + frontend.flush(),), "E"),
    Step("half a Bind", (frontend.parse("select $1"), frontend.bind(values=["x" * 100])[:50])),
    Step("synced", (frontend.parse("select pg_sleep(61)") + frontend.bind() + frontend.execute() + frontend.sync(),)),
    Step("pipeline of fifty", ((frontend.parse("select 1") + frontend.bind() + frontend.execute() + frontend.sync()) * 50,)),
    Step("portal half read", (frontend.parse("select generate_series(1, 9)") + frontend.bind() + frontend.execute("", 2) + frontend.flush(),), "12DDs"),
    Step("copy in begun", (frontend.query("copy t from stdin"),), "G", TEMP),
    Step("copy in with data", (frontend.query("copy t from stdin"), frontend.copy_data(b"1\n")), "G", TEMP),
    Step("copy in with half a message", (frontend.query("copy t from stdin"), frontend.copy_data(b"1\n")[:6]), "G", TEMP),
    Step("copy in with bad data", (frontend.query("copy t from stdin"), frontend.copy_data(b"x\n")), "GE", TEMP),
    Step("extended copy in", (COPY_EXTENDED, frontend.copy_data(b"1\n")), "12G", TEMP),
    Step("extended copy in, synced in the middle", (COPY_EXTENDED, frontend.copy_data(b"1\n") + frontend.sync()), "12G", TEMP),
    Step("query inside a copy in", (frontend.query("copy t from stdin") + frontend.query("select 1"),), "G", TEMP),
    Step("copy out running", (frontend.query("copy (select repeat('x', 1000) from generate_series(1, 100000)) to stdout"),), "Hd"),
    Step("polite in a transaction", (frontend.terminate(),), before=("begin",)),
    Step("polite in a query", (frontend.query("select pg_sleep(0.01)") + frontend.terminate(),)),
    Step("unknown message in a transaction", (bytes(Message(b"y", b"?")),), before=("begin",)),
)  # fmt: skip


async def reset(peer: ScriptedPeer) -> None:
    await peer.cut()


async def close(peer: ScriptedPeer) -> None:
    await peer.aclose()


async def half_close(peer: ScriptedPeer) -> None:
    """Send the end and go on reading: the other side must end it, and nobody may wait for ever."""
    with trio.fail_after(10):
        await peer.half_close()
        try:
            while await peer.stream.receive_some(65536):
                pass
        except trio.BrokenResourceError:
            pass


Ending = Callable[[ScriptedPeer], Awaitable[None]]


@pytest.mark.parametrize("end", [reset, close, half_close], ids=lambda end: end.__name__)
async def test_a_client_may_vanish_at_any_step(scene: Scene, end: Ending) -> None:
    """All steps of the table in turn on one pooler, which is looked over after each in short and at the end in full."""
    for step in STEPS:
        try:
            async with logged_in(scene) as peer:
                for sql in step.before:
                    await peer.query(sql)
                await peer.send(*step.sent)
                await peer.expect(*step.awaited)
                await end(peer)
            async with logged_in(scene) as one, logged_in(scene) as two:
                for client in (one, two):
                    answer = await client.query("select 'clean'")
                    assert values(answer) == [[b"clean"]]
                    assert answer[-1].body == b"I"
        except BaseException as failure:
            failure.add_note(f"at the step {step.name!r}, {end.__name__}")
            raise
    assert scene.server.sql("select count(*) from pg_class where relname = 'vanished'", database="app") == "0"


LOGIN_CUTS = [0, 1, 4, 7, 8, 20, None]


@pytest.mark.parametrize("end", [reset, close], ids=lambda end: end.__name__)
async def test_a_client_may_vanish_in_the_middle_of_its_login(scene: Scene, end: Ending) -> None:
    startup = frontend.startup("app", "app")
    for opening in (startup, frontend.ssl_request(), frontend.cancel(1, b"abcd")):
        for cut in LOGIN_CUTS:
            async with await connect_peer((scene.host, scene.port)) as peer:
                if opening[:cut]:
                    await peer.send(opening[:cut])
                if cut is None and opening is startup:
                    await peer.expect("R")
                await end(peer)


async def test_the_query_of_a_vanished_client_is_cancelled_and_its_server_used_again(scene: Scene) -> None:
    for before in ((), ("begin",)):
        async with logged_in(scene) as peer:
            for sql in before:
                await peer.query(sql)
            await peer.send(frontend.query("select pg_backend_pid(), pg_sleep(62)"))
            running = "select pid from pg_stat_activity where state = 'active' and query like '%pg_sleep(62)%' and usename = 'app'"
            pid = await until_async(lambda: scene.server.sql(running))  # noqa: B023
            await peer.cut()
        await until_async(lambda: not scene.server.sql(running))  # noqa: B023
        with Console(scene.place) as console:
            await until_async(lambda: console.pool()["sv_active"] == console.pool()["sv_being_canceled"] == 0)
            kept = {str(row["remote_pid"]) for row in console.rows("SHOW SERVERS")}
        assert pid in kept, "the server was thrown away"


async def test_the_transaction_of_a_vanished_client_is_rolled_back_and_its_server_used_again(scene: Scene) -> None:
    async with logged_in(scene) as peer:
        pid = values(await peer.query("begin; create table unfinished(x int); select pg_backend_pid()"))[0][0]
        await peer.cut()
    with Console(scene.place) as console:
        await until_async(lambda: console.pool()["sv_active"] == 0 and console.pool()["sv_tested"] == 0)
        kept = {str(row["remote_pid"]).encode() for row in console.rows("SHOW SERVERS")}
    assert pid in kept
    assert scene.server.sql("select count(*) from pg_class where relname = 'unfinished'", database="app") == "0"


@pytest.mark.parametrize("end", [reset, close], ids=lambda end: end.__name__)
async def test_a_client_that_vanishes_while_its_next_message_is_held_is_missed(scene: Scene, end: Ending) -> None:
    for held in (frontend.query("deallocate s"), frontend.bind("s") + frontend.execute() + frontend.sync()):
        async with logged_in(scene) as peer:
            await peer.send(frontend.parse("select 1", "s"), frontend.sync())
            await peer.expect("1Z")
            await peer.send(frontend.query("do $$begin perform pg_sleep(64); end$$") + held)
            running = "select pid from pg_stat_activity where state = 'active' and query like 'do%pg_sleep(64)%'"
            await until_async(lambda: scene.server.sql(running))  # noqa: B023
            await end(peer)
        await until_async(lambda: not scene.server.sql(running))  # noqa: B023


async def test_a_good_bye_behind_a_held_message_lets_both_be_carried_out(scene: Scene) -> None:
    async with logged_in(scene) as peer:
        await peer.query("create table kept(x int)")
        await peer.send(frontend.parse("insert into kept values (1)", "s"), frontend.sync())
        await peer.expect("1Z")
        held = frontend.bind("s") + frontend.execute() + frontend.sync()
        await peer.send(frontend.query("do $$begin perform pg_sleep(0.1); end$$") + held + frontend.terminate())
        await peer.aclose()
    await until_async(lambda: scene.server.sql("select count(*) from kept", database="app") == "1")
    scene.server.sql("drop table kept", database="app")


async def test_a_hundred_clients_vanish_at_once(scene: Scene) -> None:
    async def come_and_go(number: int) -> None:
        async with logged_in(scene) as peer:
            await peer.send(frontend.query(("begin", "select pg_sleep(0.01)", "select 1", "")[number % 4]))
            await peer.cut()

    async with trio.open_nursery() as nursery:
        for number in range(90):
            nursery.start_soon(come_and_go, number)


async def test_clients_that_vanish_before_postgres_has_begun_their_query(scene: Scene) -> None:
    """A cancel request that overtakes the query is ignored by PostgreSQL, and the query would run for a minute."""
    for _ in range(100):
        async with logged_in(scene) as peer:
            await peer.send(frontend.query("select pg_sleep(63)"))
            await peer.cut()
    running = "select count(*) from pg_stat_activity where state = 'active' and query like '%pg_sleep(63)%' and usename = 'app'"
    await until_async(lambda: scene.server.sql(running) == "0")


async def test_clients_that_vanish_in_the_queue_leave_it(scene: Scene) -> None:
    with Console(scene.place) as console:
        async with logged_in(scene) as one, logged_in(scene) as two:
            for holder in (one, two):
                await holder.query("begin")
            for _ in range(100):
                async with logged_in(scene) as peer:
                    await peer.send(frontend.query("select 1"))
                    await peer.cut()
            await until_async(lambda: console.waiting() == 0, what="nobody who is there waits")
            assert console.lists()["used_clients"] == 3


async def test_a_client_that_neither_reads_nor_leaves_holds_one_server_only(scene: Scene) -> None:
    async with logged_in(scene) as mute, logged_in(scene) as other:
        await mute.send(frontend.query("select repeat('x', 1000) from generate_series(1, 100000)"))
        blocked = "select count(*) from pg_stat_activity where usename = 'app' and wait_event = 'ClientWrite'"
        await until_async(lambda: scene.server.sql(blocked) == "1")
        for _ in range(20):
            assert values(await other.query("select 1")) == [[b"1"]]
        await mute.cut()
