"""A server's bytes as messages and rows: whole, byte by byte, and broken. And what is sent."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpool_core.client.catalogue import BUILT_IN
from pgpool_core.errors import DecodeError, EncodeError, ServerProtocolError
from pgpool_core.rows import inbox as codes
from pgpool_core.rows.inbox import Inbox
from pgpool_core.rows.outbox import Outbox
from pgpool_core.rows.record import Shape
from pgpool_core.rows.statement import Statement, leaves_something

SHAPE = Shape(["n", "t"], [BUILT_IN[23], BUILT_IN[25]])


def message(code: bytes, body: bytes = b"") -> bytes:
    return code + struct.pack("!I", len(body) + 4) + body


def data_row(*values: bytes | None) -> bytes:
    parts = [b"\xff\xff\xff\xff" if value is None else struct.pack("!i", len(value)) + value for value in values]
    return message(b"D", struct.pack("!h", len(values)) + b"".join(parts))


def integer(number: int) -> bytes:
    return struct.pack("!i", number)


ANSWER = (
    message(b"2")
    + data_row(integer(1), b"one")
    + data_row(integer(2), None)
    + message(b"N", b"Mhello\0\0")
    + message(b"C", b"SELECT 2\0")
    + message(b"Z", b"I")
)


def told(inbox: Inbox, data: bytes, step: int) -> list[tuple[int, bytes]]:
    found = []
    for start in range(0, len(data), step):
        inbox.feed(data[start : start + step])
        while code := inbox.next():
            found.append((code, inbox.body()))
    return found


@pytest.mark.parametrize("step", [1, 2, 7, 1000])
def test_an_answer_is_the_same_in_any_pieces(step: int) -> None:
    inbox, rows = Inbox(), []
    inbox.expect(SHAPE, rows)
    assert told(inbox, ANSWER, step) == [
        (codes.NOTICE, b"Mhello\0\0"),
        (codes.COMMAND_COMPLETE, b"SELECT 2\0"),
        (codes.READY, b"I"),
    ]
    assert rows == [(1, "one"), (2, None)]
    assert inbox.status() == ord("I")
    assert inbox.pending() == 0


@given(sizes=st.lists(st.integers(0, 150_000), max_size=6), step=st.integers(1000, 65536))
def test_large_rows_grow_in_the_inbox(sizes: list[int], step: int) -> None:
    inbox, rows = Inbox(), []
    inbox.expect(SHAPE, rows, bare=True)
    data = b"".join(data_row(integer(size), b"x" * size) for size in sizes) + message(b"Z", b"I")
    assert [code for code, _ in told(inbox, data, step)] == [codes.READY]
    assert rows == [(size, "x" * size) for size in sizes]


def test_messages_that_were_put_by_are_read_later() -> None:
    inbox, rows = Inbox(), []
    inbox.expect(SHAPE, rows)
    for start in range(0, len(ANSWER), 10):
        inbox.feed(ANSWER[start : start + 10])
        inbox.stash()
    assert [inbox.next(), inbox.next(), inbox.next(), inbox.next()] == [
        codes.NOTICE,
        codes.COMMAND_COMPLETE,
        codes.READY,
        codes.NEED_MORE,
    ]
    assert len(rows) == 2


def test_more_bytes_are_refused_while_messages_stand_unread() -> None:
    inbox = Inbox()
    inbox.feed(ANSWER)
    with pytest.raises(RuntimeError):
        inbox.feed(ANSWER)


def test_a_value_that_cannot_be_read_is_told_at_the_end_and_the_rest_goes_on() -> None:
    inbox, rows = Inbox(), []
    inbox.expect(SHAPE, rows)
    data = data_row(integer(1), b"\xff") + data_row(integer(2), b"x") + message(b"Z", b"I")
    assert [code for code, _ in told(inbox, data, 1000)] == [codes.READY]
    assert isinstance(inbox.failure, DecodeError)
    assert 'column "t" of type text' in str(inbox.failure)
    assert isinstance(inbox.failure.__cause__, UnicodeDecodeError)
    assert rows == []
    inbox.expect(SHAPE, rows)
    assert inbox.failure is None


def test_raw_rows_are_bytes() -> None:
    inbox, rows = Inbox(), []
    inbox.expect(SHAPE, rows, raw=True)
    told(inbox, data_row(b"12", None), 1000)
    assert rows == [(b"12", None)]


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (message(b"?"), "unknown type"),
        (b"Z\0\0\0\3", "of 3 bytes"),
        (b"Z\xff\xff\xff\xff", "bytes"),
        (data_row(integer(1)), "not the columns"),
        (message(b"D", b"\0\2\0\0\0\4"), "ends early"),
        (message(b"D", b"\0\2\xff\xff\xff\xff\xff\xff\xff\xfe"), "ends early"),
        (message(b"D", b"\0\2" + b"\xff" * 8 + b"x"), "behind its last column"),
    ],
)
def test_a_server_that_breaks_the_protocol_is_found_out(data: bytes, what: str) -> None:
    inbox = Inbox()
    inbox.expect(SHAPE, [])
    with pytest.raises((ServerProtocolError, DecodeError), match=what):
        told(inbox, data, 1000)
        assert inbox.failure is not None
        raise inbox.failure


@pytest.mark.parametrize("body", [b"", b"X", b"II"])
def test_a_ready_for_query_has_one_of_three_states(body: bytes) -> None:
    inbox = Inbox()
    told(inbox, message(b"Z", body), 1000)
    with pytest.raises(ServerProtocolError):
        inbox.status()


# -- what is sent ----------------------------------------------------------------------------------------------------------


def statement(name: bytes = b"s1") -> Statement:
    return Statement(name=name, text="...", parameters=[BUILT_IN[23], BUILT_IN[25]], shape=SHAPE, leaves=False)


def test_a_query_is_bind_execute_sync() -> None:
    outbox = Outbox()
    outbox.run(statement(), (5, None))
    bind = b"\0s1\0" + b"\0\2\0\1\0\1" + b"\0\2" + b"\0\0\0\4" + integer(5) + b"\xff" * 4 + b"\0\2\0\1\0\1"
    assert outbox.flush() == message(b"B", bind) + message(b"E", b"\0\0\0\0\0") + message(b"S")
    assert len(outbox) == 0


def test_an_argument_that_cannot_be_sent_leaves_nothing_behind() -> None:
    outbox = Outbox()
    outbox.sync()
    with pytest.raises(EncodeError, match=r"argument \$2 cannot be sent as text"):
        outbox.bind(statement(), (5, 6))
    with pytest.raises(EncodeError, match="takes 2 arguments, and 1 was given"):
        outbox.bind(statement(), (5,))
    assert outbox.flush() == message(b"S")


@pytest.mark.parametrize("write", [Outbox.query, lambda outbox, text: outbox.parse(b"s", text)])
def test_a_zero_byte_cannot_smuggle_in_another_message(write) -> None:
    outbox = Outbox()
    with pytest.raises(EncodeError, match="zero byte"):
        write(outbox, b"select 1\0Z")
    assert outbox.flush() == b""


def test_a_long_message_is_written_whole() -> None:
    outbox = Outbox()
    outbox.copy_data(b"x" * 1_000_000)
    assert outbox.flush() == message(b"d", b"x" * 1_000_000)
    outbox.sync()
    assert outbox.flush() == message(b"S")


@pytest.mark.parametrize(
    ("text", "leaves"),
    [
        ("select 1", False),
        ("insert into t values (1)", False),
        ("set local work_mem = '1MB'", False),
        ("set work_mem = '1MB'", True),
        ("select set_config('a.b', 'c', false)", True),
        ("create temp table t()", True),
        ("select pg_advisory_lock(1)", True),
        ("select pg_advisory_xact_lock(1)", False),
        ("declare c cursor with hold for select 1", True),
        ("listen x", True),
        ("do $$ begin end $$", True),
        ("prepare p as select 1", True),
        ("begin; set role app", True),
    ],
)
def test_a_text_that_may_leave_something_is_known(text: str, leaves: bool) -> None:
    assert leaves_something(text.encode()) is leaves
