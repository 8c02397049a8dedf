"""The extended query protocol, message by message, direct and through each pooler."""

from __future__ import annotations

import struct

import pytest

from pgpool_core.testing import Message, PostgresServer, frontend
from tests.conftest import PoolerFactory, Target
from tests.peers import letters, logged_in, values
from tests.programs import pgbouncer_before

INT8, TEXT = 20, 25  # oids of pg_type


async def test_a_statement_goes_through_every_step(target: Target) -> None:
    async with logged_in(target) as peer:
        await peer.send(
            frontend.parse("select $1::text || '!'"),
            frontend.describe(),
            frontend.bind(values=["hello"]),
            frontend.describe(kind=b"P"),
            frontend.execute(),
            frontend.close(),
            frontend.sync(),
        )
        answer = await peer.until("Z")
    assert letters(answer) == "1tT2TDC3Z"
    assert values(answer) == [[b"hello!"]]


async def test_each_step_is_answered_at_a_flush(target: Target) -> None:
    async with logged_in(target) as peer:
        steps = [
            (frontend.parse("select 7", types=[]), "1"),
            (frontend.describe(), "tT"),
            (frontend.bind(), "2"),
            (frontend.execute(), "DC"),
            (frontend.close(kind=b"P"), "3"),
        ]
        for message, answer in steps:
            await peer.send(message, frontend.flush())
            await peer.expect(answer)
        await peer.send(frontend.sync())
        await peer.expect("Z")
        assert values(await peer.query("select 1")) == [[b"1"]]


async def test_parameters_of_every_kind_arrive(target: Target) -> None:
    binary = b"".join(
        [
            b"\0\0",  # the unnamed portal, the unnamed statement
            struct.pack("!HHH", 2, 1, 0),  # formats: binary, text
            struct.pack("!H", 2) + struct.pack("!Iq", 8, 2**40) + struct.pack("!i", -1),
            struct.pack("!HH", 1, 1),  # results in binary
        ]
    )
    async with logged_in(target) as peer:
        await peer.send(
            frontend.parse("select $1, $2", types=[INT8, TEXT]),
            Message(b"B", binary),
            frontend.execute(),
            frontend.sync(),
        )
        assert values(await peer.until("Z")) == [[struct.pack("!q", 2**40), None]]


@pytest.mark.parametrize(
    ("messages", "answer"),
    [
        ([frontend.parse("selekt"), frontend.bind(), frontend.execute()], "EZ"),
        ([frontend.parse("select 1"), frontend.bind(values=["too many"]), frontend.execute()], "1EZ"),
        ([frontend.parse("select 1/0"), frontend.bind(), frontend.execute(), frontend.parse("select 1")], "1EZ"),
        ([frontend.parse("select 1/$1::int"), frontend.bind(values=["0"]), frontend.execute()], "1EZ"),
        ([frontend.bind("nobody_prepared_this")], "EZ"),
        ([frontend.describe("nobody_prepared_this")], "EZ"),
        ([frontend.execute("no_such_portal")], "EZ"),
        ([frontend.close("nobody_prepared_this")], "3Z"),
        ([frontend.parse(""), frontend.bind(), frontend.execute()], "12IZ"),
        ([frontend.parse("begin"), frontend.describe(), frontend.bind(), frontend.describe(kind=b"P")], "1tn2nZ"),
        ([], "Z"),
        ([frontend.flush()], "Z"),
    ],
)
async def test_a_conversation_has_the_answer_that_postgres_gives(
    target: Target, messages: list[bytes], answer: str
) -> None:
    names_nothing = len(messages) == 1 and b"nobody_prepared_this" in bytes(messages[0]) and answer == "EZ"
    if target.kind == "pgbouncer" and names_nothing and not pgbouncer_before(1, 24):
        pytest.skip("where PgBouncer follows statements, it ends a client that names one which it has not prepared")
    async with logged_in(target) as peer:
        await peer.send(*messages, frontend.sync())
        assert letters(await peer.until("Z")) == answer
        assert values(await peer.query("select 'still here'")) == [[b"still here"]]


async def test_after_an_error_everything_is_skipped_until_sync(target: Target) -> None:
    async with logged_in(target) as peer:
        await peer.send(frontend.parse("selekt"), frontend.flush())
        await peer.expect_error("42601")
        await peer.send(frontend.parse("select 1"), frontend.bind(), frontend.execute(), frontend.flush())
        await peer.send(frontend.sync())
        assert (await peer.expect("Z")).body == b"I"


async def test_a_portal_is_read_in_parts(target: Target) -> None:
    async with logged_in(target) as peer:
        await peer.query("begin")
        await peer.send(
            frontend.parse("select generate_series(1, 5)"), frontend.bind(), frontend.execute("", 2), frontend.sync()
        )
        # The portal outlives Sync inside a transaction; the unnamed one too.
        assert letters(await peer.until("Z")) == "12DDsZ"
        await peer.send(frontend.execute("", 2), frontend.execute("", 2), frontend.sync())
        assert letters(await peer.until("Z")) == "DDsDCZ"
        assert (await peer.query("commit"))[-1].body == b"I"


