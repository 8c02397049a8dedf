"""Messages that the pooler says itself: their bytes, and that none is written in part."""

from __future__ import annotations

import struct

import pytest

from pgpool_core_probes import wire_probe

ERROR_BODY = b"SFATAL\0VFATAL\0C57P01\0Mgone\0"


def framed(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


MESSAGES: dict[str, tuple[tuple[object, ...], bytes]] = {
    "error": (("error", b"FATAL", b"57P01", b"gone", None), framed(b"E", ERROR_BODY + b"\0")),
    "error with detail": (
        ("error", b"FATAL", b"57P01", b"gone", b"why"),
        framed(b"E", ERROR_BODY + b"Dwhy\0" + b"\0"),
    ),
    "ready": (("ready", ord("T")), framed(b"Z", b"T")),
    "query": (("query", b"select 1"), framed(b"Q", b"select 1\0")),
    "empty query": (("query", b""), framed(b"Q", b"\0")),
    "parameter": (("parameter", b"TimeZone", b"UTC"), framed(b"S", b"TimeZone\0UTC\0")),
    "parameter without a value": (("parameter", b"a", b""), framed(b"S", b"a\0\0")),
    "key": (("key", 0xDEADBEEF, 7), framed(b"K", struct.pack("!II", 0xDEADBEEF, 7))),
    "auth_ok": (("auth_ok",), framed(b"R", b"\0\0\0\0")),
    "sync": (("empty", ord("S")), framed(b"S", b"")),
    "copy_fail": (("copy_fail", b"client has left"), framed(b"f", b"client has left\0")),
}


@pytest.mark.parametrize(("args", "wanted"), MESSAGES.values(), ids=MESSAGES.keys())
def test_a_message_is_written_whole_or_not_at_all(args: tuple[object, ...], wanted: bytes) -> None:
    kind, *rest = args
    assert isinstance(kind, str)
    for cap in range(len(wanted)):
        assert wire_probe.build(kind, cap, *rest) == b""
    assert wire_probe.build(kind, len(wanted), *rest) == wanted
    assert wire_probe.build(kind, len(wanted) + 10, *rest) == wanted
