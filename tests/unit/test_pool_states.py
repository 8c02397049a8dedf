"""The table of server states: the picture of it, and that nothing else is allowed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pgpool_core.pool.server import SV_NAMES, transitions
from pgpool_core_probes import pool_probe

PAGE = (Path(__file__).parents[2] / "docs" / "pool-states.md").read_text()
NOW_US = 1_000_000


def test_the_picture_shows_every_move_and_no_other() -> None:
    drawn = set(re.findall(r"^    (\w+) --> (\w+)$", PAGE, re.MULTILINE))
    assert drawn == {(state, to) for state, targets in transitions().items() for to in targets}


def test_every_state_is_explained_under_the_name_that_the_table_has() -> None:
    assert tuple(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)) == SV_NAMES


WAY_TO = {
    "login": (),
    "tested": ("tested",),
    "active": ("active",),
    "being_canceled": ("tested", "being_canceled"),
    "closing": ("closing",),
}


@pytest.mark.parametrize("to", SV_NAMES)
@pytest.mark.parametrize("state", WAY_TO)
def test_a_move_is_made_exactly_where_the_table_has_it(state: str, to: str) -> None:
    room = pool_probe.Set()
    pool = room.add_pool(room.add_group(0), room.add_group(0), pool_size=1, min_pool_size=1, clients=1)
    opened = room.plan(NOW_US)
    assert opened is not None
    server = opened[1]
    for step in WAY_TO[state]:
        assert room.move(server, SV_NAMES.index(step), NOW_US) == 0
    allowed = to in transitions()[state]
    assert room.move_alone(server, SV_NAMES.index(to), NOW_US) == (0 if allowed else -1)
    now = to if allowed else state
    assert room.dump_server(server)["state"] == now
    assert room.dump_pool(pool)["count"] == {name: int(name == now) for name in SV_NAMES}


@pytest.mark.parametrize(
    "to", [name for name in SV_NAMES if name != "used"]
)  # there the janitor moves it, list and all
def test_an_idle_server_is_taken_exactly_where_the_table_has_it(to: str) -> None:
    room = pool_probe.Set()
    pool = room.add_pool(room.add_group(0), room.add_group(0), pool_size=1, min_pool_size=1, clients=1)
    opened = room.plan(NOW_US)
    assert opened is not None
    server = opened[1]
    room.release(server, 1, NOW_US)
    allowed = to in transitions()["idle"]
    assert not room.take_idle(server, 0, SV_NAMES.index(to), NOW_US), "it lives on another worker"
    assert room.take_idle(server, 1, SV_NAMES.index(to), NOW_US) == allowed
    assert room.dump_pool(pool)["idle"] == ({} if allowed else {1: [server]})
