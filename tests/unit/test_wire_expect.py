"""Which answers a server owes: the queue against a plain list, and what PostgreSQL skips."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pgpool_core_probes import wire_probe
from tests.unit.expect_model import (
    ASK,
    ASK_END,
    BIND,
    CHORE,
    DESCRIBE,
    EXECUTE,
    NAMED,
    NONE,
    QUERY,
    SYNC,
    ExpectModel,
)

OK, FULL = 0, -1
INLINE, MAX = 32, 1 << 22

FRONTEND = {
    "Query": QUERY,
    "Sync": SYNC,
    "chore": CHORE,
    "ask": ASK,
    "asked": ASK_END,
    "Parse": NAMED,
    "Close": NAMED,
    "Bind": BIND,
    "Describe": DESCRIBE,
    "Execute": EXECUTE,
}
BACKEND = {
    "ParseComplete": "1",
    "CloseComplete": "3",
    "BindComplete": "2",
    "RowDescription": "T",
    "NoData": "n",
    "CommandComplete": "C",
    "PortalSuspended": "s",
    "EmptyQueryResponse": "I",
}
STEPS = st.lists(
    st.sampled_from(
        [*FRONTEND, *BACKEND, *["ReadyForQuery"] * 3, *["ErrorResponse"] * 2, "CopyInResponse", "CopyDone", "head"]
    ),
    max_size=120,
)


@given(STEPS)
def test_the_queue_follows_its_rules_in_any_order(steps: list[str]) -> None:
    queue, model = wire_probe.Queue(), ExpectModel()
    for step in steps:
        if step in FRONTEND:
            assert queue.push(FRONTEND[step]) == OK
            model.push(FRONTEND[step])
        elif step in BACKEND:
            queue.answer(ord(BACKEND[step]))
            model.answer(ord(BACKEND[step]))
        elif step == "ReadyForQuery":
            assert queue.ready() == model.ready()
        elif step == "ErrorResponse":
            assert queue.error() == model.error()
        elif step == "CopyInResponse":
            queue.copy_begins()
            model.copy_begins()
        elif step == "CopyDone":
            assert queue.copy_ends() == OK
            model.copy_ends()
        else:
            assert queue.head() == model.head()
        assert (queue.owed, queue.copying, queue.skipping, queue.silent) == (
            model.owed,
            model.copying,
            model.skipping,
            model.silent,
        )


def drive(*steps: str) -> list[int]:
    """Play a conversation; what each ReadyForQuery answered, then how many answers are still owed."""
    queue, answered = wire_probe.Queue(), []
    for step in " ".join(steps).split():
        if step in FRONTEND:
            assert queue.push(FRONTEND[step]) == OK
        elif step in BACKEND:
            queue.answer(ord(BACKEND[step]))
        elif step == "ErrorResponse":
            queue.error()
        elif step == "CopyInResponse":
            queue.copy_begins()
        elif step == "ReadyForQuery":
            answered.append(queue.ready())
        else:
            assert step == "CopyDone"
            assert queue.copy_ends() == OK
    return [*answered, queue.owed]


GROUP = "Parse Bind Execute"
DONE = "ParseComplete BindComplete CommandComplete"


def test_a_pipeline_is_answered_in_order() -> None:
    steps = ["Query", "Sync", "Sync", "Query", *["ReadyForQuery"] * 4]
    assert drive(*steps) == [QUERY, SYNC, SYNC, QUERY, 0]


def test_a_ready_that_nobody_asked_for_is_told_apart() -> None:
    assert drive("Query", "ReadyForQuery", "ReadyForQuery") == [QUERY, NONE, 0]


def test_an_error_in_a_group_skips_the_queries_up_to_its_sync() -> None:
    assert drive("Parse Query Bind Query Sync Query ErrorResponse ReadyForQuery") == [SYNC, 1]
    assert drive("Parse Query ErrorResponse Query Bind Sync ReadyForQuery") == [SYNC, 0]
    assert drive("Parse ErrorResponse Query Query") == [0]


def test_what_was_answered_before_the_query_does_not_make_its_error_the_groups() -> None:
    assert drive(GROUP, "Query", DONE, "ErrorResponse ReadyForQuery Sync ReadyForQuery") == [QUERY, SYNC, 0]
    assert drive(GROUP, "Query", "ParseComplete BindComplete ErrorResponse Sync ReadyForQuery") == [SYNC, 0]
    assert drive("Bind Describe Query BindComplete RowDescription ErrorResponse") == [1]
    assert drive("Bind Describe Query BindComplete ErrorResponse") == [0]


def test_the_error_of_a_query_or_of_a_sync_skips_nothing() -> None:
    assert drive("Query Query ErrorResponse ReadyForQuery ReadyForQuery") == [QUERY, QUERY, 0]
    assert drive("Sync Query ErrorResponse ReadyForQuery ReadyForQuery") == [SYNC, QUERY, 0]


def test_a_copy_by_query_is_answered_by_its_own_ready() -> None:
    assert drive("Query", "CopyInResponse", "CopyDone", "ReadyForQuery") == [QUERY, 0]


def test_a_query_that_copies_twice_is_answered_once() -> None:
    steps = ["Query", "CopyInResponse", "CopyDone", "CopyInResponse", "CopyDone", "ReadyForQuery"]
    assert drive(*steps) == [QUERY, 0]
    assert drive("Query", "CopyDone", "CopyDone", "Sync", "CopyInResponse", "CopyInResponse") == [2]


def test_the_sync_that_the_server_reads_as_part_of_a_copy_is_struck_out() -> None:
    """libpq: Parse, Bind, Execute, Sync; then it waits for CopyInResponse."""
    assert drive("Execute Sync CopyInResponse") == [0]
    assert drive("Execute Sync CopyInResponse Sync CopyDone Sync CommandComplete ReadyForQuery") == [SYNC, 0]


def test_what_cannot_be_in_a_copy_ends_the_striking_out() -> None:
    """Such a copy has failed before it read anything."""
    assert drive("Execute Sync Parse Sync CopyInResponse ErrorResponse ReadyForQuery") == [SYNC, 1]
    assert drive("Execute CopyDone Query CopyInResponse CommandComplete ErrorResponse") == [1]


def test_what_was_sent_ahead_behind_the_end_of_the_copy_is_still_owed() -> None:
    steps = "Execute Sync CopyDone Sync Query CopyInResponse CommandComplete ReadyForQuery ReadyForQuery"
    assert drive(steps) == [SYNC, QUERY, 0]


def test_a_copy_sent_in_one_go_keeps_its_sync() -> None:
    """Parse, Bind, Execute, CopyData, CopyDone, Sync without waiting for CopyInResponse."""
    assert drive(GROUP, "CopyDone Sync ParseComplete BindComplete CopyInResponse CommandComplete ReadyForQuery") == [
        SYNC,
        0,
    ]
    assert drive("Execute CopyDone CopyInResponse Sync CommandComplete ReadyForQuery") == [SYNC, 0]
    assert drive("Query Execute CopyDone Sync ReadyForQuery CopyInResponse CommandComplete ReadyForQuery") == [
        QUERY,
        SYNC,
        0,
    ]


def test_the_late_end_of_a_failed_copy_does_not_end_the_next_one() -> None:
    steps = "Query CopyInResponse ErrorResponse ReadyForQuery CopyDone Query CopyInResponse Sync"
    assert drive(steps) == [QUERY, 1]
    assert drive("Execute CopyInResponse ErrorResponse CopyDone Sync ReadyForQuery Execute CopyInResponse Sync") == [
        SYNC,
        0,
    ]


def test_a_copy_that_fails_with_a_sync_in_it_has_to_be_asked_about() -> None:
    for first, left in ((EXECUTE, 0), (QUERY, 1)):
        for sent_ahead in (True, False):
            queue = wire_probe.Queue()
            queue.push(first)
            if sent_ahead:
                queue.push(SYNC)
            queue.copy_begins()
            if not sent_ahead:
                queue.push(SYNC)
            assert (queue.silent, queue.owed) == (True, left)
            queue.copy_ends()
            queue.push(SYNC)
            assert queue.error() is True
            assert (queue.silent, queue.owed) == (False, left)
            queue.push(ASK)
            queue.push(ASK_END)
            assert [queue.ready() for _ in range(left + 2)] == [QUERY, ASK, ASK_END][-left - 2 :]


def test_a_copy_that_succeeds_leaves_no_doubt() -> None:
    queue = wire_probe.Queue()
    queue.push(EXECUTE)
    queue.push(SYNC)
    queue.copy_begins()
    queue.answer(ord("C"))
    assert (queue.silent, queue.error()) == (False, False)


def test_a_question_ends_what_an_error_skips() -> None:
    assert drive("Parse ask asked ErrorResponse ReadyForQuery ReadyForQuery") == [ASK, ASK_END, 0]
    assert drive("Execute Sync CopyDone ask asked CopyInResponse ErrorResponse ReadyForQuery") == [ASK, 1]


def test_the_queue_grows_up_to_its_limit_and_gives_memory_back() -> None:
    queue = wire_probe.Queue()
    for _ in range(MAX):
        assert queue.push(QUERY) == OK
    assert (queue.owed, queue.push(QUERY), queue.copy_ends()) == (MAX, FULL, FULL)
    for _ in range(MAX):
        assert queue.ready() == QUERY
    assert (queue.owed, queue.len, queue.cap) == (0, 0, INLINE)


def test_the_ring_keeps_its_order_when_it_grows_in_mid_turn() -> None:
    queue = wire_probe.Queue()
    for _ in range(INLINE - 3):
        queue.push(CHORE)
    for _ in range(INLINE - 4):
        queue.ready()
    kinds = [QUERY, SYNC, SYNC] * 30
    for kind in kinds:
        queue.push(kind)
    assert queue.ready() == CHORE
    assert [queue.ready() for _ in kinds] == kinds
