"""The simple query protocol, message by message, direct and through each pooler."""

from __future__ import annotations

import struct

import pytest

from pgpool_core.testing import Message, frontend
from tests.conftest import Target
from tests.peers import letters, logged_in, values

INT4_PLUS = 177  # the oid of int4pl(integer, integer), fixed in PostgreSQL's pg_proc.dat


@pytest.mark.parametrize(
    ("sql", "answer"),
    [
        ("select 1", "TDCZ"),
        ("select", "TDCZ"),
        ("select 1 where false", "TCZ"),
        ("", "IZ"),
        (";", "IZ"),
        ("-- nothing but a comment", "IZ"),
        ("select 1; select 2", "TDCTDCZ"),
        ("select 1; select 1/0; select 3", "TDCEZ"),
        ("selekt", "EZ"),
        ("do $$ begin raise notice 'one'; raise notice 'two'; end $$", "NNCZ"),
        ("values (1), (2), (null)", "TDDDCZ"),
        ("begin; select 1; commit", "CTDCCZ"),
        ("select 1" + " " * 100_000, "TDCZ"),
    ],
)
async def test_a_query_has_the_answer_that_postgres_gives(target: Target, sql: str, answer: str) -> None:
    async with logged_in(target) as peer:
        assert letters(await peer.query(sql)) == answer
        assert values(await peer.query("select 'still here'")) == [[b"still here"]]


async def test_ready_tells_where_the_transaction_stands(target: Target) -> None:
    async with logged_in(target) as peer:
        steps = ["select 1", "begin", "select 1", "select 1/0", "select 1", "rollback", "begin", "commit"]
        assert b"".join([(await peer.query(sql))[-1].body for sql in steps]) == b"ITTEEITI"


async def test_an_error_arrives_with_all_its_fields(target: Target) -> None:
    async with logged_in(target) as peer:
        answer = await peer.query("select nope from pg_class")
    fields = answer[0].fields
    assert {"S", "V", "C", "M", "P", "F", "L", "R"} <= set(fields)
    assert (fields["S"], fields["C"], fields["P"]) == ("ERROR", "42703", "8")


async def test_a_notice_arrives_with_its_text(target: Target) -> None:
    async with logged_in(target) as peer:
        answer = await peer.query("do $$ begin raise warning 'mind the gap' using hint = 'jump'; end $$")
    assert answer[0].fields["S"] == "WARNING"
    assert (answer[0].fields["M"], answer[0].fields["H"]) == ("mind the gap", "jump")


async def test_a_changed_setting_is_reported(target: Target) -> None:
    async with logged_in(target) as peer:
        answer = await peer.query("set application_name = 'renamed'")
        assert sorted(letters(answer)) == ["C", "S", "Z"]
        report = next(message for message in answer if message.type == b"S")
        assert report.body == b"application_name\0renamed\0"


async def test_a_function_call_is_answered(target: Target) -> None:
    arguments = b"".join(struct.pack("!I", len(text)) + text for text in (b"40", b"2"))
    call = struct.pack("!IHH", INT4_PLUS, 0, 2) + arguments + struct.pack("!H", 0)
    async with logged_in(target) as peer:
        await peer.send(Message(b"F", call))
        answer = await peer.until("Z")
        assert letters(answer) == "VZ"
        assert answer[0].body == struct.pack("!I", 2) + b"42"
        await peer.send(Message(b"F", struct.pack("!IHHH", 0, 0, 0, 0)))
        assert letters(await peer.until("Z")) == "EZ"
        assert values(await peer.query("select 1")) == [[b"1"]]


async def test_queries_sent_together_are_answered_in_order(target: Target) -> None:
    async with logged_in(target) as peer:
        await peer.send(*(frontend.query(f"select {number}") for number in range(100)))
        for number in range(100):
            answer = await peer.until("Z")
            assert letters(answer) == "TDCZ"
            assert values(answer) == [[str(number).encode()]]


