"""Greetings of clients that begin as others have: see pyx/pgpool_core/session/regulars.pxd."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pgpool_core.testing import frontend
from pgpool_core_probes.settings_probe import Held, Regulars, Table

PACKET = frontend.startup("app", "app", application_name="web")


def made(table: Table, value: bytes) -> Held:
    held = table.having(None, b"work_mem", value)
    assert isinstance(held, Held)
    return held


def greeting(regulars: Regulars, whose: int, version: int, packet: bytes) -> bytes | None:
    found = regulars.find(whose, version, packet)
    return None if found is None else found[0]


def test_a_greeting_belongs_to_its_packet_its_pool_and_its_version() -> None:
    table = Table()
    regulars = Regulars(table)
    settings = made(table, b"3MB")
    regulars.learn(7, 1, PACKET, b"greeting", settings, 2)
    found = regulars.find(7, 1, PACKET)
    assert found is not None
    assert (found[0], found[2]) == (b"greeting", 2)
    assert found[1].same(settings)
    assert regulars.find(8, 1, PACKET) is None
    assert regulars.find(7, 2, PACKET) is None
    assert regulars.find(7, 1, PACKET[:-1]) is None
    assert regulars.find(7, 1, frontend.startup("app", "app", application_name="wab")) is None


def test_the_last_greeting_of_the_same_packet_counts() -> None:
    table = Table()
    regulars = Regulars(table)
    regulars.learn(7, 1, PACKET, b"first", made(table, b"1MB"))
    regulars.learn(7, 2, PACKET, b"second", made(table, b"2MB"))
    assert regulars.find(7, 1, PACKET) is None
    assert greeting(regulars, 7, 2, PACKET) == b"second"
    assert len(table) == 1


def test_packets_that_differ_in_a_byte_do_not_drive_each_other_out() -> None:
    """Workers of a service name themselves alike: each is known after one round, wherever the packets fall."""
    table = Table()
    settings = made(table, b"1MB")
    packets = [frontend.startup("app", "app", application_name=f"worker-{number}") for number in range(8)]
    for whose in range(1, 65):
        regulars = Regulars(table)
        for packet in packets:
            regulars.learn(whose << 4, 1, packet, packet[::-1], settings)
        for packet in packets:
            assert greeting(regulars, whose << 4, 1, packet) == packet[::-1], whose


def test_a_table_that_is_full_forgets_the_oldest_and_holds_no_more_blocks_than_it_has_places() -> None:
    table = Table()
    regulars = Regulars(table)
    for number in range(3000):
        regulars.learn(7, 1, b"%08d" % number, b"greeting", made(table, b"%d" % number))
    assert len(table) <= 256
    assert greeting(regulars, 7, 1, b"%08d" % 2999) == b"greeting"
    assert regulars.find(7, 1, b"%08d" % 0) is None
    del regulars
    assert len(table) == 0


def test_what_is_too_long_is_not_remembered() -> None:
    table = Table()
    regulars = Regulars(table)
    settings = made(table, b"1MB")
    regulars.learn(7, 1, b"p" * 512, b"g" * 2048, settings)
    assert greeting(regulars, 7, 1, b"p" * 512) == b"g" * 2048
    regulars.learn(7, 1, b"p" * 513, b"greeting", settings)
    regulars.learn(7, 1, b"q" * 512, b"g" * 2049, settings)
    assert regulars.find(7, 1, b"p" * 513) is None
    assert regulars.find(7, 1, b"q" * 512) is None


@given(
    st.lists(
        st.tuples(st.integers(1, 2), st.integers(0, 1), st.binary(min_size=8, max_size=10), st.binary(max_size=3)),
        max_size=40,
    )
)
def test_what_is_found_is_what_was_learnt_last(learnt: list[tuple[int, int, bytes, bytes]]) -> None:
    table = Table()
    regulars = Regulars(table)
    settings = made(table, b"1MB")
    last: dict[tuple[int, bytes], tuple[int, bytes]] = {}
    for whose, version, packet, text in learnt:
        regulars.learn(whose, version, packet, text, settings)
        last[whose, packet] = version, text
        assert greeting(regulars, whose, version, packet) == text
    for (whose, packet), (version, text) in last.items():
        assert greeting(regulars, whose, version, packet) in (text, None)
        assert regulars.find(whose, 1 - version, packet) is None
