"""Texts that come again and again: known, they are what they were when they were new."""

from __future__ import annotations

from hypothesis import given
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
