"""What texts have done to settings, remembered: see pyx/pgpool_core/session/outcome.pxd."""

from __future__ import annotations

from pgpool_core_probes.settings_probe import Held, Outcomes, Table


def made(table: Table, base: Held | None, value: bytes) -> Held:
    held = table.having(base, b"work_mem", value)
    assert isinstance(held, Held)
    return held


def test_an_outcome_belongs_to_its_text_its_settings_its_start_and_its_pool() -> None:
    table = Table()
    outcomes = Outcomes(table)
    before, start, after = (made(table, None, value) for value in (b"1MB", b"2MB", b"3MB"))
    outcomes.learn(7, before, start, b"set work_mem = '3MB'", after)
    found = outcomes.find(7, before, start, b"set work_mem = '3MB'")
    assert found is not None and found.same(after)
    assert outcomes.find(8, before, start, b"set work_mem = '3MB'") is None
    assert outcomes.find(7, None, start, b"set work_mem = '3MB'") is None
    assert outcomes.find(7, before, None, b"set work_mem = '3MB'") is None
    assert outcomes.find(7, before, start, b"set work_mem = '3MB';") is None


def test_the_last_outcome_of_the_same_text_counts() -> None:
    table = Table()
    outcomes = Outcomes(table)
    one, two = made(table, None, b"1MB"), made(table, None, b"2MB")
    outcomes.learn(7, None, None, b"reset all", one)
    outcomes.learn(7, None, None, b"reset all", two)
    found = outcomes.find(7, None, None, b"reset all")
    assert found is not None and found.same(two)


def test_texts_that_come_by_turns_do_not_drive_each_other_out() -> None:
    """A session's few texts are all known after one round, wherever they fall; `whose` moves them about."""
    table = Table()
    after = made(table, None, b"1MB")
    texts = [b"set statement_timeout = %d" % number for number in range(8)]
    for whose in range(64):
        outcomes = Outcomes(table)
        for text in texts:
            outcomes.learn(whose << 4, None, None, text, after)
        assert all(outcomes.find(whose << 4, None, None, text) is not None for text in texts), whose


def test_a_table_that_is_full_forgets_the_oldest_and_holds_no_more_blocks_than_it_has_places() -> None:
    table = Table()
    outcomes = Outcomes(table)
    for number in range(5000):
        outcomes.learn(7, None, None, b"set work_mem = %d" % number, made(table, None, b"%d" % number))
    assert len(table) <= 256
    assert outcomes.find(7, None, None, b"set work_mem = 4999") is not None
    assert outcomes.find(7, None, None, b"set work_mem = 0") is None
    del outcomes
    assert len(table) == 0