async def test_a_named_statement_lives_through_a_transaction(target: Target) -> None:
    async with logged_in(target) as peer:
        await peer.query("begin")
        await peer.send(frontend.parse("select $1::int + 1", "add_one"), frontend.sync())
        assert letters(await peer.until("Z")) == "1Z"
        for number in (1, 41):
            await peer.send(frontend.bind("add_one", values=[str(number)]), frontend.execute(), frontend.sync())
            assert values(await peer.until("Z")) == [[str(number + 1).encode()]]
        await peer.send(frontend.close("add_one"), frontend.sync())
        assert letters(await peer.until("Z")) == "3Z"
        await peer.query("commit")


@pytest.mark.pooler(pool_mode="session")
async def test_a_named_statement_lives_as_long_as_a_session(target: Target) -> None:
    async with logged_in(target) as peer:
        await peer.send(frontend.parse("select $1::int + 1", "add_one"), frontend.sync())
        await peer.until("Z")
        for number in range(5):
            await peer.send(frontend.bind("add_one", values=[str(number)]), frontend.execute(), frontend.sync())
            assert values(await peer.until("Z")) == [[str(number + 1).encode()]]


async def test_an_error_inside_a_transaction_leaves_it_failed(target: Target) -> None:
    async with logged_in(target) as peer:
        await peer.query("begin")
        await peer.send(frontend.parse("selekt"), frontend.sync())
        assert (await peer.until("Z"))[-1].body == b"E"
        await peer.send(frontend.parse("rollback"), frontend.bind(), frontend.execute(), frontend.sync())
        assert (await peer.until("Z"))[-1].body == b"I"


async def test_a_simple_query_may_follow_without_sync(target: Target) -> None:
    async with logged_in(target) as peer:
        await peer.send(frontend.parse("select 1"), frontend.bind(), frontend.execute(), frontend.query("select 2"))
        answer = await peer.until("Z")
        assert letters(answer) == "12DCTDCZ"
        assert values(await peer.query("select 3")) == [[b"3"]]


@pytest.mark.parametrize("leaves", [True, False], ids=["and leaves", "and goes on"])
async def test_a_query_within_an_unfinished_group_does_no_harm_to_whoever_comes_next(
    pooler: PoolerFactory, postgres: PostgresServer, leaves: bool
) -> None:
    """PostgreSQL 18 says XX000 to whatever follows Parse, Bind, Execute, Query, Sync: it gets no further client."""
    place = pooler(auth_type="trust", default_pool_size=1)
    async with logged_in(place, "trusted") as peer:
        await peer.send(frontend.parse("select 1"), frontend.bind(), frontend.execute())
        [[pid]] = values(await peer.query("select pg_backend_pid()"))[1:]
        if not leaves:
            await peer.send(frontend.sync())
            await peer.until("Z")
            assert values(await peer.query("select 1")) == [[b"1"]]
    async with logged_in(place, "trusted") as peer:
        [[another]] = values(await peer.query("select pg_backend_pid()"))
        assert (another == pid) == (postgres.binaries.major < 18)


async def test_an_empty_flush_holds_nothing_up(target: Target) -> None:
    async with logged_in(target) as peer:
        await peer.send(frontend.flush())
        assert values(await peer.query("select 1")) == [[b"1"]]


async def test_a_flush_with_a_body_ends_its_client_alone(pooler: PoolerFactory) -> None:
    place = pooler(default_pool_size=1)
    async with logged_in(place) as peer, logged_in(place) as other:
        await peer.send(Message(b"H", b"x"), frontend.query("select 1"))  # PostgreSQL would skip the query
        error = await peer.expect_error("08P01")
        assert error.fields["S"] == "FATAL"
        assert await peer.receive() is None
        assert values(await other.query("select 2")) == [[b"2"]]


@pytest.mark.parametrize("size", [8000, 65_536, 1_000_000])
async def test_a_parameter_of_any_size_arrives_whole(target: Target, size: int) -> None:
    async with logged_in(target) as peer:
        await peer.send(
            frontend.parse("select $1::text"), frontend.bind(values=["p" * size]), frontend.execute(), frontend.sync()
        )
        answer = await peer.until("Z")
    assert letters(answer) == "12DCZ"
    assert values(answer) == [[b"p" * size]]


async def test_a_conversation_may_come_byte_by_byte(target: Target) -> None:
    async with logged_in(target) as peer:
        await peer.send_bytewise(
            frontend.parse("select $1::text")
            + frontend.bind(values=["drop"])
            + frontend.describe(kind=b"P")
            + frontend.execute()
            + frontend.sync()
        )
        assert letters(await peer.until("Z")) == "12TDCZ"
