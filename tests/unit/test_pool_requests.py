"""Who gets which server: one case a test."""

from __future__ import annotations

import pytest

from pgpool_core_probes import pool_probe
from tests.unit.pool_states import (
    BEING_CANCELED,
    CHECK,
    CLOSE,
    CLOSED,
    CLOSING,
    GOT,
    GRANTED,
    KEPT_IDLE,
    QUEUED,
    SECOND_US,
    TESTED,
    WAIT_NONE,
    WAIT_QUEUED,
)

NOW_US = 1000 * SECOND_US


class OnePool:
    """A pool with `size` servers, each adopted idle by the worker that `workers` names."""

    def __init__(self, *workers: int, **settings: int) -> None:
        self.room = pool_probe.Set()
        database, user = self.room.add_group(0), self.room.add_group(0)
        size = max(1, len(workers))
        values = {"pool_size": size, "min_pool_size": size, "max_opening": size, "clients": 1, **settings}
        self.pool = self.room.add_pool(database, user, **values)
        self.servers = []
        for at, worker in enumerate(workers):
            opened = self.room.plan(NOW_US)
            assert opened is not None
            self.servers.append(opened[1])
            self.room.release(opened[1], worker, NOW_US + at)

    def request(self, worker: int = 0, now_us: int = NOW_US + 10) -> tuple[int, tuple[int, int | None, int | None]]:
        client = self.room.add_client()
        return client, self.room.request(self.pool, client, worker, now_us)


def test_round_robin_takes_the_server_that_has_been_idle_for_longest() -> None:
    pool = OnePool(0, 0, 1, round_robin=1)
    a, b, c = pool.servers
    assert pool.request(worker=1)[1] == (GOT, a, 0), "another worker's too"
    pool.room.release(a, 1, NOW_US + 20)
    assert [pool.request(worker=0)[1] for _ in range(3)] == [(GOT, b, 0), (GOT, c, 1), (GOT, a, 1)]


def test_a_worker_takes_its_own_last_used_server_first() -> None:
    pool = OnePool(0, 0, 1)
    a, b, c = pool.servers
    assert pool.request(worker=0)[1] == (GOT, b, 0)
    assert pool.request(worker=0)[1] == (GOT, a, 0)
    assert pool.request(worker=0)[1] == (GOT, c, 1), "then another worker's"
    assert pool.room.dump_server(c)["worker"] == 0


def test_a_worker_without_servers_steals_the_one_used_last() -> None:
    pool = OnePool(1, 2, 1)
    assert pool.request(worker=0)[1] == (GOT, pool.servers[2], 1)
    assert pool.request(worker=0)[1] == (GOT, pool.servers[1], 2)


def test_a_freed_server_goes_to_whoever_has_waited_longest_wherever_it_lives() -> None:
    pool = OnePool(0)
    pool.request()
    waiting = [pool.request(worker)[0] for worker in (2, 0, 1)]
    for client, worker in zip(waiting, (2, 0, 1), strict=True):
        assert pool.room.release(pool.servers[0], 0, NOW_US + 20) == (GRANTED, client)
        assert pool.room.dump_server(pool.servers[0])["worker"] == worker
        assert pool.room.take_grant(client) == pool.servers[0]
    assert pool.room.release(pool.servers[0], 0, NOW_US + 20) == (KEPT_IDLE, None)


def test_a_client_that_has_been_granted_a_server_cannot_leave_the_queue() -> None:
    pool = OnePool(0)
    pool.request()
    client, (verdict, _, _) = pool.request()
    assert verdict == QUEUED
    pool.room.release(pool.servers[0], 0, NOW_US + 20)
    assert not pool.room.leave_queue(pool.pool, client)
    assert pool.room.dump_client(client)["server"] == pool.servers[0]


