"""Opening server connections against scripted peers on loopback: hosts, timeouts, connect_query, cancel, logs."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from pgpool_core.control.cancel import send_cancel
from pgpool_core.control.connect import LoggedInServer, ServerTarget, log_in, open_server
from pgpool_core.control.connect_query import ConnectQuery, QueryDone
from pgpool_core.control.hosts import Address, HostOrder, place, resolve
from pgpool_core.control.server_login import LoginOk, ServerLogin
from pgpool_core.control.talk import NEED_DATA, AnswerCut
from pgpool_core.errors import ServerLoginRefused, ServerProtocolError, ServerUnavailable
from pgpool_core.policy.secrets import Secret

Script = Callable[[trio.SocketStream], Awaitable[None]]


def msg(code: str, body: bytes = b"") -> bytes:
    return code.encode() + struct.pack("!I", len(body) + 4) + body


def error(**fields: str) -> bytes:
    return msg("E", b"".join(k.encode() + v.encode() + b"\0" for k, v in fields.items()) + b"\0")


OK = msg("R", bytes(4)) + msg("S", b"TimeZone\0UTC\0") + msg("K", b"\0\0\0\7key!") + msg("Z", b"I")
STARTING_UP = error(S="FATAL", C="57P03", M="the database system is starting up")
REFUSED = error(S="FATAL", C="3D000", M='database "appdb" does not exist')


async def startup(stream: trio.SocketStream) -> bytes:
    """Read one startup-phase packet and give its body."""
    data = b""
    while len(data) < 4 or len(data) < int.from_bytes(data[:4], "big"):
        data += await stream.receive_some()
    return bytes(data[4:])


async def message(stream: trio.SocketStream) -> bytes:
    data = b""
    while len(data) < 5 or len(data) < 1 + int.from_bytes(data[1:5], "big"):
        more = await stream.receive_some()
        if not more:
            return data
        data += more
    return bytes(data)


def says(*answers: bytes) -> Script:
    """A server that reads a startup packet, says the first answer, then one more after each message."""

    async def script(stream: trio.SocketStream) -> None:
        await startup(stream)
        for answer in answers[:-1]:
            await stream.send_all(answer)
            await message(stream)
        await stream.send_all(answers[-1])
        with contextlib.suppress(trio.BrokenResourceError):
            while await stream.receive_some():
                pass

    return script


async def silence(_stream: trio.SocketStream) -> None:
    await trio.sleep_forever()


@contextlib.asynccontextmanager
async def serving(script: Script, *, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[int]:
    """Listen on loopback, run `script` for each connection, and give the port."""

    async def handler(stream: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            await script(stream)

    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(port, host=host)
        nursery.start_soon(trio.serve_listeners, handler, [listener])
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


def target(port: int, *hosts: str, **more: object) -> ServerTarget:
    values: dict[str, object] = {"dbname": "appdb", "user": "alice", "hosts": hosts or ("127.0.0.1",), "port": port}
    return ServerTarget(**{**values, **more})  # type: ignore[arg-type]


@pytest.fixture
def closed_port() -> int:
    """A port that is bound, so that nobody takes it, and not listened on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.trio
async def test_a_logged_in_server_comes_as_a_bare_descriptor() -> None:
    async with serving(says(OK + b"A\0\0")) as port:
        server = await open_server(target(port, tcp_keepidle=77, tcp_keepintvl=5, tcp_keepcnt=3), timeout_s=10)
    assert (server.host, server.port, server.is_unix) == ("127.0.0.1", port, False)
    assert (server.backend_pid, server.backend_key, server.unread) == (7, b"key!", b"A\0\0")
    assert server.parameters == [(b"TimeZone", b"UTC")]
    with socket.socket(fileno=server.detach()[0]) as bare:
        assert not os.get_blocking(bare.fileno())
        assert bare.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert bare.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert bare.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 77
        assert bare.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 5
        assert bare.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 3
    with pytest.raises(RuntimeError):
        server.detach()
    assert "key!" not in repr(server)


@pytest.mark.trio
async def test_keepalive_can_be_off() -> None:
    async with serving(says(OK)) as port:
        server = await open_server(target(port, tcp_keepalive=False, tcp_keepidle=77), timeout_s=10)
    with socket.socket(fileno=server.detach()[0]) as bare:
        assert not bare.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


