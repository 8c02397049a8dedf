"""PROXY headers: what is understood, what is refused, whole and byte by byte."""

from __future__ import annotations

import ipaddress
import struct
from itertools import repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpool_core_probes import forwarded_probe

OK, NEED_MORE, BAD = 0, 1, -1
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V6 = ipaddress.ip_address("2001:db8::7").packed


def binary(command: int, family: int, body: bytes, *, length: int | None = None) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(body) if length is None else length) + body


TCP4 = bytes([10, 0, 0, 8, 10, 0, 0, 1]) + struct.pack("!HH", 51932, 6432)
TCP6 = V6 + bytes(16) + struct.pack("!HH", 51932, 6432)
TLV = b"\x04\x00\x03abc"


def feed(data: bytes) -> tuple[int, ...] | tuple[int, int, int, bytes, int]:
    found = forwarded_probe.feed(data)
    assert found == forwarded_probe.feed(data, repeat(1))
    return found


@pytest.mark.parametrize(
    ("header", "address", "port"),
    [
        (b"PROXY TCP4 10.0.0.8 10.0.0.1 51932 6432\r\n", "10.0.0.8", 51932),
        (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255", 65535),
        (b"PROXY TCP6 2001:db8::7 ::1 1 0\r\n", "2001:db8::7", 1),
        (b"PROXY TCP6 " + b" ".join([b":".join([b"ffff"] * 8)] * 2) + b" 65535 65535\r\n", "ffff:" * 7 + "ffff", 65535),
        (b"PROXY UNKNOWN\r\n", None, 0),
        (b"PROXY UNKNOWN ffff::1 what ever\r\n", None, 0),
        (binary(0x21, 0x11, TCP4), "10.0.0.8", 51932),
        (binary(0x21, 0x11, TCP4 + TLV), "10.0.0.8", 51932),
        (binary(0x21, 0x21, TCP6 + TLV * 100), "2001:db8::7", 51932),
        (binary(0x21, 0x31, bytes(216)), None, 0),
        (binary(0x21, 0x00, b""), None, 0),
        (binary(0x20, 0x00, b""), None, 0),
        (binary(0x20, 0x11, b"short"), None, 0),
        (binary(0x20, 0x77, TLV), None, 0),
    ],
)
def test_a_header_is_understood_and_nothing_behind_it_is_touched(header: bytes, address: str | None, port: int) -> None:
    parsed = ipaddress.ip_address(address) if address else None
    family, raw = (parsed.version, parsed.packed) if parsed else (0, b"")
    assert (
        feed(header) == feed(header + b"\0\0\0\10\4\322\26\57") == (OK, len(header), family, raw.ljust(16, b"\0"), port)
    )
    assert all(feed(header[:end]) == (NEED_MORE,) for end in range(len(header)))


@pytest.mark.parametrize(
    "header",
    [
        b"\0\0\0\10\4\322\26\57",
        b"PROXZ",
        b"PROXY TCP4 10.0.0.8 10.0.0.1 51932 6432\n",
        b"PROXY \n",
        b"PROXY\r\n",
        b"PROXY \r\n",
        b"PROXY TCP4\r\n",
        b"PROXY TCP4 \r\n",
        b"PROXY TCP5 10.0.0.8 10.0.0.1 51932 6432\r\n",
        b"PROXY TCP4  10.0.0.8 10.0.0.1 51932 6432\r\n",
        b"PROXY TCP4 10.0.0.8 10.0.0.1 51932 6432 \r\n",
        b"PROXY TCP4 10.0.0.8 10.0.0.1 51932\r\n",
        b"PROXY TCP4 10.0.0.8 10.0.0.1 51932 \r\n",
        b"PROXY TCP4 10.0.0.8 10.0.0.1 65536 1\r\n",
        b"PROXY TCP4 10.0.0.8 10.0.0.1 100000 1\r\n",
        b"PROXY TCP4 10.0.0.8 10.0.0.1 01 1\r\n",
        b"PROXY TCP4 10.0.0.8 10.0.0.1 -1 1\r\n",
        b"PROXY TCP4 10.0.0.8 10.0.0.1 1 1x\r\n",
        b"PROXY TCP4 10.0.0.8\0 10.0.0.1 1 1\r\n",
        b"PROXY TCP4 10.0.0 10.0.0.1 1 1\r\n",
        b"PROXY TCP4 ::1 ::1 1 1\r\n",
        b"PROXY TCP6 10.0.0.8 10.0.0.1 1 1\r\n",
        b"PROXY TCP6 " + b"f" * 46 + b" ::1 1 1\r\n",
        b"PROXY UNKNOWNX\r\n",
        b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
        SIGNATURE[:-1] + b"\r",
        binary(0x11, 0x11, TCP4),
        binary(0x22, 0x11, TCP4),
        binary(0x21, 0x12, TCP4),
        binary(0x21, 0x11, TCP4[:-1]),
        binary(0x21, 0x21, TCP6[:-1]),
        binary(0x21, 0x31, bytes(215)),
    ],
)
def test_what_is_no_header_is_refused(header: bytes) -> None:
    assert feed(header) == (BAD,)


def test_a_line_that_never_ends_is_refused_at_its_longest() -> None:
    assert feed(b"PROXY UNKNOWN" + b" " * 93) == (NEED_MORE,)
    assert feed(b"PROXY UNKNOWN" + b" " * 94) == (BAD,)


@given(st.ip_addresses(), st.integers(0, 65535), st.binary(max_size=40))
def test_both_versions_say_the_same(address: ipaddress.IPv4Address, port: int, tlvs: bytes) -> None:
    line = f"PROXY TCP{address.version} {address} {address} {port} 1\r\n".encode()
    family = 0x11 if address.version == 4 else 0x21
    packed = binary(0x21, family, address.packed * 2 + struct.pack("!HH", port, 1) + tlvs)
    assert feed(line)[2:] == feed(packed)[2:] == (address.version, address.packed.ljust(16, b"\0"), port)