@pytest.mark.parametrize(
    ("settings", "soon"),
    [
        ({}, False),
        ({"server_idle_timeout_us": 600 * SECOND_US, "server_lifetime_us": 3600 * SECOND_US}, False),
        ({"server_idle_timeout_us": SECOND_US}, True),
        ({"server_lifetime_us": 5 * SECOND_US}, True),
        ({"server_check_delay_us": SECOND_US}, True),
        ({"server_check_delay_us": 0}, False),
        ({"min_pool_size": 3, "pool_size": 3}, True),
    ],
    ids=["nothing", "long", "idle", "one of two each", "check", "check always", "too few"],
)
def test_a_pool_where_nothing_is_due_soon_is_not_looked_at_again_soon(settings: dict[str, int], soon: bool) -> None:
    pool = OnePool(0, 0, **{"server_check_delay_us": 30 * SECOND_US, **settings})
    assert pool.room.sweep_soon(pool.pool, NOW_US + SECOND_US) == soon


def test_min_pool_size_without_a_client_is_nothing_to_look_for() -> None:
    pool = OnePool(clients=0, min_pool_size=3, pool_size=3)
    assert not pool.room.sweep_soon(pool.pool, NOW_US)


def test_a_pool_is_looked_at_soon_while_anybody_waits_and_while_servers_come_or_go() -> None:
    pool = OnePool(0, server_check_delay_us=30 * SECOND_US)
    a = pool.servers[0]
    pool.request()
    assert not pool.room.sweep_soon(pool.pool, NOW_US)
    waiting, _ = pool.request()
    assert pool.room.sweep_soon(pool.pool, NOW_US)
    pool.room.leave_queue(pool.pool, waiting)
    assert not pool.room.sweep_soon(pool.pool, NOW_US)
    pool.room.unlink(a, BEING_CANCELED, NOW_US)
    assert pool.room.sweep_soon(pool.pool, NOW_US)
    pool.room.move(a, CLOSING, NOW_US)
    assert pool.room.sweep_soon(pool.pool, NOW_US)


def test_a_server_that_was_idle_for_long_is_checked_before_reuse() -> None:
    pool = OnePool(0, 0, server_check_delay_us=SECOND_US)
    a, b = pool.servers
    pool.room.sweep(pool.pool, NOW_US + 2 * SECOND_US)
    assert pool.room.dump_pool(pool.pool)["used"] == [a, b]
    client, answer = pool.request(now_us=NOW_US + 2 * SECOND_US)
    assert answer == (CHECK, b, 0)
    assert pool.room.release(b, 0, NOW_US + 3 * SECOND_US) == (GRANTED, client)


def test_a_check_that_fails_leads_to_the_next_server_and_not_to_a_wait_beside_it() -> None:
    pool = OnePool(0, 1, server_check_delay_us=SECOND_US)
    a, b = pool.servers
    pool.room.sweep(pool.pool, NOW_US + 2 * SECOND_US)
    pool.request(now_us=NOW_US + 2 * SECOND_US)
    assert pool.room.next_check(pool.pool, 0, NOW_US + 2 * SECOND_US) is None, "it is being checked for"
    pool.room.move(b, CLOSING, NOW_US + 2 * SECOND_US)
    assert pool.room.next_check(pool.pool, 2, NOW_US + 2 * SECOND_US) == a
    assert pool.room.dump_server(a) | {"state": "tested", "worker": 2} == pool.room.dump_server(a)


def test_a_server_is_always_checked_where_the_delay_is_nothing() -> None:
    pool = OnePool(0, server_check_delay_us=0)
    assert pool.room.dump_server(pool.servers[0])["state"] == "used"
    assert pool.request()[1] == (CHECK, pool.servers[0], 0)


@pytest.mark.parametrize("check_delay_us", [0, SECOND_US], ids=["to be checked", "ready"])
def test_an_idle_server_that_is_to_be_closed_is_given_to_nobody(check_delay_us: int) -> None:
    pool = OnePool(1, 0, 1, server_check_delay_us=check_delay_us)
    a, b, c = pool.servers
    pool.room.close_needed(b)
    pool.room.close_needed(c)
    client = pool.room.add_client()
    answers = [pool.room.request(pool.pool, client, 0, NOW_US + 10) for _ in range(3)]
    closed, (verdict, server, before) = {s: (v, w) for v, s, w in answers[:2]}, answers[2]
    assert closed == {b: (CLOSE, 0), c: (CLOSE, 1)}, "each by the worker in whose poll set it is"
    assert (verdict, server, before) == (CHECK if check_delay_us == 0 else GOT, a, 1)
    assert [pool.room.dump_server(s)["state"] for s in (b, c)] == ["closing", "closing"]
    assert pool.room.dump_client(client)["waiting"] == (WAIT_QUEUED if check_delay_us == 0 else WAIT_NONE)