@pytest.mark.trio
async def test_closing_an_unused_server_says_terminate() -> None:
    heard = trio.Event()

    async def script(stream: trio.SocketStream) -> None:
        await startup(stream)
        await stream.send_all(OK)
        assert await message(stream) == b"X\0\0\0\4"
        heard.set()

    async with serving(script) as port:
        server = await open_server(target(port), timeout_s=10)
        server.close()
        server.close()
        with trio.fail_after(10):
            await heard.wait()


@pytest.mark.parametrize("directory", ["path", "@abstract"])
@pytest.mark.trio
async def test_unix_sockets_are_found_by_directory_or_abstract_name(directory: str, tmp_path: Path) -> None:
    where = str(tmp_path) if directory == "path" else f"@pgpool-core-test-{os.getpid()}"
    name = f"{where}/.s.PGSQL.6543"
    listener = trio.socket.socket(socket.AF_UNIX)
    await listener.bind("\0" + name[1:] if name.startswith("@") else name)
    listener.listen()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, says(OK), [trio.SocketListener(listener)])
        server = await open_server(target(6543, where), timeout_s=10)
        nursery.cancel_scope.cancel()
    assert (server.host, server.port, server.is_unix) == (where, 6543, True)
    server.close()


@pytest.mark.trio
async def test_a_full_backlog_of_a_unix_socket_is_waited_out(tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / ".s.PGSQL.6543"))
    listener.listen(0)
    first = socket.socket(socket.AF_UNIX)
    first.connect(str(tmp_path / ".s.PGSQL.6543"))
    with pytest.raises(ServerUnavailable, match=r"no connection within 0\.2 s \(server_connect_timeout\)"):
        await open_server(target(6543, str(tmp_path)), timeout_s=0.2)
    async with trio.open_nursery() as nursery:
        opened: list[LoggedInServer] = []

        async def opens() -> None:
            opened.append(await open_server(target(6543, str(tmp_path)), timeout_s=10))
            nursery.cancel_scope.cancel()

        nursery.start_soon(opens)
        await trio.testing.wait_all_tasks_blocked(0.005)
        listener.setblocking(False)
        accepted = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
        nursery.start_soon(trio.serve_listeners, says(OK), [accepted])
    opened[0].close()
    first.close()


@pytest.mark.trio
async def test_a_refused_connection_names_host_port_and_reason(closed_port: int, tmp_path: Path) -> None:
    with pytest.raises(ServerUnavailable) as caught:
        await open_server(target(closed_port, "127.0.0.1", str(tmp_path)), timeout_s=10)
    assert str(caught.value) == (
        f"cannot connect to server at 127.0.0.1:{closed_port}: Connection refused; "
        f"{tmp_path}/.s.PGSQL.{closed_port}: No such file or directory"
    )
    assert caught.value.sqlstate == "08001"


@pytest.mark.parametrize("name", ["no-such-host.invalid", "a" * 64 + ".example", "bad\0name", "x" * 300])
@pytest.mark.trio
async def test_a_name_that_cannot_be_looked_up_is_reported_as_such(name: str) -> None:
    with pytest.raises(ServerUnavailable, match="server DNS lookup failed"):
        await open_server(target(5432, name), timeout_s=10)


@pytest.mark.trio
async def test_a_silent_server_runs_into_the_timeout() -> None:
    async with serving(silence) as port:
        with pytest.raises(ServerUnavailable) as caught:
            await open_server(target(port), timeout_s=0.1)
    assert str(caught.value) == (
        f"cannot connect to server at 127.0.0.1:{port}: no login within 0.1 s (server_connect_timeout)"
    )


@pytest.mark.trio
async def test_a_server_that_hangs_up_is_unavailable() -> None:
    async def script(stream: trio.SocketStream) -> None:
        await startup(stream)

    async with serving(script) as port:
        with pytest.raises(ServerUnavailable, match="closed the connection during login"):
            await open_server(target(port), timeout_s=10)


@pytest.mark.trio
async def test_a_refusal_carries_the_servers_own_words() -> None:
    async with serving(says(REFUSED)) as port:
        with pytest.raises(ServerLoginRefused) as caught:
            await open_server(target(port), timeout_s=10)
    refused = caught.value
    assert (refused.severity, refused.sqlstate, refused.raw) == ("FATAL", "3D000", REFUSED)
    assert refused.message == 'database "appdb" does not exist'
    assert str(refused) == f'server login failed at 127.0.0.1:{port}: FATAL database "appdb" does not exist'
    assert not refused.cannot_connect_now


