"""Which answers a server owes: the queue against a plain list, and the copies that strike out Syncs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pgpool_core_probes import wire_probe
from tests.unit.expect_model import CHORE, NONE, QUERY, SYNC, ExpectModel

OK, FULL = 0, -1
INLINE, MAX = 16, 1 << 20

STEPS = st.lists(
    st.sampled_from(["query", "sync", "sync", "chore", "ready", "ready", "begins", "ends", "head"]), max_size=120
)


@given(STEPS)
def test_the_queue_follows_its_rules_in_any_order(steps: list[str]) -> None:
    queue, model = wire_probe.Queue(), ExpectModel()
    for step in steps:
        if step in ("query", "sync", "chore"):
            kind = {"query": QUERY, "sync": SYNC, "chore": CHORE}[step]
            assert queue.push(kind) == OK
            model.push(kind)
        elif step == "ready":
            assert queue.ready() == model.ready()
        elif step == "begins":
            queue.copy_begins()
            model.copy_begins()
        elif step == "ends":
            assert queue.copy_ends() == OK
            model.copy_ends()
        else:
            assert queue.head() == model.head()
        assert (queue.owed, queue.copying) == (model.owed, model.copying)


def drive(*steps: str) -> list[int]:
    """Play a conversation; what each ReadyForQuery answered, then how many answers are still owed."""
    queue, answered = wire_probe.Queue(), []
    for step in steps:
        match step:
            case "Query":
                assert queue.push(QUERY) == OK
            case "Sync":
                assert queue.push(SYNC) == OK
            case "CopyDone":
                assert queue.copy_ends() == OK
            case "CopyInResponse":
                queue.copy_begins()
            case "ReadyForQuery":
                answered.append(queue.ready())
    return [*answered, queue.owed]


def test_a_pipeline_is_answered_in_order() -> None:
    steps = ["Query", "Sync", "Sync", "Query", *["ReadyForQuery"] * 4]
    assert drive(*steps) == [QUERY, SYNC, SYNC, QUERY, 0]


def test_a_ready_that_nobody_asked_for_is_told_apart() -> None:
    assert drive("Query", "ReadyForQuery", "ReadyForQuery") == [QUERY, NONE, 0]


def test_a_copy_by_query_is_answered_by_its_own_ready() -> None:
    assert drive("Query", "CopyInResponse", "CopyDone", "ReadyForQuery") == [QUERY, 0]


def test_a_query_that_copies_twice_is_answered_once() -> None:
    steps = ["Query", "CopyInResponse", "CopyDone", "CopyInResponse", "CopyDone", "ReadyForQuery"]
    assert drive(*steps) == [QUERY, 0]
    assert drive("Query", "CopyDone", "CopyDone", "Sync", "CopyInResponse", "CopyInResponse") == [2]


def test_the_sync_that_the_server_reads_as_part_of_a_copy_is_struck_out() -> None:
    """libpq: Parse, Bind, Execute, Sync; then it waits for CopyInResponse."""
    assert drive("Sync", "CopyInResponse") == [0]
    assert drive("Sync", "CopyInResponse", "Sync", "CopyDone", "Sync", "ReadyForQuery") == [SYNC, 0]


def test_what_was_sent_ahead_behind_the_end_of_the_copy_is_still_owed() -> None:
    steps = ["Sync", "CopyDone", "Sync", "Query", "CopyInResponse", "ReadyForQuery", "ReadyForQuery"]
    assert drive(*steps) == [SYNC, QUERY, 0]


def test_a_copy_sent_in_one_go_keeps_its_sync() -> None:
    """Parse, Bind, Execute, CopyData, CopyDone, Sync without waiting for CopyInResponse."""
    assert drive("CopyDone", "Sync", "CopyInResponse", "ReadyForQuery") == [SYNC, 0]
    assert drive("CopyDone", "CopyInResponse", "Sync", "ReadyForQuery") == [SYNC, 0]


def test_a_copy_sent_in_one_go_behind_a_query_keeps_its_sync() -> None:
    steps = ["Query", "CopyDone", "Sync", "ReadyForQuery", "CopyInResponse", "ReadyForQuery"]
    assert drive(*steps) == [QUERY, SYNC, 0]


def test_the_late_end_of_a_failed_copy_does_not_end_the_next_one() -> None:
    assert drive("Query", "CopyInResponse", "ReadyForQuery", "CopyDone", "Query", "CopyInResponse", "Sync") == [
        QUERY,
        1,
    ]


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