async def test_a_transaction_sent_together_is_one_transaction(target: Target) -> None:
    async with logged_in(target) as peer:
        texts = (
            "begin",
            "select pg_backend_pid(), txid_current()",
            "select pg_backend_pid(), txid_current()",
            "commit",
        )
        await peer.send(*(frontend.query(sql) for sql in texts))
        _, first, second, last = [await peer.until("Z") for _ in texts]
    assert values(first) == values(second)
    assert last[-1].body == b"I"


async def test_a_query_may_come_byte_by_byte(target: Target) -> None:
    async with logged_in(target) as peer:
        await peer.send_bytewise(frontend.query("select 'drop by drop'") + frontend.query("select 2"))
        assert values(await peer.until("Z")) == [[b"drop by drop"]]
        assert values(await peer.until("Z")) == [[b"2"]]


@pytest.mark.parametrize("size", [0, 1, 8191, 65535, 65536, 65537, 1_000_000])
async def test_a_value_of_any_size_arrives_whole(target: Target, size: int) -> None:
    async with logged_in(target) as peer:
        assert values(await peer.query(f"select repeat('v', {size}), null, 'end'")) == [[b"v" * size, None, b"end"]]


@pytest.mark.parametrize("size", [8191, 65530, 65536, 70_000, 1_000_000])
async def test_a_query_of_any_size_arrives_whole(target: Target, size: int) -> None:
    async with logged_in(target) as peer:
        assert values(await peer.query(f"select length('{'q' * size}')")) == [[str(size).encode()]]


async def test_text_beyond_ascii_passes_unchanged(target: Target) -> None:
    async with logged_in(target, client_encoding="UTF8") as peer:
        assert values(await peer.query("select 'żółć – 😀'")) == [["żółć – 😀".encode()]]


async def test_an_unknown_message_ends_this_connection_and_no_other(target: Target) -> None:
    async with logged_in(target) as other:
        async with logged_in(target) as peer:
            await peer.send(Message(b"y", b"what is this"))
            told = await peer.expect("E")
            assert told.fields["S"] == "FATAL"
            assert told.fields["C"] == "08P01"
            await peer.expect_end()
        assert values(await other.query("select 1")) == [[b"1"]]


@pytest.mark.parametrize("length", [0, 3, 2**31, 2**32 - 1])
async def test_an_impossible_length_ends_this_connection_and_no_other(target: Target, length: int) -> None:
    async with logged_in(target) as other:
        async with logged_in(target) as peer:
            await peer.send(b"Q" + struct.pack("!I", length) + b"select 1\0")
            while (came := await peer.receive()) is not None:
                assert came.type == b"E"
        assert values(await other.query("select 1")) == [[b"1"]]


@pytest.mark.pooler(pool_mode="session")
async def test_a_notification_reaches_who_listens(target: Target) -> None:
    async with logged_in(target) as listener, logged_in(target) as speaker:
        await listener.query("listen news")
        await speaker.query("notify news, 'extra'")
        assert (await listener.expect("A")).body[4:] == b"news\0extra\0"


async def test_what_was_asked_before_a_polite_end_is_still_answered(target: Target) -> None:
    if target.kind == "pgbouncer":
        pytest.skip("PgBouncer drops the server, and with it the query, as soon as it reads Terminate")
    async with logged_in(target) as peer:
        await peer.send(frontend.query("select 1"), frontend.terminate())
        assert letters(await peer.until("Z")) == "TDCZ"
        await peer.expect_end()


@pytest.mark.pooler(tcp_socket_buffer=16384)
async def test_who_asks_and_ends_politely_gets_all_of_a_large_answer(target: Target) -> None:
    """The kernel takes little at a time, so that the end of the answer is still the pooler's when PostgreSQL has said all of it."""
    if target.kind == "pgbouncer":
        pytest.skip("PgBouncer drops the server, and with it the query, as soon as it reads Terminate")
    for rows in range(60, 120, 5):
        async with logged_in(target) as peer:
            await peer.send(
                frontend.query(f"select repeat('l', 994) from generate_series(1, {rows})"), frontend.terminate()
            )
            answer = await peer.until("Z")
            assert sum(len(message.body) for message in answer if message.type == b"D") == rows * 1000
            await peer.expect_end()
