"""The pooler's loop on a fake engine: opening servers, holding back after failures, logins, console, reload, the end."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from pgpool_core.config.model import Config, DatabaseConfig, PeerConfig
from pgpool_core.control.connect import LoggedInServer, ServerTarget
from pgpool_core.control.mailroom import CANCELS_AT_ONCE
from pgpool_core.control.messages import ErrorFields
from pgpool_core.control.pooler import Pooler
from pgpool_core.control.pools import NOBODIES
from pgpool_core.control.routing import Verdict
from pgpool_core.errors import ConfigError, PasswordUnavailable, PoolClosed, ServerLoginRefused, ServerUnavailable
from pgpool_core.policy.userlist import Userlist, parse_userlist
from pgpool_core.testing import open_scripted_server
from tests.unit.console_model import link
from tests.unit.fake_engine import FakeEngine, logged_in

APP = DatabaseConfig(host="127.0.0.1", port=5432, user="app", password="x")
USERS = parse_userlist(b'"app" "x"\n"alice" "y"\n"admin" "z"\n')

Opens = Callable[[ServerTarget], Awaitable[LoggedInServer]]


@attrs.define(eq=False)
class Harness:
    """A running pooler, its engine, and what open_server was asked."""

    pooler: Pooler
    engine: FakeEngine
    asked: list[float]
    answers: list[Opens]


def sql_error(error: bytes) -> ErrorFields:
    assert error[:1] == b"E"
    return ErrorFields.parse(error[0], error[5:])


def refused(sqlstate: str, text: str) -> ServerLoginRefused:
    raw = ErrorFields.of("FATAL", sqlstate, text).raw
    return ServerLoginRefused(text, sqlstate=sqlstate, raw=raw, where="127.0.0.1:5432")


def failing(error: Exception) -> Opens:
    async def opens(target: ServerTarget) -> LoggedInServer:
        await trio.lowlevel.checkpoint()
        raise error

    return opens


async def succeeding(target: ServerTarget) -> LoggedInServer:
    await trio.lowlevel.checkpoint()
    return logged_in(target)


def now_us() -> int:
    return round(trio.current_time() * 1_000_000)


async def pass_time(seconds: float) -> None:
    """Let that much time go by on the autojump clock."""
    with trio.move_on_after(seconds):
        await trio.sleep_forever()


@asynccontextmanager
async def running(
    tmp_path: Path, *answers: Opens, users: Userlist | None = USERS, workers: int = 1, **settings: Any
) -> AsyncIterator[Harness]:
    """A pooler whose n-th opening is answered by `answers[n]`, the last one for ever; listens on a unix socket only."""
    engine = FakeEngine(workers)
    asked: list[float] = []
    left = list(answers or (succeeding,))

    async def open_server(target: ServerTarget, *, timeout_s: float) -> LoggedInServer:
        asked.append(trio.current_time())
        return await (left.pop(0) if len(left) > 1 else left[0])(target)

    settings = {"databases": {"app": APP}, "auth_type": "md5", "unix_socket_dir": str(tmp_path), **settings}
    if "pool_mode" not in settings:
        settings = {"function_check_period": 0, **settings}  # these servers answer no questions
    pooler = Pooler(
        Config(**settings),
        userlist=users,
        make_engine=lambda workers, io_backend: engine.typed(),
        open_server=open_server,
        now_us=now_us,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(pooler.run)
        yield Harness(pooler, engine, asked, left)
        pooler.stop("the test is over")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


async def test_wanted_servers_are_opened_side_by_side_up_to_the_cap(
    folder: Path, autojump_clock: trio.abc.Clock
) -> None:
    gate, at_once = trio.Event(), 0

    async def slow(target: ServerTarget) -> LoggedInServer:
        nonlocal at_once
        at_once += 1
        await gate.wait()
        at_once -= 1
        return logged_in(target)

    async with running(folder, slow, server_connect_parallel=3) as it:
        it.engine.want(0, 7)
        await wait_all_tasks_blocked()
        assert at_once == 3
        gate.set()
        await wait_all_tasks_blocked()
        assert len(it.engine.pool_list[0].adopted) == 7


async def test_the_first_server_says_how_clients_are_greeted(folder: Path, autojump_clock: trio.abc.Clock) -> None:
    async with running(folder) as it:
        it.engine.want(0, 1)
        await wait_all_tasks_blocked()
        assert it.engine.pool_list[0].welcome == ((b"server_version", b"15.4"),)
        adopted = it.engine.pool_list[0].adopted[0]
        assert (adopted["backend_pid"], adopted["host"], adopted["family_unix"]) == (4711, b"127.0.0.1", False)


async def test_those_who_wait_hear_the_server_and_later_ones_the_cached_error(
    folder: Path, autojump_clock: trio.abc.Clock
) -> None:
    error = refused("28P01", 'password authentication failed for user "app"')
    async with running(folder, failing(error), server_login_retry=15.0) as it:
        it.engine.want(0, 1)
        await wait_all_tasks_blocked()
        [first], cached = it.engine.pool_list[0].waiting_told, it.engine.pool_list[0].new_told
        assert first == error.raw
        assert sql_error(cached).sqlstate == "28P01"
        assert sql_error(cached).message == (
            'server login has been failing, cached error: password authentication failed for user "app" '
            "(server_login_retry)"
        )
        assert it.engine.pool_list[0].opening == 0


async def test_a_refused_login_is_tried_again_only_after_server_login_retry(
    folder: Path, autojump_clock: trio.abc.Clock
) -> None:
    async with running(folder, failing(refused("3D000", "no")), server_login_retry=15.0) as it:
        it.engine.want(0, 1)
        await pass_time(40)
        gaps = [round(b - a) for a, b in zip(it.asked, it.asked[1:], strict=False)]
        assert gaps == [15, 15]


async def test_an_unreachable_server_is_tried_soon_then_more_and_more_rarely(
    folder: Path, autojump_clock: trio.abc.Clock
) -> None:
    error = ServerUnavailable("cannot connect to server at 127.0.0.1:5432: Connection refused")
    async with running(folder, failing(error), server_login_retry=4.0) as it:
        it.engine.want(0, 1)
        await pass_time(30)
        gaps = [round(b - a, 3) for a, b in zip(it.asked, it.asked[1:], strict=False)]
        assert gaps[0] < 1
        assert gaps == sorted(gaps)
        assert 4.0 <= gaps[-1] <= 4.5
        told = sql_error(it.engine.pool_list[0].new_told)
        assert told.sqlstate == "08001"
        assert told.message == f"server login has been failing, cached error: {error.message} (server_login_retry)"


async def test_who_waits_when_a_server_cannot_be_reached_goes_on_waiting_and_who_comes_later_is_told(
    folder: Path, autojump_clock: trio.abc.Clock
) -> None:
    away = failing(ServerUnavailable("refused"))
    starting = failing(refused("57P03", "the database system is starting up"))
    async with running(folder, away, away, starting, away, server_login_retry=1.0) as it:
        await pass_time(1)
        it.engine.want(0, 1)
        await pass_time(10)
        pool = it.engine.pool_list[0]
        assert pool.waiting_told == []
        first, second, later, *_ = pool.told_since
        assert first == second
        assert later > first, "nobody was told while it was starting"
        assert set(pool.told_since[2:]) == {later}


async def test_a_password_that_cannot_be_had_is_told_to_those_who_wait(
    folder: Path, autojump_clock: trio.abc.Clock
) -> None:
    async with running(folder, failing(PasswordUnavailable("no password: the command failed"))) as it:
        it.engine.want(0, 1)
        await wait_all_tasks_blocked()
        assert sql_error(it.engine.pool_list[0].waiting_told[0]).message == "no password: the command failed"


async def test_attempts_that_fail_side_by_side_count_as_one(folder: Path, autojump_clock: trio.abc.Clock) -> None:
    async with running(folder, failing(ServerUnavailable("refused"))) as it:
        it.engine.want(0, 4)
        await wait_all_tasks_blocked()
        assert len(it.asked) == 4
        assert next(iter(it.pooler._pools)).failures == 1


async def test_clients_stay_queued_while_the_server_starts_up(folder: Path, autojump_clock: trio.abc.Clock) -> None:
    starting = failing(refused("57P03", "the database system is starting up"))
    async with running(folder, starting, starting, succeeding) as it:
        it.engine.want(0, 1)
        await pass_time(3)
        assert it.engine.pool_list[0].waiting_told == []
        assert len(it.engine.pool_list[0].adopted) == 1


async def test_a_replication_client_has_its_server_opened_with_its_own_parameters(
    folder: Path, autojump_clock: trio.abc.Clock
) -> None:
    """What that server reports is no greeting for others."""
    targets: list[ServerTarget] = []

    async def noted(target: ServerTarget) -> LoggedInServer:
        targets.append(target)
        return logged_in(target)

    async with running(folder, noted) as it:
        it.engine.pool_list[0].startup = [(b"replication", b"true"), (b"application_name", b"standby1")]
        it.engine.want(0, 1)
        await wait_all_tasks_blocked()
        assert targets[0].parameters == tuple(it.engine.pool_list[0].startup)
        assert len(it.engine.pool_list[0].adopted) == 1
        assert it.engine.pool_list[0].welcome == ()


async def test_a_replication_client_alone_hears_why_it_has_no_server(
    folder: Path, autojump_clock: trio.abc.Clock
) -> None:
    async with running(
        folder, failing(ServerLoginRefused("not a replication role", sqlstate="42501")), succeeding
    ) as it:
        pool = it.engine.pool_list[0]
        pool.startup = [(b"replication", b"true")]
        it.engine.want(0, 1)
        await wait_all_tasks_blocked()
        told = sql_error(it.engine.abandoned_with[0])
        assert (told.sqlstate, told.message) == ("42501", "not a replication role")
        assert pool.waiting_told == []
        assert pool.until_us == 0


async def test_a_bug_while_opening_costs_one_attempt_and_is_told_as_internal(
    folder: Path, autojump_clock: trio.abc.Clock, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(folder, failing(RuntimeError("secret detail")), succeeding) as it:
        it.engine.want(0, 1)
        await pass_time(2)
        told = sql_error(it.engine.pool_list[0].waiting_told[0])
        assert (told.sqlstate, told.message) == ("XX000", "internal error")
        assert len(it.engine.pool_list[0].adopted) == 1
        assert "internal error while opening" in caplog.text


async def test_a_server_that_logged_in_for_the_old_target_is_not_adopted(
    folder: Path, autojump_clock: trio.abc.Clock
) -> None:
    gate = trio.Event()

    async def slow(target: ServerTarget) -> LoggedInServer:
        await gate.wait()
        return logged_in(target)

    async with running(folder, slow, succeeding) as it:
        it.engine.want(0, 1)
        await wait_all_tasks_blocked()
        moved = attrs.evolve(it.pooler.config, databases={"app": attrs.evolve(APP, host="127.0.0.2")})
        await it.pooler.apply(moved, USERS)
        gate.set()
        await wait_all_tasks_blocked()
        assert [server["host"] for server in it.engine.pool_list[0].adopted] == [b"127.0.0.2"]
        assert it.engine.pool_list[0].retired == 1


def policy(
    client: int, database: bytes, user: bytes, *, unix: bool = False, uid: int = -1, passed: bool = False
) -> tuple[Any, ...]:
    return ("policy", client, database, user, unix, uid, b"127.0.0.1", 40000, {}, False, None, None, passed)


async def test_a_login_gets_its_credential_and_its_route_once_it_has_passed(folder: Path) -> None:
    async with running(folder) as it:
        it.engine.post(*policy(7, b"app", b"alice"))
        await wait_all_tasks_blocked()
        assert it.engine.verdicts.pop(7) == (Verdict.RETRY, b"")
        assert it.engine.credentials[b"alice"]["plain"] == b"y"
        assert it.engine.routes == {}  # whoever it is has proved nothing
        it.engine.post(*policy(7, b"app", b"alice", passed=True))
        await wait_all_tasks_blocked()
        assert it.engine.verdicts[7] == (Verdict.RETRY, b"")
        assert it.engine.routes == {(b"app", b"alice"): 0}


@pytest.mark.parametrize("place", ["add_pool", "add_group"])
async def test_where_no_more_pools_fit_a_login_is_told_so(
    folder: Path, place: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(folder, databases={"app": attrs.evolve(APP, user=None)}) as it:

        def full(*_: object, **__: object) -> int:
            raise MemoryError

        monkeypatch.setattr(it.engine, place, full)
        it.engine.post(*policy(7, b"app", b"alice", passed=True))
        await wait_all_tasks_blocked()
        verdict, error = it.engine.verdicts[7]
        assert (verdict, sql_error(error).sqlstate) == (Verdict.REFUSE, "53300")
        assert sql_error(error).message == "no more pools fit: too many databases and users since the start"
        assert "internal error" not in caplog.text


async def test_many_logins_of_one_user_share_one_computation_of_keys(folder: Path) -> None:
    async with running(folder, auth_type="scram-sha-256") as it:
        for client in range(20):
            it.engine.post(*policy(client, b"app", b"alice"))
        await it.engine.until(lambda: len(it.engine.verdicts) == 20)
        assert len(it.engine.credentials[b"alice"]["scram"]) == 4
        assert {verdict for verdict, _ in it.engine.verdicts.values()} == {Verdict.RETRY}


async def test_an_unknown_database_is_refused_only_after_the_password(folder: Path) -> None:
    async with running(folder) as it:
        it.engine.post(*policy(1, b"nope", b"alice"))
        it.engine.post(*policy(2, b"nope", b"mallory"))
        await wait_all_tasks_blocked()
        late, error = it.engine.verdicts[1]
        assert (late, sql_error(error).sqlstate) == (Verdict.REFUSE_LATE, "3D000")
        assert sql_error(error).message == "no such database: nope"
        late, error = it.engine.verdicts[2]
        assert (late, sql_error(error).sqlstate) == (Verdict.REFUSE_LATE, "28P01")


async def test_the_engine_knows_who_does_not_exist_where_it_would_know_who_does(folder: Path) -> None:
    async with running(folder, admin_users=("mallory",)) as it:
        for client, database in enumerate((b"app", b"nope", b"pgbouncer")):
            it.engine.post(*policy(client, database, b"mallory"))
            await wait_all_tasks_blocked()
            assert it.engine.verdicts[client][0] == Verdict.REFUSE_LATE
            assert it.engine.credentials == {b"mallory": {"nobody": b"app"}}
        await it.pooler.apply(it.pooler.config, USERS)
        assert it.engine.credentials == {}


async def test_of_those_who_do_not_exist_the_engine_knows_the_last_ones(folder: Path) -> None:
    async with running(folder) as it:
        for some in (range(2), range(2, NOBODIES + 2)):
            for number in some:
                it.engine.post(*policy(number, b"app", b"user%d" % number))
            await wait_all_tasks_blocked()
        assert it.engine.credentials.keys() == {b"user%d" % number for number in range(2, NOBODIES + 2)}


async def test_our_own_uid_may_use_the_console_without_a_password(folder: Path) -> None:
    async with running(folder) as it:
        it.engine.post(*policy(1, b"pgbouncer", b"pgbouncer", unix=True, uid=os.geteuid()))
        it.engine.post(*policy(2, b"pgbouncer", b"pgbouncer", unix=True, uid=os.geteuid() + 1))
        await wait_all_tasks_blocked()
        assert it.engine.verdicts[1] == (Verdict.CONSOLE_TRUSTED, b"")
        assert it.engine.verdicts[2][0] == Verdict.REFUSE


async def test_letters_nobody_can_read_do_not_stop_the_pump(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with running(folder) as it:
        it.engine.post("policy", 1)
        it.engine.post("no such letter")
        it.engine.post(*policy(2, b"app", b"alice"))
        await wait_all_tasks_blocked()
        assert it.engine.verdicts[2][0] == Verdict.RETRY
        assert "internal error with a letter" in caplog.text


async def test_a_cancel_that_cannot_be_carried_frees_the_server_all_the_same(folder: Path) -> None:
    async with running(folder) as it:
        it.engine.post("cancel", 1001, 0, 4711, b"\0\0\0\1", str(folder / "nobody"), 5432)
        await it.engine.until(lambda: it.engine.cancels_done)
        assert it.engine.cancels_done == [1001]


async def test_a_cancel_request_that_cannot_be_passed_on_costs_itself(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def elsewhere(key: bytes) -> None:
        raise trio.BusyResourceError("another task is sending")

    async with running(folder) as it:
        it.pooler.succession.pass_cancels_to(elsewhere)
        it.engine.post("cancel_elsewhere", b"12345678", 7)
        await it.engine.until(lambda: it.engine.cancels_over)
        assert it.engine.cancels_over == [7]
        assert "internal error while passing on a cancel request" in caplog.text


async def test_what_a_worker_has_given_away_and_nobody_takes_any_more_comes_back(folder: Path) -> None:
    """The other process has just ended; the worker has not heard of it."""
    async with running(folder) as it:
        ours, theirs = socket.socketpair()
        with ours:
            it.engine.post("parcel", 0, theirs.detach(), -1, b"somebody")
            await it.engine.until(lambda: it.engine.taken)
            assert [data for _, data in it.engine.taken] == [b"somebody"]
            ours.setblocking(False)
            with pytest.raises(BlockingIOError):
                ours.recv(100)
        for fd, _ in it.engine.taken:
            os.close(fd)


async def test_a_cancel_waits_for_its_turn_no_longer_than_it_may(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    request = ("cancel", 0, 4711, b"\0\0\0\1", str(folder), 5432)
    async with (
        running(folder, cancel_wait_timeout=0.05) as it,
        open_scripted_server(folder / ".s.PGSQL.5432") as server,
        AsyncExitStack() as busy,
    ):
        for number in range(CANCELS_AT_ONCE):
            it.engine.post(request[0], number, *request[1:])
        for _ in range(CANCELS_AT_ONCE):  # and none of them is answered
            await busy.enter_async_context(await server.accept())
        it.engine.post(request[0], 1001, *request[1:])
        await it.engine.until(lambda: it.engine.cancels_done)
        assert it.engine.cancels_done == [1001]
        assert "cancel_wait_timeout" in caplog.text
        await busy.aclose()
        await it.engine.until(lambda: len(it.engine.cancels_done) == CANCELS_AT_ONCE + 1)
        it.engine.post(request[0], 1002, *request[1:])  # there is room again
        async with await server.accept() as last:
            assert (await last.receive_startup()).code == 80877102  # CancelRequest


async def test_a_place_that_does_not_answer_cancels_keeps_no_turn_from_another(folder: Path) -> None:
    (folder / "other").mkdir()
    async with (
        running(folder) as it,
        open_scripted_server(folder / ".s.PGSQL.5432") as silent,
        open_scripted_server(folder / "other" / ".s.PGSQL.5432") as other,
        AsyncExitStack() as busy,
    ):
        for number in range(CANCELS_AT_ONCE):
            it.engine.post("cancel", number, 0, 4711, b"\0\0\0\1", str(folder), 5432)
            await busy.enter_async_context(await silent.accept())
        it.engine.post("cancel", 1001, 0, 4711, b"\0\0\0\1", str(folder / "other"), 5432)
        async with await other.accept() as told:
            assert (await told.receive_startup()).code == 80877102  # CancelRequest


async def test_a_request_for_a_peer_waits_for_its_turn_no_longer_than_it_may(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    peers = {2: PeerConfig(host=str(folder), port=5432, pool_size=1)}
    async with (
        running(folder, cancel_wait_timeout=0.05, peer_id=1, peers=peers) as it,
        open_scripted_server(folder / ".s.PGSQL.5432") as silent,
    ):
        it.engine.post("peer_cancel", 2, b"\0\2\0\0\0\0\0\3", 7)
        async with await silent.accept():
            it.engine.post("peer_cancel", 2, b"\0\2\0\0\0\0\0\3", 8)
            await it.engine.until(lambda: it.engine.cancels_over)
            assert it.engine.cancels_over == [8]
            assert "peer-2 a cancel request has waited for too long, dropped (cancel_wait_timeout)" in caplog.text
            assert it.pooler._mailroom.peers.waiting == {2: 0}
        await it.engine.until(lambda: it.engine.cancels_over == [8, 7])


async def test_the_console_answers_with_the_clients_of_all_workers(folder: Path) -> None:
    who = {"user": "admin", "database": "pgbouncer"}
    rows = {0: [link(1, -2, "active", **who)], 1: [link(2, -2, "active", worker=1, **who)]}
    async with running(folder, workers=2) as it:
        it.engine.client_rows = rows
        it.engine.post("console", 5, 77, b"Q", b"SHOW CLIENTS\0", True)
        await wait_all_tasks_blocked()
        answer = it.engine.replies[5]
        assert answer.count(b"D\0\0") == 2
        assert answer.endswith(b"Z\0\0\0\x05I")
        snapshot = await it.pooler.snapshot()
        assert [client.id for client in snapshot.clients] == [1, 2]


async def test_a_worker_that_does_not_answer_delays_a_snapshot_but_does_not_stop_it(
    folder: Path, autojump_clock: trio.abc.Clock, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(folder, workers=2) as it:
        it.engine.silent_workers = {1}
        await it.pooler.snapshot()
        assert "not every worker has told its clients workers=2 answered=1" in caplog.text
        it.engine.silent_workers = set()


async def test_a_broken_file_changes_nothing(folder: Path) -> None:
    auth_file = folder / "users"
    auth_file.write_text('"alice" "y"\n')
    async with running(folder, users=None, auth_file=str(auth_file)) as it:
        it.engine.post(*policy(1, b"app", b"alice", passed=True))
        await wait_all_tasks_blocked()
        auth_file.write_text('"alice" broken\n')
        with pytest.raises(ConfigError, match="broken auth file"):
            await it.pooler.reload()
        assert it.engine.routes and it.engine.credentials
        assert it.engine.configured == 1
        auth_file.write_text('"bob" "y"\n')
        await it.pooler.reload()
        assert not it.engine.routes
        assert not it.engine.credentials
        assert list(it.pooler.userlist) == [b"bob"]


async def test_a_configuration_that_is_refused_at_last_changes_nothing(folder: Path) -> None:
    def refuse(config: Config) -> None:
        assert config.default_pool_size == 7
        raise ConfigError("cannot open the log file")

    async with running(folder) as it:
        it.pooler.on_applying = refuse
        with pytest.raises(ConfigError, match="cannot open the log file"):
            await it.pooler.change_setting("default_pool_size", "7")
        assert it.engine.configured == 1
        assert it.pooler.config.default_pool_size == 20


async def test_shutdown_on_the_console_tells_clients_and_frees_the_socket(folder: Path) -> None:
    async with running(folder) as it:
        socket_file = folder / ".s.PGSQL.6432"
        assert socket_file.exists()
        it.engine.want(0, 1)
        it.engine.post("console", 5, 77, b"Q", b"SHUTDOWN\0", True)
        await it.engine.until(lambda: it.engine.state == "stopped")
        told = it.engine.pool_list[0].closed_with
        assert told is not None
        assert (sql_error(told).sqlstate, sql_error(told).message) == ("57P01", "pooler is shutting down")
        assert not socket_file.exists()
        with pytest.raises(PoolClosed):
            it.pooler.statistics()


async def test_a_database_that_vanishes_takes_its_pool_along_and_may_come_back(folder: Path) -> None:
    async with running(folder) as it:
        await it.pooler.apply(attrs.evolve(it.pooler.config, databases={}), USERS)
        told = it.engine.pool_list[0].closed_with
        assert told is not None
        assert sql_error(told).message == "database removed"
        await it.pooler.apply(attrs.evolve(it.pooler.config, databases={"app": APP}), USERS)
        it.engine.post(*policy(1, b"app", b"alice", passed=True))
        await wait_all_tasks_blocked()
        assert it.engine.routes == {(b"app", b"alice"): 1}