@pytest.mark.trio
async def test_a_server_that_starts_up_gives_way_to_the_next_host() -> None:
    async with serving(says(STARTING_UP)) as port, serving(says(OK), host="127.0.0.2", port=port):
        server = await open_server(target(port, "127.0.0.1", "127.0.0.2"), timeout_s=10)
        assert server.host == "127.0.0.2"
        server.close()


@pytest.mark.trio
async def test_a_server_that_starts_up_and_is_alone_is_recognisable() -> None:
    async with serving(says(STARTING_UP)) as port:
        with pytest.raises(ServerLoginRefused) as caught:
            await open_server(target(port), timeout_s=10)
    assert caught.value.cannot_connect_now


@pytest.mark.trio
async def test_a_peer_that_is_no_postgresql_is_named() -> None:
    async with serving(says(b"SSH-2.0-OpenSSH_9.2p1\r\n")) as port:
        with pytest.raises(ServerProtocolError, match=f"server at 127.0.0.1:{port} broke the protocol"):
            await open_server(target(port), timeout_s=10)


@pytest.mark.trio
async def test_every_address_of_a_name_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    look_up = socket.getaddrinfo

    def two_addresses(host: str, port: int, *rest: int, **more: int) -> object:
        if host != "db.example":
            return look_up(host, port, *rest, **more)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in ("127.0.0.1", "127.0.0.2")]

    monkeypatch.setattr(socket, "getaddrinfo", two_addresses)
    async with serving(says(OK), host="127.0.0.2") as port:
        there = target(port, "db.example")
        for _ in range(3):
            server = await open_server(there, timeout_s=10)
            assert server.host == "127.0.0.2"
            server.close()


