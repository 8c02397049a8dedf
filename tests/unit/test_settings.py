"""Interned blocks of settings: one for each content, counted, and the SQL that leads from one to another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpool_core_probes import settings_probe

OK, TOO_LONG = 0, -1
MAX_BLOCK, MAX_SETTING = 8192, 4096
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


def test_what_is_too_long_is_refused() -> None:
    table = settings_probe.Table()
    assert table.having(None, b"application_name", b"x" * (MAX_SETTING + 1)) == TOO_LONG
    block = table.having(None, b"application_name", b"x" * MAX_SETTING)
    room = MAX_BLOCK - len(block.data) - len(b"TimeZone") - 2
    assert table.having(block, b"TimeZone", b"y" * (room + 1)) == TOO_LONG
    full = table.having(block, b"TimeZone", b"y" * room)
    assert len(full.data) == MAX_BLOCK
    assert len(table) == 2


def test_a_value_is_measured_without_the_one_that_it_replaces() -> None:
    table = settings_probe.Table()
    block = table.having(None, b"application_name", b"x" * MAX_SETTING)
    block = table.having(block, b"TimeZone", b"y" * (MAX_SETTING - 40))
    changed = table.having(block, b"application_name", b"z" * MAX_SETTING)
    assert changed.get(b"application_name") == b"z" * MAX_SETTING
    assert changed.get(b"TimeZone") == b"y" * (MAX_SETTING - 40)


def test_a_replay_says_only_what_differs() -> None:
    table = settings_probe.Table()
    have = table.having(table.having(None, b"TimeZone", b"UTC"), b"DateStyle", b"ISO, DMY")
    want = table.having(table.having(have, b"TimeZone", b"Europe/Oslo"), b"application_name", b"it's \\ fine")
    assert settings_probe.replay(have, have) == (OK, b"")
    assert settings_probe.replay(want, None) == (OK, b"")
    assert settings_probe.replay(have, want) == (
        OK,
        rb"SET TimeZone='Europe/Oslo';SET application_name=E'it''s \\ fine';",
    )
    assert settings_probe.replay(None, have)[1] == b"SET DateStyle='ISO, DMY';SET TimeZone='UTC';"


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
    assert statuses == {OK, TOO_LONG}
    assert settings_probe.replay(None, block, 100)[0] == TOO_LONG


@given(ASCII)
def test_a_quoted_value_reads_back_as_itself(value: bytes) -> None:
    table = settings_probe.Table()
    sql = settings_probe.replay(None, table.having(None, b"application_name", value))[1]
    head, body = sql.split(b"=", 1)
    assert head == b"SET application_name"
    assert body.endswith(b"';")
    quoted = body.removeprefix(b"E")[1:-2]
    assert (b"\\" in value) == body.startswith(b"E")
    assert quoted.replace(b"''", b"").count(b"'") == 0
    assert quoted.replace(b"''", b"'").replace(b"\\\\", b"\\") == value
