"""Cancel keys: who is meant comes back, alone and among peers, and others' keys are nobody's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pgpool_core_probes import auth_probe

KEY = bytes(range(32))

workers = st.integers(0, 126)
slots = st.integers(0, 2**22 - 1)
secrets = st.integers(0, 2**32 - 1)
peer_ids = st.integers(1, 16383)


@given(workers, st.integers(0, 2**24 - 1), secrets)
def test_alone_a_key_is_the_worker_the_slot_and_the_secret(worker: int, slot: int, secret: int) -> None:
    key = auth_probe.cancel_key(0, KEY, worker, slot, secret)
    assert key[0] < 0x80  # no driver sees a negative pid
    assert auth_probe.cancel_whose(0, KEY, key) == ("ours", worker, slot, secret, 2**32 - 1)


@given(workers, slots, secrets, peer_ids)
def test_among_peers_it_says_whose_it_is(worker: int, slot: int, secret: int, peer: int) -> None:
    key = auth_probe.cancel_key(peer, KEY, worker, slot, secret)
    assert key[0] < 0x80
    assert int.from_bytes(key[1:3], "little") == peer
    assert key[7] & 3 == 3
    assert auth_probe.cancel_whose(peer, KEY, key) == ("ours", worker, slot, secret & 0x7FFF, 0x7FFF)
    other = peer % 16383 + 1
    assert auth_probe.cancel_whose(other, KEY, key) == ("peer", peer)


@given(workers, slots, secrets, peer_ids, st.integers(0, 3))
def test_how_often_it_was_passed_on_does_not_matter(worker: int, slot: int, secret: int, peer: int, ttl: int) -> None:
    key = auth_probe.cancel_key(peer, KEY, worker, slot, secret)
    passed_on = key[:7] + bytes([key[7] & 0xFC | ttl])
    assert auth_probe.cancel_whose(peer, KEY, passed_on) == auth_probe.cancel_whose(peer, KEY, key)


@given(workers, slots, secrets, peer_ids, st.binary(min_size=32, max_size=32).filter(lambda key: key != KEY))
def test_another_process_reads_something_else(worker: int, slot: int, secret: int, peer: int, other: bytes) -> None:
    key = auth_probe.cancel_key(peer, KEY, worker, slot, secret)
    whose = auth_probe.cancel_whose(peer, other, key)
    assert whose != ("ours", worker, slot, secret & 0x7FFF, 0x7FFF)


@given(st.binary(min_size=8, max_size=8), st.integers(0, 16383))
def test_any_eight_bytes_are_read(key: bytes, peer: int) -> None:
    whose = auth_probe.cancel_whose(peer, KEY, key)
    if whose is not None and whose[0] == "ours" and peer:
        assert auth_probe.cancel_key(peer, KEY, *whose[1:4])[:7] == key[:7]


def test_a_slot_that_has_no_room_among_peers_has_a_key_of_nobody() -> None:
    key = auth_probe.cancel_key(5, KEY, 0, 2**22, 1)
    assert key == bytes(8)
    assert auth_probe.cancel_whose(5, KEY, key) is None