def test_a_closed_pool_takes_no_clients_and_keeps_no_servers() -> None:
    pool = OnePool(0, 0)
    pool.request()
    pool.room.configure(pool.pool, closed=1)
    assert pool.request()[1] == (CLOSED, None, None)
    assert pool.room.release(pool.servers[1], 0, NOW_US + 20) == (CLOSE, None)
    assert pool.room.sweep(pool.pool, NOW_US + 20) == [pool.servers[0]]


def test_a_server_past_its_lifetime_is_closed_one_at_a_time() -> None:
    pool = OnePool(0, 0, server_lifetime_us=10 * SECOND_US)
    assert len(pool.room.sweep(pool.pool, NOW_US + 11 * SECOND_US)) == 1
    assert len(pool.room.sweep(pool.pool, NOW_US + 12 * SECOND_US)) == 0
    assert len(pool.room.sweep(pool.pool, NOW_US + 16 * SECOND_US)) == 1


@pytest.mark.parametrize("check_delay_us", [0, 60 * SECOND_US], ids=["to be checked", "ready"])
def test_a_pool_that_is_made_smaller_closes_idle_servers_until_it_fits(check_delay_us: int) -> None:
    pool = OnePool(0, 1, 0, 0, server_check_delay_us=check_delay_us)
    assert pool.room.sweep(pool.pool, NOW_US + 10) == []
    pool.room.configure(pool.pool, pool_size=1, reserve_pool_size=1)
    closing = pool.room.sweep(pool.pool, NOW_US + 10)
    assert len(closing) == 2
    assert pool.room.sweep(pool.pool, NOW_US + 10) == [], "those that are closing already do not count"


def test_a_pool_that_is_made_smaller_closes_servers_as_they_come_free_also_while_clients_wait() -> None:
    pool = OnePool(0, 0, 0)
    held = [pool.request()[1][1] for _ in range(3)]
    waiting, _ = pool.request()
    pool.room.configure(pool.pool, pool_size=1, reserve_pool_size=1)
    assert pool.room.release(held[0], 0, NOW_US + 20) == (CLOSE, None)
    assert pool.room.release(held[1], 0, NOW_US + 20) == (GRANTED, waiting), "the reserve may stay"
    pool.room.configure(pool.pool, reserve_pool_size=0)
    assert pool.room.release(held[2], 0, NOW_US + 20) == (CLOSE, None)


def test_a_pool_without_a_size_is_never_too_large() -> None:
    pool = OnePool(0, 0)
    pool.room.configure(pool.pool, pool_size=0)
    assert pool.room.sweep(pool.pool, NOW_US + 10) == []


def test_only_those_are_refused_who_have_come_to_the_queue_since() -> None:
    pool = OnePool(0)
    pool.request()
    clients = [pool.request(now_us=NOW_US + at)[0] for at in (10, 20, 30)]
    assert pool.room.pop_waiter(pool.pool, NOW_US + 20) == clients[2]
    assert pool.room.pop_waiter(pool.pool, NOW_US + 20) == clients[1]
    assert pool.room.pop_waiter(pool.pool, NOW_US + 20) is None
    assert pool.room.dump_pool(pool.pool)["waiters"] == [clients[0]]


def test_without_a_lifetime_a_server_serves_once() -> None:
    pool = OnePool(0, server_lifetime_us=0)
    assert pool.room.sweep(pool.pool, NOW_US + SECOND_US) == []
    pool.request()
    assert pool.room.release(pool.servers[0], 0, NOW_US + 2 * SECOND_US) == (CLOSE, None)


def test_a_clock_reading_older_than_the_server_does_not_make_it_old() -> None:
    """Control and the workers read the clock at different times."""
    pool = OnePool(0)
    pool.request()
    assert pool.room.release(pool.servers[0], 0, NOW_US - 5) == (KEPT_IDLE, None)


