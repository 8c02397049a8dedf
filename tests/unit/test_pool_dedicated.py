"""Clients that need a server of their own: when it is opened, whose place it takes, what becomes of it."""

from __future__ import annotations

import pytest

from pgpool_core_probes import pool_probe
from tests.unit.pool_states import CLOSE, GRANTED, KEPT_IDLE, SECOND_US

NOW_US = 1000 * SECOND_US


class World:
    """One pool, or several that share a limit on their database."""

    def __init__(self, pools: int = 1, *, limit: int = 0, **settings: int) -> None:
        self.room = pool_probe.Set()
        database = self.room.add_group(limit)
        values = {"pool_size": 2, "max_opening": 5, "clients": 1, **settings}
        self.pools = [self.room.add_pool(database, self.room.add_group(0), **values) for _ in range(pools)]

    def ask(self, pool: int = 0, *, now_us: int = NOW_US) -> int:
        client = self.room.add_client()
        assert self.room.ask_dedicated(pool, client, 0, now_us)
        return client

    def wait(self, pool: int = 0, *, now_us: int = NOW_US) -> int:
        client = self.room.add_client()
        self.room.request(pool, client, 0, now_us)
        return client

    def opened(self, pool: int = 0, now_us: int = NOW_US) -> int:
        what = self.room.plan(now_us)
        assert what is not None
        assert (what[0], what[2]) == ("open", pool)
        return what[1]

    def idle(self, pool: int = 0, *, now_us: int = NOW_US) -> int:
        client = self.wait(pool, now_us=now_us)
        server = self.opened(pool, now_us)
        self.room.leave_queue(pool, client)
        assert self.room.release(server, 0, now_us) == (KEPT_IDLE, None)
        return server

    def counts(self, pool: int = 0) -> tuple[int, int, int, int]:
        """Servers altogether, dedicated ones, those of them being opened, clients that wait for one."""
        found = self.room.dump_pool(pool)
        dedicated = found["dedicated"]
        return found["total"], dedicated["total"], dedicated["opening"], dedicated["waiting"]


def test_a_server_is_opened_for_one_client_and_closed_behind_it() -> None:
    world = World()
    client = world.ask()
    server = world.opened()
    assert world.room.plan(NOW_US) is None
    assert world.counts() == (1, 1, 1, 0)
    assert world.room.link_dedicated(server, NOW_US) == client
    assert world.room.dump_server(server)["client"] == client
    assert world.counts() == (1, 1, 0, 0)
    waiting = world.wait()
    assert world.room.release(server, 0, NOW_US) == (CLOSE, None)
    assert world.room.dump_client(waiting)["server"] is None
    assert world.room.gone(server, NOW_US)
    assert world.counts() == (0, 0, 0, 0)


def test_an_idle_server_is_not_what_it_asked_for() -> None:
    world = World()
    idle = world.idle()
    client = world.ask()
    server = world.opened()
    assert server != idle
    assert world.room.link_dedicated(server, NOW_US) == client


def test_where_the_pool_is_full_an_idle_server_is_closed_for_it() -> None:
    world = World()
    clients = [world.wait(), world.wait()]
    servers = [world.opened(), world.opened()]
    for client in clients:
        world.room.leave_queue(0, client)
    for server in servers:
        assert world.room.release(server, 0, NOW_US) == (KEPT_IDLE, None)
    world.ask()
    assert world.room.plan(NOW_US) == ("evict", servers[0], 0)
    assert world.room.plan(NOW_US) is None  # one is enough, and has to go first
    assert world.room.gone(servers[0], NOW_US)
    world.opened()
    assert world.counts()[0] == 2


def test_where_every_server_is_busy_the_next_one_released_is_closed_for_it() -> None:
    world = World(pool_size=1)
    busy = world.wait()
    server = world.opened()
    assert world.room.release(server, 0, NOW_US) == (GRANTED, busy)
    world.ask(now_us=NOW_US + 1)
    later = world.wait(now_us=NOW_US + 2)
    assert world.room.plan(NOW_US + 3) is None
    assert world.room.release(server, 0, NOW_US + 3) == (CLOSE, None)
    assert world.room.gone(server, NOW_US + 3)
    world.opened(now_us=NOW_US + 3)
    assert world.counts()[1] == 1
    assert world.room.dump_client(later)["server"] is None