@pytest.fixture
def silent_resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A resolver that does not answer for names that end in `.example` until the test is over; what it has been asked."""
    look_up, over, asked = socket.getaddrinfo, threading.Event(), list[str]()

    def silent(host: str | bytes, port: int, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0) -> object:
        name = host.decode() if isinstance(host, bytes) else host
        if name.endswith(".example") and not flags & socket.AI_NUMERICHOST:
            asked.append(name)
            over.wait()
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        if name.endswith(".example"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return look_up(host, port, family, type, proto, flags)

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    yield asked
    over.set()


@pytest.mark.trio
async def test_a_resolver_that_is_silent_leaves_time_for_the_next_host(silent_resolver: list[str]) -> None:
    async with serving(says(OK)) as port:
        server = await open_server(target(port, "db.example", "127.0.0.1"), timeout_s=1)
        server.close()
    assert silent_resolver == ["db.example"]


@pytest.mark.trio
async def test_a_resolver_that_is_silent_keeps_no_thread_from_others(silent_resolver: list[str]) -> None:
    """Logins are decided in threads, and configurations read."""
    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(resolve, f"db{number}.example", 5432)
        await trio.testing.wait_all_tasks_blocked()
        assert silent_resolver
        with trio.fail_after(10):
            assert await trio.to_thread.run_sync(lambda: "done") == "done"
        nursery.cancel_scope.cancel()


@pytest.fixture
def stuck_dir(tmp_path: Path) -> Iterator[str]:
    """A socket directory whose server accepts nobody: its backlog is full."""
    path = str(tmp_path / ".s.PGSQL.6543")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(path)
        listener.listen(0)
        first.connect(path)
        yield str(tmp_path)


@pytest.mark.trio
async def test_a_host_that_does_not_answer_leaves_time_for_the_next(stuck_dir: str, tmp_path: Path) -> None:
    (tmp_path / "next").mkdir()
    listener = trio.socket.socket(socket.AF_UNIX)
    await listener.bind(str(tmp_path / "next" / ".s.PGSQL.6543"))
    listener.listen()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, says(OK), [trio.SocketListener(listener)])
        server = await open_server(target(6543, stuck_dir, str(tmp_path / "next")), timeout_s=1)
        nursery.cancel_scope.cancel()
    assert server.host == str(tmp_path / "next")
    server.close()


@pytest.mark.trio
async def test_the_last_host_may_use_all_the_time_that_is_left(stuck_dir: str) -> None:
    hosts = ("/nowhere/1", "/nowhere/2", stuck_dir)
    with pytest.raises(ServerUnavailable, match=r"2/.*No such file.*; .*: no connection within 0\.2 s"):
        await open_server(target(6543, *hosts), timeout_s=0.2)


@pytest.mark.filterwarnings("error::ResourceWarning")
@pytest.mark.trio
async def test_a_socket_is_closed_when_the_server_hangs_up_or_cannot_serve_now() -> None:
    async def script(stream: trio.SocketStream) -> None:
        await startup(stream)

    async with serving(script) as hanging_up, serving(says(STARTING_UP)) as starting_up:
        with pytest.raises(ServerUnavailable):
            await open_server(target(hanging_up), timeout_s=10)
        with pytest.raises(ServerLoginRefused):
            await open_server(target(starting_up), timeout_s=10)


@pytest.mark.trio
async def test_no_descriptor_is_left_behind_by_failures(closed_port: int) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    async with serving(says(REFUSED)) as refusing, serving(silence) as silent:
        before = None
        for _ in range(5):
            with pytest.raises(ServerLoginRefused):
                await open_server(target(refusing), timeout_s=10)
            with pytest.raises(ServerUnavailable):
                await open_server(target(closed_port), timeout_s=10)
            await trio.testing.wait_all_tasks_blocked(0.01)
            before = before or descriptors()
        assert descriptors() == before
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: open_server(target(silent), timeout_s=10))
                await trio.testing.wait_all_tasks_blocked(0.01)
                assert descriptors() > before
                scope.cancel()
        opened_by_peer = 1  # the silent server keeps its end
        assert descriptors() == before + opened_by_peer


def test_round_robin_begins_each_connection_at_the_next_host() -> None:
    order = HostOrder()
    assert [order.hosts("abc")[0] for _ in range(4)] == ["a", "b", "c", "a"]
    assert order.hosts("abc") == ["b", "c", "a"]


def test_disable_stays_with_a_host_until_it_fails() -> None:
    order = HostOrder("disable")
    assert [order.hosts("abc") for _ in range(2)] == [["a", "b", "c"]] * 2
    order.failed("b", "abc")
    assert order.hosts("abc")[0] == "a", "b was not the host in use"
    order.failed("a", "abc")
    assert order.hosts("abc") == ["b", "c", "a"]


def test_what_attempts_have_come_to_is_kept_for_each_host() -> None:
    order = HostOrder()
    assert order.states == {}
    order.failed("b", "abc", "connection refused")
    order.opened("a", "10.0.0.1")
    order.opened("a", "10.0.0.2")
    down, up = order.states["b"], order.states["a"]
    assert (down.up, down.error, down.failed, down.opened) == (False, "connection refused", 1, 0)
    assert (up.up, up.error, up.failed, up.opened, up.addresses) == (True, "", 0, 2, {"10.0.0.1", "10.0.0.2"})
    since = up.since_us
    order.refused("a", "28P01 no")
    assert (up.up, up.since_us, up.error, up.failed) == (True, since, "28P01 no", 1)
    order.opened("b", "10.0.0.3")
    assert (down.up, down.error) == (True, "connection refused"), "what was last wrong can still be read"
    assert down.since_us == down.tried_us


@pytest.mark.parametrize("mode", ["round-robin", "disable"])
def test_addresses_of_one_name_take_turns(mode: str) -> None:
    order = HostOrder(mode)
    assert [order.addresses("db", [1, 2])[0] for _ in range(3)] == [1, 2, 1]
    assert order.addresses("other", [1, 2]) == [1, 2]
    with pytest.raises(ValueError, match="load_balance_hosts"):
        HostOrder("random")


@pytest.mark.trio
async def test_addresses_are_given_in_a_form_that_resolves_again() -> None:
    for host, where in (("127.0.0.1", "127.0.0.1:5432"), ("::1", "[::1]:5432"), ("/run", "/run/.s.PGSQL.5432")):
        [address] = await resolve(host, 5432)
        assert (address.host, place(address.host, 5432)) == (host, where)


def test_a_target_needs_a_host_and_hides_its_secret() -> None:
    with pytest.raises(ValueError, match="hosts"):
        ServerTarget(hosts=(), dbname="a", user="b")
    shown = repr(target(1, secret=Secret.parse(b"hunter2"), connect_query="SELECT 'hunter2'"))
    assert "hunter2" not in shown


# -- connect_query ---------------------------------------------------------------------------------------------------


DONE = msg("C", b"SET\0") + msg("Z", b"I")


def feed(query: ConnectQuery, chunks: list[bytes]) -> object:
    for chunk in chunks:
        query.receive_data(chunk)
        event = query.next_event()
        if event is not NEED_DATA:
            return event
    return NEED_DATA


def test_rows_of_any_size_are_thrown_away() -> None:
    query = ConnectQuery(b"SELECT 1")
    assert query.data_to_send() == msg("Q", b"SELECT 1\0")
    assert feed(query, [msg("T", b"\0\0") + b"D\x40\x00\x00\x00"]) is NEED_DATA
    for _ in range(1023):
        assert feed(query, [bytes(1 << 20)]) is NEED_DATA
    assert feed(query, [bytes((1 << 20) - 4) + DONE + b"tail"]) == QueryDone(False, None, (), b"tail")


def test_changed_parameters_and_the_first_error_are_kept() -> None:
    query = ConnectQuery(b"SET TimeZone = 'x'; oops", unread=msg("S", b"a\0b\0"))
    first, second = error(S="ERROR", C="42601", M="syntax"), error(S="ERROR", C="25P02", M="aborted")
    done = feed(query, [msg("S", b"TimeZone\0x\0") + msg("N", b"\0") + first + second + msg("Z", b"E")])
    assert isinstance(done, QueryDone)
    assert done.in_transaction
    assert done.error is not None
    assert done.error.sqlstate == "42601"
    assert done.parameters == ((b"a", b"b"), (b"TimeZone", b"x"))


def test_copy_from_stdin_is_declined() -> None:
    query = ConnectQuery(b"COPY t FROM STDIN")
    query.data_to_send()
    assert feed(query, [msg("G", b"\0\0\0")]) is NEED_DATA
    assert query.data_to_send().startswith(b"f\0\0\0")


@pytest.mark.parametrize(
    "said", [msg("R", bytes(4)), msg("K", bytes(8)), msg("W"), b"D\0\0\0\3", b"Z\0\1\0\5", b"D\x80\0\0\0", b"SSH-2.0"]
)
def test_what_may_not_answer_a_query_is_a_protocol_error_that_sticks(said: bytes) -> None:
    query = ConnectQuery(b"SELECT 1")
    for _ in range(2):
        with pytest.raises(ServerProtocolError):
            feed(query, [said])
    with pytest.raises(ValueError, match="zero byte"):
        ConnectQuery(b"SELECT\0")


@given(st.lists(st.one_of(st.binary(min_size=1, max_size=20), st.sampled_from([DONE, OK, REFUSED])), max_size=5))
def test_any_answer_gives_a_verdict_or_a_protocol_error_however_it_is_cut(chunks: list[bytes]) -> None:
    def outcome(pieces: list[bytes]) -> object:
        try:
            event = feed(ConnectQuery(b"SELECT 1"), [*pieces, b""])
        except ServerProtocolError as problem:
            return str(problem)
        assert isinstance(event, QueryDone | AnswerCut)
        return (event.error, event.parameters if isinstance(event, QueryDone) else None)

    whole = b"".join(chunks)
    assert outcome([whole] if whole else []) == outcome([bytes([byte]) for byte in whole])


@pytest.mark.trio
async def test_connect_query_runs_before_the_handoff_and_its_parameters_count() -> None:
    async with serving(says(OK, msg("S", b"TimeZone\0Asia/Tokyo\0") + msg("S", b"a\0b\0") + DONE)) as port:
        server = await open_server(target(port, connect_query="SET TimeZone = 'Asia/Tokyo'"), timeout_s=10)
    assert server.parameters == [(b"TimeZone", b"Asia/Tokyo"), (b"a", b"b")]
    server.close()


@pytest.mark.trio
async def test_an_error_of_connect_query_is_logged_without_its_text_and_ignored(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failed = error(S="ERROR", C="22P02", M='invalid input syntax for type integer: "hunter2"') + msg("Z", b"I")
    with caplog.at_level(logging.DEBUG):
        async with serving(says(OK, failed)) as port:
            server = await open_server(target(port, connect_query="SELECT 'hunter2'::int"), timeout_s=10)
    server.close()
    assert f"appdb/alice@127.0.0.1:{port} connect_query failed, ignored (connect_query) sqlstate=22P02" in caplog.text
    assert "hunter2" not in caplog.text


@pytest.mark.trio
async def test_a_transaction_that_connect_query_leaves_open_is_rolled_back(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[bytes] = []

    async def script(stream: trio.SocketStream) -> None:
        await startup(stream)
        await stream.send_all(OK)
        heard.append(await message(stream))
        await stream.send_all(msg("C", b"BEGIN\0") + msg("Z", b"T"))
        heard.append(await message(stream))
        await stream.send_all(msg("C", b"ROLLBACK\0") + msg("Z", b"I"))

    async with serving(script) as port:
        server = await open_server(target(port, connect_query="BEGIN"), timeout_s=10)
    server.close()
    assert heard == [msg("Q", b"BEGIN\0"), msg("Q", b"ROLLBACK\0")]
    assert "left a transaction open" in caplog.text


@pytest.mark.trio
async def test_a_server_that_leaves_during_connect_query_is_unavailable() -> None:
    async def script(stream: trio.SocketStream) -> None:
        await startup(stream)
        await stream.send_all(OK)
        await message(stream)

    async with serving(script) as port:
        with pytest.raises(ServerUnavailable, match=r"closed the connection \(connect_query\)"):
            await open_server(target(port, connect_query="SELECT pg_terminate_backend(1)"), timeout_s=10)


@pytest.mark.trio
async def test_a_connect_query_without_end_runs_into_the_timeout() -> None:
    async with serving(says(OK)) as port:
        with pytest.raises(
            ServerUnavailable, match=r"connect_query did not end within 0\.1 s \(server_connect_timeout\)"
        ):
            await open_server(target(port, connect_query="SELECT pg_sleep(60)"), timeout_s=0.1)


@pytest.mark.trio
async def test_a_notice_at_login_is_logged_on_one_line(caplog: pytest.LogCaptureFixture) -> None:
    notice = msg("N", b"SWARNING\0C01000\0Mold collation\nERROR forged line\0\0")
    with caplog.at_level(logging.INFO):
        async with serving(says(notice + OK)) as port:
            (await open_server(target(port), timeout_s=10)).close()
    assert "old collation\\x0aERROR forged line" in caplog.text


@pytest.mark.trio
async def test_a_login_runs_over_any_stream_and_byte_by_byte() -> None:
    ours, theirs = trio.testing.lockstep_stream_pair()
    verdicts: list[object] = []

    async def drive() -> None:
        login = ServerLogin(user=b"alice", dbname=b"appdb")
        verdicts.append(await log_in(ours, login, b"alice", None, "tag"))

    async def serve() -> None:
        await theirs.receive_some()
        for byte in OK:
            await theirs.send_all(bytes([byte]))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(drive)
        nursery.start_soon(serve)
    assert verdicts == [LoginOk(7, b"key!", ((b"TimeZone", b"UTC"),), b"")]


# -- cancel ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [b"key!", b"k" * 32])
@pytest.mark.trio
async def test_a_cancel_request_is_over_when_the_server_hangs_up(key: bytes) -> None:
    bodies: list[bytes] = []
    may_close, over = trio.Event(), trio.Event()

    async def script(stream: trio.SocketStream) -> None:
        bodies.append(await startup(stream))
        await may_close.wait()
        await stream.aclose()

    async with serving(script) as port, trio.open_nursery() as nursery:

        async def cancels() -> None:
            await send_cancel(host="127.0.0.1", port=port, backend_pid=7, backend_key=key, timeout_s=10)
            over.set()

        nursery.start_soon(cancels)
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert bodies == [struct.pack("!II", 80877102, 7) + key]
        assert not over.is_set()
        may_close.set()
        with trio.fail_after(10):
            await over.wait()


@pytest.mark.trio
async def test_an_address_that_does_not_answer_leaves_a_cancel_request_time_for_the_next(
    stuck_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies: list[bytes] = []

    async def script(stream: trio.SocketStream) -> None:
        bodies.append(await startup(stream))

    async with serving(script) as port:
        addresses = [*await resolve(stuck_dir, 6543), *await resolve("127.0.0.1", port)]

        async def both(host: str, port: int) -> list[Address]:
            return addresses

        monkeypatch.setattr("pgpool_core.control.cancel.resolve", both)
        await send_cancel(host="peer", port=port, backend_pid=7, backend_key=b"key!", timeout_s=1)
    assert bodies == [struct.pack("!II", 80877102, 7) + b"key!"]


@pytest.mark.trio
async def test_a_cancel_request_that_nobody_takes_is_reported(closed_port: int) -> None:
    key = b"key!"
    with pytest.raises(ServerUnavailable, match="Connection refused"):
        await send_cancel(host="127.0.0.1", port=closed_port, backend_pid=7, backend_key=key, timeout_s=10)
    async with serving(silence) as port:
        with pytest.raises(ServerUnavailable, match=r"within 0\.1 s \(server_connect_timeout\)"):
            await send_cancel(host="127.0.0.1", port=port, backend_pid=7, backend_key=key, timeout_s=0.1)
