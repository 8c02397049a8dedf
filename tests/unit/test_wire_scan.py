"""Message boundaries: what stops the scan, what is refused, whole and in pieces."""

from __future__ import annotations

import struct
from itertools import repeat
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpool_core_probes import wire_probe

END, FOUND, BAD_LENGTH, BAD_TYPE = 0, 1, -1, -2

FRONTEND = b"BCDEFHPQSXcdf"
BACKEND = b"123ACDEGHINSTVWZcdnst"
DIRECTIONS = {"client": FRONTEND, "server": BACKEND, "every": BACKEND}


def message(kind: int | bytes, body: bytes = b"", *, length: int | None = None) -> bytes:
    letter = kind if isinstance(kind, bytes) else bytes([kind])
    return letter + struct.pack("!I", len(body) + 4 if length is None else length) + body


def events(found: dict[str, Any]) -> dict[str, Any]:
    """What does not depend on how the bytes were cut."""
    return {name: value for name, value in found.items() if name != "whole"}


@pytest.mark.parametrize("which", DIRECTIONS)
def test_only_the_types_of_the_protocol_pass(which: str) -> None:
    refused = {kind for kind, mark in wire_probe.marks(which).items() if mark == "refuse"}
    assert refused == set(range(256)) - set(DIRECTIONS[which])


def test_the_scan_stops_at_what_somebody_acts_on() -> None:
    stops = {which: {k for k, mark in wire_probe.marks(which).items() if mark == "stop"} for which in DIRECTIONS}
    assert stops["client"] == set(FRONTEND) - set(b"d")
    assert stops["server"] == set(b"ZSEGWc13CA")
    assert stops["every"] == set(BACKEND)


def test_messages_nobody_asked_about_are_walked_over() -> None:
    data = message(b"T", b"row") + message(b"D", b"x" * 300) + message(b"2") + message(b"Z", b"I")
    found = wire_probe.scan_feed("server", data)
    assert found["found"] == [(ord("Z"), 1, len(data) - 6)]
    assert (found["status"], found["offset"], found["remain"], found["held"]) == (END, len(data), 0, b"")


def test_a_message_found_may_lie_only_partly_in_the_buffer() -> None:
    data = message(b"Q", b"select 1\0") + message(b"S")
    found = wire_probe.scan_feed("client", data, [8])
    assert found["found"] == [(ord("Q"), 9, 0), (ord("S"), 0, 14)]
    assert found["whole"] == [False, True]
    assert wire_probe.scan_feed("client", data)["whole"] == [True, True]


def test_a_body_that_has_not_ended_is_waited_for() -> None:
    found = wire_probe.scan_feed("server", message(b"D", b"x" * 10)[:-4])
    assert (found["status"], found["remain"]) == (END, 4)


@pytest.mark.parametrize("have", range(5))
def test_the_start_of_a_header_is_left_to_the_caller(have: int) -> None:
    data = message(b"Z", b"I") + message(b"Z", b"T")[:have]
    found = wire_probe.scan_feed("server", data)
    assert (found["status"], found["held"], found["offset"]) == (END, data[6:], 6)


@pytest.mark.parametrize("kind", [b"Q", b"d"])
@pytest.mark.parametrize("length", [0, 3, 2**31, 2**32 - 1])
def test_a_length_nobody_may_send_is_refused(kind: bytes, length: int) -> None:
    good = message(b"S")
    found = wire_probe.scan_feed("client", good + message(kind, length=length), max_body=2**31 - 5)
    assert (found["status"], found["offset"], len(found["found"])) == (BAD_LENGTH, 5, 1)


@pytest.mark.parametrize("kind", [b"Q", b"d"])
def test_a_body_above_the_callers_limit_is_refused(kind: bytes) -> None:
    assert wire_probe.scan_feed("client", message(kind, b"x" * 10), max_body=10)["status"] == END
    assert wire_probe.scan_feed("client", message(kind, b"x" * 11), max_body=10)["status"] == BAD_LENGTH


@pytest.mark.parametrize("which", DIRECTIONS)
@pytest.mark.parametrize("kind", sorted(set(range(256)) - set(FRONTEND) - set(BACKEND)))
def test_an_unknown_type_is_refused_whatever_its_length_says(which: str, kind: int) -> None:
    found = wire_probe.scan_feed(which, message(b"S", b"") + message(kind, length=0))
    assert (found["status"], found["offset"]) == (BAD_TYPE, 5)


STREAMS = st.one_of(
    st.binary(max_size=60),
    st.lists(
        st.builds(
            message,
            st.sampled_from([*sorted(set(FRONTEND + BACKEND)), 0, 255]),
            st.binary(max_size=20),
            length=st.sampled_from([None] * 12 + [0, 3, 4, 9, 2**31, 2**32 - 1]),
        ),
        max_size=8,
    ).map(b"".join),
)


@given(STREAMS, st.sampled_from(sorted(DIRECTIONS)), st.lists(st.integers(1, 12), max_size=40))
def test_the_same_bytes_give_the_same_events_however_they_are_cut(data: bytes, which: str, chunks: list[int]) -> None:
    whole = events(wire_probe.scan_feed(which, data, max_body=64))
    assert events(wire_probe.scan_feed(which, data, repeat(1), max_body=64)) == whole
    assert events(wire_probe.scan_feed(which, data, chunks, max_body=64)) == whole
