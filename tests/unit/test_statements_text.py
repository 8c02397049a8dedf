"""Texts, each there once, and the keyed hash that finds them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pgpool_core_probes import statements_probe
from tests.unit.statements_model import text_of


@given(st.lists(st.binary(max_size=12), max_size=40))
def test_a_text_is_there_once_for_as_long_as_somebody_holds_it(data: list[bytes]) -> None:
    texts = statements_probe.Texts()
    held = [texts.intern(one) for one in data]
    assert [one.text for one in held] == data
    assert len(texts) == len(set(data))
    assert sorted(texts.all()) == sorted((one, data.count(one)) for one in set(data))
    assert len({one.id for one in held}) == len(set(data))
    held.clear()
    assert len(texts) == 0


def test_an_id_is_never_used_again() -> None:
    texts = statements_probe.Texts()
    seen = [texts.intern(b"select 1\0\0\0").id for _ in range(5)]
    assert seen == [1, 2, 3, 4, 5]


def test_many_texts_are_found_again() -> None:
    texts = statements_probe.Texts()
    held = [texts.intern(text_of(b"select %d" % n)) for n in range(5000)]
    assert [texts.intern(one.text).id for one in held] == [one.id for one in held]


def test_the_same_bytes_may_mean_different_things() -> None:
    texts = statements_probe.Texts()
    latin, utf8 = texts.intern(b"select '\xe9'", 1), texts.intern(b"select '\xe9'", 2)
    assert latin.id != utf8.id
    assert texts.intern(b"select '\xe9'", 1).id == latin.id


def test_a_name_at_the_server_is_the_number_of_its_text() -> None:
    assert statements_probe.name_of(0xA1) == b"pgpool_00000000000000a1"
    assert statements_probe.name_of(2**64 - 1) == b"pgpool_ffffffffffffffff"


def siphash(a: int, b: int, data: bytes) -> int:
    """SipHash-1-3 as its authors describe it."""
    mask = 2**64 - 1
    v = [a ^ 0x736F6D6570736575, b ^ 0x646F72616E646F6D, a ^ 0x6C7967656E657261, b ^ 0x7465646279746573]

    def turn(x: int, by: int) -> int:
        return (x << by | x >> (64 - by)) & mask

    def mix() -> None:
        v[0] = v[0] + v[1] & mask
        v[1] = turn(v[1], 13) ^ v[0]
        v[0] = turn(v[0], 32)
        v[2] = v[2] + v[3] & mask
        v[3] = turn(v[3], 16) ^ v[2]
        v[0] = v[0] + v[3] & mask
        v[3] = turn(v[3], 21) ^ v[0]
        v[2] = v[2] + v[1] & mask
        v[1] = turn(v[1], 17) ^ v[2]
        v[2] = turn(v[2], 32)

    padded = data + bytes(7 - len(data) % 8) + bytes([len(data) & 255])
    for at in range(0, len(padded), 8):
        word = int.from_bytes(padded[at : at + 8], "little")
        v[3] ^= word
        mix()
        v[0] ^= word
    v[2] ^= 0xFF
    for _ in range(3):
        mix()
    return v[0] ^ v[1] ^ v[2] ^ v[3]


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.binary(max_size=40))
def test_the_hash_is_siphash(a: int, b: int, data: bytes) -> None:
    assert statements_probe.hashed(a, b, data) == siphash(a, b, data)
