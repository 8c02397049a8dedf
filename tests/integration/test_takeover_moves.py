"""-R with the clients and servers that are there: each moves when it is at rest, with all that belongs to it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from signal import SIGALRM, SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGTERM, Signals

import psycopg
import pytest
import trio

from pgpool_core.control.arrivals import Parcel, PoolFacts
from pgpool_core.process.packets import VERSION, ParcelTold, Reader, answer, answered, parcel_packets, pool_packet
from pgpool_core.process.takeover import HELLO, UP_MOVES, YOURS
from pgpool_core.testing import Message, PoolerProcess, PostgresServer, ScriptedPeer, frontend
from pgpool_core_probes import moving_probe
from tests.certificates import Authority
from tests.conftest import PASSWORDS, PoolerFactory
from tests.console import Console
from tests.integration.test_takeover import cancel_once_it_sleeps
from tests.peers import letters, logged_in, values
from tests.unit.test_moving_parcel import ALONE
from tests.watching import until, until_async

STEPS = """\\set a random(1, 1000)
begin;
select :a;
\\sleep 1 ms
select :a + 1;
end;
\\sleep 1 ms
select :a;
"""


def client_of(process: PoolerProcess, **options: object) -> psycopg.Connection:
    return psycopg.connect(process.url("app", "app"), autocommit=True, **options)  # type: ignore[arg-type]


def pid_of(client: psycopg.Connection) -> int:
    row = client.execute("select pg_backend_pid()", prepare=False).fetchone()
    assert row is not None
    return int(row[0])


def taken(process: PoolerProcess) -> tuple[int, int]:
    """Clients and servers that have come from the process before, once that has ended."""
    found = process.wait_for_log(r"LOG connections taken over clients=(\d+) servers=(\d+)")
    return int(found[1]), int(found[2])


@contextmanager
def pgbench(postgres: PostgresServer, process: PoolerProcess, folder: Path, *options: str) -> Iterator[None]:
    """Six clients of pgbench at work, until the block ends: SIGALRM tells pgbench, as its own alarm would, that its time (-T) is over.

    Nothing has failed until then.
    """
    (folder / "steps.sql").write_text(STEPS)
    command = [
        *(str(postgres.binaries.program("pgbench")), "-n", "-c", "6", "-j", "6", "-T", "3600"),
        *("-f", str(folder / "steps.sql"), *options, process.url("app", "app")),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        try:
            yield
            running.send_signal(SIGALRM)
            said, complaints = running.communicate(timeout=120)
        finally:
            running.kill()
    assert running.returncode == 0, complaints
    assert "number of failed transactions: 0" in said
    assert "error" not in complaints


def queries(process: PoolerProcess) -> int:
    with Console(process) as console:
        return sum(int(row["total_query_count"]) for row in console.rows("SHOW STATS") if row["database"] == "app")


def go_on(process: PoolerProcess) -> None:
    """Wait until clients of `app` have asked more."""
    before = queries(process)
    until(lambda: queries(process) > before + 6, patience_s=60)


@pytest.mark.parametrize(
    ("mode", "pool_mode", "workers", "backend", "times"),
    [
        ("prepared", "transaction", 2, "auto", 1),
        pytest.param("simple", "transaction", 1, "auto", 2, marks=pytest.mark.slow),
        pytest.param("prepared", "transaction", 1, "epoll", 2, marks=pytest.mark.slow),
        pytest.param("prepared", "transaction", 2, "auto", 2, marks=pytest.mark.slow),
        pytest.param("prepared", "session", 2, "epoll", 2, marks=pytest.mark.slow),
    ],
)
def test_under_load_everybody_moves_and_no_client_sees_an_error(
    pooler: PoolerFactory,
    postgres: PostgresServer,
    tmp_path: Path,
    mode: str,
    pool_mode: str,
    workers: int,
    backend: str,
    times: int,
) -> None:
    """Six busy clients, on fewer servers where the pool mode allows it, and two that think, through takeovers."""
    size = 3 if pool_mode == "transaction" else 8
    process = pooler(pool_mode=pool_mode, workers=workers, io_backend=backend, default_pool_size=size)
    with client_of(process) as idle, client_of(process, prepare_threshold=0) as prepared:
        idle.execute("set application_name = 'thinker'")
        prepared.execute("select %s::int", (1,))
        with pgbench(postgres, process, tmp_path, "-M", mode):
            go_on(process)
            for _ in range(times):
                old = process.replace()
                assert old.wait(60) == 0
                clients, servers = taken(process)
                assert clients == 8
                assert servers <= size
                go_on(process)
        assert idle.execute("show application_name").fetchone() == ("thinker",)
        assert prepared.execute("select %s::int", (2,)).fetchone() == (2,)


def test_settings_and_prepared_statements_come_along_and_so_do_their_servers(pooler: PoolerFactory) -> None:
    process = pooler(default_pool_size=1)
    with client_of(process, prepare_threshold=0) as one, client_of(process, prepare_threshold=0) as other:
        one.execute("set search_path = 'elsewhere'", prepare=False)
        one.execute("set app.tenant = 'äpfel'", prepare=False)
        one.execute("select %s::int + 1", (1,))
        other.execute("select %s::int + 1", (1,))
        server = pid_of(other)
        old = process.replace()
        assert old.wait() == 0
        assert taken(process) == (2, 1)
        assert one.execute("select %s::int + 1", (2,)).fetchone() == (3,)
        assert one.execute("show search_path", prepare=False).fetchone() == ("elsewhere",)
        assert one.execute("show app.tenant", prepare=False).fetchone() == ("äpfel",)
        assert other.execute("select %s::int + 1", (3,)).fetchone() == (4,)
        assert other.execute("show search_path", prepare=False).fetchone() != ("elsewhere",)
        assert pid_of(one) == pid_of(other) == server
        with Console(process) as console:
            stats = next(row for row in console.rows("SHOW STATS") if row["database"] == "app")
            assert stats["total_server_parse_count"] <= stats["total_query_count"]
            assert [row["prepared_statements"] for row in console.rows("SHOW CLIENTS") if row["database"] == "app"] == [
                1,
                1,
            ]


async def ask(client: ScriptedPeer, *parts: bytes) -> list[Message]:
    """Send a group, and receive its answer."""
    await client.send(*parts, frontend.sync())
    return await client.until("Z")


def use(name: str, *given: str) -> bytes:
    return frontend.bind(name, values=given) + frontend.execute()


async def test_the_server_that_comes_has_its_statements(pooler: PoolerFactory) -> None:
    """A text that both processes know under different numbers, and one that only the old one knew."""
    process = pooler(default_pool_size=1)
    async with logged_in(process) as client:
        await ask(client, frontend.parse("select $1::int", "mine"))
        old = await trio.to_thread.run_sync(process.replace)
        assert await trio.to_thread.run_sync(old.wait) == 0
        async with logged_in(process) as fresh:
            await ask(fresh, frontend.parse("select $1::int + 1", "mine"))
            assert values(await ask(fresh, use("mine", "7"))) == [[b"8"]]
        assert values(await ask(client, use("mine", "7"))) == [[b"7"]]


def test_the_states_of_hosts_come_along(pooler: PoolerFactory) -> None:
    process = pooler()
    with client_of(process) as client:
        client.execute("select 1")
        with Console(process) as console:
            (before,) = (row for row in console.rows("SHOW HOSTS") if row["database"] == "app")
        assert before["state"] == "up"
        assert process.replace().wait() == 0
        assert taken(process) == (1, 1)
        with Console(process) as console:
            (after,) = (row for row in console.rows("SHOW HOSTS") if row["database"] == "app")
        assert after == before


def test_in_mid_transaction_it_stays_and_moves_when_it_is_over(pooler: PoolerFactory) -> None:
    process = pooler(default_pool_size=2, workers=1)  # which takes its last used server
    with client_of(process) as busy, client_of(process) as idle:
        busy.execute("begin")
        server = pid_of(busy)
        old = process.replace()
        with Console(process) as console:
            until(lambda: console.pool().get("cl_active") == 1)  # `idle` is there
        assert idle.execute("select 1").fetchone() == (1,)
        assert pid_of(busy) == server
        assert old.returncode is None
        busy.execute("commit")
        assert old.wait() == 0
        assert taken(process) == (2, 1)
        assert pid_of(busy) == pid_of(idle) == server


@pytest.mark.slow
def test_who_waits_for_a_server_waits_on_in_the_new_process(pooler: PoolerFactory) -> None:
    process = pooler(default_pool_size=1)
    with client_of(process) as holder, client_of(process) as waiter, Console(process) as console:
        holder.execute("begin")
        answers: list[object] = []
        waiting = threading.Thread(target=lambda: answers.append(waiter.execute("select 2").fetchone()))
        waiting.start()
        until(lambda: console.waiting() == 1)
        old = process.replace()
        waiting.join(20)  # it has a server of the new process
        assert answers == [(2,)]
        holder.execute("rollback")
        assert old.wait() == 0


@pytest.mark.slow
async def test_half_a_message_comes_along(pooler: PoolerFactory) -> None:
    process = pooler()
    async with logged_in(process) as client:
        query = b"Q\0\0\0\x0dselect 5\0"
        await client.send(query[:7])
        with Console(process) as console:
            await until_async(lambda: any(row["recv_pos"] == 7 for row in console.rows("SHOW SOCKETS")))
        old = await trio.to_thread.run_sync(process.replace)
        assert await trio.to_thread.run_sync(old.wait) == 0
        await client.send(query[7:])
        assert letters(await client.until("Z")) == "TDCZ"


@pytest.mark.parametrize("settings", [{"peer_id": 3}, pytest.param({}, marks=pytest.mark.slow)])
def test_the_cancel_key_of_the_first_process_cancels_in_the_third(
    pooler: PoolerFactory, settings: dict[str, int]
) -> None:
    process = pooler(workers=2, **settings)
    with client_of(process) as client:
        for _ in range(2):
            assert process.replace().wait() == 0
        for _ in range(2):
            canceller = threading.Thread(target=cancel_once_it_sleeps, args=(process, client))
            canceller.start()
            with pytest.raises(psycopg.errors.QueryCanceled):
                client.execute("select pg_sleep(60)")
            canceller.join()
        assert client.execute("select 1").fetchone() == (1,)


def test_who_keeps_a_server_moves_with_it(pooler: PoolerFactory) -> None:
    """Session mode, and state that cannot be replayed in transaction mode."""
    process = pooler(users={"legacy": "pool_mode=session"})
    with ExitStack() as stack:
        pinned = stack.enter_context(client_of(process))
        session = stack.enter_context(psycopg.connect(process.url("legacy", "app"), autocommit=True))
        for client in (pinned, session):
            client.execute("create temporary table kept(n int)")
            client.execute("insert into kept values (1)")
        servers = [pid_of(client) for client in (pinned, session)]
        old = process.replace()
        assert old.wait() == 0
        assert taken(process) == (2, 2)
        for client in (pinned, session):
            assert client.execute("select n from kept").fetchone() == (1,)
        assert [pid_of(client) for client in (pinned, session)] == servers
        with Console(process) as console:
            assert [row["reasons"] for row in console.rows("SHOW PINS")] == ["temporary object"]
            pinned.execute("drop table kept")
            until(lambda: console.rows("SHOW PINS") == [])
        session.close()
        with Console(process) as console:
            until(lambda: console.pool("legacy")["sv_idle"] == 1)  # cleaned, and in its pool


@pytest.mark.parametrize("reloaded", [False, True])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"pool_mode": "session"}, {"pool_mode": "transaction"}),
        ({"session_state": "off"}, {"session_state": "auto"}),
        pytest.param({"session_state": "off"}, {"pool_mode": "session"}, marks=pytest.mark.slow),
    ],
)
def test_what_was_left_while_nobody_watched_is_not_met_by_others(
    pooler: PoolerFactory, before: dict[str, str], after: dict[str, str], reloaded: bool
) -> None:
    """The new file, by -R or RELOAD, has a pool mode or a session_state in which clients do not keep, or share, what is on a server."""
    process = pooler(default_pool_size=1, **before)
    with client_of(process, prepare_threshold=None) as leaves:
        leaves.execute("create temporary table left_behind(n int)")
        leaves.execute("set work_mem = '77MB'")
        server = pid_of(leaves)
        process.settings |= after
        if reloaded:
            process.reload()
            process.wait_for_log("configuration reloaded")
            leaves.execute("select 1")  # at its end it lets go
        else:
            assert process.replace().wait() == 0
    with client_of(process, prepare_threshold=None) as other:
        assert other.execute("show work_mem").fetchone() != ("77MB",)
        assert other.execute("select to_regclass('left_behind')").fetchone() == (None,)
        assert pid_of(other) != server


def test_a_server_of_a_session_that_is_one_no_more_is_not_kept_until_its_client_speaks(pooler: PoolerFactory) -> None:
    process = pooler(pool_mode="session", default_pool_size=1)
    with client_of(process, prepare_threshold=None) as silent:
        silent.execute("select 1")
        process.settings["pool_mode"] = "transaction"
        assert process.replace().wait() == 0
        with client_of(process) as other:
            assert other.execute("select 1").fetchone() == (1,)
        assert silent.execute("select 2").fetchone() == (2,)


@pytest.mark.parametrize("others", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_who_listens_without_a_server_listens_on_and_hears_that_it_may_have_missed_something(
    pooler: PoolerFactory, others: int
) -> None:
    """Whether the new process listens already or not; before the client says anything more, it does."""
    process = pooler()
    with client_of(process) as listener, client_of(process) as other, ExitStack() as more:
        warned: list[str] = []
        listener.add_notice_handler(lambda diagnostic: warned.append(diagnostic.message_primary or ""))
        for channel in ("news", '"Other news"'):
            listener.execute(f"listen {channel}")
        for _ in range(others):
            more.enter_context(client_of(process)).execute("listen news")
        assert process.replace().wait(30) == 0
        assert taken(process)[0] == 2 + others
        assert listener.execute("select 1").fetchone() == (1,)
        assert warned == ["notifications may have been missed: the pooler has been replaced"]
        other.execute("notify news, 'one'")
        other.execute("""notify "Other news", 'two'""")
        heard = [(told.channel, told.payload) for told in listener.notifies(timeout=60, stop_after=2)]
        assert sorted(heard) == [("Other news", "two"), ("news", "one")]
        with Console(process) as console:
            assert {row["channel"] for row in console.rows("SHOW CHANNELS")} == {"news", "Other news"}


def test_who_listened_here_and_is_gone_is_told_nothing_here(pooler: PoolerFactory, postgres: PostgresServer) -> None:
    """The old process goes on for somebody in a transaction, and listens for nobody."""
    process = pooler()
    with client_of(process) as listener, client_of(process) as other, client_of(process) as busy:
        listener.execute("listen news")
        busy.execute("begin")
        old = process.replace()
        listening = old.wait_for_log(r"listening for clients backend_pid=(\d+)")[1]
        until(lambda: "unlisten" in postgres.sql(f"select query from pg_stat_activity where pid = {listening}").lower())
        assert listener.execute("select 1").fetchone() == (1,)
        for number in range(3):
            other.execute(f"notify news, '{number}'")
        assert [told.payload for told in listener.notifies(timeout=60, stop_after=3)] == ["0", "1", "2"]
        busy.execute("commit")
        assert old.wait() == 0


@pytest.mark.slow
def test_who_cannot_listen_any_more_is_sent_away(pooler: PoolerFactory) -> None:
    process = pooler()
    with client_of(process) as listener:
        listener.execute("listen news")
        process.settings["max_db_connections"] = 1  # a listening connection would leave none for queries
        assert process.replace().wait(30) == 0
        with pytest.raises(psycopg.errors.AdminShutdown, match="cannot be listened to any more"):
            listener.execute("select 1")


@pytest.mark.slow
def test_who_has_tls_stays_until_it_leaves(pooler: PoolerFactory, tmp_path: Path) -> None:
    made = Authority(tmp_path / "authority").issue("pooler")
    process = pooler(client_tls_sslmode="allow", client_tls_cert_file=made.cert_file, client_tls_key_file=made.key_file)
    with client_of(process, sslmode="disable") as plain:
        with psycopg.connect(process.url("app", "app") + "?sslmode=require", autocommit=True) as secret:
            secret.execute("set application_name = 'secret'")
            plain.execute("select 1")
            old = process.replace()
            with Console(process) as console:
                until(lambda: console.pool().get("cl_active") == 1)
            assert secret.execute("show application_name").fetchone() == ("secret",)
            assert old.returncode is None
        assert old.wait() == 0
        assert taken(process)[0] == 1
        assert plain.execute("select 1").fetchone() == (1,)


@pytest.mark.slow
def test_a_database_that_the_new_file_does_not_know(pooler: PoolerFactory, postgres: PostgresServer) -> None:
    at = f"host={postgres.host} port={postgres.port}"
    process = pooler(databases={"app": at, "gone": f"{at} dbname=other"})
    with client_of(process) as stays, psycopg.connect(process.url("app", "gone"), autocommit=True) as goes:
        stays.execute("select 1")
        goes.execute("select 1")
        del process.databases["gone"]
        assert process.replace().wait() == 0
        assert stays.execute("select 1").fetchone() == (1,)
        with pytest.raises(psycopg.OperationalError, match="database removed"):
            goes.execute("select 1")


@pytest.mark.slow
def test_servers_of_another_place_are_closed(pooler: PoolerFactory, postgres: PostgresServer) -> None:
    at = f"host={postgres.host} port={postgres.port}"
    process = pooler(databases={"app": at})
    with client_of(process) as client:
        client.execute("set application_name = 'mover'")
        before = pid_of(client)
        process.databases["app"] = f"{at} dbname=other"
        assert process.replace().wait() == 0
        assert client.execute("select current_database()").fetchone() == ("other",)
        assert client.execute("show application_name").fetchone() == ("mover",)
        with psycopg.connect(postgres.dsn("boss", "app"), autocommit=True) as boss:
            until(lambda: boss.execute("select 1 from pg_stat_activity where pid = %s", (before,)).fetchone() is None)


@pytest.mark.slow
def test_more_servers_than_the_new_file_allows_are_closed(pooler: PoolerFactory, postgres: PostgresServer) -> None:
    process = pooler(default_pool_size=3)
    with ExitStack() as stack:
        clients = [stack.enter_context(client_of(process)) for _ in range(3)]
        for client in clients:
            client.execute("begin")
        for client in clients:
            client.execute("commit")
        process.settings["default_pool_size"] = 1
        assert process.replace().wait() == 0
        assert taken(process) == (3, 1)
        for client in clients:
            assert client.execute("select 1").fetchone() == (1,)


@pytest.mark.slow
def test_a_reload_and_a_shutdown_later_everything_is_as_ever(pooler: PoolerFactory) -> None:
    process = pooler(max_client_conn=3)
    with client_of(process) as one, client_of(process):
        assert process.replace().wait() == 0
        assert taken(process)[0] == 2
        process.process.signal(SIGHUP)
        process.wait_for_log("configuration reloaded")
        assert one.execute("select 1").fetchone() == (1,)
        with client_of(process), pytest.raises(psycopg.OperationalError, match="max_client_conn"):
            client_of(process)
        with Console(process) as console:
            rows = [row for row in console.rows("SHOW CLIENTS") if row["database"] == "app"]
            for row in rows:
                console.run(f"KILL_CLIENT {row['id']}")
            until(lambda: [row for row in console.rows("SHOW CLIENTS") if row["database"] == "app"] == [])


class OtherProcess:
    """A new process as a test plays it: takes the sockets and what follows, and answers nothing."""

    def __init__(self, process: PoolerProcess) -> None:
        path = process.unix_dir / f".s.PGSQL.{process.port}.takeover"
        process.process.wait_for_file(path)
        self.listeners: list[int] = []
        self.reader = Reader()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(20)
        self.socket.connect(str(path))
        self.socket.send(HELLO)
        self.listeners = socket.recv_fds(self.socket, 4096, 8)[1]
        self.socket.send(UP_MOVES)
        assert self.socket.recv(4096) == YOURS

    def next_parcel(self) -> ParcelTold:
        while True:
            packet, fds, _, _ = socket.recv_fds(self.socket, 65536, 2)
            said = self.reader.read(packet, fds)
            if isinstance(said, ParcelTold):
                return said

    def die(self) -> None:
        self.socket.close()
        for fd in self.listeners:
            os.close(fd)


def test_a_new_process_that_dies_before_it_has_answered_gives_everybody_back(pooler: PoolerFactory) -> None:
    process = pooler(default_pool_size=1)
    with client_of(process, prepare_threshold=0) as client, client_of(process) as other:
        client.execute("select %s::int", (1,))
        server = pid_of(other)
        new = OtherProcess(process)
        told = [new.next_parcel() for _ in range(3)]
        new.die()
        for each in told:
            for fd in (each.parcel.client_fd, each.parcel.server_fd):
                if fd >= 0:
                    os.close(fd)
        process.wait_for_log("the new process takes no more: who is still here stays")
        assert client.execute("select %s::int", (2,)).fetchone() == (2,)
        assert pid_of(other) == server
        assert process.process.returncode is None
    assert process.process.wait() == 0


@pytest.mark.parametrize("number", [SIGTERM, SIGINT, pytest.param(SIGQUIT, marks=pytest.mark.slow)])
def test_an_old_process_that_is_to_stop_says_nothing_to_those_who_are_on_their_way(
    pooler: PoolerFactory, number: Signals
) -> None:
    """It waits until they have come there; told to end at once, it leaves them to the other one."""
    process = pooler()
    with client_of(process) as client, client_of(process) as pinned, Console(process) as console:
        client.execute("select 1")
        pinned.execute("create temporary table kept(n int)")
        new = OtherProcess(process)
        told = [new.next_parcel() for _ in range(2)]
        process.process.signal(number)
        process.wait_for_log(f"got {number.name}")
        if number != SIGQUIT:
            for _ in range(200):  # each asks all workers: it would have ended meanwhile
                console.rows("SHOW CLIENTS")
            for each in told:
                new.socket.send(answer(each.number))
        assert process.process.wait() == 0
        for each in (client, pinned):
            with socket.socket(fileno=os.dup(each.fileno())) as peer, pytest.raises(BlockingIOError):
                peer.recv(100, socket.MSG_DONTWAIT)
        new.die()
        for each in told:
            each.parcel.close()


def test_an_old_process_that_is_to_stop_when_the_last_ones_come_back_goes_on_for_them(pooler: PoolerFactory) -> None:
    process = pooler(default_pool_size=1)
    with Console(process) as console, client_of(process) as client:
        client.execute("select 1")
        new = OtherProcess(process)
        told = [new.next_parcel() for _ in range(2)]
        process.process.signal(SIGTERM)
        process.wait_for_log("got SIGTERM")
        new.socket.send(answer(next(each.number for each in told if each.parcel.client_fd < 0)))
        for _ in range(200):  # each asks all workers: nobody else is left meanwhile
            console.rows("SHOW CLIENTS")
        new.die()
        for each in told:
            each.parcel.close()
        process.wait_for_log("the new process takes no more: who is still here stays")
        for _ in range(20):
            console.rows("SHOW CLIENTS")
        assert client.execute("select 1").fetchone() == (1,)
    assert process.process.wait() == 0


@pytest.mark.slow
def test_keys_that_logins_have_revealed_go_over(pooler: PoolerFactory, postgres: PostgresServer) -> None:
    """Pass-through: the file has nothing but SCRAM secrets, and the new process has to open a server of its own."""
    with psycopg.connect(postgres.dsn("boss", "postgres"), autocommit=True) as boss:
        row = boss.execute("select rolpassword from pg_authid where rolname = 'app'").fetchone()
    assert row is not None
    process = pooler(
        auth_type="scram-sha-256", passwords={**PASSWORDS, "app": row[0]}, default_pool_size=3, server_login_retry=1
    )
    with psycopg.connect(process.url("app", "app", password=PASSWORDS["app"]), autocommit=True) as client:
        client.execute("begin")
        with psycopg.connect(process.url("app", "app", password=PASSWORDS["app"]), autocommit=True) as other:
            old = process.replace()
            assert other.execute("select 1").fetchone() == (1,)
            client.execute("commit")
            assert old.wait() == 0
            assert client.execute("select 1").fetchone() == (1,)


class OldProcess:
    """A running process as a test plays it: gives its listening sockets to one that starts with -R, and then says something."""

    def __init__(self, process: PoolerProcess, *options: str, unix: bool = False, ends: bool = False) -> None:
        """`unix`: it listens on the unix socket too, and has removed its file. `ends`: instead of letting go."""
        path = f"{process.unix_dir}/.s.PGSQL.{process.port}.takeover"
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
            door.bind(path)
            door.listen(1)
            door.settimeout(20)
            os.chmod(path, 0o777)
            process.spawn("-R", *options)
            self.socket, _ = door.accept()
        os.unlink(path)
        self.socket.settimeout(20)
        assert self.socket.recv(4096) == HELLO
        if options == ("-d",):  # who has started it does not wait for it
            process.process.stop(SIGKILL)
        with ExitStack() as stack:
            listeners = [stack.enter_context(socket.create_server((process.host, process.port)))]
            if unix:
                listeners.append(stack.enter_context(socket.socket(socket.AF_UNIX)))
                listeners[1].bind(f"{process.unix_dir}/.s.PGSQL.{process.port}")
                listeners[1].listen()
                os.unlink(f"{process.unix_dir}/.s.PGSQL.{process.port}")
            said = {"clients": len(listeners), "metrics": "", "moves": VERSION, "texts": 5}
            socket.send_fds(self.socket, [json.dumps(said).encode()], [each.fileno() for each in listeners])
        assert self.socket.recv(4096) == UP_MOVES
        if ends:
            self.socket.close()
        else:
            self.socket.send(YOURS)


async def test_who_comes_back_when_the_process_before_has_ended_has_its_statements(pooler: PoolerFactory) -> None:
    """What the one in the middle knows of texts is told in one parcel, and only named in the next ones."""
    process = pooler(start=False, workers=1)  # so that the clients go one after the other
    old = await trio.to_thread.run_sync(OldProcess, process)
    async with logged_in(process) as one, logged_in(process) as other:
        for client in (one, other):
            await ask(client, frontend.parse("select $1::int", "mine"))
        new = await trio.to_thread.run_sync(OtherProcess, process)
        told = [new.next_parcel() for _ in range(3)]
        new.socket.send(answer(told[0].number))
        old.socket.close()
        await trio.to_thread.run_sync(process.wait_for_log, "the old process has ended")
        new.die()
        for each in told:
            for fd in (each.parcel.client_fd, each.parcel.server_fd):
                if fd >= 0:
                    os.close(fd)
        await trio.to_thread.run_sync(process.wait_for_log, "the new process takes no more")
        assert values(await ask(other, use("mine", "7"))) == [[b"7"]]


FACTS = PoolFacts(database="app", user="app", target="another")


@pytest.mark.parametrize(
    ("data", "heard"),
    [
        (moving_probe.write(ALONE | {"names": [(3, True, b"a text that was never told")]}), b"CXX000"),
        pytest.param(b"nonsense", b"", marks=pytest.mark.slow),
        pytest.param(b"", b"", marks=pytest.mark.slow),
    ],
    ids=["untold", "nonsense", "empty"],
)
def test_a_parcel_that_cannot_be_understood_costs_one_connection(
    pooler: PoolerFactory, data: bytes, heard: bytes
) -> None:
    process = pooler(start=False)
    old = OldProcess(process)
    ours, theirs = socket.socketpair()
    with old.socket, ours:
        with theirs:
            old.socket.send(pool_packet(1, FACTS))
            for packet in parcel_packets(8, Parcel(1, theirs.fileno(), -1, data)):
                socket.send_fds(old.socket, [packet], [theirs.fileno()])
        assert answered(old.socket.recv(4096)) == (8, True)
        ours.settimeout(20)
        with ours.makefile("rb") as file:
            said = file.read()  # FATAL or nothing, then its end
    assert heard in said
    assert bool(heard) == bool(said)
    process.wait_for_log("the old process has ended")
    with client_of(process) as client:
        assert client.execute("select 1").fetchone() == (1,)


def test_an_old_process_that_ends_with_its_unix_socket_instead_of_handing_it_over(pooler: PoolerFactory) -> None:
    process = pooler(start=False)
    OldProcess(process, unix=True, ends=True)
    process.wait_for_log("the old process has ended")
    for unix in (False, True):
        with psycopg.connect(process.url("app", "app", unix=unix)) as client:
            assert client.execute("select 1").fetchone() == (1,)


def test_a_daemon_that_takes_over_lives_though_nobody_waits_for_it(pooler: PoolerFactory) -> None:
    """Who had started it was killed meanwhile; by then nobody else listens."""
    process = pooler(start=False)
    process.settings |= {"pidfile": process.folder / "pid", "logfile": process.folder / "log"}
    with OldProcess(process, "-d").socket:
        pid = int(until(lambda: (process.folder / "pid").exists() and (process.folder / "pid").read_text()))
        try:
            with client_of(process) as client:
                assert client.execute("select 1").fetchone() == (1,)
            assert "cannot tell who has started it that it is up" in (process.folder / "log").read_text()
        finally:
            os.kill(pid, SIGQUIT)
            until(lambda: not (process.folder / "pid").exists())


@pytest.mark.slow
def test_an_old_process_that_talks_nonsense_is_not_listened_to(pooler: PoolerFactory) -> None:
    process = pooler(start=False)
    old = OldProcess(process)
    with old.socket:
        old.socket.send(b"what?")
        process.wait_for_log("what the old process hands over cannot be understood: an unknown packet")
    with client_of(process) as client:
        assert client.execute("select 1").fetchone() == (1,)
