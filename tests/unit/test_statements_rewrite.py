"""Names found in messages that arrive in pieces, and names put back into errors."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpool_core_probes import statements_probe
from tests.unit.statements_model import (
    EXECUTE,
    FLUSH,
    SYNC,
    bind,
    close,
    close_portal,
    describe,
    error,
    message,
    parse,
    query,
    text_of,
)

FOUND, NEED_MORE, NONE, TOO_LONG, BROKEN = range(5)
MAX_NAME = 4096
NAME = st.binary(min_size=1, max_size=20).map(lambda raw: raw.replace(b"\0", b"x"))


@given(NAME, NAME | st.just(b""))
def test_a_name_is_found_as_soon_as_it_is_there(name: bytes, portal: bytes) -> None:
    for data, offset in (
        (parse(name, b"select"), 0),
        (bind(name, portal), len(portal) + 1),
        (describe(name), 1),
        (close(name), 1),
    ):
        body, end = data[5:], offset + len(name) + 1
        for have in range(len(body) + 1):
            found = statements_probe.place(data[0], body[:have], len(body))
            assert found == ((FOUND, name, offset, end) if have >= end else (NEED_MORE, None, 0, 0))


@pytest.mark.parametrize("data", [parse(b"", b"x"), bind(b"", b"p"), describe(b""), close(b""), close_portal(b"p")])
def test_what_has_no_name_is_none_of_our_business(data: bytes) -> None:
    assert statements_probe.place(data[0], data[5:], len(data) - 5)[0] == NONE


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (b"P", b""),
        (b"P", b"a"),
        (b"B", b"p"),
        (b"B", b"p\0a"),
        (b"D", b""),
        (b"D", b"Xa\0"),
        (b"D", b"Sa"),
        (b"C", b"Sa\0x"),
    ],
)
def test_what_postgresql_will_refuse_is_known(kind: bytes, body: bytes) -> None:
    assert statements_probe.place(kind[0], body, len(body))[0] == BROKEN


@pytest.mark.parametrize("name_len", [MAX_NAME, MAX_NAME + 1])
def test_a_name_has_a_limit(name_len: int) -> None:
    verdict = FOUND if name_len == MAX_NAME else TOO_LONG
    for data in (parse(b"n" * name_len, b""), bind(b"a", b"n" * name_len), describe(b"n" * name_len)):
        assert statements_probe.place(data[0], data[5:], len(data) - 5)[0] == verdict
    assert statements_probe.place(ord("P"), b"n" * MAX_NAME, 100000)[0] == NEED_MORE
    assert statements_probe.place(ord("P"), b"n" * (MAX_NAME + 1), 100000)[0] == TOO_LONG


@given(st.binary(max_size=8), st.integers(0, 3), st.integers(-1, 1))
def test_a_text_is_what_postgresql_takes(sql: bytes, count: int, surplus: int) -> None:
    text = text_of(sql.replace(b"\0", b"x"), *range(count))
    assert statements_probe.text_ok(text)
    changed = text + b"\0" if surplus > 0 else text[:surplus] if surplus < 0 else text
    assert statements_probe.text_ok(changed) == (surplus == 0)


def test_an_error_is_read_by_its_fields() -> None:
    body = error(b"26000", b"gone", b"Fetch")[5:]
    assert statements_probe.fields(body) == (b"26000", b"gone", b"Fetch")
    for cut in range(len(body)):
        assert statements_probe.fields(body[:cut]) is None
    assert statements_probe.fields(b"\0") == (b"", b"", b"")


@given(st.binary(max_size=30), st.integers(0, 2**64 - 1), st.binary(max_size=30))
def test_the_first_name_of_ours_is_found(before: bytes, id: int, after: bytes) -> None:
    assert statements_probe.server_id(before + b"pgpool_0123" + statements_probe.name_of(id) + after) in (
        id,
        statements_probe.server_id(before + b"pgpool_0123pgpool_"),
    )
    assert statements_probe.server_id(before.replace(b"pgpool_", b"")) is None


@given(st.integers(0, 2**64 - 1), st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=60))
def test_an_error_says_the_clients_name_wherever_ours_was(id: int, name: bytes, before: bytes, after: bytes) -> None:
    ours = statements_probe.name_of(id)
    body = before + ours + b"|" + after + ours
    wanted = body.replace(ours, name)
    whole = b"E" + struct.pack("!I", 4 + len(wanted)) + wanted
    assert statements_probe.renamed_error(body, id, name, len(whole)) == whole
    for cap in (0, 4, 5, len(whole) - 1):
        assert cap >= len(whole) or statements_probe.renamed_error(body, id, name, cap) == b""


def test_a_group_that_uses_one_unnamed_statement_once_is_known_when_its_sync_comes() -> None:
    one = parse(b"", b"deallocate a")
    used = one + describe(b"") + bind(b"") + message(b"D", b"P\0") + EXECUTE + SYNC
    once, need_more, no = 1, 2, 0
    for n in range(len(one), len(used)):
        assert statements_probe.group_used_once(used[:n]) == need_more
    assert statements_probe.group_used_once(used + SYNC) == once
    for other in (
        one + SYNC,
        one + bind(b"") + SYNC,
        one + EXECUTE,
        one + bind(b"a"),
        one + bind(b"", b"p"),
        one + bind(b"") + EXECUTE + EXECUTE,
        one + FLUSH,
        one + query(b"select 1"),
        one + b"S\0\0\0\3",
        one + b"B\xff\xff\xff\xff",
    ):
        assert statements_probe.group_used_once(other) == no


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        (b'prepared statement "%s" does not exist', b"unnamed prepared statement does not exist"),
        ("vorbereitete Anweisung »%s« existiert nicht".encode(), "vorbereitete Anweisung »« existiert nicht".encode()),
    ],
)
def test_the_unnamed_statement_that_is_missing_is_called_unnamed(said: bytes, wanted: bytes) -> None:
    def body(text: bytes) -> bytes:
        return b"SERROR\0M" + text + b"\0\0"

    whole = b"E" + struct.pack("!I", 4 + len(body(wanted))) + body(wanted)
    given = body(said % statements_probe.name_of(0))
    assert statements_probe.unnamed_error(given, len(whole)) == whole
    for cap in range(len(whole)):
        assert statements_probe.unnamed_error(given, cap) == b""
