"""A console client's session: both protocols, transactions told apart, parameters, binary values, and any bytes at all."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from pgpool_core.admin.session import MAX_KEPT, ConsoleSession
from pgpool_core.errors import CommandRefused
from tests.unit.console_model import Pooler, Reply, session_of

INT4, INT8, NUMERIC = 23, 20, 1700


def parse(text: str, name: str = "", oids: Sequence[int] = ()) -> tuple[bytes, bytes]:
    body = name.encode() + b"\0" + text.encode() + b"\0" + struct.pack(f"!H{len(oids)}I", len(oids), *oids)
    return b"P", body


def bind(
    values: Sequence[bytes | None] = (),
    *,
    name: str = "",
    portal: str = "",
    formats: Sequence[int] = (),
    results: Sequence[int] = (),
) -> tuple[bytes, bytes]:
    body = portal.encode() + b"\0" + name.encode() + b"\0" + struct.pack(f"!H{len(formats)}H", len(formats), *formats)
    body += struct.pack("!H", len(values))
    for value in values:
        body += b"\xff\xff\xff\xff" if value is None else struct.pack("!I", len(value)) + value
    return b"B", body + struct.pack(f"!H{len(results)}H", len(results), *results)


def execute(portal: str = "", most: int = 0) -> tuple[bytes, bytes]:
    return b"E", portal.encode() + b"\0" + struct.pack("!I", most)


DESCRIBE_S, DESCRIBE_P, SYNC, FLUSH = (b"D", b"S\0"), (b"D", b"P\0"), (b"S", b""), (b"H", b"")


def say(session: ConsoleSession, *messages: tuple[bytes, bytes]) -> list[bytes]:
    """What each message is answered with at once."""

    async def main() -> list[bytes]:
        return [await session.answer(kind, body) for kind, body in messages]

    return trio.run(main)


def heard(session: ConsoleSession, *messages: tuple[bytes, bytes]) -> bytes:
    """The types of all that is answered."""
    return codes(b"".join(say(session, *messages)))


def codes(answer: bytes) -> bytes:
    return b"".join(code for code, _ in Reply.split(answer))


def test_answers_are_kept_until_sync_or_flush() -> None:
    said = say(session_of(Pooler()), parse("SHOW VERSION"), DESCRIBE_S, FLUSH, bind(), DESCRIBE_P, execute(), SYNC)
    assert [codes(answer) for answer in said] == [b"", b"", b"1tT", b"", b"", b"", b"2TDCZ"]


def test_values_come_in_binary_where_that_is_asked_for() -> None:
    query = "SELECT name, port, pool_size, host FROM databases WHERE name = 'zoo'"
    said = say(session_of(Pooler()), parse(query), bind(results=[0, 1, 0, 1]), DESCRIBE_P, execute(), SYNC)[-1]
    row = next(body for code, body in Reply.split(said) if code == b"D")
    assert (
        row == b"\0\4" + b"\0\0\0\3zoo" + b"\0\0\0\4" + struct.pack("!i", 5432) + b"\0\0\0\0013" + b"\xff\xff\xff\xff"
    )


@pytest.mark.parametrize(
    ("value", "digits", "weight"),
    [
        (0, [], 0),
        (1, [1], 0),
        (9999, [9999], 0),
        (10_000, [1], 1),
        (123_456_789, [1, 2345, 6789], 2),
        (30_000_007, [3000, 7], 1),
    ],
)
def test_numeric_in_binary_is_postgresqls(value: int, digits: list[int], weight: int) -> None:
    from pgpool_core.admin.reply import Column, mixed_row

    expected = struct.pack(f"!HhHH{len(digits)}H", len(digits), weight, 0, 0, *digits)
    row = mixed_row([value], [Column("n", NUMERIC)], [1])
    assert row[5:] == b"\0\1" + struct.pack("!I", len(expected)) + expected


@pytest.mark.parametrize(
    ("oids", "value", "code"),
    [
        ((), b"1", 0),
        ((INT4,), struct.pack("!i", 1), 1),
        ((INT8,), struct.pack("!q", 1), 1),
        ((21,), struct.pack("!h", 1), 1),
    ],
)
def test_a_parameter_is_taken_in_text_and_in_binary(oids: tuple[int, ...], value: bytes, code: int) -> None:
    query = "SHOW POOLS WHERE cl_waiting = $1 AND database = $2"
    session = session_of(Pooler())
    said = say(session, parse(query, oids=oids), bind([value, b"app"], formats=[code, 0]), execute(), SYNC)[-1]
    assert [row[:2] for row in Reply(said, whole=False).rows] == [["app", "ann"]]


def test_a_parameter_has_the_type_of_its_column() -> None:
    query = "SHOW STATS WHERE database = $1 AND total_query_count > $2 LIMIT $3"
    said = say(session_of(Pooler()), parse(query), DESCRIBE_S, SYNC)[-1]
    described = next(body for code, body in Reply.split(said) if code == b"t")
    assert described == struct.pack("!H3I", 3, 25, NUMERIC, INT8)


@pytest.mark.parametrize(
    ("messages", "sqlstate"),
    [
        ([parse("SHOW POOLS; SHOW STATS")], "42601"),
        ([parse("SHOW NOTHING")], "08P01"),
        ([parse("SHOW VERSION", oids=[25])], "42P18"),
        ([parse("SHOW POOLS WHERE database = $2")], "42P18"),
        ([parse("SHOW VERSION", "a"), parse("SHOW VERSION", "a")], "42P05"),
        ([bind(name="none")], "26000"),
        ([execute("none")], "34000"),
        ([(b"D", b"Pnone\0")], "34000"),
        ([(b"D", b"X\0")], "08P01"),
        ([(b"C", b"X\0")], "08P01"),
        ([parse("SHOW VERSION"), bind([b"1"])], "08P01"),
        ([parse("SHOW VERSION"), bind(results=[0, 0])], "08P01"),
        ([parse("SHOW VERSION"), bind(results=[2])], "22023"),
        ([parse("SHOW VERSION"), bind(portal="p"), bind(portal="p")], "42P03"),
        ([parse("SHOW LISTS WHERE items = $1", oids=[701]), bind([b"12345678"], formats=[1])], "0A000"),
        ([parse("SHOW LISTS WHERE items = $1"), bind([b"x"]), execute()], "22P02"),
        ([(b"P", b"no end")], "08P01"),
        ([parse("SHOW VERSION"), (b"B", b"\0\0\0")], "08P01"),
        ([parse("SHOW VERSION"), bind(), (b"E", b"\0\0")], "08P01"),
    ],
)
def test_what_goes_wrong_is_told_once_and_then_all_is_skipped_until_sync(
    messages: list[tuple[bytes, bytes]], sqlstate: str
) -> None:
    session = session_of(Pooler())
    said = say(session, *messages, execute(), parse("RELOAD"), (b"Q", b"RELOAD\0"), SYNC)
    answer = b"".join(said)
    assert codes(answer).endswith(b"EZ")
    assert codes(answer).count(b"E") == 1
    error = next(body for code, body in Reply.split(answer) if code == b"E")
    assert b"C" + sqlstate.encode() in error.split(b"\0")
    assert codes(say(session, (b"Q", b"SHOW VERSION\0"))[0]) == b"TDCZ"


def test_an_order_is_given_at_the_first_execute_and_not_again() -> None:
    pooler = Pooler()
    said = say(session_of(pooler), parse("PAUSE app"), bind(), DESCRIBE_P, execute(), execute(), SYNC)[-1]
    assert codes(said) == b"12nCCZ"
    assert pooler.done == ["pause app"]


def test_the_status_follows_begin_commit_and_errors() -> None:
    session = session_of(Pooler())

    def status(query: str) -> tuple[str | None, str]:
        found = Reply(say(session, (b"Q", query.encode() + b"\0"))[0])
        return found.tag, found.messages[-1][1].decode()

    assert status("BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY") == ("BEGIN", "T")
    assert status("SHOW VERSION") == ("SHOW", "T")
    assert status("SHOW NOTHING") == (None, "E")
    assert status("COMMIT") == ("ROLLBACK", "I")
    assert status("START TRANSACTION") == ("START TRANSACTION", "T")
    assert status("savepoint a; release a; rollback") == ("ROLLBACK", "I")


def test_deallocate_forgets_statements_of_the_protocol() -> None:
    session = session_of(Pooler())
    said = say(session, parse("SHOW VERSION", "a"), parse("SHOW VERSION", "b"), SYNC, (b"Q", b"DEALLOCATE a\0"))
    assert codes(said[-1]) == b"CZ"
    assert heard(session, bind(name="a"), SYNC) == b"EZ"
    assert heard(session, bind(name="b"), SYNC) == b"2Z"
    assert heard(session, (b"Q", b"DISCARD ALL\0"), bind(name="b"), SYNC) == b"CZEZ"


def test_nobody_fills_memory_with_statements() -> None:
    session = session_of(Pooler())
    said = b"".join(say(session, *(parse("SHOW VERSION", f"s{n}") for n in range(MAX_KEPT + 1)), SYNC))
    assert codes(said) == b"1" * MAX_KEPT + b"EZ"
    assert b"C54000" in said


def test_several_commands_run_up_to_the_first_that_fails() -> None:
    pooler = Pooler()
    found = Reply(say(session_of(pooler), (b"Q", b"PAUSE a; RESUME a; NONSENSE; RELOAD\0"))[0])
    assert found.codes == b"CCEZ"
    assert pooler.done == ["pause a", "resume a"]


def test_a_cancelled_command_is_an_error_and_the_session_goes_on() -> None:
    class Waiting(Pooler):
        async def pause(self, database: str | None = None) -> None:
            await trio.sleep_forever()

    session = session_of(Waiting())

    async def main(kind: bytes, body: bytes) -> bytes:
        with trio.CancelScope() as scope:
            scope.cancel()
            await session.answer(kind, body)
        return session.broken_off(kind)

    found = Reply(trio.run(main, b"Q", b"PAUSE\0"))
    assert found.codes == b"EZ"
    assert found.error is not None
    assert found.error["C"] == "57014"
    say(session, parse("PAUSE"), bind())
    assert codes(trio.run(main, *execute())) == b"12E"
    assert codes(say(session, parse("RELOAD"), SYNC)[-1]) == b"Z"


def test_a_function_call_is_refused() -> None:
    assert codes(say(session_of(Pooler()), (b"F", b""))[0]) == b"EZ"


def test_an_order_that_is_refused_in_the_extended_protocol_waits_for_sync() -> None:
    pooler = Pooler(order_error=CommandRefused("already suspended/paused"))
    assert heard(session_of(pooler), parse("PAUSE"), bind(), execute(), execute(), SYNC) == b"12EZ"


PIECES = st.sampled_from(
    [b"\0", b"SHOW POOLS", b"BEGIN", b"\0\0", b"\0\1", b"\xff\xff\xff\xff", b"S", b"P", b"a\0", b"RELOAD"]
)
MESSAGES = st.lists(
    st.tuples(
        st.sampled_from([b"P", b"B", b"D", b"E", b"C", b"H", b"S", b"Q", b"F", b"c", b"f"]),
        st.lists(PIECES).map(b"".join),
    ),
    max_size=12,
)


@given(MESSAGES, st.booleans())
def test_any_messages_are_answered_and_sync_makes_ready(messages: list[tuple[bytes, bytes]], is_admin: bool) -> None:
    session = session_of(Pooler(), is_admin=is_admin)
    answer = b"".join(say(session, *messages, SYNC))
    assert codes(answer).endswith(b"Z")
    assert codes(say(session, (b"Q", b"ROLLBACK; SHOW VERSION\0"))[0]) == b"CTDCZ"
