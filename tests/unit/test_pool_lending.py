"""The books of a pool, without servers and clocks: any course of events keeps what must hold."""

from __future__ import annotations

from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from pgpool_core.client.lending import Lending, Loan
from pgpool_core.client.link import Link
from pgpool_core.client.sqlstate import error_of, read_fields
from pgpool_core.errors import PoolClosed


class FakeLink:
    """All that the books look at."""

    closed = False


class Course:
    """A pool as its owner runs it: opens what is wanted, and gives each borrower a ticket."""

    def __init__(self, min_size: int, max_size: int) -> None:
        self.books = Lending(min_size=min_size, max_size=max_size)
        self.now = 0.0
        self.tickets = 0
        self.waiting: list[int] = []
        self.holding: list[Loan] = []
        self.lowered = False

    def borrow(self) -> None:
        loan = self.books.take(self.now)
        if loan is not None:
            assert not self.waiting, "nobody overtakes those who wait"
            self.holding.append(loan)
            return
        self.tickets += 1
        ticket = self.tickets
        self.waiting.append(ticket)

        def wake(result: Any) -> None:
            assert self.waiting.pop(0) == ticket, "first come, first served"
            if isinstance(result, Loan):
                self.holding.append(result)

        self.books.waiting[ticket] = wake

    def give_up_waiting(self) -> None:
        if self.waiting:
            ticket = self.waiting.pop(len(self.waiting) // 2)
            del self.books.waiting[ticket]

    def give_back(self) -> None:
        if self.holding:
            loan = self.holding.pop(0)
            if self.books.too_many() or self.books.is_old(loan, self.now):
                self.books.drop(loan)
            else:
                self.books.put(loan, self.now)

    def open(self) -> None:
        wanted = self.books.to_open()
        assert wanted == 0 or self.books.size + wanted <= self.books.max_size
        self.books.opening += wanted

    def opened(self) -> None:
        if self.books.opening:
            self.books.opening -= 1
            link = cast(Link, FakeLink())
            self.books.put(Loan(link, self.now + 50, self.books.generation), self.now)

    def failed(self) -> None:
        if self.books.opening:
            self.books.opening -= 1
            self.books.fail_first(PoolClosed())

    def later(self) -> None:
        self.now += 7
        for loan in self.books.expired(self.now, max_idle=20):
            self.books.drop(loan)

    def suspend(self) -> None:
        self.books.suspended = not self.books.suspended
        self.books.match(self.now)

    def lower(self) -> None:
        self.books.max_size = max(1, self.books.max_size - 1)
        self.books.min_size = min(self.books.min_size, self.books.max_size)
        self.lowered = True

    def check(self) -> None:
        books = self.books
        assert list(books.waiting) == self.waiting
        assert set(books.lent.values()) == set(self.holding)
        assert not set(books.idle) & set(self.holding)
        assert books.suspended or not (books.waiting and books.idle), "nobody waits beside an idle connection"
        assert self.lowered or books.size <= books.max_size
        longest = books.longest()
        assert longest is None or all(longest.since <= loan.since for loan in self.holding)


STEPS = ["borrow", "give_back", "open", "opened", "failed", "later", "suspend", "lower", "give_up_waiting"]


@given(st.integers(0, 3), st.integers(3, 5), st.lists(st.sampled_from(STEPS), max_size=80))
def test_any_course_keeps_the_books_straight(min_size: int, max_size: int, steps: list[str]) -> None:
    course = Course(min_size, max_size)
    for step in steps:
        getattr(course, step)()
        course.check()


def test_what_is_opened_follows_who_waits_and_min_size() -> None:
    course = Course(2, 3)
    assert course.books.to_open() == 2
    course.open()
    assert course.books.to_open() == 0
    course.opened()
    course.opened()
    for _ in range(5):
        course.borrow()
    assert (len(course.holding), len(course.waiting), course.books.to_open()) == (2, 3, 1)


def test_the_least_recently_used_go_first_and_min_size_stays() -> None:
    course = Course(1, 3)
    course.books.opening = 3
    for _ in range(3):
        course.opened()
        course.now += 1
    first, second, last = course.books.idle
    course.now = 30
    assert course.books.expired(30, max_idle=10) == [first, second]
    assert course.books.take(30) is last


def test_a_field_of_an_error_that_nobody_knows_is_kept_and_a_strange_state_is_not() -> None:
    error = error_of(read_fields(b"SFEHLER\0VERROR\0C23505\0Mtext\0P12\0Zother\0\0"))
    assert (type(error).__name__, error.severity, error.position, error.fields["Z"]) == (
        "UniqueViolation",
        "ERROR",
        12,
        "other",
    )
    assert error_of({"C": "bad state", "M": "x"}).sqlstate == "XX000"
    assert error_of({"C": "HV000", "M": "x"}).sqlstate == "HV000"
