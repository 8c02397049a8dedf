"""Interned blocks of settings: one for each content, counted, and the SQL that leads from one to another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpool_core_probes import settings_probe

OK, TOO_LONG = 0, -1
MAX_BLOCK = 1 << 20
MAX_TRACKED = 1 << 15  # beyond that
NAMES = [
    b"DateStyle",
    b"IntervalStyle",
    b"TimeZone",
    b"application_name",
    b"client_encoding",
    b"standard_conforming_strings",
]
ASCII = st.binary(max_size=30).map(lambda raw: bytes(b & 0x7F for b in raw).replace(b"\0", b"").replace(b"\x7f", b""))


def test_tracked_names_are_known_in_any_case_and_spelled_as_postgresql_does() -> None:
    for name in NAMES:
        assert settings_probe.tracked(name) == settings_probe.tracked(name.upper()) == name
    for name in (b"", b"TimeZon", b"TimeZone2", b"search_path"):
        assert settings_probe.tracked(name) is None


@given(st.lists(st.tuples(st.sampled_from(NAMES), ASCII), min_size=1, max_size=12))
def test_the_same_settings_are_the_same_block_whatever_their_history(changes: list[tuple[bytes, bytes]]) -> None:
    table = settings_probe.Table()
    block = None
    for name, value in changes:
        block = table.having(block, name, value)
    last = dict(changes)
    direct = None
    for name in sorted(last, reverse=True):
        direct = table.having(direct, name, last[name])
    assert block.same(direct)
    assert block.refs == 2
    assert {name: block.get(name) for name in NAMES} == {name: last.get(name) for name in NAMES}
    assert block.data == b"".join(name + b"\0" + last[name] + b"\0" for name in sorted(last))


def test_a_block_goes_with_its_last_holder() -> None:
    table = settings_probe.Table()
    block = table.having(None, b"TimeZone", b"UTC")
    again = block.again()
    other = table.having(block, b"TimeZone", b"UTC")
    assert block.same(again) and block.same(other)
    assert (block.refs, len(table)) == (3, 1)
    del block, again
    assert (other.refs, len(table)) == (1, 1)
    del other
    assert len(table) == 0


def test_a_base_may_go_before_what_was_made_of_it() -> None:
    table = settings_probe.Table()
    base = table.having(None, b"TimeZone", b"UTC")
    more = table.having(base, b"DateStyle", b"ISO, DMY")
    assert len(table) == 2
    del base
    assert len(table) == 1
    assert more.get(b"TimeZone") == b"UTC"


def test_a_name_is_spelled_as_postgresql_would_look_it_up() -> None:
    assert settings_probe.spelled(b"DATESTYLE") == b"DateStyle"
    assert settings_probe.spelled(b"Work_Mem") == b"work_mem"
    assert settings_probe.spelled(b"App.Tenant_1$") == b"app.tenant_1$"
    for name in (b"", b"a b", b"a'b", b'a"b', b"a;b", b"a-b", b"x" * 256):
        assert settings_probe.spelled(name) is None, name


def test_a_setting_can_be_taken_out() -> None:
    table = settings_probe.Table()
    base = table.having(None, b"TimeZone", b"UTC")
    more = table.having(base, b"work_mem", b"4096")
    assert table.having(more, b"work_mem", None).same(base)
    assert table.having(base, b"work_mem", None).same(base)


def test_what_is_too_long_is_refused() -> None:
    table = settings_probe.Table()
    assert table.having(None, b"app.x", b"x" * MAX_BLOCK) == TOO_LONG
    block = table.having(None, b"app.x", b"x" * (MAX_BLOCK // 2))
    room = MAX_BLOCK - len(block.data) - len(b"app.y") - 2
    assert table.having(block, b"app.y", b"y" * (room + 1)) == TOO_LONG
    full = table.having(block, b"app.y", b"y" * room)
    assert len(full.data) == MAX_BLOCK
    assert len(table) == 2
    assert table.having(full, b"app.y", None).same(block), "taking something out needs no room"
    assert len(table.having(full, b"app.y", b"z" * room).data) == MAX_BLOCK


def test_what_postgresql_reports_has_room_beyond_that() -> None:
    """It has happened already."""
    table = settings_probe.Table()
    name = b"application_name"
    full = table.having(None, b"app.x", b"x" * (MAX_BLOCK - len(b"app.x") - 2))
    more = table.having(full, name, b"n" * 63)
    assert more.get(name) == b"n" * 63
    assert table.having(more, b"app.y", b"") == TOO_LONG
    room = MAX_TRACKED - len(name) - 2
    assert table.having(more, name, b"n" * (room + 1)) == TOO_LONG
    assert len(table.having(more, name, b"n" * room).data) == MAX_BLOCK + MAX_TRACKED


def test_a_replay_says_only_what_differs() -> None:
    table = settings_probe.Table()
    have = table.having(table.having(None, b"TimeZone", b"UTC"), b"DateStyle", b"ISO, DMY")
    want = table.having(table.having(have, b"TimeZone", b"Europe/Oslo"), b"application_name", b"it's \\ fine")
    assert settings_probe.replay(have, have) == (OK, b"", False)
    assert settings_probe.replay(have, want) == (
        OK,
        rb"""SET "TimeZone" = 'Europe/Oslo';SET "application_name" = E'it''s \\ fine';""",
        False,
    )
    assert settings_probe.replay(None, have)[1] == b"""SET "DateStyle" = 'ISO, DMY';SET "TimeZone" = 'UTC';"""


def test_what_the_client_does_not_have_is_reset() -> None:
    table = settings_probe.Table()
    have = table.having(table.having(None, b"app.tenant", b"7"), b"work_mem", b"4096")
    want = table.having(None, b"work_mem", b"4096")
    assert settings_probe.replay(have, want) == (OK, b'RESET "app"."tenant";', False)
    assert settings_probe.replay(have, None)[1] == b'RESET "app"."tenant";RESET "work_mem";'


def test_a_list_is_not_taken_for_one_name_and_bytes_beyond_ascii_travel_as_digits() -> None:
    table = settings_probe.Table()
    want = table.having(None, b"app.city", b"Bod\xc3\xb8")
    want = table.having(want, b"app.\xc3\xb8", b"1")
    want = table.having(want, b"search_path", b'"$user", public')
    bodo = b"pg_catalog.convert_from(pg_catalog.decode('426f64c3b8', 'hex'), pg_catalog.getdatabaseencoding())"
    name = b"pg_catalog.convert_from(pg_catalog.decode('6170702ec3b8', 'hex'), pg_catalog.getdatabaseencoding())"
    assert settings_probe.replay(None, want)[1] == (
        b"SELECT pg_catalog.set_config('app.city', " + bodo + b", false) IS NULL;"
        b"SELECT pg_catalog.set_config(" + name + b", '1', false) IS NULL;"
        b"""SELECT pg_catalog.set_config('search_path', '"$user", public', false) IS NULL;"""
    )
    assert settings_probe.replay(want, None)[1] == (
        b'RESET "app"."city";SELECT pg_catalog.set_config(' + name + b""", '', false) IS NULL;RESET "search_path";"""
    )


def test_rights_are_given_up_first_taken_last_and_never_taken_for_granted() -> None:
    table = settings_probe.Table()
    reader = table.having(table.having(None, b"role", b"reader"), b"work_mem", b"64")
    other = table.having(table.having(None, b"session_authorization", b"o"), b"role", b"writer")
    assert settings_probe.replay(reader, other) == (
        OK,
        b"""SET ROLE NONE;RESET "work_mem";SET "session_authorization" = 'o';SET "role" = 'writer';""",
        True,
    )
    assert settings_probe.replay(reader, table.having(reader, b"work_mem", b"65")) == (
        OK,
        b"""SET ROLE NONE;SET "work_mem" = '65';SET "role" = 'reader';""",
        False,
    )
    assert settings_probe.replay(reader, None) == (OK, b'SET ROLE NONE;RESET "work_mem";', True)


@pytest.mark.parametrize("value", [b"\xe3\x81\x95\\", b"\x95\x5c", b"caf\xc3\xa9", b"\x7f\xff"])
def test_a_replay_is_ascii_so_that_no_encoding_can_read_a_quote_as_something_else(value: bytes) -> None:
    """In SJIS the bytes 95 5C are one character: a backslash doubled behind it would escape the closing quote."""
    table = settings_probe.Table()
    block = table.having(None, b"application_name", value)
    cleaned = bytes(byte if byte < 0x7F else ord("?") for byte in value)
    assert block.get(b"application_name") == cleaned
    assert settings_probe.replay(None, block)[1].isascii()


def test_a_replay_that_does_not_fit_is_refused() -> None:
    table = settings_probe.Table()
    block = table.having(None, b"application_name", b"'" * 100)
    statuses = {settings_probe.replay(None, block, cap)[0] for cap in range(400)}
    assert settings_probe.replay(None, block)[0] == OK
    assert statuses == {OK, TOO_LONG}
    assert settings_probe.replay(None, block, 100)[0] == TOO_LONG


@given(ASCII)
def test_a_quoted_value_reads_back_as_itself(value: bytes) -> None:
    table = settings_probe.Table()
    sql = settings_probe.replay(None, table.having(None, b"application_name", value))[1]
    head, body = sql.split(b" = ", 1)
    assert head == b'SET "application_name"'
    assert body.endswith(b"';")
    quoted = body.removeprefix(b"E")[1:-2]
    assert (b"\\" in value) == body.startswith(b"E")
    assert quoted.replace(b"''", b"").count(b"'") == 0
    assert quoted.replace(b"''", b"'").replace(b"\\\\", b"\\") == value