def test_whoever_came_before_it_is_served_before_it() -> None:
    world = World(pool_size=1)
    busy = world.wait()
    server = world.opened()
    assert world.room.release(server, 0, NOW_US) == (GRANTED, busy)
    earlier = world.wait(now_us=NOW_US + 1)
    world.ask(now_us=NOW_US + 2)
    assert world.room.release(server, 0, NOW_US + 3) == (GRANTED, earlier)
    assert world.room.release(server, 0, NOW_US + 4) == (CLOSE, None)


def test_other_clients_do_not_count_on_a_server_that_comes_for_one() -> None:
    world = World()
    world.ask()
    world.opened()
    waiting = world.wait()
    server = world.opened()
    assert world.room.release(server, 0, NOW_US) == (GRANTED, waiting)


def test_a_shared_limit_makes_room_among_its_own_pools_idle_servers_too() -> None:
    world = World(1, limit=1, pool_size=5)
    idle = world.idle()
    world.ask()
    assert world.room.plan(NOW_US) == ("evict", idle, 0)
    assert world.room.gone(idle, NOW_US)
    world.opened()
    assert world.room.dump_groups()[0]["count"] == 1


def test_a_busy_server_of_another_pool_is_claimed_under_a_shared_limit() -> None:
    world = World(2, limit=1)
    busy = world.wait(1)
    server = world.opened(1)
    assert world.room.release(server, 0, NOW_US) == (GRANTED, busy)
    world.ask(0, now_us=NOW_US + 1)
    assert world.room.plan(NOW_US + 1) is None
    assert world.room.release(server, 0, NOW_US + 2) == (CLOSE, None)
    assert world.room.gone(server, NOW_US + 2)
    world.opened(0, NOW_US + 2)


def test_a_client_that_leaves_the_queue_is_not_served() -> None:
    world = World()
    client = world.ask()
    world.room.leave_dedicated(0, client)
    world.room.leave_dedicated(0, client)  # twice does no harm
    assert world.room.plan(NOW_US) is None
    assert world.counts() == (0, 0, 0, 0)


def test_a_client_that_leaves_while_its_server_is_opened_leaves_it_to_be_closed() -> None:
    world = World()
    client = world.ask()
    server = world.opened()
    world.room.leave_dedicated(0, client)
    assert world.room.link_dedicated(server, NOW_US) is None
    assert world.room.dump_server(server)["state"] == "closing"
    assert world.room.gone(server, NOW_US)
    assert world.counts() == (0, 0, 0, 0)


@pytest.mark.parametrize("again", [False, True])
def test_a_server_that_cannot_be_opened(again: bool) -> None:
    """Its client is told, or is the first to have another one."""
    world = World(max_opening=1)
    client = world.ask()
    world.ask(now_us=NOW_US + 1)
    server = world.opened(now_us=NOW_US + 2)
    world.room.part_dedicated(server, again)
    assert world.room.gone(server, NOW_US + 2)
    assert world.counts() == (0, 0, 0, 2 if again else 1)
    server = world.opened(now_us=NOW_US + 2)
    assert (world.room.link_dedicated(server, NOW_US + 2) == client) is again


def test_failed_logins_of_others_do_not_hold_it_back() -> None:
    world = World(retry_us=NOW_US + SECOND_US)
    world.wait()
    client = world.ask()
    assert world.room.link_dedicated(world.opened(), NOW_US) == client
    assert world.room.plan(NOW_US) is None


def test_a_login_that_needs_a_first_server_is_not_served_by_a_dedicated_one() -> None:
    world = World()
    world.ask()
    world.room.link_dedicated(world.opened(), NOW_US)
    world.room.configure(0, logins_waiting=1)
    world.opened()
    world.room.configure(0, pool_size=1)
    assert world.room.plan(NOW_US) is None


def test_a_closed_pool_takes_nobody_and_links_nobody() -> None:
    world = World()
    client = world.ask()
    server = world.opened()
    world.room.configure(0, closed=1)
    assert world.room.link_dedicated(server, NOW_US) is None
    assert world.room.dump_client(client)["server"] is None
    assert not world.room.ask_dedicated(0, world.room.add_client(), 0, NOW_US)
