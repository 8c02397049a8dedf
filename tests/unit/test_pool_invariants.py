"""Any order of events: what must always hold in the pool room, checked after each of them.

Several workers, and several pools that share the limits of databases and users.
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pgpool_core.pool.server import SV_NAMES
from pgpool_core_probes import pool_probe
from tests.unit.pool_states import (
    ACTIVE,
    BAD_MOVE,
    BEING_CANCELED,
    CHECK,
    CLOSE,
    CLOSED,
    CLOSING,
    FREE,
    GOT,
    GRANTED,
    IDLE,
    KEPT_IDLE,
    NEVER_US,
    QUEUED,
    SECOND_US,
    TESTED,
    USED,
    WAIT_GRANTED,
    WAIT_NONE,
    WAIT_QUEUED,
)

WORKERS = st.integers(0, 2)
PICK = st.integers(0, 2**16)

POOL_SETTINGS = st.fixed_dictionaries(
    {
        "pool_size": st.integers(1, 3),
        "min_pool_size": st.integers(0, 3),
        "reserve_pool_size": st.integers(0, 2),
        "reserve_pool_timeout_us": st.sampled_from([0, 2 * SECOND_US]),
        "max_opening": st.integers(1, 3),
        "server_check_delay_us": st.sampled_from([0, 5 * SECOND_US, NEVER_US]),
        "server_lifetime_us": st.sampled_from([20 * SECOND_US, 3600 * SECOND_US]),
        "server_idle_timeout_us": st.sampled_from([0, 8 * SECOND_US]),
        "prewarm": st.integers(0, 1),
        "clients": st.just(1),
    }
)


class PoolRoom(RuleBasedStateMachine):
    """Clients, workers and control as the pool room meets them."""

    def __init__(self) -> None:
        super().__init__()
        self.room = pool_probe.Set()
        self.now_us = 1000 * SECOND_US
        self.settings: list[dict[str, int]] = []
        self.closed: set[int] = set()
        self.too_many: dict[int, int] = {}  # pool -> servers that it had when it was made smaller, and still has
        self.queue: dict[int, list[int]] = {}  # pool -> clients, in the order in which they came
        self.holds: dict[int, int] = {}  # client -> server
        self.granted: set[int] = set()
        self.pool_of: dict[int, int] = {}  # client -> pool that it waits at or has a server of
        self.worker_of: dict[int, int] = {}
        self.free: list[int] = []

    @initialize(
        limits=st.tuples(*[st.sampled_from([0, 1, 2, 3])] * 4),
        pools=st.lists(st.tuples(st.integers(0, 1), st.integers(2, 3), POOL_SETTINGS), min_size=1, max_size=4),
    )
    def begin(self, limits: tuple[int, ...], pools: list[tuple[int, int, dict[str, int]]]) -> None:
        for limit in limits:
            self.room.add_group(limit)
        for database, user, values in pools:
            pool = self.room.add_pool(database, user, **values)
            self.settings.append(values)
            self.queue[pool] = []

    # -- what the room says now ---------------------------------------------------------------------------------------

    def servers(self, *states: int) -> list[int]:
        names = {SV_NAMES[state] for state in states}
        return [n for n in self.room.server_numbers() if self.room.dump_server(n)["state"] in names]

    def one(self, pick: int, *states: int) -> int | None:
        found = self.servers(*states)
        return found[pick % len(found)] if found else None

    def expected_idle(self, pool: int, worker: int) -> int | None:
        """The worker's own last used server, else the last used of all workers."""
        idle: dict[int, list[int]] = self.room.dump_pool(pool)["idle"]
        if idle.get(worker):
            return idle[worker][-1]
        tails = [servers[-1] for _, servers in sorted(idle.items())]
        return max(tails, key=lambda n: self.room.dump_server(n)["since_us"], default=None)  # type: ignore[no-any-return]

    def parted(self, server: int) -> None:
        for client, held in list(self.holds.items()):
            if held == server:
                self.granted.discard(client)
                if self.room.dump_client(client)["waiting"] == WAIT_GRANTED:
                    self.room.take_grant(client)
                del self.holds[client]
                self.free.append(client)

    def look_for_checks(self) -> None:
        """What the engine does when a server that was being tested does not come back."""
        for pool in self.queue:
            while self.room.next_check(pool, 0, self.now_us) is not None:
                pass

    # -- clients ------------------------------------------------------------------------------------------------------

    @rule(pool_pick=PICK, worker=WORKERS)
    def request(self, pool_pick: int, worker: int) -> None:
        pool = pool_pick % len(self.settings)
        client = self.free.pop() if self.free else self.room.add_client()
        self.worker_of[client] = worker
        while True:
            due = self.expected_idle(pool, worker)
            used = self.room.dump_pool(pool)["used"]
            verdict, server, before = self.room.request(pool, client, worker, self.now_us)
            if verdict != CLOSE:
                break
            assert server == (due if due is not None else used[-1])
            assert self.room.dump_server(server) | {"close_needed": True, "state": "closing", "worker": before} == (
                self.room.dump_server(server)
            )
            assert self.room.dump_client(client) == {"waiting": WAIT_NONE, "server": None}
        if server is not None:
            assert not self.room.dump_server(server)["close_needed"]
        if pool in self.closed:
            assert verdict == CLOSED
            self.free.append(client)
            return
        self.pool_of[client] = pool
        if due is not None:
            assert (verdict, server) == (GOT, due)
            assert before is not None
            assert self.room.dump_server(due)["worker"] == worker
            self.holds[client] = due
            return
        assert verdict == (CHECK if used else QUEUED)
        assert server == (used[-1] if used else None)
        self.queue[pool].append(client)

    @rule(pick=PICK)
    def leave_queue(self, pick: int) -> None:
        known = [client for clients in self.queue.values() for client in clients] + list(self.holds)
        if not known:
            return
        client = known[pick % len(known)]
        pool = self.pool_of[client]
        queued = client in self.queue[pool]
        assert self.room.leave_queue(pool, client) == queued
        if queued:
            self.queue[pool].remove(client)
            self.free.append(client)

    @rule(pick=PICK)
    def take_grant(self, pick: int) -> None:
        if self.granted:
            client = sorted(self.granted)[pick % len(self.granted)]
            assert self.room.take_grant(client) == self.holds[client]
            self.granted.remove(client)

    @rule(pool_pick=PICK)
    def refuse_last_waiter(self, pool_pick: int) -> None:
        pool = pool_pick % len(self.settings)
        client = self.room.pop_waiter(pool)
        assert client == (self.queue[pool].pop() if self.queue[pool] else None)
        if client is not None:
            assert self.room.take_grant(client) is None
            self.free.append(client)

    # -- servers ------------------------------------------------------------------------------------------------------

    def give(self, server: int, worker: int) -> None:
        pool: int = self.room.dump_server(server)["pool"]
        doomed = (
            self.room.dump_server(server)["close_needed"] or pool in self.closed or self.has(pool) > self.most(pool)
        )
        self.parted(server)
        verdict, client = self.room.release(server, worker, self.now_us)
        if verdict == GRANTED:
            assert not doomed
            assert client == self.queue[pool].pop(0), "first come, first served"
            self.holds[client] = server
            self.granted.add(client)
            assert self.room.dump_server(server)["worker"] == self.worker_of[client]
        elif verdict == KEPT_IDLE:
            assert not doomed
            assert not self.queue[pool]
        else:
            assert verdict == CLOSE
        self.look_for_checks()

    @rule(pick=PICK, worker=WORKERS)
    def release(self, pick: int, worker: int) -> None:
        server = self.one(pick, ACTIVE, TESTED, BEING_CANCELED)
        if server is not None:
            self.give(server, worker)

    @rule(pick=PICK, worker=WORKERS)
    def adopt(self, pick: int, worker: int) -> None:
        server = self.one(pick, SV_NAMES.index("login"))
        if server is not None:
            self.give(server, worker)

    @rule(pick=PICK)
    def abandon(self, pick: int) -> None:
        server = self.one(pick, SV_NAMES.index("login"))
        if server is not None:
            assert self.room.gone(server, self.now_us)
            self.look_for_checks()

    @rule(pick=PICK)
    def gone(self, pick: int) -> None:
        server = self.one(pick, CLOSING)
        if server is not None:
            assert self.room.gone(server, self.now_us)

    @rule(pick=PICK)
    def gone_too_early(self, pick: int) -> None:
        server = self.one(pick, IDLE, USED, TESTED, ACTIVE, BEING_CANCELED)
        if server is not None:
            assert not self.room.gone(server, self.now_us), "only a closing server can be gone"

    @rule(pick=PICK, to=st.sampled_from([TESTED, BEING_CANCELED, CLOSING]))
    def unlink(self, pick: int, to: int) -> None:
        server = self.one(pick, ACTIVE)
        if server is not None:
            self.parted(server)
            assert self.room.unlink(server, to, self.now_us) == 0
            self.look_for_checks()

    @rule(pick=PICK, to=st.sampled_from([BEING_CANCELED, CLOSING]))
    def test_goes_wrong(self, pick: int, to: int) -> None:
        server = self.one(pick, TESTED)
        if server is not None:
            assert self.room.move(server, to, self.now_us) == 0
            self.look_for_checks()

    @rule(pick=PICK, worker=WORKERS, to=st.sampled_from([TESTED, CLOSING, BEING_CANCELED, FREE]))
    def something_happens_on_an_idle_server(self, pick: int, worker: int, to: int) -> None:
        server = self.one(pick, IDLE, USED)
        if server is not None:
            mine = self.room.dump_server(server)["worker"] == worker and to in (TESTED, CLOSING)
            assert self.room.take_idle(server, worker, to, self.now_us) == mine

    @rule(pick=PICK, worker=WORKERS)
    def release_twice(self, pick: int, worker: int) -> None:
        server = self.one(pick, IDLE, USED, CLOSING)
        if server is not None:
            before = self.room.dump_server(server)
            assert self.room.release(server, worker, self.now_us) == (BAD_MOVE, None)
            assert self.room.dump_server(server) == before

    @rule(pick=PICK)
    def close_needed(self, pick: int) -> None:
        server = self.one(pick, IDLE, USED, TESTED, ACTIVE, BEING_CANCELED)
        if server is not None:
            self.room.close_needed(server)

    # -- control ------------------------------------------------------------------------------------------------------

    @rule(late_us=st.sampled_from([0, 0, 1]))
    def plan(self, late_us: int) -> None:
        """Control's clock reading may be a little older than the workers'."""
        evicted: set[int] = set()
        for _ in range(40):
            idle_since = {n: self.room.dump_server(n)["since_us"] for n in self.servers(IDLE, USED)}
            has = [self.has(n) for n in range(len(self.settings))]
            full_before = {g for g, is_full in enumerate(self.is_full()) if is_full}
            closing = {g: self.closing_in(g) for g in full_before}
            found = self.room.plan(self.now_us - late_us)
            if found is None:
                break
            what, server, pool = found
            values = self.settings[pool]
            dump = self.room.dump_pool(pool)
            if what == "open":
                assert pool not in self.closed
                reserve = values["reserve_pool_size"] if values["reserve_pool_timeout_us"] and self.queue[pool] else 0
                assert dump["total"] <= values["pool_size"] + reserve
                assert dump["count"]["login"] <= values["max_opening"]
            else:
                assert self.queue[pool], "nobody is closed for a pool where nobody waits"
                of = self.room.dump_server(server)["pool"]
                database, user = dump["database"], dump["user"]
                assert of != pool
                assert full_before & {database, user}, "a server is closed only where that makes room"
                group = database if database in full_before else user
                assert group in self.groups_of(of)
                asker = has[pool] + closing[group]

                def given(
                    number: int, *, has: list[int] = has, asker: int = asker, since: dict[int, int] = idle_since
                ) -> bool:
                    """Whether its pool can spare the idle server."""
                    of = self.room.dump_server(number)["pool"]
                    unused = self.now_us - late_us - since[number] >= SECOND_US
                    return asker == 0 or has[of] > asker or unused

                assert given(server)
                older = [n for n, since_us in idle_since.items() if since_us < idle_since[server] and n not in evicted]
                for number in older:
                    theirs = self.room.dump_server(number)["pool"]
                    assert theirs == pool or group not in self.groups_of(theirs) or not given(number)
                evicted.add(server)
        else:
            raise AssertionError("control is never done")
        waiting = sum(map(len, self.queue.values()))
        assert len(evicted) <= waiting, "more servers closed than clients wait"

    def groups_of(self, pool: int) -> set[int]:
        dump = self.room.dump_pool(pool)
        return {dump["database"], dump["user"]}

    def is_full(self) -> list[bool]:
        return [bool(group["limit"]) and group["count"] >= group["limit"] for group in self.room.dump_groups()]

    def closing_in(self, group: int) -> int:
        pools = [self.room.dump_pool(n) for n in range(len(self.settings)) if group in self.groups_of(n)]
        return sum(int(pool["count"]["closing"]) for pool in pools)

    def most(self, pool: int) -> int:
        return self.settings[pool]["pool_size"] + self.settings[pool]["reserve_pool_size"]

    def has(self, pool: int) -> int:
        """Servers that count where pools share a limit: those that are closing do not."""
        dump = self.room.dump_pool(pool)
        return int(dump["total"]) - int(dump["count"]["closing"])

    @rule(pool_pick=PICK, room=st.integers(1, 8))
    def sweep(self, pool_pick: int, room: int) -> None:
        pool = pool_pick % len(self.settings)
        closing = self.room.sweep(pool, self.now_us, room)
        assert len(closing) <= room
        assert {self.room.dump_server(server)["state"] for server in closing} <= {"closing"}
        if len(closing) < room:
            left = self.room.dump_pool(pool)
            kept = [*left["used"], *(n for servers in left["idle"].values() for n in servers)]
            assert not [n for n in kept if self.room.dump_server(n)["close_needed"]]
            assert not (kept and pool in self.closed)
            assert not kept or self.has(pool) <= self.most(pool)

    @rule(pool_pick=PICK)
    def retire_one(self, pool_pick: int) -> None:
        server = self.room.unlist_one(pool_pick % len(self.settings), self.now_us)
        if server is not None:
            assert self.room.dump_server(server)["state"] == "closing"

    @precondition(lambda self: len(self.closed) + 1 < len(self.settings))
    @rule(pool_pick=PICK)
    def close_pool(self, pool_pick: int) -> None:
        pool = pool_pick % len(self.settings)
        self.closed.add(pool)
        self.room.configure(pool, closed=1)
        while self.queue[pool]:
            self.refuse_last_waiter(pool)

    @rule(pool_pick=PICK, size=st.integers(1, 3), reserve=st.integers(0, 2))
    def resize(self, pool_pick: int, size: int, reserve: int) -> None:
        """What there is too much of goes as it comes free."""
        pool = pool_pick % len(self.settings)
        self.settings[pool] = {**self.settings[pool], "pool_size": size, "reserve_pool_size": reserve}
        self.room.configure(pool, pool_size=size, reserve_pool_size=reserve)
        self.too_many[pool] = self.room.dump_pool(pool)["total"]

    @rule(step_us=st.sampled_from([1, SECOND_US, 3 * SECOND_US, 30 * SECOND_US]))
    def time_passes(self, step_us: int) -> None:
        self.now_us += step_us

    # -- what must always hold ----------------------------------------------------------------------------------------

    @invariant()
    def it_all_agrees(self) -> None:
        servers: dict[int, dict[str, Any]] = {n: self.room.dump_server(n) for n in self.room.server_numbers()}
        groups = self.room.dump_groups()
        for number, server in servers.items():
            assert (server["client"] is not None) == (server["state"] == "active"), (number, server)
            assert self.holds.get(server["client"]) == (number if server["client"] else None)
        for client, held in self.holds.items():
            assert servers[held]["client"] == client
            waiting = WAIT_GRANTED if client in self.granted else WAIT_NONE
            assert self.room.dump_client(client) == {"waiting": waiting, "server": held}
        for client in self.free:
            assert self.room.dump_client(client) == {"waiting": WAIT_NONE, "server": None}
        taken = [0] * len(groups)
        for pool, queue in self.queue.items():
            dump = self.room.dump_pool(pool)
            mine = {n: server for n, server in servers.items() if server["pool"] == pool}
            states = [server["state"] for server in mine.values()]
            assert dump["count"] == {name: states.count(name) for name in SV_NAMES}
            assert dump["total"] == len(mine)
            self.too_many[pool] = min(self.too_many.get(pool, 0), dump["total"])
            assert dump["total"] <= max(self.most(pool), self.too_many[pool])
            assert dump["waiters"] == queue
            assert all(self.room.dump_client(client)["waiting"] == WAIT_QUEUED for client in queue)
            assert sorted(dump["used"]) == sorted(n for n, server in mine.items() if server["state"] == "used")
            for worker, idle in dump["idle"].items():
                assert {(mine[n]["state"], mine[n]["worker"]) for n in idle} == {("idle", worker)}
                assert idle == sorted(idle, key=lambda n: mine[n]["since_us"])
            assert sum(map(len, dump["idle"].values())) == dump["count"]["idle"]
            assert dump["used"] == sorted(dump["used"], key=lambda n: mine[n]["since_us"])
            if queue:
                assert not dump["count"]["idle"], "somebody waits beside an idle server"
                coming = dump["count"]["tested"] + dump["count"]["login"]
                assert not dump["used"] or coming >= len(queue), "somebody waits beside a server that nobody checks"
            taken[dump["database"]] += dump["total"]
            taken[dump["user"]] += dump["total"]
        assert [group["count"] for group in groups] == taken
        assert all(not group["limit"] or group["count"] <= group["limit"] for group in groups)


PoolRoom.TestCase.settings = settings(max_examples=200, stateful_step_count=60, deadline=None)
test_the_pool_room_keeps_its_promises_in_any_order = PoolRoom.TestCase
