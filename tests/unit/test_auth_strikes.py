"""Failed logins by address: when they are answered."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from pgpool_core_probes.auth_probe import Strikes

S = 1_000_000
FREE, HELD, PLACES = 10, 16, 4096
HERE = ipaddress.ip_address("203.0.113.9").packed


def test_the_first_failures_are_answered_at_once_the_next_ones_a_second_apart() -> None:
    strikes = Strikes()
    assert [strikes.add(HERE, 100 * S, S) for _ in range(FREE)] == [(0, n, False) for n in range(1, FREE + 1)]
    assert strikes.add(HERE, 100 * S, S) == (101 * S, FREE + 1, True)
    assert strikes.add(HERE, 100 * S, S) == (102 * S, FREE + 2, False)
    assert strikes.add(HERE, 130 * S, S) == (131 * S, FREE + 3, False), "nobody waits for what is over"


def test_many_at_once_do_not_all_wait() -> None:
    strikes = Strikes()
    due = [strikes.add(HERE, 100 * S, S)[0] for _ in range(100)]
    assert due == [0] * FREE + [(100 + n) * S for n in range(1, HELD + 1)] + [None] * (100 - FREE - HELD)
    assert strikes.add(HERE, 103 * S, S)[0] == (100 + HELD + 1) * S


def test_the_log_hears_of_it_when_it_begins_and_at_each_doubling() -> None:
    strikes = Strikes()
    assert [count for _, count, notable in (strikes.add(HERE, S, S) for _ in range(1000)) if notable] == [
        *(FREE + 1, 16, 32, 64, 128, 256, 512)
    ]


def test_a_minute_without_a_failure_makes_up_for_all() -> None:
    strikes = Strikes()
    for _ in range(50):
        strikes.add(HERE, 100 * S, S)
    assert strikes.add(HERE, 160 * S, S)[1] == 51
    assert strikes.add(HERE, 220 * S + 1, S) == (0, 1, False)


def test_addresses_do_not_answer_for_each_other_but_those_of_one_ipv6_network_do() -> None:
    strikes = Strikes()
    for _ in range(FREE + 5):
        strikes.add(HERE, 100 * S, S)
    assert strikes.add(ipaddress.ip_address("203.0.113.10").packed, 100 * S, S) == (0, 1, False)
    for last in range(FREE):
        strikes.add(ipaddress.ip_address(f"2001:db8::{last}").packed, 100 * S, S)
    assert strikes.add(ipaddress.ip_address("2001:db8::ffff:1").packed, 100 * S, S)[1] == FREE + 1
    assert strikes.add(ipaddress.ip_address("2001:db8:0:1::").packed, 100 * S, S)[1] == 1


@given(st.sets(st.binary(min_size=4, max_size=4), min_size=5, max_size=200))
def test_newer_addresses_take_the_place_of_those_that_have_not_failed_for_longest(addresses: set[bytes]) -> None:
    strikes = Strikes()
    for now, address in enumerate(addresses):
        assert strikes.add(address, 100 * S + now, S)[1] == 1
    assert strikes.add(address, 101 * S, S)[1] == 2, "the newest is never forgotten"


def test_a_flood_of_addresses_takes_no_more_memory_and_forgets_the_old() -> None:
    strikes = Strikes()
    strikes.add(HERE, S, S)
    for n in range(PLACES * 20):
        strikes.add(n.to_bytes(4, "big"), 2 * S, S)
    assert strikes.add(HERE, 3 * S, S)[1] == 1
