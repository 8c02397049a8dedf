"""What is sent to a connection comes out whole and in order, whatever of it was left to a turn's end."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import given, settings
from hypothesis import strategies as st

from pgpool_core_probes.sends_probe import Sending

SIZES = st.one_of(st.integers(1, 300), st.integers(4_000, 20_000), st.just(65_536))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["write", "put"]), SIZES),
        st.tuples(st.just("put off"), st.booleans()),
        st.tuples(st.sampled_from(["settle", "flush"]), st.none()),
        st.tuples(st.just("read"), SIZES),
    ),
    max_size=30,
)


@contextmanager
def connection() -> Iterator[tuple[Sending, socket.socket]]:
    """The writing end, whose socket holds little, and the reading end."""
    near, far = socket.socketpair()
    with near, far:
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        near.setblocking(False)
        far.setblocking(False)
        yield Sending(near.fileno()), far


def read(far: socket.socket, most: int) -> bytes:
    try:
        return far.recv(most)
    except BlockingIOError:
        return b""


def rest_of(sending: Sending, far: socket.socket) -> bytes:
    """Everything that has not been read yet; the turns go on until nothing waits."""
    got = bytearray()
    while True:
        sending.settle()
        if sending.waits:
            sending.flush()
        piece = read(far, 1 << 20)
        if not piece and not sending.waits:
            return bytes(got)
        got += piece


@settings(max_examples=400)
@given(STEPS)
def test_order_is_kept(steps: list[tuple[str, int | bool | None]]) -> None:
    sent, got = bytearray(), bytearray()
    with connection() as (sending, far):
        for number, (step, value) in enumerate(steps):
            if step in {"write", "put"}:
                data = bytes([number % 251]) * int(value or 0)
                (sending.write if step == "write" else sending.put)(data)
                sent += data
            elif step == "put off":
                sending.put_off(bool(value))
            elif step == "settle":
                sending.settle()
            elif step == "flush" and sending.waits:
                sending.flush()
            elif step == "read":
                got += read(far, int(value or 0))
        sending.write(b"$")  # what was put goes ahead of it
        got += rest_of(sending, far)
    assert bytes(got) == bytes(sent) + b"$"


def test_a_turn_that_sends_at_once_does_not_overtake_what_was_left_to_its_end() -> None:
    with connection() as (sending, far):
        sending.put_off(True)
        sending.write(b"first ")
        sending.put_off(False)  # the turn has brought one event; then one connection is read again
        sending.write(b"second")
        assert rest_of(sending, far) == b"first second"


def test_what_waits_for_the_socket_is_not_pushed_past_the_poll_set() -> None:
    """Who is not read until the socket takes more hears of it from the poll set, and from nobody else."""
    with connection() as (sending, far):
        while not sending.waits:
            sending.write(b"x" * 4096)
        while read(far, 1 << 20):
            pass
        sending.push()
        assert sending.waits
        sending.flush()
        assert not sending.waits


def test_what_goes_ahead_of_the_next_bytes_can_be_pushed() -> None:
    with connection() as (sending, far):
        sending.put(b"settings")
        sending.push()
        assert read(far, 100) == b"settings"


def test_reading_one_connection_again_may_take_others_off_the_list() -> None:
    """A client that is sent away gives its server back, which may be further down the list."""
    with connection() as (sending, _):
        assert sending.read_again([1, 2, -3, 4, -5]) == [1, 2, 4]
        assert sending.read_again([-1, -2]) == [-1]
        assert sending.read_again([]) == []
