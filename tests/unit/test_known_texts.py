"""Texts that come again and again: known, they are what they were when they were new."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pgpool_core.session.effects import effects_pack
from pgpool_core_probes import sqlscan_probe
from pgpool_core_probes.sqlscan_probe import Known

UNSURE = sqlscan_probe.UNKNOWN | sqlscan_probe.TRAILING
LOOK_UP = b"SELECT abalance FROM pgbench_accounts WHERE aid = $1"
TEXTS = [
    LOOK_UP,
    b"SELECT set_config('a.b', 'c', true); SELECT nextval('s')",
    b"SELECT set_config('a.b', 'c', falsE); SELECT nextval('s')",
    b"BEGIN",
    b"BEGIN -- and no more",
    b"COMMIT AND CHAIN",
    b"SET statement_timeout = 1",
    b"SELECT '\\'; LISTEN a --'",
    b"CREATE TEMP TABLE t ()",
    b"DO $$BEGIN PERFORM f(); END$$",
    b"SELECT " + b"1, " * 200 + b"1",
    b"",
]


@given(st.lists(st.sampled_from(TEXTS) | st.binary(max_size=20), max_size=60))
def test_what_is_found_does_not_depend_on_what_came_before(texts: list[bytes]) -> None:
    known = Known()
    for text in texts:
        assert known.scan(text) == sqlscan_probe.scan(text, UNSURE)


def test_a_text_is_kept_when_it_comes_the_second_time() -> None:
    known = Known()
    known.scan(LOOK_UP)
    assert known.kept == []
    known.scan(LOOK_UP)
    assert known.kept == [LOOK_UP]


def test_texts_with_their_values_in_them_do_not_drive_out_one_without() -> None:
    known = Known()
    known.scan(LOOK_UP)
    known.scan(LOOK_UP)
    for value in range(10_000):
        known.scan(b"SELECT abalance FROM pgbench_accounts WHERE aid = %05d" % value)
    assert LOOK_UP in known.kept


def test_a_text_that_differs_in_its_middle_only_is_not_taken_for_another() -> None:
    known = Known()
    first = b"SELECT 1; SELECT 2222; SELECT 3"
    second = b"SELECT 1; LISTEN abcd; SELECT 3"
    assert (len(second), second[:8], second[-8:]) == (len(first), first[:8], first[-8:])
    for text in (first, first, second, second, first):
        assert known.scan(text) == sqlscan_probe.scan(text, UNSURE)


def test_a_text_that_names_something_is_not_kept() -> None:
    known = Known()
    for _ in range(3):
        assert known.scan(b"SET statement_timeout = 7")["name"] == b"statement_timeout"
    assert known.kept == []


def test_a_known_text_is_looked_at_anew_when_other_functions_are_known() -> None:
    text = b"SELECT quietly_listens()"
    known = Known()
    for _ in range(3):
        assert not known.scan(text)["hidden"]
    known.learn(effects_pack({b"quietly_listens": (1 << 2, 0)}, [], serial=1, generation=1))
    for _ in range(3):
        assert known.scan(text)["hidden"] == {"listens"}


def test_texts_that_differ_in_their_values_are_alike() -> None:
    known = Known()
    text = "SELECT a1 FROM t%d WHERE id = %d AND price < %s AND name = '%s'".__mod__
    for values in ((1, 17, "12.5", "x"), (1, 4, "0.125", "another"), (1, 333, "7.0", "")):
        assert known.like(text(values).encode()) is None or len(known.shapes) == 1
        known.scan(text(values).encode())
    assert known.shapes == [b"SELECT a1 FROM t1 WHERE id = 0 AND price < 0.0 AND name = ''"]
    found = known.like(text((1, 99999, "3.14", "an; other -- name")).encode())
    assert found == sqlscan_probe.scan(text((1, 1, "1.0", "")).encode(), UNSURE)
    assert known.like(text((2, 17, "12.5", "x")).encode()) is None, "another table"


def test_of_texts_that_leave_something_no_shape_is_kept() -> None:
    known = Known(effects_pack({b"quietly_listens": (1 << 2, 0)}, [], serial=1, generation=1))
    for text in (
        b"SELECT set_config('a.b', '%d', false)",
        b"LISTEN c; SELECT %d",
        b"SET a.b = %d",
        b"CREATE TABLE t%d ()",
        b"DO 'BEGIN PERFORM %d; END'",
        b"SELECT quietly_listens(%d)",
    ):
        for value in range(5):
            known.scan(text % value)
            assert known.like(text % value) is None
    assert known.shapes == []


def test_shapes_are_looked_at_anew_when_other_functions_are_known() -> None:
    known = Known()
    for value in range(3):
        known.scan(b"SELECT quietly_listens(%d)" % value)
    assert known.like(b"SELECT quietly_listens(7)") is not None
    known.learn(effects_pack({b"quietly_listens": (1 << 2, 0)}, [], serial=1, generation=1))
    assert known.like(b"SELECT quietly_listens(7)") is None


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        (b"SELECT 1", b"SELECT 0"),
        (b"SELECT a1, b_2, $1, $22::int4 FROM t44", b"SELECT a1, b_2, $1, $22::int4 FROM t44"),
        (b"SELECT 10.25, .5, 1e5, 1e+5, 0x1F", b"SELECT 0.0, .0, 0e5, 0e+0, 0x1F"),
        (b"SELECT 'a', E'b', ''", b"SELECT '', E'', ''"),
        (b"SELECT 'it''s'", b"SELECT ''''"),
        (b"SELECT \"a 1's\\ \", 'x'", b"SELECT \"a 1's\\ \", ''"),
        (b"SELECT 5 - -3 / 2 * 4", b"SELECT 0 - -0 / 0 * 0"),
        (b"SELECT '" + b"x" * 100_000 + b"'", b"SELECT ''"),
        (b"SELECT 'a", b""),
        (b'SELECT "a', b""),
        (b"SELECT 'a\\' || '1'", b""),
        (b"SELECT \\", b""),
        (b"SELECT 1 -- it's", b""),
        (b"SELECT 1 /* it's */", b""),
        (b"SELECT $$1$$", b""),
        (b"SELECT $a$1$a$", b""),
        (b"SELECT x$1", b""),
        (b"SELECT $1$a$1$a$", b""),
        (b"SELECT 1e5$a$ ' $a$; LISTEN x; SELECT '", b""),
        (b"x" * 1000, b"x" * 1000),
        (b"x" * 1001, b""),
        (b'"' + b"x" * 1000, b""),
        (b'"' + b"x" * 1000 + b'"', b""),
        (b"$" + b"1" * 1000, b""),
        (b"+" * 1001, b""),
        (b"+1" * 501, b""),
        (b"'a'" * 501, b""),
        (b"", b""),
    ],
)
def test_shapes(text: bytes, shape: bytes) -> None:
    assert sqlscan_probe.shape(text) == shape


def but_temps(found: dict[str, Any]) -> dict[str, Any]:
    """What was found, but for what a text that sets something says in its strings: no shape of it is kept."""
    return found | {"flags": found["flags"] - {"temps"}} if "sets" in found["flags"] else found


PIECES = [
    *(
        b"SELECT",
        b"SET",
        b"a.b",
        b"x",
        b"=",
        b"TO",
        b"DO",
        b"LISTEN",
        b"BEGIN",
        b"COMMIT",
        b"PREPARE",
        b"TRANSACTION",
        b"CREATE",
    ),
    *(
        b"FUNCTION",
        b"TEMP",
        b"TABLE",
        b"t1",
        b"set_config",
        b"nextval",
        b"pg_advisory_lock",
        b"INTO",
        b"INSERT",
        b"VALUES",
        b"true",
    ),
    *(
        b"(",
        b")",
        b",",
        b";",
        b".",
        b"'",
        b"''",
        b'"',
        b"$",
        b"$1",
        b"$a$",
        b"\\",
        b"-",
        b"/",
        b"*",
        b"+",
        b"&",
        b"e",
        b"E",
        b"U&",
    ),
    *(
        b"0",
        b"1",
        b"42",
        b"1.5",
        b"1e5",
        b"0x1F",
        b" ",
        b"\n",
        b"\xc3\xa4",
        b"\x95\\",
        b"pg_temp",
        b"2pg_temp",
        b"9nextval(1)",
    ),
]


@given(st.lists(st.sampled_from(PIECES), max_size=30), st.sampled_from([b"", b" "]), st.integers(0, 7))
@example([b"DO ", b"'LISTEN a'"], b"", UNSURE)
@example([b"1", b"e", b"+", b"5", b"x"], b"", UNSURE)
def test_a_text_and_its_shape_are_the_same_to_the_scanner(pieces: list[bytes], between: bytes, reading: int) -> None:
    text = between.join(pieces)
    shape = sqlscan_probe.shape(text)
    found = sqlscan_probe.scan(text, reading)
    if shape and not (found["name"] or found["value"] or found["bodies"]):
        assert sqlscan_probe.shape(shape) == shape
        assert but_temps(sqlscan_probe.scan(shape, reading)) == but_temps(found)
