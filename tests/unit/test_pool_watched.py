"""What the locks of pools cost: counted by each worker, timed now and then."""

from __future__ import annotations

import threading

import pytest

from pgpool_core_probes.pool_probe import HELD_EACH, bucket_of
from tests.unit.pool_states import GOT, KEPT_IDLE
from tests.unit.test_pool_requests import NOW_US, OnePool
from tests.watching import until


def test_each_worker_counts_the_locks_that_it_takes() -> None:
    pool = OnePool(0)
    server = pool.servers[0]
    for _ in range(5):
        assert pool.request(worker=3)[1][0] == GOT
        assert pool.room.release(server, 3, NOW_US + 20) == (KEPT_IDLE, None)
    taken = [pool.room.watch(worker)["taken"] for worker in (0, 1, 3)]
    assert taken == [1, 0, 10], "worker 0 has only adopted it"
    assert pool.room.watch(3)["waits"] == pool.room.watch(3)["waited_ns"] == 0


def test_holding_is_timed_for_requests_and_for_releases_in_turn() -> None:
    pool = OnePool(0)
    timed_at = []
    for number in range(2 * HELD_EACH):
        before = pool.room.watch(3)["timed"]
        if number % 2 == 0:
            pool.request(worker=3)
        else:
            pool.room.release(pool.servers[0], 3, NOW_US + 20)
        if pool.room.watch(3)["timed"] > before:
            timed_at.append(number)
    assert timed_at == [0, HELD_EACH]
    assert {number % 2 for number in timed_at} == {0, 1}
    assert pool.room.watch(3)["held_ns"] > 0
    assert sum(pool.room.watch(3)["held"]) == 2


@pytest.mark.parametrize(
    ("ns", "bucket"), [(0, 0), (63, 0), (64, 1), (127, 1), (128, 2), (16_383, 8), (16_384, 9), (2**63, 9)]
)
def test_each_bucket_ends_at_twice_the_one_before(ns: int, bucket: int) -> None:
    assert bucket_of(ns) == bucket


def test_who_finds_the_lock_taken_waits_and_is_counted() -> None:
    pool = OnePool(0)
    pool.room.lock(pool.pool)
    verdicts: list[int] = []
    other = threading.Thread(target=lambda: verdicts.append(pool.request(worker=1)[1][0]))
    other.start()
    until(lambda: pool.room.watch(1)["waits"] == 1)
    assert not verdicts
    pool.room.unlock(pool.pool)
    other.join()
    assert verdicts == [GOT]
    assert pool.room.watch(1)["waited_ns"] > 0
    assert pool.room.watch(0)["waits"] == 0
