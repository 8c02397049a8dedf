"""How many workers the engine is made with: what is said, else one for each processor, and never more than it has room for."""

from __future__ import annotations

import os

import pytest

from pgpool_core.config.model import Config
from pgpool_core.config.names import MAX_WORKERS
from pgpool_core.control.engine_settings import make_engine, worker_count


@pytest.mark.parametrize(("said", "processors", "count"), [(3, 8, 3), (0, 8, 8), (0, 200, MAX_WORKERS)])
def test_one_worker_for_each_processor_as_far_as_there_is_room(
    said: int, processors: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(processors)))
    assert worker_count(Config.of(workers=said)) == count


def test_the_engine_has_room_for_as_many_as_the_setting_allows() -> None:
    make_engine(MAX_WORKERS, "epoll")
    with pytest.raises(ValueError, match=f"1 to {MAX_WORKERS}"):
        make_engine(MAX_WORKERS + 1, "epoll")
