"""When control opens servers and when it closes idle ones for another pool: one case a test."""

from __future__ import annotations

import pytest

from pgpool_core_probes import pool_probe
from tests.unit.pool_states import CLOSE, GRANTED, KEPT_IDLE, SECOND_US

NOW_US = 1000 * SECOND_US


class Pools:
    """Pools of one database with `limit` connections; each has a user of its own."""

    def __init__(self, count: int, *, limit: int = 0, **settings: int) -> None:
        self.room = pool_probe.Set()
        database = self.room.add_group(limit)
        values = {"pool_size": 5, "max_opening": 5, "clients": 1, **settings}
        self.pools = [self.room.add_pool(database, self.room.add_group(0), **values) for _ in range(count)]

    def wait(self, pool: int, *, now_us: int = NOW_US) -> int:
        client = self.room.add_client()
        self.room.request(pool, client, 0, now_us)
        return client

    def idle(self, pool: int, count: int = 1, *, now_us: int = NOW_US) -> list[int]:
        """Servers opened for clients that have gone again."""
        servers = []
        clients = [self.wait(pool, now_us=now_us) for _ in range(count)]
        for _ in range(count):
            found = self.room.plan(now_us)
            assert found is not None
            servers.append(found[1])
        for client in clients:
            self.room.leave_queue(pool, client)
        for server in servers:
            assert self.room.release(server, 0, now_us)[0] == KEPT_IDLE
        return servers

    def plans(self, now_us: int) -> list[tuple[str, int, int]]:
        found = []
        while (what := self.room.plan(now_us)) is not None and len(found) < 50:
            found.append(what)
        return found


@pytest.mark.parametrize(
    ("settings", "opened"), [({"pool_size": 2}, 2), ({"max_opening": 3}, 3), ({"pool_size": 0}, 4)]
)
def test_as_many_are_opened_as_clients_wait_within_the_limits(settings: dict[str, int], opened: int) -> None:
    world = Pools(1, **settings)
    for _ in range(4):
        world.wait(0)
    assert len(world.plans(NOW_US)) == opened


def test_the_client_that_has_waited_longest_is_served_first_whatever_its_pool() -> None:
    world = Pools(3, limit=3)
    for pool, waited in ((0, 1), (1, 3), (2, 2)):
        world.wait(pool, now_us=NOW_US - waited)
    assert [pool for _, _, pool in world.plans(NOW_US)] == [1, 2, 0]


def test_the_reserve_is_touched_only_after_its_timeout() -> None:
    world = Pools(1, pool_size=1, reserve_pool_size=1, reserve_pool_timeout_us=3 * SECOND_US)
    world.wait(0)
    world.wait(0)
    assert len(world.plans(NOW_US + SECOND_US)) == 1
    assert len(world.plans(NOW_US + 3 * SECOND_US)) == 1
    assert world.room.dump_pool(0)["reserve_used"] == 1


def test_a_clock_reading_older_than_the_wait_does_not_open_the_reserve() -> None:
    """A worker may have read the clock after control did."""
    world = Pools(1, pool_size=1, reserve_pool_size=1, reserve_pool_timeout_us=3 * SECOND_US)
    world.wait(0)
    world.wait(0)
    assert len(world.plans(NOW_US - 1)) == 1


def test_one_idle_server_is_closed_for_one_waiting_client() -> None:
    world = Pools(2, limit=3)
    servers = world.idle(0, 3)
    world.wait(1)
    assert world.plans(NOW_US + 1) == [("evict", servers[0], 1)]
    assert world.plans(NOW_US + 2) == [], "the slot is on its way"
    assert world.room.gone(servers[0], NOW_US + 3)
    assert [what for what, _, _ in world.plans(NOW_US + 3)] == ["open"]
    assert world.room.dump_pool(0)["count"]["idle"] == 2


def test_as_many_are_closed_as_clients_wait() -> None:
    world = Pools(2, limit=3)
    servers = world.idle(0, 3)
    world.wait(1)
    world.wait(1)
    assert world.plans(NOW_US + 1) == [("evict", servers[0], 1), ("evict", servers[1], 1)]


def test_nobody_is_closed_to_fill_the_minimum_of_another_pool() -> None:
    """Two pools that share one connection would take it from each other for ever."""
    world = Pools(2, limit=1, min_pool_size=1)
    opened = world.plans(NOW_US)
    assert len(opened) == 1
    assert world.room.release(opened[0][1], 0, NOW_US) == (KEPT_IDLE, None)
    for tick in range(1, 20):
        assert world.plans(NOW_US + tick * SECOND_US) == []


def test_a_login_that_needs_a_first_server_may_have_an_idle_one_closed() -> None:
    world = Pools(2, limit=1)
    (server,) = world.idle(0)
    world.room.configure(1, logins_waiting=1)
    assert world.plans(NOW_US + 1) == [("evict", server, 1)]


