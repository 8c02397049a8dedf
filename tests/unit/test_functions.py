"""When the functions of a database are read: before its first server, after a change, after a while; and what if not."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from pgpool_core.control.connect import LoggedInServer, ServerTarget
from pgpool_core.control.pipes import SocketPipe
from pgpool_core.errors import ServerLoginRefused
from tests.unit.fake_engine import FakeEngine
from tests.unit.test_pooler import APP, Harness, pass_time, running

APP_AGAIN = attrs.evolve(APP, dbname="app")
READY = b"Z\0\0\0\5I"
REFUSED_BODY = b"SERROR\0C42501\0Mpermission denied\0\0"
REFUSED = b"E" + struct.pack("!I", len(REFUSED_BODY) + 4) + REFUSED_BODY + READY


def row(*fields: bytes) -> bytes:
    body = struct.pack("!H", len(fields)) + b"".join(struct.pack("!I", len(f)) + f for f in fields)
    return b"D" + struct.pack("!I", len(body) + 4) + body


LOCKS = row(b"f", b"locks", b"sql", b"select pg_advisory_lock(1)") + READY
NOTHING = READY


class Database:
    """Answers every connection's question about functions, and has nothing to say to others; `asked` counts them."""

    def __init__(self, answer: bytes = LOCKS) -> None:
        self.answer = answer
        self.asked = self.refused = 0
        self.full = False

    async def open(self, target: ServerTarget) -> LoggedInServer:
        if self.full:
            self.refused += 1
            raise ServerLoginRefused("sorry, too many clients already", sqlstate="53300")
        ours, theirs = trio.socket.socketpair()
        self.nursery.start_soon(self._serve, theirs)
        return LoggedInServer(
            host="127.0.0.1",
            port=target.port,
            is_unix=False,
            backend_pid=4711,
            backend_key=b"key!",
            parameters=[(b"server_version", b"15.4")],
            unread=b"",
            pipe=SocketPipe(ours),
        )

    async def _serve(self, sock: trio.socket.SocketType) -> None:
        with sock:
            while data := await sock.recv(65536):
                if b"pg_settings" in data:
                    await sock.send(NOTHING)
                elif data[:1] == b"Q":
                    self.asked += 1
                    if self.answer:
                        await sock.send(self.answer)

    nursery: trio.Nursery


@asynccontextmanager
async def served(folder: Path, database: Database, **settings: Any) -> AsyncIterator[Harness]:
    async with trio.open_nursery() as nursery:
        database.nursery = nursery
        async with running(folder, database.open, pool_mode="transaction", **settings) as it:
            yield it


def told(engine: FakeEngine) -> list[bytes]:
    """The tables that workers have been told."""
    return [letter[3] for letter in engine.told if letter[0] == "functions" and isinstance(letter[3], bytes)]


async def test_a_database_is_read_before_its_first_server_is_there(
    tmp_path: Path, autojump_clock: trio.abc.Clock
) -> None:
    database = Database()
    async with served(tmp_path, database, workers=1) as it:
        it.engine.want(0, 3)
        await it.engine.until(lambda: len(it.engine.pool_list[0].adopted) == 3)
        assert (database.asked, len(it.engine.pool_list[0].adopted)) == (1, 3)
        assert len(told(it.engine)) == 1
        assert ("watch", 0, 0) in it.engine.told and ("known", 0) in it.engine.told


async def test_in_session_mode_and_without_a_period_nothing_is_read(
    tmp_path: Path, autojump_clock: trio.abc.Clock
) -> None:
    for settings in ({"pool_mode": "session"}, {"session_state": "off"}, {"function_check_period": 0.0}):
        database = Database()
        async with trio.open_nursery() as nursery:
            database.nursery = nursery
            async with running(tmp_path, database.open, **{"pool_mode": "transaction", **settings}) as it:
                it.engine.want(0, 1)
                await it.engine.until(lambda: it.engine.pool_list[0].adopted)
                assert len(it.engine.pool_list[0].adopted) == 1
                assert database.asked == 0


async def test_it_is_read_again_after_a_change_and_after_a_while(
    tmp_path: Path, autojump_clock: trio.abc.Clock
) -> None:
    database = Database()
    async with served(tmp_path, database) as it:
        it.engine.want(0, 1)
        await it.engine.until(lambda: it.engine.pool_list[0].adopted)
        it.engine.changes[0] = 1
        it.engine.post("functions")
        await it.engine.until(lambda: len(told(it.engine)) == 2 and not it.engine.listeners_open)
        assert database.asked == 2
        await pass_time(70)
        await it.engine.until(lambda: database.asked >= 3 and not it.engine.listeners_open)
        assert len(told(it.engine)) == 2, "the same is not told again"
        database.answer = NOTHING
        await pass_time(130)
        await it.engine.until(lambda: len(told(it.engine)) == 3)


