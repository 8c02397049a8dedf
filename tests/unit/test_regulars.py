"""Greetings of clients that begin as others have: see pyx/pgpool_core/session/regulars.pxd."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pgpool_core.testing import frontend
from pgpool_core_probes.regulars_probe import Regulars

PACKET = frontend.startup("app", "app", application_name="web")


def test_a_greeting_belongs_to_its_packet_its_pool_and_its_version() -> None:
    regulars = Regulars()
    regulars.learn(7, 1, PACKET, b"greeting", b"3MB", 2)
    assert regulars.find(7, 1, PACKET) == (b"greeting", b"3MB", 2)
    assert regulars.find(8, 1, PACKET) is None
    assert regulars.find(7, 2, PACKET) is None
    assert regulars.find(7, 1, PACKET[:-1]) is None
    assert regulars.find(7, 1, frontend.startup("app", "app", application_name="wab")) is None


def test_the_last_greeting_of_the_same_packet_counts() -> None:
    regulars = Regulars()
    regulars.learn(7, 1, PACKET, b"first", b"1MB")
    regulars.learn(7, 2, PACKET, b"second", b"2MB")
    assert regulars.find(7, 1, PACKET) is None
    assert regulars.find(7, 2, PACKET) == (b"second", b"2MB", 0)
    assert len(regulars) == 1


def test_packets_that_differ_in_a_byte_do_not_drive_each_other_out() -> None:
    """Workers of a service name themselves alike: each is known after one round, wherever the packets fall."""
    packets = [frontend.startup("app", "app", application_name=f"worker-{number}") for number in range(8)]
    for whose in range(1, 65):
        regulars = Regulars()
        for packet in packets:
            regulars.learn(whose << 4, 1, packet, packet[::-1], b"1MB")
        for packet in packets:
            assert regulars.find(whose << 4, 1, packet) == (packet[::-1], b"1MB", 0), whose


def test_a_table_that_is_full_forgets_the_oldest_and_holds_no_more_blocks_than_it_has_places() -> None:
    regulars = Regulars()
    for number in range(3000):
        regulars.learn(7, 1, b"%08d" % number, b"greeting", b"%d" % number)
    assert len(regulars) <= 256
    assert regulars.find(7, 1, b"%08d" % 2999) == (b"greeting", b"2999", 0)
    assert regulars.find(7, 1, b"%08d" % 0) is None
    regulars.close()
    assert len(regulars) == 0


def test_what_is_too_long_is_not_remembered() -> None:
    regulars = Regulars()
    regulars.learn(7, 1, b"p" * 512, b"g" * 2048, b"1MB")
    assert regulars.find(7, 1, b"p" * 512) == (b"g" * 2048, b"1MB", 0)
    regulars.learn(7, 1, b"p" * 513, b"greeting", b"1MB")
    regulars.learn(7, 1, b"q" * 512, b"g" * 2049, b"1MB")
    assert regulars.find(7, 1, b"p" * 513) is None
    assert regulars.find(7, 1, b"q" * 512) is None


@given(
    st.lists(
        st.tuples(st.integers(1, 2), st.integers(0, 1), st.binary(min_size=8, max_size=10), st.binary(max_size=3)),
        max_size=40,
    )
)
def test_what_is_found_is_what_was_learnt_last(learnt: list[tuple[int, int, bytes, bytes]]) -> None:
    regulars = Regulars()
    last: dict[tuple[int, bytes], tuple[int, bytes]] = {}
    for whose, version, packet, greeting in learnt:
        regulars.learn(whose, version, packet, greeting, b"1MB")
        last[whose, packet] = version, greeting
        assert regulars.find(whose, version, packet) == (greeting, b"1MB", 0)
    for (whose, packet), (version, greeting) in last.items():
        assert regulars.find(whose, version, packet) in ((greeting, b"1MB", 0), None)
        assert regulars.find(whose, 1 - version, packet) is None
