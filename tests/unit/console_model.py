"""A pooler for the console's tests: one snapshot, orders that are remembered, and replies taken apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from struct import unpack_from
from typing import Any, Literal

import attrs

from pgpool_core.admin.commands import Console
from pgpool_core.admin.session import ConsoleSession
from pgpool_core.errors import CommandRefused, ConfigError, PgPoolError
from pgpool_core.metrics.snapshot import (
    ConfigRow,
    DatabaseRow,
    HostRow,
    LeakRow,
    ListenerRow,
    LoginStepRow,
    MemoryRow,
    NameRow,
    PeerRow,
    Snapshot,
    StatsPeriods,
    UserRow,
)

SECOND = 1_000_000
NOW_US = 5_000 * SECOND
UNIX_US = 1_700_000_000 * SECOND + 999_999  # 2023-11-14 22:13:20 UTC
BUCKETS = 272

TYPE_LENGTHS = {23: 4, 20: 8}


def pool(number: int, database: str, user: str, **values: int) -> dict[str, Any]:
    names = """mode pool_size min_pool_size reserve_pool_size cl_active cl_waiting cl_active_cancel_req
        cl_waiting_cancel_req sv_active sv_active_cancel sv_being_canceled sv_idle sv_used sv_tested sv_login maxwait_us
        servers_total most_clients most_waiting most_servers"""
    return {"id": number, "database": database, "user": user} | dict.fromkeys(names.split(), 0) | values


def link(number: int, pool_id: int, state: str, **values: Any) -> dict[str, Any]:
    """Return a client or a server as the engine gives it, of a connection that was made 100 seconds ago."""
    row: dict[str, Any] = {"id": number, "pool": pool_id, "state": state, "user": "ann", "database": "app"}
    row |= {"addr": "10.0.0.8", "port": 50000, "local_addr": "10.0.0.1", "local_port": 6432, "worker": 0}
    row |= {"connect_us": NOW_US - 100 * SECOND, "request_us": NOW_US - 2 * SECOND, "wait_us": 0, "link": 0}
    row |= {"application_name": "", "close_needed": False, "remote_pid": 0, "pins": [], "pinned_us": 0, "pin_cause": 0}
    row |= {"prepared": 0, "held": 0, "remain": 0, "unsent": 0, "fd": number + 100, "tls": ""}
    row["host"] = row["addr"]
    return row | {"replication": "none"} | values


def leak(**values: Any) -> LeakRow:
    common: dict[str, Any] = {"database": "app", "user": "ann", "kind": "setting", "name": "work_mem"}
    common |= {"application_name": "shop", "fingerprint": 0xAB, "client_id": 7, "server_id": 8, "server_pid": 9}
    return LeakRow(**(common | values))


def counted(**values: Any) -> dict[str, Any]:
    names = """server_assignments xacts queries received sent xact_us query_us wait_us client_parses server_parses binds
        client_logins login_us pins state_refusals probes leak_checks leaks listens notifications"""
    histograms: dict[str, Any] = {name: [0] * BUCKETS for name in ("wait", "query", "xact", "login")}
    histograms |= {"pinned_for": [0] * 16, "warned_of": [0] * 16}
    return dict.fromkeys(names.split(), 0) | histograms | values


ONE_TO_TWELVE = counted(
    **{"server_assignments": 10, "xacts": 20, "queries": 30, "received": 40, "sent": 50, "xact_us": 60, "query_us": 70},
    **{"wait_us": 80, "client_parses": 90, "server_parses": 100, "binds": 110, "client_logins": 120},
)


WORKER: Mapping[str, Any] = {
    **{
        "worker": 0,
        "thread": 4711,
        "cpu_ns": 70_001,
        "clients": 3,
        "xacts": 30,
        "steals": 5,
        "handoffs": 6,
        "wakeups": 4,
        "locks": 60,
    },
    **{"lock_waits": 2, "lock_wait_ns": 9_999, "locks_timed": 2, "lock_held_ns": 181},
    "lock_held": [1, 0, 1, *[0] * 7],
}


def sample() -> Snapshot:
    """Return a pooler of two databases, three pools, five clients and two servers, after one period of 10 seconds."""
    periods = StatsPeriods(now_us=NOW_US - 10 * SECOND)
    zoo = counted(queries=1, pinned_for=[0, 2, *[0] * 14], warned_of=[3, *[0] * 15])
    counters = {1: ONE_TO_TWELVE, 2: zoo, 3: counted()}
    periods.tick(counters, NOW_US)
    common: Mapping[str, Any] = {"port": 5432, "min_pool_size": 1, "reserve_pool_size": 2, "server_lifetime_s": 3600.0}
    return Snapshot.build(
        now_us=NOW_US,
        unix_us=UNIX_US,
        listen_port=6432,
        pools=[
            pool(2, "zoo", "bob", mode=0),
            pool(3, "app", "zed", mode=2),
            pool(1, "app", "ann", mode=1, cl_active=2, cl_waiting=1, sv_active=1, sv_idle=1, maxwait_us=1_250_000)
            | {"servers_total": 2, "cl_active_cancel_req": 3, "cl_waiting_cancel_req": 4, "sv_active_cancel": 5}
            | {"sv_being_canceled": 6, "sv_used": 7, "sv_tested": 8, "sv_login": 9},
        ],
        clients=[
            link(30, 1, "waiting", wait_us=1_250_000),
            link(
                17,
                1,
                "active",
                link=18,
                application_name="psql",
                close_needed=True,
                remote_pid=77,
                replication="logical",
                pins=["listen", "advisory lock"],
                pinned_us=NOW_US - 3 * SECOND,
                pin_cause=0xABC,
            ),
            link(40, -2, "idle", user="root", database="pgbouncer"),
            link(41, -1, "login", user="", database=None),
            link(29, 1, "idle", request_us=0),
        ],
        servers=[
            link(19, 1, "idle"),
            link(18, 1, "active", link=17, remote_pid=4242, application_name="psql", port=5432),
        ],
        counters=counters,
        periods=periods,
        databases=[
            DatabaseRow(
                name="zoo", host=None, database="zoo", force_user="bob", pool_size=3, pool_mode="session", **common
            ),
            DatabaseRow(
                name="app",
                host="db1",
                database="app_db",
                force_user=None,
                pool_size=20,
                pool_mode=None,
                max_connections=50,
                max_client_connections=60,
                **common,
            ),
        ],
        users=[UserRow(name="zed", pool_size=7, pool_mode="session", max_user_connections=4), UserRow(name="ann")],
        listeners=[ListenerRow(7, "127.0.0.1", 6432)],
        memory=[MemoryRow("client_cache", 500, 2, 62, 32_000)],
        workers=[WORKER, {**dict.fromkeys(WORKER, 0), "worker": 1, "lock_held": [0] * 10}],
        names=[NameRow("db1", 14, ("10.0.0.1", "10.0.0.2"))],
        peers=[PeerRow(2, "peer", 6433, 20, 1, 3, 1)],
        hosts=[
            HostRow(
                database="app",
                host="db.example",
                port=5432,
                state="up",
                since_us=NOW_US - 3 * SECOND,
                error=None,
                opened=2,
                failed=0,
                servers=1,
                addresses=("10.0.0.5",),
            )
        ],
        login_steps=[
            LoginStepRow(step="ldap", active=16, waiting=3, max_active=16, total=4_000_000_000, queued=7, failed=2)
        ],
        leaks=[leak(at_us=NOW_US - 3 * SECOND), leak(kind="listen", name="", fingerprint=0, at_us=NOW_US - SECOND)],
    )


@attrs.define
class Pooler:
    """A pooler that has one snapshot and remembers what it was told to do."""

    done: list[str] = attrs.field(factory=list)
    order_error: CommandRefused | None = None
    reload_error: ConfigError | None = None
    snapshot_error: PgPoolError | None = None

    async def snapshot(self) -> Snapshot:
        if self.snapshot_error:
            raise self.snapshot_error
        return sample()

    async def reload(self) -> None:
        if self.reload_error:
            raise self.reload_error
        self.done.append("reload")

    async def change_setting(self, key: str, value: str) -> None:
        if self.reload_error:
            raise self.reload_error
        self.done.append(f"set {key} {value}")

    @property
    def orders(self) -> Pooler:
        return self

    def ordered(self, order: str, argument: object) -> None:
        if self.order_error:
            raise self.order_error
        self.done.append(f"{order} {argument}")

    async def pause(self, database: str | None = None) -> None:
        self.ordered("pause", database)

    async def resume(self, database: str | None = None) -> None:
        self.ordered("resume", database)

    async def suspend(self, holder: int | None = None) -> None:
        self.ordered("suspend", holder)

    async def kill(self, database: str | None = None) -> None:
        self.ordered("kill", database)

    async def kill_client(self, which: str | None) -> None:
        self.ordered("kill_client", which)

    async def wait_close(self, database: str | None = None) -> None:
        self.ordered("wait_close", database)

    def disable(self, database: str | None) -> None:
        self.ordered("disable", database)

    def enable(self, database: str | None) -> None:
        self.ordered("enable", database)

    def reconnect(self, database: str | None = None) -> None:
        self.ordered("reconnect", database)

    def shutdown(self, mode: Literal["WAIT_FOR_SERVERS", "WAIT_FOR_CLIENTS"] | None = None) -> None:
        self.ordered("shutdown", mode)

    def config_rows(self) -> list[ConfigRow]:
        return [ConfigRow("verbose", "0", "0", True), ConfigRow("auth_file", None, None, False)]


class Reply:
    """A console reply, taken apart; fails where it is not exactly a run of whole messages."""

    def __init__(self, data: bytes, *, whole: bool = True) -> None:
        self.messages = list(self.split(data))
        self.codes = b"".join(code for code, _ in self.messages)
        bodies = dict(self.messages)
        self.tag = bodies[b"C"].removesuffix(b"\0").decode() if b"C" in bodies else None
        self.error = self._fields(bodies[b"E"]) if b"E" in bodies else None
        self.notice = self._fields(bodies[b"N"]) if b"N" in bodies else None
        self.columns = self._columns(bodies[b"T"]) if b"T" in bodies else []
        self.rows = [self._cells(body) for code, body in self.messages if code == b"D"]
        assert not whole or all(len(row) == len(self.columns) for row in self.rows)

    def table(self) -> list[dict[str, str | None]]:
        return [dict(zip((name for name, _ in self.columns), row, strict=True)) for row in self.rows]

    @staticmethod
    def split(data: bytes) -> Iterator[tuple[bytes, bytes]]:
        at = 0
        while at < len(data):
            (length,) = unpack_from("!I", data, at + 1)
            body = data[at + 5 : at + 1 + length]
            assert len(body) == length - 4
            yield data[at : at + 1], body
            at += 1 + length

    @staticmethod
    def _fields(body: bytes) -> dict[str, str]:
        assert body.endswith(b"\0\0")
        return {f[:1].decode(): f[1:].decode("utf-8", "surrogateescape") for f in body[:-2].split(b"\0")}

    @staticmethod
    def _columns(body: bytes) -> list[tuple[str, int]]:
        (count,), at, found = unpack_from("!H", body), 2, []
        for _ in range(count):
            end = body.index(b"\0", at)
            table, number, oid, length, modifier, text_format = unpack_from("!IHIhiH", body, end + 1)
            assert (table, number, length, modifier, text_format) == (0, 0, TYPE_LENGTHS.get(oid, -1), -1, 0)
            found.append((body[at:end].decode(), oid))
            at = end + 19
        assert at == len(body)
        return found

    @staticmethod
    def _cells(body: bytes) -> list[str | None]:
        (count,), at, found = unpack_from("!H", body), 2, []
        for _ in range(count):
            (length,) = unpack_from("!i", body, at)
            found.append(None if length < 0 else body[at + 4 : at + 4 + length].decode("utf-8", "surrogateescape"))
            at += 4 + max(length, 0)
        assert at == len(body)
        return found


def session_of(pooler: Pooler, *, is_admin: bool = True) -> ConsoleSession:
    return ConsoleSession(Console(pooler, version="9.8.7"), client=40, is_admin=is_admin)