async def test_a_change_is_not_overlooked_where_there_is_no_connection_for_it(
    tmp_path: Path, autojump_clock: trio.abc.Clock
) -> None:
    database = Database()
    async with served(tmp_path, database) as it:
        it.engine.want(0, 1)
        await it.engine.until(lambda: it.engine.pool_list[0].adopted)
        database.full = True
        it.engine.changes[0] = 1
        it.engine.post("functions")
        await pass_time(40)
        assert len(told(it.engine)) == 1, "what was known is not the latest"
        assert 4 <= database.refused <= 12, "tried again, but not all the time"
        database.full = False
        await pass_time(10)
        await it.engine.until(lambda: len(told(it.engine)) == 2 and not it.engine.listeners_open)


async def test_pools_of_one_database_share_what_is_known(tmp_path: Path, autojump_clock: trio.abc.Clock) -> None:
    database = Database()
    async with served(tmp_path, database, databases={"app": APP, "same": APP_AGAIN}) as it:
        it.engine.want(0, 1)
        it.engine.want(1, 1)
        await it.engine.until(lambda: it.engine.pool_list[0].adopted and it.engine.pool_list[1].adopted)
        assert database.asked == 1
        assert {("watch", 0, 0), ("watch", 1, 0)} <= set(it.engine.told)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_clients_in_session_mode_change_what_others_call(
    tmp_path: Path, autojump_clock: trio.abc.Clock, order: tuple[int, int]
) -> None:
    database = Database()
    apart = attrs.evolve(APP, dbname="app", pool_mode="session")
    async with served(tmp_path, database, databases={"app": APP, "apart": apart}) as it:
        for pool in order:
            it.engine.want(pool, 1)
            await it.engine.until(lambda pool=pool: it.engine.pool_list[pool].adopted)
        assert database.asked == 1
        assert [told[2] for told in it.engine.told if told[:2] == ("watch", 1)][-1] == 0


async def test_another_name_of_the_host_is_the_same_database_as_far_as_anybody_knows(
    tmp_path: Path, autojump_clock: trio.abc.Clock
) -> None:
    database = Database()
    localhost = attrs.evolve(APP, host="localhost", dbname="app")
    other = attrs.evolve(APP, host="localhost", dbname="other")
    async with served(tmp_path, database, databases={"app": APP, "same": localhost, "other": other}) as it:
        for pool in range(3):
            it.engine.want(pool, 1)
            await it.engine.until(lambda pool=pool: it.engine.pool_list[pool].adopted)
        it.engine.changes[1] = 1
        it.engine.post("functions")
        await it.engine.until(lambda: database.asked == 5 and not it.engine.listeners_open)
        assert it.engine.changes == {0: 1, 1: 1}
        it.engine.post("functions")
        await pass_time(5)
        assert it.engine.changes == {0: 1, 1: 1}, "which is heard once"


async def test_who_may_not_read_is_told_once_and_served(
    tmp_path: Path, autojump_clock: trio.abc.Clock, caplog: pytest.LogCaptureFixture
) -> None:
    database = Database(REFUSED)
    async with served(tmp_path, database) as it:
        it.engine.want(0, 1)
        await it.engine.until(lambda: it.engine.pool_list[0].adopted)
        await pass_time(200)
        await it.engine.until(lambda: database.asked >= 3 and not it.engine.listeners_open)
        assert len(it.engine.pool_list[0].adopted) == 1
    said = [record.getMessage() for record in caplog.records if "functions" in record.getMessage()]
    assert len(said) == 1 and "function_check_period" in said[0] and "42501" in said[0]


async def test_a_server_that_does_not_answer_is_given_up_and_the_next_one_is_used(
    tmp_path: Path, autojump_clock: trio.abc.Clock
) -> None:
    database = Database(b"")
    async with served(tmp_path, database, server_login_retry=1.0) as it:
        it.engine.want(0, 1)
        await pass_time(13)
        it.engine.post("want")
        await pass_time(2)
        assert database.asked == 1
        assert len(it.engine.pool_list[0].adopted) == 1


async def test_where_a_limit_leaves_no_room_the_servers_are_let_go(
    tmp_path: Path, autojump_clock: trio.abc.Clock
) -> None:
    database = Database()
    async with served(tmp_path, database) as it:
        it.engine.want(0, 1)
        await it.engine.until(lambda: it.engine.pool_list[0].adopted)
        it.engine.room = [2]
        it.engine.changes[0] = 1
        it.engine.post("functions")
        await it.engine.until(lambda: it.engine.pool_list[0].retired)
        assert (it.engine.pool_list[0].retired, database.asked) == (1, 1)
        it.engine.want(0, 2)
        await it.engine.until(lambda: len(it.engine.pool_list[0].adopted) == 2)
        assert database.asked == 2
