"""HTTP towards anybody: what is answered, what is refused, and that nobody can hold it."""

from __future__ import annotations

import socket

import h11
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from pgpool_core.control.endpoint import (
    CONNECTIONS,
    REQUEST_MAX_LEN,
    REQUEST_S,
    Answer,
    Endpoint,
    open_endpoint,
    serve_one,
)
from pgpool_core.errors import ConfigError

GET = b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n"


async def page() -> Answer:
    await trio.lowlevel.checkpoint()
    return Answer(200, b"body\n", "text/x")


async def broken() -> Answer:
    raise RuntimeError("a bug")


ROUTES = {"/page": page, "/broken": broken}


async def ask(data: bytes, *, cut: int = 0) -> bytes:
    """Everything that comes back for `data`, sent in pieces of `cut` bytes; the sender has nothing more to say."""
    ours, theirs = memory_stream_pair()
    back = bytearray()

    async def read() -> None:
        async for part in ours:
            back.extend(part)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_one, theirs, ROUTES)
        nursery.start_soon(read)
        try:
            for at in range(0, len(data), cut or max(len(data), 1)):
                await ours.send_all(data[at : at + (cut or len(data))])
                if cut:
                    await wait_all_tasks_blocked()
            await ours.send_eof()
        except trio.BrokenResourceError:
            pass  # it has answered and closed
    return bytes(back)


def parsed(answer: bytes, method: str = "GET") -> tuple[int, dict[bytes, bytes], bytes]:
    http = h11.Connection(h11.CLIENT)
    http.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
    http.send(h11.EndOfMessage())
    http.receive_data(answer)
    response = http.next_event()
    assert isinstance(response, h11.Response)
    body = b""
    while isinstance(event := http.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    return response.status_code, dict(response.headers), body


async def test_a_page_is_answered_whole_and_the_connection_closed() -> None:
    status, headers, body = parsed(await ask(GET))
    assert (status, body) == (200, b"body\n")
    assert headers[b"content-type"] == b"text/x"
    assert headers[b"connection"] == b"close"


async def test_a_request_may_come_byte_by_byte() -> None:
    assert await ask(GET, cut=1) == await ask(GET)


async def test_a_question_mark_is_no_part_of_the_path() -> None:
    assert parsed(await ask(b"GET /page?name[]=x HTTP/1.1\r\nHost: x\r\n\r\n"))[0] == 200


async def test_head_has_no_body() -> None:
    status, headers, body = parsed(await ask(b"HEAD /page HTTP/1.0\r\n\r\n"), "HEAD")
    assert (status, headers[b"content-length"], body) == (200, b"5", b"")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"GET //page HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"GET http://x/page HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"POST /page HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 405),
        (b"GET /broken HTTP/1.1\r\nHost: x\r\n\r\n", 500),
        (b"GET /page HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"\x00\x00\x00\x08\x04\xd2\x16\x2f", 400),  # SSLRequest
        (b"GET /page HTTP/1.1\r\nHost: x\r\n" + b"A: " + b"a" * REQUEST_MAX_LEN, 431),
    ],
)
async def test_what_cannot_be_answered_has_a_status(request_bytes: bytes, status: int) -> None:
    data = request_bytes if status != 400 else request_bytes + b"\r\n\r\n"
    assert parsed(await ask(data))[0] == status


@given(st.binary(max_size=300))
def test_any_bytes_get_an_answer_or_the_end(data: bytes) -> None:
    async def run() -> None:
        with trio.fail_after(20):
            for text in (data, GET[: len(data) % 20] + data):
                answer = await ask(text)
                assert answer[:9] in (b"", b"HTTP/1.1 ")

    trio.run(run)


async def test_who_says_nothing_is_left_after_a_while(autojump_clock: trio.abc.Clock) -> None:
    ours, theirs = memory_stream_pair()
    await ours.send_all(GET[:10])
    began = trio.current_time()
    await serve_one(theirs, ROUTES)
    assert trio.current_time() - began == REQUEST_S
    assert await ours.receive_some() == b""


async def test_who_has_been_silent_for_longest_gives_way_where_there_are_too_many() -> None:
    sockets = await open_endpoint("127.0.0.1:0")
    place = sockets[0].getsockname()
    async with trio.open_nursery() as nursery:
        endpoint = Endpoint(nursery, ROUTES)
        endpoint.listen("127.0.0.1:0", sockets)
        silent = []
        for _ in range(CONNECTIONS):  # one after another, so that it is known who came first
            silent.append(await trio.open_tcp_stream(*place))
            await wait_all_tasks_blocked(0.001)
        late = await trio.open_tcp_stream(*place)
        with trio.fail_after(60):
            await late.send_all(GET)
            assert (await late.receive_some()).startswith(b"HTTP/1.1 200 ")
            assert await silent[0].receive_some() == b""
            await silent[1].send_all(GET)
            assert (await silent[1].receive_some()).startswith(b"HTTP/1.1 200 ")
        for stream in (*silent, late):
            await stream.aclose()
        endpoint.close()


async def test_who_waits_for_an_answer_does_not_give_way() -> None:
    """So there are no more than so many: who comes late waits."""
    go_on, all_there = trio.Event(), trio.Event()
    answering = 0

    async def slow() -> Answer:
        nonlocal answering
        answering += 1
        if answering == CONNECTIONS:
            all_there.set()
        await go_on.wait()
        return await page()

    sockets = await open_endpoint("127.0.0.1:0")
    place = sockets[0].getsockname()
    async with trio.open_nursery() as nursery:
        endpoint = Endpoint(nursery, {"/page": slow})
        endpoint.listen("127.0.0.1:0", sockets)
        asking = [await trio.open_tcp_stream(*place) for _ in range(CONNECTIONS)]
        for stream in asking:
            await stream.send_all(GET)
        with trio.fail_after(60):
            await all_there.wait()
        asking.append(await trio.open_tcp_stream(*place))
        await asking[-1].send_all(GET)
        await wait_all_tasks_blocked(0.01)
        assert len(nursery.child_tasks) == CONNECTIONS + 1
        go_on.set()
        with trio.fail_after(60):
            for stream in asking:
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")
                await stream.aclose()
        endpoint.close()


async def test_a_name_means_all_its_addresses_and_a_star_every_one() -> None:
    for text in ("localhost:0", "*:0", "[::1]:0"):
        try:
            sockets = await open_endpoint(text)
        except ConfigError:
            assert text == "[::1]:0"  # a machine without IPv6
            continue
        assert sockets
        for sock in sockets:
            sock.close()


async def test_a_place_that_is_taken_is_told_by_the_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=rf"cannot listen on {place}: .*\(metrics_listen\)"):
            await open_endpoint(place)
