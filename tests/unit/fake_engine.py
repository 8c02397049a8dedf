"""A data plane without sockets or threads: takes the calls of control, remembers them, and posts the letters that a test wants."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import attrs
import trio

from pgpool_core.control.connect import LoggedInServer, ServerTarget
from pgpool_core.control.pipes import SocketPipe

if TYPE_CHECKING:
    from pgpool_core.engine.plane import Engine
    from pgpool_core.tls.face import Context


@attrs.define(eq=False)
class FakePool:
    """What the fake knows of a pool; `wants` servers are planned as long as no back-off forbids it."""

    id: int
    database: bytes
    user: bytes
    settings: dict[str, Any] = attrs.field(factory=dict)
    wants: int = 0
    startup: list[tuple[bytes, bytes]] | None = None  # of a replication client that every server is for
    opening: int = 0
    adopted: list[dict[str, Any]] = attrs.field(factory=list)
    waiting_told: list[bytes] = attrs.field(factory=list)
    new_told: bytes = b""
    told_since: list[int] = attrs.field(factory=list)  # of each failure: who has come to the queue since hears of it
    until_us: int = 0
    welcome: Sequence[tuple[bytes, bytes]] = ()
    closed_with: bytes | None = None
    ended_with: bytes | None = None
    paused: bool = False
    to_close: int = 0
    retired: int = 0
    retired_hosts: list[bytes | None] = attrs.field(factory=list)


class FakeEngine:
    """Stands in for `pgpool_core.engine.plane.Engine`; `max_opening` is obeyed as the real one does."""

    def __init__(self, workers: int = 1, io_backend: str = "auto") -> None:
        self.workers = workers
        self.io_backend = "epoll" if io_backend == "auto" else io_backend
        self.io_refusal = ""
        self.wakeup_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.state = "new"
        self.settings: dict[str, Any] = {}
        self.users: dict[bytes, tuple[Any, ...]] = {}
        self.max_user_clients = 0
        self.configured = 0
        self.listeners: list[int] = []
        self.groups: list[int] = []
        self.group_clients: dict[int, int] = {}
        self.pool_list: list[FakePool] = []
        self.routes: dict[tuple[bytes, bytes], int] = {}
        self.credentials: dict[bytes, dict[str, Any]] = {}
        self.verdicts: dict[int, tuple[int, bytes]] = {}
        self.replies: dict[int, bytes] = {}
        self.cancels_done: list[int] = []
        self.cancels_over: list[int] = []
        self.abandoned: list[int] = []
        self.abandoned_with: list[bytes] = []
        self.disconnected: dict[int, bytes] = {}
        self.client_rows: dict[int, list[dict[str, Any]]] = {}
        self.silent_workers: set[int] = set()
        self.sweeps = 0
        self.suspended = False
        self.dropped = False
        self.restless = False  # connections in the middle of something stay so until they are dropped
        self.unsettled = 0  # connections in the middle of something, as the first worker says next
        self.connected = 0
        self.told: list[tuple[object, ...]] = []
        self.full = 0  # times that the ring of a worker has no room
        self.room: list[int] = []  # what take_listener says; then there is room
        self.listeners_open = 0
        self.taken: list[tuple[int, bytes]] = []  # clients of another process: descriptor and parcel
        self.changes: dict[int, int] = {}  # by mark: transactions that may have changed functions
        self._handles: dict[int, FakePool] = {}
        self._letters: list[tuple[Any, ...]] = []
        self._tokens = 0
        self._news = trio.Event()

    def typed(self) -> Engine:
        """Itself, for the type checker."""
        return cast("Engine", self)

    def post(self, *letter: Any) -> None:
        """Send control a letter."""
        self._letters.append(letter)
        os.eventfd_write(self.wakeup_fd, 1)

    def want(self, pool: int, servers: int) -> None:
        """From now on `pool` wants that many servers altogether; tell control."""
        self.pool_list[pool].wants = servers
        self.post("want")

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until control has made a call after which `condition()` holds."""
        with trio.fail_after(10):
            while not condition():
                await self._news.wait()

    def _called(self) -> None:
        self._news.set()
        self._news = trio.Event()

    # what control calls

    def start(self) -> None:
        self.state = "running"

    def stop(self) -> None:
        if self.state != "stopped":
            os.close(self.wakeup_fd)
        self.state = "stopped"
        self._called()

    def close(self) -> None:
        self.stop()

    def configure(self, **settings: Any) -> None:
        self.settings = settings
        self.configured += 1

    def imitate_by(self, key: bytes) -> None:
        self.mock_key = key

    def set_client_tls(self, context: Context | None, required: bool) -> None:
        self.client_tls = (context, required)

    def add_listener(self, fd: int, *, is_unix: bool, port: int, late: bool = False) -> None:
        self.listeners.append(fd)

    def drop_listeners(self) -> None:
        self.listeners.clear()

    def let_go_of_listeners(self, *, tcp_only: bool = False) -> bool:
        return True

    def add_group(self, limit: int) -> int:
        self.groups.append(limit)
        return len(self.groups) - 1

    def set_group_limit(self, group: int, limit: int) -> None:
        self.groups[group] = limit

    def set_group_clients(self, group: int, limit: int) -> None:
        self.group_clients[group] = limit

    def add_pool(self, database: bytes, user: bytes, *, database_group: int, user_group: int) -> int:
        self.pool_list.append(FakePool(len(self.pool_list), database, user))
        return len(self.pool_list) - 1

    def configure_pool(self, pool: int, **settings: Any) -> None:
        self.pool_list[pool].settings = settings

    def set_users(self, users: Sequence[tuple[Any, ...]], *, max_clients: int) -> None:
        self.users = {name: (own_clients, patience) for name, own_clients, patience in users}
        self.max_user_clients = max_clients

    def empty_pools(self) -> list[int]:
        return []

    def park_pool(self, pool: int, parked: bool) -> None:
        raise AssertionError("no pool is ever empty here")

    def add_route(self, database: bytes, user: bytes, pool: int) -> None:
        self.routes[database, user] = pool

    def clear_routes(self) -> None:
        self.routes.clear()

    def set_credential(self, user: bytes, **secret: Any) -> None:
        self.credentials[user] = secret

    def set_nobody(self, user: bytes, database: bytes) -> None:
        self.credentials[user] = {"nobody": database}

    def forget_credential(self, user: bytes, database: bytes) -> None:
        self.credentials.pop(user, None)

    def clear_credentials(self) -> None:
        self.credentials.clear()

    def answer_policy(self, client: int, verdict: int, error: bytes = b"", *, method: int | None = None) -> bool:
        self.verdicts[client] = (verdict, error)
        self._called()
        return True

    def plan(self, now_us: int) -> list[tuple[int, int, list[tuple[bytes, bytes]] | None]]:
        planned: list[tuple[int, int, list[tuple[bytes, bytes]] | None]] = []
        for pool in self.pool_list:
            if pool.paused or pool.ended_with:
                continue
            limit = self.settings.get("max_opening", 4)
            while now_us >= pool.until_us and pool.opening < limit and pool.opening + len(pool.adopted) < pool.wants:
                pool.opening += 1
                handle = 1000 + len(self._handles)
                self._handles[handle] = pool
                planned.append((handle, pool.id, pool.startup))
        return planned

    def adopt_server(self, server: int, fd: int, **facts: Any) -> int:
        pool = self._handles[server]
        pool.opening -= 1
        pool.adopted.append({"server": server, **facts})
        os.close(fd)
        self._called()
        return server

    def abandon_server(self, server: int, error: bytes = b"") -> None:
        self._handles[server].opening -= 1
        self.abandoned.append(server)
        self.abandoned_with.append(error)

    def set_welcome(
        self,
        pool: int,
        parameters: Sequence[tuple[bytes, bytes]],
        began: Any = (),
        at_login: Any = None,
        fixed: Any = (),
    ) -> None:
        self.pool_list[pool].welcome = parameters

    def forget_welcome(self, pool: int) -> None:
        self.pool_list[pool].welcome = ()

    def fail_pool(self, pool: int, first: bytes, error: bytes, until_us: int, since_us: int = 0) -> bool:
        record = self.pool_list[pool]
        record.until_us = until_us
        if first:
            record.waiting_told.append(first)
        if error:
            record.new_told = error
            record.told_since.append(since_us)
        return True

    def cancel_done(self, server: int, *, in_doubt: bool = False) -> None:
        self.cancels_done.append(server)
        self._called()

    def know_elsewhere(self, known: bool) -> None:
        pass

    def learn_texts(self, parcel: bytes) -> tuple[bytes, bytes]:
        return b"app", b"12345678"

    def hold_pool(self, pool: int, until_us: int) -> None:
        pass

    def take_client(
        self, pool: int, fd: int, parcel: bytes, *, server: int = 0, server_fd: int = -1, stale: bool = False
    ) -> tuple[int, int]:
        self.taken.append((fd, parcel))
        self._called()
        return len(self.taken), 0

    def cancel_over(self, canceller: int) -> None:
        self.cancels_over.append(canceller)
        self._called()

    connections = 0

    def sweep(self, now_us: int) -> bool:
        self.sweeps += 1
        return True

    def retire_servers(self, pool: int, host: bytes | None = None, *, dedicated: bool = True) -> None:
        self.pool_list[pool].retired += 1
        self.pool_list[pool].retired_hosts.append(host)
        self._called()

    def close_pool(self, pool: int, error: bytes) -> None:
        self.pool_list[pool].closed_with = error
        self.pool_list[pool].wants = 0
        self.pool_list[pool].adopted.clear()

    def disconnect(self, client_id: int, error: bytes) -> bool:
        self.disconnected[client_id] = error
        return True

    def kick_pool(self, pool: int, error: bytes) -> bool:
        return True

    def pause_pool(self, pool: int, on: bool) -> None:
        self.pool_list[pool].paused = on
        self._called()

    def end_pool(self, pool: int, error: bytes) -> None:
        self.pool_list[pool].ended_with = error
        self._called()

    def servers_to_close(self, pool: int) -> int:
        return self.pool_list[pool].to_close

    def suspend(self, token: int, drop: bool) -> bool:
        self.suspended, self.dropped = True, drop
        for worker in range(self.workers):
            unsettled, self.unsettled = self.unsettled, int(self.restless and not drop)
            self.post("suspended", token, worker, unsettled)
        self._called()
        return True

    def go_on(self, token: int) -> bool:
        self.suspended = False
        self._called()
        return True

    def logins(self) -> tuple[int, int, int, int]:
        return 1, 2, 3, 4

    def console_logins(self) -> int:
        return 0

    def client_count(self) -> int:
        return self.connected

    def reply(self, client: int, data: bytes) -> bool:
        self.replies[client] = data
        self._called()
        return True

    def take_aside(self, database_group: int, user_group: int) -> bool:
        return True

    def give_aside(self, database_group: int, user_group: int) -> None:
        pass

    def take_listener(self, pool: int) -> int:
        verdict = self.room.pop(0) if self.room else 0
        self.listeners_open += verdict == 0
        return verdict

    def give_listener(self, pool: int) -> None:
        self.listeners_open -= 1
        self._called()

    def watch_functions(self, pool: int, mark: int) -> None:
        self.told.append(("watch", pool, mark))

    def function_changes(self, mark: int) -> int:
        return self.changes.get(mark, 0)

    def functions_changed(self, mark: int) -> None:
        self.changes[mark] = self.function_changes(mark) + 1

    def tell_functions(self, mark: int, worker: int, effects: bytes) -> bool:
        return self._tell("functions", mark, worker, effects)

    def functions_known(self, mark: int) -> None:
        self.told.append(("known", mark))

    def _tell(self, *letter: object) -> bool:
        if self.full:
            self.full -= 1
            return False
        self.told.append(letter)
        self._called()
        return True

    def listening(self, pool: int, worker: int, token: int, channel: bytes) -> bool:
        return self._tell("listening", worker, token, channel)

    def listen_failed(self, pool: int, worker: int, error: bytes) -> bool:
        return self._tell("failed", worker, error)

    def channels_lost(self, pool: int, worker: int) -> bool:
        return self._tell("lost", worker)

    def channels_back(self, pool: int, worker: int, notice: bytes) -> bool:
        return self._tell("back", worker, notice)

    def notify(self, pool: int, worker: int, messages: bytes) -> bool:
        return self._tell("notify", worker, messages)

    def ask_clients(self) -> int:
        self._tokens += 1
        for worker in range(self.workers):
            if worker not in self.silent_workers:
                self.post("clients", self._tokens, worker, self.client_rows.get(worker, []))
        return self._tokens

    def servers(self) -> list[dict[str, Any]]:
        return []

    def memory(self) -> list[tuple[str, int, int, int]]:
        return [("client_cache", 500, 2, 62)]

    def worker_rows(self) -> list[dict[str, Any]]:
        return []

    def pools(self) -> list[dict[str, Any]]:
        names = (
            *("cl_active", "cl_waiting", "cl_active_cancel_req", "cl_waiting_cancel_req", "sv_active"),
            *("sv_active_cancel", "sv_being_canceled", "sv_idle", "sv_used", "sv_tested", "sv_login", "maxwait_us"),
        )
        return [
            {
                **dict.fromkeys(names, 0),
                **{name: pool.settings[name] for name in ("pool_size", "min_pool_size", "reserve_pool_size", "mode")},
                **{"id": pool.id, "database": pool.database, "user": pool.user},
                "servers_total": pool.opening + len(pool.adopted),
                "most_clients": 0,
                "most_waiting": 0,
                "most_servers": 0,
            }
            for pool in self.pool_list
        ]

    def counters(self) -> dict[int, dict[str, Any]]:
        return {}

    def invariants(self) -> list[str]:
        return []

    def take_mail(self) -> list[tuple[Any, ...]]:
        if self.state != "stopped":
            with suppress(BlockingIOError):
                os.eventfd_read(self.wakeup_fd)
        letters, self._letters = self._letters, []
        return letters

    def after_fork_in_child(self) -> None:
        self.state = "forked"


def logged_in(
    target: ServerTarget, parameters: Iterable[tuple[bytes, bytes]] = ((b"server_version", b"15.4"),)
) -> LoggedInServer:
    """A server that has just logged in; its socket is an unconnected one."""
    return LoggedInServer(
        host=target.hosts[0],
        port=target.port,
        is_unix=target.hosts[0].startswith("/"),
        backend_pid=4711,
        backend_key=b"\0\0\0\1",
        parameters=list(parameters),
        unread=b"",
        pipe=SocketPipe(trio.socket.socket()),
    )
