"""The clock and the messages that other tests trust."""

from __future__ import annotations

import pytest
import trio

from pgpool_core.testing import (
    ManualClock,
    Message,
    Messages,
    PeerMismatch,
    ScriptedPeer,
    backend,
    connect_peer,
    frontend,
    open_scripted_server,
)
from pgpool_core.testing.messages import parse_startup


def test_a_manual_clock_moves_when_told_and_never_back() -> None:
    clock = ManualClock(5)
    assert clock() == clock.now_us == 5
    assert clock.advance(1.5, us=2) == 1_500_007
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance_to(1_500_006)
    assert clock.seconds == 1.500007


def test_messages_are_cut_at_the_same_places_whole_and_byte_by_byte() -> None:
    stream = backend.row_description("a") + backend.data_row(b"1", None) + backend.ready(b"T")
    whole = Messages().feed(stream)
    cutter = Messages()
    assert [one for at in range(len(stream)) for one in cutter.feed(stream[at : at + 1])] == whole
    assert [one.type for one in whole] == [b"T", b"D", b"Z"]
    assert whole[1].values == [b"1", None]
    assert b"".join(map(bytes, whole)) == stream


def test_a_startup_packet_reads_as_it_was_written() -> None:
    startup = parse_startup(frontend.startup("ann", "app", client_encoding="UTF8")[4:])
    assert startup.code == 0x30000
    assert startup.parameters == {"user": "ann", "database": "app", "client_encoding": "UTF8"}


def test_an_error_shows_its_fields() -> None:
    (error,) = Messages().feed(backend.error("53300", "too many", severity="FATAL", D="why"))
    assert error.fields == {"S": "FATAL", "V": "FATAL", "C": "53300", "M": "too many", "D": "why"}


async def _pair(server_patience_s: float = 5.0) -> tuple[ScriptedPeer, ScriptedPeer]:
    async with open_scripted_server() as listening:
        client = await connect_peer((listening.host, listening.port), patience_s=server_patience_s)
        return client, await listening.accept(patience_s=server_patience_s)


async def test_two_peers_log_in_to_each_other() -> None:
    client, server = await _pair()
    async with client, server:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.log_in, "ann", "app")
            assert (await server.accept_login(pid=7, key=b"abcd")).parameters["user"] == "ann"
        assert (client.pid, client.key, client.parameters["TimeZone"]) == (7, b"abcd", "UTC")


async def test_a_peer_says_what_came_instead() -> None:
    client, server = await _pair()
    async with client, server:
        await server.send(backend.notice("mind the gap"), backend.ready())
        with pytest.raises(PeerMismatch, match=r"expected 'Z'.*mind the gap"):
            await client.expect("Z")
        await client.expect("Z")
        await client.expect_silence()


async def test_silence_is_not_claimed_when_something_came() -> None:
    client, server = await _pair()
    async with client, server:
        await server.send(Message(b"1"), Message(b"2"))
        await client.expect("1")
        with pytest.raises(PeerMismatch, match="expected silence"):
            await client.expect_silence()


async def test_a_peer_that_waits_in_vain_says_so() -> None:
    client, server = await _pair(server_patience_s=0.01)
    async with client, server:
        with pytest.raises(PeerMismatch, match=r"nothing for 0\.01 s"):
            await client.receive()


@pytest.mark.parametrize("how", ["cut", "aclose"])
async def test_an_end_is_an_end_whether_polite_or_not(how: str) -> None:
    client, server = await _pair()
    async with client, server:
        await getattr(server, how)()
        await client.expect_end()


async def test_an_end_inside_a_message_is_no_clean_end() -> None:
    client, server = await _pair()
    async with client, server:
        await server.send(backend.ready()[:3])
        await server.half_close()
        with pytest.raises(PeerMismatch, match="inside a message"):
            await client.expect_end()
