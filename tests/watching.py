"""How tests wait: by looking at something observable until it is so, or until the time is up with the last thing seen."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import trio

__all__ = ["descriptors", "rss_bytes", "until", "until_async"]

PATIENCE_S = 30.0
_LOOK_EVERY_S = 0.01
Seen = TypeVar("Seen")


def until(look: Callable[[], Seen], *, patience_s: float = PATIENCE_S, what: str = "") -> Seen:
    """What `look` returned when it was true for the first time.

    Raises:
        AssertionError: it never was within `patience_s`; the text holds what was seen last.
    """
    deadline = time.monotonic() + patience_s
    never = threading.Event()
    while not (seen := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {patience_s:g} s: {what or look}; last seen: {seen!r}")
        never.wait(_LOOK_EVERY_S)
    return seen


async def until_async(look: Callable[[], Seen], *, patience_s: float = PATIENCE_S, what: str = "") -> Seen:
    """The same for trio tests; `look` runs in a thread, for it may block."""
    deadline = trio.current_time() + patience_s
    while not (seen := await trio.to_thread.run_sync(look)):
        if trio.current_time() > deadline:
            raise AssertionError(f"not within {patience_s:g} s: {what or look}; last seen: {seen!r}")
        with trio.move_on_after(_LOOK_EVERY_S):
            await trio.sleep_forever()
    return seen


def descriptors(pid: int) -> list[str]:
    """What each open descriptor of `pid` points at. Source: proc(5), /proc/pid/fd."""
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(os.readlink(entry))
        except FileNotFoundError:
            continue  # closed since the folder was read
    return sorted(found)


def rss_bytes(pid: int) -> int:
    """The resident memory of `pid`. Source: proc(5), /proc/pid/statm, second field in pages."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
