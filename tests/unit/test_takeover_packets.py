"""What the old process sends after its listening sockets, packet by packet."""

from __future__ import annotations

import json
import struct

import attrs
import pytest

from pgpool_core.control.arrivals import Parcel, PoolFacts
from pgpool_core.control.connect import Began
from pgpool_core.control.hosts import HostTold
from pgpool_core.process.packets import (
    CHUNK,
    KeyTold,
    ParcelTold,
    PoolTold,
    Reader,
    answer,
    answered,
    key_packet,
    parcel_packets,
    pool_packet,
    refusal,
)

FACTS = PoolFacts(
    database="\udcffdb",
    user="älfred",
    target="abc",
    welcome=((b"server_version", b"15.1"), (b"x", bytes(range(1, 256)))),
    hosts=(
        HostTold("db.example", True, 1, 2, "", 3, 0, ("10.0.0.1", "10.0.0.2")),
        HostTold("/run/postgresql", False, 4, 5, "no answer", 0, 6, ()),
        HostTold("new", None, 0, 0, "", 0, 0, ()),
    ),
)


def test_a_pool_and_a_key_are_read_as_they_were_told() -> None:
    reader = Reader()
    assert reader.read(pool_packet(7, FACTS), []) == PoolTold(7, FACTS)
    assert reader.read(key_packet(b"k" * 32), []) == KeyTold(b"k" * 32)
    for began in (
        Began(),
        Began(((b"role", b"\xe4"),)),
        Began(((b"app.x", b""),), ((b"TimeZone", b"UTC"),), (b"app.x",)),
    ):
        facts = attrs.evolve(FACTS, began=began)
        assert reader.read(pool_packet(8, facts), []) == PoolTold(8, facts)
    facts = attrs.evolve(FACTS, shown=bytes(range(1, 256)))
    assert reader.read(pool_packet(9, facts), []) == PoolTold(9, facts)
    assert "shown=" not in repr(facts)


@pytest.mark.parametrize("length", [0, 1, CHUNK, CHUNK + 1, 3 * CHUNK])
@pytest.mark.parametrize(("client", "server"), [(5, -1), (-1, 6), (5, 6)])
def test_a_parcel_comes_in_pieces(length: int, client: int, server: int) -> None:
    parcel, reader = Parcel(3, client, server, b"x" * length), Reader()
    fds = [fd for fd in (client, server) if fd >= 0]
    *first, last = parcel_packets(9, parcel)
    for at, packet in enumerate(first):
        assert reader.read(packet, fds if at == 0 else []) is None
    assert reader.read(last, [] if first else fds) == ParcelTold(9, parcel)
    assert reader.left() is None


def test_what_has_not_come_whole_is_left_to_be_closed() -> None:
    reader = Reader()
    first, *_ = parcel_packets(9, Parcel(3, 5, 6, b"x" * (CHUNK + 1)))
    assert reader.read(first, [5, 6]) is None
    with pytest.raises(ValueError, match="broken off"):
        reader.read(key_packet(b"k" * 32), [])
    left = reader.left()
    assert left is not None
    assert (left.client_fd, left.server_fd) == (5, 6)
    assert reader.left() is None


def test_a_parcel_whose_descriptors_are_lost_is_read_without_them() -> None:
    reader = Reader()
    *first, last = parcel_packets(9, Parcel(3, 5, 6, b"x" * (CHUNK + 1)))
    assert reader.read(first[0], [], cut=True) is None
    assert reader.read(last, []) == ParcelTold(9, Parcel(3, -1, -1, b"x" * (CHUNK + 1)))


HEAD = struct.Struct("!IIBI")


@pytest.mark.parametrize(
    ("packet", "fds"),
    [
        (b"", []),
        (b"Z", []),
        (b"K" + b"k" * 31, []),
        (b"K" + b"k" * 32, [5]),
        (b"D", []),
        (b"C", [5]),
        (b"C" + HEAD.pack(1, 1, 0, 0), []),
        (b"C" + HEAD.pack(1, 1, 4, 0), [5]),
        (b"C" + HEAD.pack(1, 1, 1, 0), []),
        (b"C" + HEAD.pack(1, 1, 1, 0), [5, 6]),
        (b"C" + HEAD.pack(1, 1, 1, 0) + b"x", [5]),
        (b"C" + HEAD.pack(1, 1, 1, 2) + b"x", [5]),
        (b"C" + HEAD.pack(1, 1, 1, (1 << 25) + 1) + b"x" * CHUNK, [5]),
        (b"P{", []),
        (b"P[]", []),
        (b"P" + json.dumps({"number": "1"}).encode(), []),
        (b"P\xff", []),
        (pool_packet(7, FACTS).replace(b'"up": false', b'"up": 7'), []),
        (pool_packet(7, FACTS).replace(b'"hosts"', b'"guests"'), []),
        (
            b"P" + json.dumps({"number": 1, "database": "d", "user": "u", "target": "t", "welcome": [["a"]]}).encode(),
            [],
        ),
        (
            b"P"
            + json.dumps(
                {"number": 1, "database": "d", "user": "u", "target": "t", "welcome": [["a", "\u0100"]]}
            ).encode(),
            [],
        ),
    ],
)
def test_anything_else_is_refused(packet: bytes, fds: list[int]) -> None:
    with pytest.raises(ValueError):
        Reader().read(packet, fds)


def test_an_answer_is_not_a_cancel_key() -> None:
    assert answered(answer(4711)) == (4711, True)
    assert answered(refusal(4711)) == (4711, False)
    assert answered(b"A" + b"\0" * 7) is None
    assert answered(b"\0" * 5) is None
