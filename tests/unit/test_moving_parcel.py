"""What a process tells another about a client or a server: what is written is read, and nothing else is."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from pgpool_core_probes import moving_probe

CLIENT = {
    "key": b"\1\2\3\4\5\6\7\x08",
    "connect_us": 1,
    "request_us": 2**63,
    "idle_us": 3,
    "pinned_us": 4,
    "pin_cause": 2**64 - 1,
    "pins": 16,
    "unnamed_flags": 7,
    "warned": 9,
    "unnamed_here": 1,
    "unnamed_fresh": 0,
    "pin_told": 1,
    "family": 6,
    "addr": bytes(range(16)),
    "port": 51932,
    "uid": -1,
    "pid": 0,
    "user": "älfred".encode(),
}
SERVER = {
    "created_us": 10,
    "adopted_us": 11,
    "backend_pid": 4711,
    "port": 5432,
    "family_unix": 0,
    "was_reset": 1,
    "sequences_due": 0,
    "in_doubt": 1,
    "key": b"\0" * 32,
    "host": b"127.0.0.1",
}
BLOCK = b"DateStyle\0ISO\0TimeZone\0\0app.tenant\0x\0"
ALONE: dict[str, Any] = {
    "client": CLIENT,
    "settings": (BLOCK, True),
    "start": (b"", False),
    "unread": b"Q\0\0\0",
    "channels": b"\4news\1x",
}
IDLE: dict[str, Any] = {
    "server": SERVER,
    "stands": (BLOCK, True),
    "begun": (BLOCK, False),
    "planted": [(5, True), (6, False)],
}
TEXTS: dict[str, Any] = {
    "texts": [(5, 1, 2, b"select 1\0\0\0"), (6, 0, 0, b"")],
    "names": [(5, True, b"one"), (6, False, b"x" * 4096)],
}


@pytest.mark.parametrize(
    "said", [ALONE, IDLE, ALONE | TEXTS, ALONE | IDLE | TEXTS], ids=["client", "server", "names", "pair"]
)
def test_what_is_written_is_read(said: dict[str, Any]) -> None:
    written = moving_probe.write(said)
    assert written is not None
    assert moving_probe.read(written) == said


@pytest.mark.parametrize("said", [ALONE | TEXTS, IDLE], ids=["client", "server"])
def test_no_part_of_it_is_taken_for_the_whole_but_at_the_end_of_an_entry(said: dict[str, Any]) -> None:
    written = moving_probe.write(said)
    assert written is not None
    ends, at = set[int](), 4
    while at < len(written):
        at += 5 + struct.unpack_from("!I", written, at + 1)[0]
        ends.add(at)
    for cut in range(len(written)):
        assert moving_probe.read(written[:cut]) is None or cut in ends


def entry(kind: int, body: bytes) -> bytes:
    return struct.pack("!BI", kind, len(body)) + body


WHOLE = moving_probe.write(ALONE) or b""


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"PGP\3",
        b"PGP\1" + WHOLE[4:],
        WHOLE + b"\0",
        WHOLE + entry(99, b""),
        WHOLE + entry(1, b"\0" * 90),
        WHOLE + entry(2, b"twice"),
        WHOLE + entry(5, b"twice"),
        WHOLE + entry(7, struct.pack("!Q", 0) + b"a"),
        WHOLE + entry(7, struct.pack("!Q", 2**64 - 1) + b"a"),
        WHOLE + entry(7, struct.pack("!Q", 1)),
        WHOLE + entry(7, struct.pack("!QB", 1, 1)),
        WHOLE + entry(7, struct.pack("!QB", 1, 2) + b"a"),
        WHOLE + entry(7, struct.pack("!QB", 1, 1) + b"a\0b"),
        WHOLE + entry(7, struct.pack("!QB", 1, 1) + b"a" * 4097),
        WHOLE + entry(6, struct.pack("!QQI", 1, 0, 0) + b"a" * (2**20 + 1)),
        WHOLE + entry(13, struct.pack("!QB", 1, 2)),
        WHOLE + entry(11, b""),
        WHOLE + entry(11, b"\2"),
        WHOLE + entry(11, b"\1name"),
        WHOLE + entry(11, b"\1name\0value"),
        WHOLE + entry(11, b"\1b\0\0a\0\0"),
        WHOLE + entry(11, b"\1a\0\0a\0\0"),
        WHOLE + entry(11, b"\1\0\0"),
        WHOLE + entry(9, b"a key without a server"),
        WHOLE + entry(14, b"\1x"),
        moving_probe.write({"client": CLIENT}),
        moving_probe.write({"client": CLIENT, "start": (BLOCK, True)}),
        moving_probe.write({"server": SERVER, "begun": (BLOCK, True)}),
        moving_probe.write(IDLE | {"server": SERVER | {"key": b"k" * 256}}),
        moving_probe.write(ALONE | {"channels": b"\2x"}),
        moving_probe.write(ALONE | {"channels": b"\0"}),
        moving_probe.write(ALONE | {"channels": b"\2x\0"}),
        moving_probe.write(ALONE | {"channels": b"\x40" + b"x" * 64}),
    ],
)
def test_what_is_broken_is_refused(broken: bytes) -> None:
    assert moving_probe.read(broken) is None


def test_too_much_is_not_written() -> None:
    assert moving_probe.write(ALONE | {"unread": b"x" * (1 << 25)}) is None
