"""When memory that logins have left free goes back to the system."""

from __future__ import annotations

import pytest

from pgpool_core.control.slack import BURST, FEW, Slack


@pytest.mark.parametrize(
    ("looks", "trims"),
    [
        ([(BURST, 0)], [0]),
        ([(BURST, 0), (BURST, 0), (BURST, 0), (BURST, 0)], [0, 1, 2, 2]),
        ([(BURST - 1, 0), (BURST - 1, 0)], [0, 0]),
        ([(BURST, FEW), (BURST, FEW), (BURST, FEW - 1)], [0, 0, 1]),
        ([(BURST, 0), (BURST + 1, 0), (BURST + 1, 0)], [0, 0, 1]),
        ([(BURST, 0), (BURST, 0), (BURST + 1, 0), (BURST + 1, 0), (BURST + 1, 0)], [0, 1, 1, 2, 2]),
        ([(BURST, 0), (BURST, 0), (BURST, 0), (2 * BURST - 1, 0), (2 * BURST - 1, 0)], [0, 1, 2, 2, 2]),
        ([(BURST, 0), (BURST, 0), (2 * BURST, 0), (2 * BURST, 0), (2 * BURST, 0)], [0, 1, 1, 2, 3]),
    ],
    ids=[
        "not while they come",
        "and once more",
        "too few",
        "when logins are over",
        "quiet",
        "once more when it is quiet",
        "not enough more",
        "twice",
    ],
)
def test_memory_is_trimmed_after_each_burst(looks: list[tuple[int, int]], trims: list[int]) -> None:
    done: list[None] = []
    now = [1000, 0]
    slack = Slack(lambda: now[0], lambda: now[1], lambda: done.append(None))
    counted = []
    for connections, logins in looks:
        now[:] = 1000 + connections, logins
        slack.look()
        counted.append(len(done))
    assert counted == trims


def test_it_looks_again_soon_while_there_is_something_to_be_given_back() -> None:
    now = [0, 0]
    slack = Slack(lambda: now[0], lambda: now[1], lambda: None)
    assert not slack.look()
    now[:] = BURST - 1, 0
    assert not slack.look(), "too few to be worth it"
    now[:] = BURST, FEW
    assert [slack.look(), slack.look()] == [True, True], "they still log in"
    now[:] = BURST, 0
    assert [slack.look(), slack.look(), slack.look()] == [True, False, False], "trimmed, trimmed again, over"
