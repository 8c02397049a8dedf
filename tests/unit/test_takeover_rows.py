"""What PgBouncer says at -R, and what is made of it."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from pgpool_core.control.messages import message
from pgpool_core.control.standing import Ask
from pgpool_core.control.talk import NEED_DATA
from pgpool_core.errors import ServerProtocolError
from pgpool_core.moving.written import DOUBT_MOVED, ClientWritten, Peer, ServerWritten, read, write
from pgpool_core.process.rows import Reader
from pgpool_core_probes import moving_probe

READY = message(ord("Z"), b"I")


def columns(*names: str) -> bytes:
    body = b"".join(name.encode() + b"\0" + struct.pack("!IHIHIH", 0, 0, 25, 0xFFFF, 0xFFFFFFFF, 0) for name in names)
    return message(ord("T"), struct.pack("!H", len(names)) + body)


def row(*values: bytes | None) -> bytes:
    body = b"".join(b"\xff" * 4 if v is None else struct.pack("!I", len(v)) + v for v in values)
    return message(ord("D"), struct.pack("!H", len(values)) + body)


def done(tag: bytes) -> bytes:
    return message(ord("C"), tag + b"\0")


class TestRows:
    def setup_method(self) -> None:
        self.closed: list[int] = []
        self.reader = Reader(self.closed.append)

    def test_each_row_has_the_descriptor_that_came_with_it(self) -> None:
        """As the kernel gives it: the stretch ends with the message that the descriptor was sent with."""
        self.reader.receive(columns("fd", "task") + row(b"6", b"pooler"), [20])
        self.reader.receive(row(b"7", b"client"), [21])
        self.reader.receive(row(b"8", None) + done(b"SHOW") + READY, [])
        answer = self.reader.answer()
        assert answer is not None
        assert answer.rows == [
            ({"fd": "6", "task": "pooler"}, 20),
            ({"fd": "7", "task": "client"}, 21),
            ({"fd": "8"}, -1),
        ]
        assert self.reader.answer() is None
        self.reader.close()
        assert self.closed == []

    def test_a_row_in_two_pieces_keeps_the_descriptor_of_its_first_one(self) -> None:
        self.reader.receive(columns("fd"), [])
        data = row(b"6")
        self.reader.receive(data[:4], [20])
        assert self.reader.answer() is None
        self.reader.receive(data[4:] + READY, [])
        answer = self.reader.answer()
        assert answer is not None
        assert answer.rows == [({"fd": "6"}, 20)]

    def test_what_nobody_has_taken_is_closed(self) -> None:
        self.reader.receive(columns("fd") + row(b"6"), [20])
        assert self.reader.answer() is None
        self.reader.receive(row(b"7")[:3], [21])
        self.reader.close()
        assert self.closed == [21, 20]

    def test_a_password_that_is_asked_for_ends_the_answer(self) -> None:
        self.reader.receive(message(ord("R"), b"\0\0\0\x03"), [])
        answer = self.reader.answer()
        assert answer is not None
        assert answer.asks_password

    @pytest.mark.parametrize(
        ("data", "fds"),
        [
            (columns("fd"), [20]),
            (columns("fd") + row(b"6", b"7"), [20]),
            (columns("fd") + row(b"6"), [20, 21]),
            (row(b"6"), [20]),
            (b"T\0\0\0\x03", []),
            (message(ord("T"), b"\0\x02fd\0"), []),
            (columns("fd") + message(ord("D"), b"\0\1\0\0\0\x09x"), [20]),
            (message(ord("G"), b""), []),
            (b"D\x7f\xff\xff\xff", []),
        ],
    )
    def test_anything_else_is_refused_and_its_descriptors_are_closed(self, data: bytes, fds: list[int]) -> None:
        self.reader.receive(data, fds)
        with pytest.raises(ServerProtocolError):
            self.reader.answer()
        self.reader.close()
        assert sorted(self.closed) == fds


ANSWER = (
    done(b"DISCARD ALL")
    + READY
    + columns("a", "b")
    + row(b"?database", b"app")
    + row(b"?pid", b"4711")
    + row(b"DateStyle", b"ISO, MDY")
    + row(b"in_hot_standby", None)
    + done(b"SELECT 4")
    + READY
)


@pytest.mark.parametrize("size", [1, 7, len(ANSWER)])
def test_a_server_says_how_it_stands(size: int) -> None:
    ask = Ask()
    assert ask.data_to_send().startswith(b"Q\0\0\0\x10DISCARD ALL\0Q")
    for at in range(0, len(ANSWER), size):
        assert ask.next_event() is NEED_DATA
        ask.receive_data(ANSWER[at : at + size])
    said: Any = ask.next_event()
    assert (said.database, said.backend_pid, said.parameters) == (b"app", 4711, ((b"DateStyle", b"ISO, MDY"),))
    assert said.error is None


@pytest.mark.parametrize(
    "answer",
    [
        message(ord("Z"), b"T"),
        message(ord("G"), b"\0\0\0"),
        done(b"DISCARD ALL") + READY + row(b"one"),
        done(b"DISCARD ALL") + READY + message(ord("D"), b"\0\2\0\0\0\x01a\0\0\0\x05b"),
        b"S\0\0\0\1",
    ],
)
def test_a_server_that_is_not_idle_or_says_something_else_is_not_taken(answer: bytes) -> None:
    ask = Ask()
    ask.receive_data(answer)
    with pytest.raises(ServerProtocolError):
        ask.next_event()


CLIENT = ClientWritten(
    user="älfred".encode(),
    key=bytes(range(8)),
    peer=Peer(family=6, addr=bytes(range(16)), port=51932),
    connect_us=5,
    now_us=7,
    settings={b"TimeZone": b"UTC", b"DateStyle": b"ISO"},
    keeps=True,
)
SERVER = ServerWritten(
    host=b"127.0.0.1",
    port=5432,
    is_unix=False,
    backend_pid=4711,
    key=b"\1\2\3\4",
    now_us=7,
    settings={b"TimeZone": b"UTC"},
    doubt=DOUBT_MOVED,
)


def test_the_engine_understands_what_is_written_in_python() -> None:
    said = moving_probe.read(write(CLIENT, SERVER))
    assert said is not None
    assert (said["client"]["user"], said["client"]["key"], said["client"]["pins"]) == (CLIENT.user, CLIENT.key, 128)
    assert (said["client"]["family"], said["client"]["port"], said["client"]["connect_us"]) == (6, 51932, 5)
    assert said["settings"] == said["start"] == (b"DateStyle\0ISO\0TimeZone\0UTC\0", False)
    assert (said["server"]["host"], said["server"]["in_doubt"]) == (b"127.0.0.1", DOUBT_MOVED)
    assert said["stands"] == said["begun"] == (b"TimeZone\0UTC\0", False)


def test_what_the_engine_writes_is_read_in_python() -> None:
    found = read(write(CLIENT, None))
    assert (found.user, found.key, found.peer, found.settings) == (
        CLIENT.user,
        CLIENT.key,
        CLIENT.peer,
        CLIENT.settings,
    )
    found = read(write(None, SERVER))
    assert (found.host, found.port, found.key) == (b"127.0.0.1", 5432, struct.pack("!I", 4711) + SERVER.key)
