"""Logging in to a real PostgreSQL with every method it has, its refusals, connect_query and cancel."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
from base64 import b64encode
from collections.abc import Iterator

import pytest
import trio

from pgpool_core.control.cancel import send_cancel
from pgpool_core.control.connect import LoggedInServer, ServerTarget, open_server
from pgpool_core.control.messages import message
from pgpool_core.errors import ServerLoginRefused, ServerUnavailable
from pgpool_core.policy.scram import derive_keys
from pgpool_core.policy.secrets import Secret
from pgpool_core.testing.postgres import PostgresServer, PostgresUser
from tests.watching import until

PASSWORDS = {
    "by_scram": "correct horse",
    "by_md5": "battery",
    "by_password": "staple",
    "by_trust": "",
    "one_round": "pencil",
    "roman": "\u2168\u00ad\u200b\u00a0",  # SASLprep changes it
    "emoji": "\U0001f511 key",  # SASLprep refuses it: raw bytes
    "quoted": 'it\'s \\ "fine"',
}
METHODS = {"by_md5": "md5", "by_password": "password", "by_trust": "trust"}


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    users = [
        PostgresUser(name=name, password=password, method=METHODS.get(name, "scram-sha-256"))  # type: ignore[arg-type]
        for name, password in PASSWORDS.items()
    ]
    with PostgresServer(users=users, databases=["appdb"]) as server:
        keys = derive_keys(b"pencil", b"salt", 1)  # PostgreSQL takes a finished secret with any number of rounds
        rounds = b"SCRAM-SHA-256$1:%s$%s:%s" % tuple(map(b64encode, (b"salt", keys.stored_key, keys.server_key)))
        server.sql(f"alter role one_round password '{rounds.decode()}'; alter role by_trust connection limit 1")
        yield server


pytestmark = pytest.mark.postgres


@pytest.fixture(autouse=True)
def _nobody_is_connected(postgres: PostgresServer) -> None:
    """The backend of the last test may still be on its way out, and some users have one connection only."""
    until(lambda: postgres.backends() == 0)


def target(postgres: PostgresServer, user: str, **more: object) -> ServerTarget:
    values: dict[str, object] = {
        "hosts": (postgres.host,),
        "port": postgres.port,
        "dbname": "appdb",
        "user": user,
        "secret": Secret.parse(PASSWORDS[user].encode()),
    }
    return ServerTarget(**{**values, **more})  # type: ignore[arg-type]


@contextlib.contextmanager
def detached(server: LoggedInServer) -> Iterator[socket.socket]:
    with socket.socket(fileno=server.detach()[0]) as bare:
        bare.setblocking(False)
        yield bare


def read_until(bare: socket.socket, code: bytes) -> bytes:
    """Bytes up to and including the first message `code`, waiting at most 10 s."""
    data, at = b"", 0
    while True:
        while len(data) >= at + 5 and len(data) >= at + 1 + (length := struct.unpack_from("!I", data, at + 1)[0]):
            found, at = data[at : at + 1], at + 1 + length
            if found == code:
                return data[:at]
        assert select.select([bare], [], [], 10)[0], "no answer within 10 s"
        more = bare.recv(65536)
        assert more, "the server hung up"
        data += more


def ask(bare: socket.socket, sql: str) -> bytes:
    bare.send(message(0x51, sql.encode() + b"\0"))
    return read_until(bare, b"Z")


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
@pytest.mark.parametrize("user", PASSWORDS)
@pytest.mark.trio
async def test_every_method_logs_in_and_the_descriptor_answers_queries(
    postgres: PostgresServer, user: str, unix: bool
) -> None:
    hosts = (str(postgres.socket_dir),) if unix else (postgres.host,)
    server = await open_server(target(postgres, user, hosts=hosts), timeout_s=10)
    parameters = dict(server.parameters)
    assert parameters[b"session_authorization"] == user.encode()
    assert parameters[b"server_version"].startswith(postgres.sql("show server_version").split()[0].encode())
    assert (server.host, server.is_unix, server.unread, len(server.backend_key)) == (hosts[0], unix, b"", 4)
    with detached(server) as bare:
        assert str(server.backend_pid).encode() in ask(bare, "select pg_backend_pid()")


@pytest.mark.trio
async def test_an_md5_secret_serves_md5_and_is_refused_for_scram(postgres: PostgresServer) -> None:
    stored = Secret.parse(postgres.sql("select rolpassword from pg_authid where rolname = 'by_md5'").encode())
    (await open_server(target(postgres, "by_md5", secret=stored), timeout_s=10)).close()
    with pytest.raises(ServerLoginRefused, match="wrong password type"):
        await open_server(target(postgres, "by_scram", secret=stored), timeout_s=10)


@pytest.mark.parametrize(
    ("changes", "sqlstate", "text"),
    [
        ({"secret": Secret.parse(b"wrong")}, "28P01", 'password authentication failed for user "by_scram"'),
        ({"dbname": "nowhere"}, "3D000", 'database "nowhere" does not exist'),
        ({"secret": None}, "28000", "no password supplied"),
        ({"parameters": [("client_encoding", "KLINGON")]}, "22023", "invalid value for parameter"),
        ({"parameters": [("no_such_setting", "1")]}, "42704", "unrecognized configuration parameter"),
    ],
)
@pytest.mark.trio
async def test_a_refusal_comes_with_the_servers_sqlstate_and_bytes(
    postgres: PostgresServer, changes: dict[str, object], sqlstate: str, text: str
) -> None:
    with pytest.raises(ServerLoginRefused) as caught:
        await open_server(target(postgres, "by_scram", **changes), timeout_s=10)
    assert caught.value.sqlstate == sqlstate
    assert text in caught.value.message
    assert caught.value.raw[:1] == b"E"
    assert sqlstate.encode() in caught.value.raw
    assert "wrong" not in str(caught.value)


@pytest.mark.trio
async def test_wrong_passwords_of_all_methods_are_refused_alike(postgres: PostgresServer) -> None:
    for user in ("by_md5", "by_password", "one_round", "emoji"):
        with pytest.raises(ServerLoginRefused) as caught:
            await open_server(target(postgres, user, secret=Secret.parse(b"wrong")), timeout_s=10)
        assert caught.value.sqlstate == "28P01"


@pytest.mark.trio
async def test_a_connection_limit_is_passed_on(postgres: PostgresServer) -> None:
    first = await open_server(target(postgres, "by_trust"), timeout_s=10)
    with pytest.raises(ServerLoginRefused) as caught:
        await open_server(target(postgres, "by_trust"), timeout_s=10)
    first.close()
    assert caught.value.sqlstate == "53300"


@pytest.mark.trio
async def test_parameters_of_the_entry_and_of_connect_query_are_reported(postgres: PostgresServer) -> None:
    wanted = [
        ("client_encoding", "LATIN1"),
        ("DateStyle", "German"),
        ("TimeZone", "Asia/Tokyo"),
        ("application_name", "x"),
    ]
    query = "set application_name = 'b\u00e4r'; set datestyle = 'SQL'; "
    query += "select repeat('x', 1000) from generate_series(1, 5000)"
    there = target(postgres, "by_scram", parameters=wanted, connect_query=query.encode("latin-1"))
    server = await open_server(there, timeout_s=10)
    server.close()
    parameters = dict(server.parameters)
    assert parameters[b"client_encoding"] == b"LATIN1"
    assert parameters[b"TimeZone"] == b"Asia/Tokyo"
    assert parameters[b"DateStyle"].startswith(b"SQL")
    assert parameters[b"application_name"] != b"x"


@pytest.mark.parametrize("query", ["oops", "select 1/0", "copy pg_temp.t from stdin", "copy (select 1) to stdout", ";"])
@pytest.mark.trio
async def test_whatever_connect_query_does_the_server_comes_out_idle(postgres: PostgresServer, query: str) -> None:
    query = query.replace("copy pg_temp", "create temp table t (n int); copy pg_temp")
    server = await open_server(target(postgres, "by_scram", connect_query=query), timeout_s=10)
    with detached(server) as bare:
        assert ask(bare, "select 1").endswith(b"Z\0\0\0\5I")


@pytest.mark.trio
async def test_a_transaction_left_open_by_connect_query_is_rolled_back(postgres: PostgresServer) -> None:
    for query in ("begin", "begin; select 1/0"):
        server = await open_server(target(postgres, "by_scram", connect_query=query), timeout_s=10)
        with detached(server) as bare:
            assert ask(bare, "select 1").endswith(b"Z\0\0\0\5I")


@pytest.mark.trio
async def test_a_connect_query_that_takes_too_long_leaves_no_backend_behind(postgres: PostgresServer) -> None:
    with pytest.raises(ServerUnavailable, match="connect_query did not end within 2 s"):
        await open_server(target(postgres, "by_scram", connect_query="select pg_sleep(600)"), timeout_s=2)
    assert postgres.backends() == 0


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
@pytest.mark.trio
async def test_a_cancel_request_ends_the_query_it_names(postgres: PostgresServer, unix: bool) -> None:
    hosts = (str(postgres.socket_dir),) if unix else (postgres.host,)
    server = await open_server(target(postgres, "by_scram", hosts=hosts), timeout_s=10)
    with detached(server) as bare:
        bare.send(message(0x51, b"select 1; select pg_sleep(60)\0"))
        running = f"select 1 from pg_stat_activity where pid = {server.backend_pid} and wait_event = 'PgSleep'"
        with trio.fail_after(10):
            while not await trio.to_thread.run_sync(postgres.sql, running):
                pass
        await send_cancel(
            host=server.host,
            port=server.port,
            backend_pid=server.backend_pid,
            backend_key=server.backend_key,
            timeout_s=10,
        )
        assert b"C57014\0" in await trio.to_thread.run_sync(read_until, bare, b"Z")


@pytest.mark.trio
async def test_a_stopped_server_runs_into_the_timeout_and_a_dead_one_is_refused_at_once(
    postgres: PostgresServer,
) -> None:
    await trio.to_thread.run_sync(postgres.pause)
    try:
        with pytest.raises(ServerUnavailable, match=r"no login within 0\.2 s \(server_connect_timeout\)"):
            await open_server(target(postgres, "by_scram"), timeout_s=0.2)
    finally:
        await trio.to_thread.run_sync(postgres.resume)
    await trio.to_thread.run_sync(postgres.stop)
    try:
        with pytest.raises(ServerUnavailable, match="Connection refused"):
            await open_server(target(postgres, "by_scram"), timeout_s=10)
    finally:
        await trio.to_thread.run_sync(postgres.start)
    (await open_server(target(postgres, "by_scram"), timeout_s=10)).close()


@pytest.mark.trio
async def test_many_logins_at_once_each_get_a_backend_of_their_own(postgres: PostgresServer) -> None:
    opened: list[LoggedInServer] = []

    async def opens() -> None:
        opened.append(await open_server(target(postgres, "by_scram"), timeout_s=30))

    async with trio.open_nursery() as nursery:
        for _ in range(30):
            nursery.start_soon(opens)
    assert len({server.backend_pid for server in opened}) == 30
    for server in opened:
        server.close()
