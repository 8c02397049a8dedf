"""Answers that are remembered: how long they hold, who is told when they change, what a reload does to questions under way."""

from __future__ import annotations

from functools import partial

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock, wait_all_tasks_blocked

from pgpool_core.control.login_steps import Asking
from pgpool_core.control.remembered import REMEMBERED, Abandoned, Remembered


async def test_answers_hold_for_their_time_and_failures_are_not_remembered(mock_clock: MockClock) -> None:
    asked: list[str] = []

    async def ask(key: str) -> str:
        asked.append(key)
        await trio.lowlevel.checkpoint()
        if key == "bad":
            raise OSError("no")
        return key.upper()

    remembered = Remembered(ask, lambda answer: 10.0)
    assert [await remembered.get("a"), await remembered.get("a")] == ["A", "A"]
    mock_clock.jump(10)
    assert await remembered.get("a") == "A"
    assert asked == ["a", "a"]
    for _ in range(2):
        with pytest.raises(OSError, match="no"):
            await remembered.get("bad")
    assert asked == ["a", "a", "bad", "bad"]


async def test_what_was_asked_before_a_reload_is_not_remembered_after_it() -> None:
    go_on = trio.Event()

    async def ask(key: str) -> int:
        await go_on.wait()
        return 1

    remembered = Remembered(ask, lambda answer: 1000.0)
    told: list[int] = []

    async def wait() -> None:
        told.append(await remembered.get("a"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        remembered.forget()
        go_on.set()
    assert told == [1]
    assert not remembered._answers and not remembered._flights


async def test_an_answer_is_wanted_as_long_as_one_of_those_who_asked_is_there() -> None:
    go_on, seen = trio.Event(), dict[str, bool]()

    async def ask(key: str) -> int:
        await go_on.wait()
        seen[key] = remembered.is_wanted(key)
        return 1

    remembered = Remembered(ask, lambda answer: 0.0)
    one, other, nobody = Asking(), Asking(), Asking()
    async with trio.open_nursery() as nursery:
        for key, asking in (("a", one), ("a", other), ("b", nobody)):
            nursery.start_soon(partial(remembered.get, key, asking=asking))
            await wait_all_tasks_blocked()
        one.gone = nobody.gone = True
        go_on.set()
    assert seen == {"a": True, "b": False}


async def test_no_more_than_so_many_answers_are_remembered() -> None:
    async def ask(key: int) -> int:
        return key

    remembered = Remembered(ask, lambda answer: 1000.0)
    for key in range(REMEMBERED + 5):
        await remembered.get(key)
    assert len(remembered._answers) == REMEMBERED and 4 not in remembered._answers and 5 in remembered._answers


async def test_an_answer_may_be_asked_for_anew_before_its_time_is_over(mock_clock: MockClock) -> None:
    asked: list[str] = []

    async def ask(key: str) -> int:
        asked.append(key)
        await trio.lowlevel.checkpoint()
        return len(asked)

    remembered = Remembered(ask, lambda answer: 10.0)
    assert await remembered.get("a") == 1
    mock_clock.jump(2)
    assert await remembered.get("a", longest_s=3) == 1
    assert await remembered.get("a", longest_s=2) == 2
    assert (remembered.known("a"), remembered.known("b")) == (2, None)


async def test_it_is_told_what_takes_an_answers_place_and_what_goes_without_one(mock_clock: MockClock) -> None:
    answers = iter(range(10))
    told: list[tuple[str, int, int | None]] = []

    async def ask(key: str) -> int:
        await trio.lowlevel.checkpoint()
        return next(answers)

    remembered = Remembered(ask, lambda answer: 10.0, most=2, changed=lambda *what: told.append(what))
    await remembered.get("a")
    await remembered.get("b")
    assert told == []
    mock_clock.jump(10)
    await remembered.get("a")
    assert told == [("a", 0, 2)]
    mock_clock.jump(1)
    remembered.expire(2)
    assert told == [("a", 0, 2)]
    remembered.expire(1)
    assert told == [("a", 0, 2), ("b", 1, None)]
    await remembered.get("c")
    await remembered.get("d")
    assert told[2:] == [("a", 2, None)]
    remembered.forget()
    assert len(told) == 3 and remembered.known("d") is None


async def test_an_answer_from_before_a_reload_does_not_become_that_of_a_question_asked_after_it() -> None:
    gates = [trio.Event(), trio.Event()]
    began: list[int] = []

    async def ask(key: str) -> int:
        began.append(len(began))
        number = began[-1]
        await gates[number].wait()
        return number

    remembered = Remembered(ask, lambda answer: 1000.0)
    told: list[int] = []

    async def wait() -> None:
        told.append(await remembered.get("a"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        remembered.forget()
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        gates[0].set()
        await wait_all_tasks_blocked()
        assert (told, remembered.known("a")) == ([0], None)
        gates[1].set()
    assert (told, remembered.known("a")) == ([0, 1], 1)


async def test_those_who_wait_for_a_question_whose_task_is_cancelled_are_told() -> None:
    async def ask(key: str) -> int:
        await trio.sleep_forever()
        return 1

    remembered = Remembered(ask, lambda answer: 1000.0)
    asking = trio.CancelScope()

    async def asks() -> None:
        with asking:
            await remembered.get("a")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(asks)
        await wait_all_tasks_blocked()
        nursery.start_soon(lambda: _abandoned(remembered))
        await wait_all_tasks_blocked()
        asking.cancel()


async def _abandoned(remembered: Remembered[str, int]) -> None:
    with pytest.raises(Abandoned):
        await remembered.get("a")