def test_a_busy_pool_hands_over_what_another_has_waited_for_longer() -> None:
    world = Pools(2, limit=1)
    mine = world.wait(0)
    ((_, server, _),) = world.plans(NOW_US)
    assert world.room.release(server, 0, NOW_US) == (GRANTED, mine)
    world.room.take_grant(mine)
    world.wait(1, now_us=NOW_US + 1)
    world.wait(0, now_us=NOW_US + 2)
    assert world.plans(NOW_US + 3) == []
    assert world.room.release(server, 0, NOW_US + 4) == (CLOSE, None)
    assert world.room.gone(server, NOW_US + 5)
    assert [(what, pool) for what, _, pool in world.plans(NOW_US + 6)] == [("open", 1)]


def test_a_pool_keeps_its_server_for_a_client_of_its_own_that_came_earlier() -> None:
    world = Pools(2, limit=1)
    first = world.wait(0)
    ((_, server, _),) = world.plans(NOW_US)
    assert world.room.release(server, 0, NOW_US) == (GRANTED, first)
    second = world.wait(0, now_us=NOW_US + 1)
    world.wait(1, now_us=NOW_US + 2)
    assert world.plans(NOW_US + 3) == []
    assert world.room.release(server, 0, NOW_US + 4) == (GRANTED, second)
    assert world.room.release(server, 0, NOW_US + 5) == (CLOSE, None)


def test_busy_pools_share_a_limit_and_then_leave_each_other_alone() -> None:
    """Thirty clients of one user and eight of another, all of them back in the queue as soon as they are served."""
    world = Pools(2, limit=10, pool_size=10, max_opening=10)
    now_us = NOW_US
    for _ in range(30):
        world.wait(0)
    servers = [[server for _, server, _ in world.plans(now_us)], []]
    closed = 0
    closed_by_half: list[int] = []

    def serve(pool: int, server: int) -> None:
        nonlocal closed
        verdict, client = world.room.release(server, 0, now_us)
        if verdict == CLOSE:
            closed += 1
            servers[pool].remove(server)
            assert world.room.gone(server, now_us)
        elif client is not None:
            world.room.take_grant(client)
            world.wait(pool, now_us=now_us)

    for turn in range(400):
        now_us += 1000
        if turn == 10:
            for _ in range(8):
                world.wait(1, now_us=now_us)
        for pool in (0, 1):
            for server in list(servers[pool]):
                serve(pool, server)
        for what, server, pool in world.plans(now_us):
            assert what == "open"
            servers[pool].append(server)
        if turn % 200 == 199:
            closed_by_half.append(closed)
    assert [len(each) for each in servers] == [5, 5]
    assert closed_by_half[0] == closed_by_half[1] == 5


def test_an_idle_server_goes_to_a_pool_with_as_many_only_when_it_is_not_needed() -> None:
    world = Pools(2, limit=2)
    (mine,) = world.idle(0)
    world.idle(1)
    taken = world.wait(1, now_us=NOW_US)
    world.wait(1, now_us=NOW_US)
    assert taken
    assert world.plans(NOW_US + SECOND_US - 1) == []
    assert world.plans(NOW_US + SECOND_US) == [("evict", mine, 1)]


def test_a_claim_of_a_pool_without_servers_goes_before_that_of_one_with_some() -> None:
    world = Pools(3, limit=4, pool_size=4)
    busy = [world.wait(0) for _ in range(3)]
    servers = [server for _, server, _ in world.plans(NOW_US)]
    assert [world.room.release(server, 0, NOW_US)[0] for server in servers] == [GRANTED] * len(busy)
    other = world.wait(1)
    ((_, server, _),) = world.plans(NOW_US)
    assert world.room.release(server, 0, NOW_US) == (GRANTED, other)
    world.wait(1, now_us=NOW_US + 1)
    assert world.plans(NOW_US + 2) == []
    assert (world.room.dump_groups()[0]["claim_us"], world.room.dump_groups()[0]["claim_has"]) == (NOW_US + 1, 1)
    world.wait(2, now_us=NOW_US + 3)
    assert world.plans(NOW_US + 4) == []
    assert (world.room.dump_groups()[0]["claim_us"], world.room.dump_groups()[0]["claim_has"]) == (NOW_US + 3, 0)


def test_a_closing_server_counts_until_it_has_gone() -> None:
    world = Pools(1, limit=1)
    (server,) = world.idle(0)
    assert world.room.unlist_one(0, NOW_US) == server
    world.wait(0)
    assert world.plans(NOW_US) == []
    assert world.room.dump_groups()[0]["count"] == 1
    assert world.room.gone(server, NOW_US)
    assert len(world.plans(NOW_US)) == 1


def test_after_a_failed_opening_nothing_is_tried_before_its_time() -> None:
    world = Pools(1)
    world.wait(0)
    world.room.configure(0, retry_us=NOW_US + 15 * SECOND_US)
    assert world.plans(NOW_US + 14 * SECOND_US) == []
    assert len(world.plans(NOW_US + 15 * SECOND_US)) == 1


def test_without_a_slot_to_give_nothing_is_opened() -> None:
    world = Pools(1)
    world.wait(0)
    assert world.room.plan(NOW_US, slot=False) is None
    assert len(world.plans(NOW_US)) == 1