def test_idle_servers_above_the_minimum_end_after_server_idle_timeout() -> None:
    pool = OnePool(0, 0, 0, server_idle_timeout_us=SECOND_US)
    pool.room.configure(pool.pool, min_pool_size=1)
    assert pool.room.sweep(pool.pool, NOW_US + SECOND_US - 1) == []
    assert pool.room.sweep(pool.pool, NOW_US + 2 * SECOND_US) == pool.servers[:2]


def test_the_longest_idle_stand_first_among_those_to_be_checked() -> None:
    pool = OnePool(1, 0, 1, 0, server_check_delay_us=SECOND_US)
    pool.room.sweep(pool.pool, NOW_US + 2 * SECOND_US)
    assert pool.room.dump_pool(pool.pool)["used"] == pool.servers


def test_a_server_whose_client_has_left_comes_back_through_the_table() -> None:
    pool = OnePool(0)
    client, _ = pool.request()
    server = pool.servers[0]
    assert pool.room.unlink(server, BEING_CANCELED, NOW_US + 20) == 0
    assert pool.room.dump_client(client)["server"] is None
    assert pool.room.move(server, TESTED, NOW_US + 30) == 0
    assert pool.room.release(server, 0, NOW_US + 40) == (KEPT_IDLE, None)


def test_a_refused_move_leaves_client_and_server_linked() -> None:
    pool = OnePool(0)
    client, _ = pool.request()
    assert pool.room.unlink(pool.servers[0], 0, NOW_US + 20) == -1
    assert pool.room.dump_client(client)["server"] == pool.servers[0]
    assert pool.room.dump_server(pool.servers[0])["client"] == client


PAUSE_ALL, PAUSE_END, ENDING = 1, 2, -3


def test_while_a_pool_is_paused_everybody_waits_and_what_is_released_is_closed() -> None:
    pool = OnePool(0)
    (server,) = pool.servers
    _, (verdict, _, _) = pool.request()
    assert verdict == GOT
    pool.room.configure(pool.pool, paused=PAUSE_ALL)
    waiter, (verdict, _, _) = pool.request()
    assert verdict == QUEUED
    assert pool.room.release(server, 0, NOW_US + 20) == (CLOSE, None)
    assert pool.room.plan(NOW_US + 30) is None, "none is opened"
    assert pool.room.gone(server, NOW_US + 40)
    assert pool.room.plan(NOW_US + 50) is None
    pool.room.configure(pool.pool, paused=0)
    opened = pool.room.plan(NOW_US + 60)
    assert opened is not None
    assert pool.room.release(opened[1], 0, NOW_US + 70) == (GRANTED, waiter)


def test_idle_servers_of_a_paused_pool_are_closed_at_once() -> None:
    pool = OnePool(0, 1, 1, server_check_delay_us=5 * SECOND_US)
    pool.room.sweep(pool.pool, NOW_US + 10 * SECOND_US)
    assert pool.room.dump_server(pool.servers[0])["state"] == "used"
    pool.room.configure(pool.pool, paused=PAUSE_ALL)
    assert sorted(pool.room.sweep(pool.pool, NOW_US + 11 * SECOND_US)) == sorted(pool.servers)


def test_a_client_that_needs_a_server_of_its_own_waits_while_its_pool_is_paused() -> None:
    pool = OnePool(0, pool_size=2)
    pool.room.configure(pool.pool, paused=PAUSE_ALL)
    pool.room.sweep(pool.pool, NOW_US + 10)
    client = pool.room.add_client()
    assert pool.room.ask_dedicated(pool.pool, client, 0, NOW_US + 20)
    assert pool.room.plan(NOW_US + 30) is None
    pool.room.configure(pool.pool, paused=0)
    assert pool.room.plan(NOW_US + 40) is not None


def test_in_a_pool_that_ends_nobody_may_wait() -> None:
    pool = OnePool(0)
    pool.room.configure(pool.pool, paused=PAUSE_END)
    _, (verdict, _, _) = pool.request()
    assert verdict == ENDING
    assert not pool.room.ask_dedicated(pool.pool, pool.room.add_client(), 0, NOW_US + 10)
