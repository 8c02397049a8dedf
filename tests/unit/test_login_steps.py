"""What logins wait for is counted, whatever becomes of them."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from pgpool_core.control.login_steps import LoginStep
from pgpool_core.errors import PoolError
from pgpool_core.metrics.snapshot import LoginStepRow


def row(**counts: int) -> LoginStepRow:
    return LoginStepRow(
        **{"step": "ldap", "active": 0, "waiting": 0, "max_active": 2, "total": 0, "queued": 0, "failed": 0} | counts
    )


async def test_who_asks_and_who_waits_for_a_turn_are_told_apart() -> None:
    turns = trio.CapacityLimiter(2)
    step = LoginStep("ldap", turns)
    answer = trio.Event()
    assert step.row() == row()

    async def log_in() -> None:
        with step.taken():
            async with turns:
                await answer.wait()

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(log_in)
            await wait_all_tasks_blocked()
        assert step.row() == row(active=2, waiting=3, total=5, queued=3)
        turns.total_tokens = 4
        await wait_all_tasks_blocked()
        assert step.row() == row(active=4, waiting=1, max_active=4, total=5, queued=3)
        answer.set()
    assert step.row() == row(max_active=4, total=5, queued=3)


async def test_one_that_gets_no_answer_has_failed_and_one_that_leaves_has_not() -> None:
    step = LoginStep("roles")
    with pytest.raises(PoolError), step.taken():
        raise PoolError("no answer")
    with trio.CancelScope() as scope, step.taken():
        scope.cancel()
        await trio.lowlevel.checkpoint()
    told = step.row()
    assert (told.active, told.max_active, told.total, told.queued, told.failed) == (0, 0, 2, 0, 1)
