"""What a turn of a worker has for logins: some always, not many, and fewer where they take long."""

from __future__ import annotations

import pytest

from pgpool_core_probes import share_probe


@pytest.mark.parametrize(
    ("logins", "turn_us", "lets"),
    [
        (0, 0, True),
        (3, 10_000_000, True),  # whatever the others take: nobody waits for ever
        (4, 499, True),
        (4, 500, False),
        (15, 499, True),
        (16, 0, False),  # however quick they are
    ],
)
def test_whether_one_more_login_goes_on_in_this_turn(logins: int, turn_us: int, lets: bool) -> None:
    assert share_probe.lets(logins, turn_us) == lets


@pytest.mark.parametrize(
    ("streak", "clients"),
    [(0, 1), (3, 1), (4, 2), (7, 2), (8, 4), (12, 8), (16, 16), (2**32 - 1, 16)],
)
def test_how_many_clients_are_taken_off_a_listener(streak: int, clients: int) -> None:
    assert share_probe.accepts(streak) == clients
