"""Forked children: they have our descriptors but none of our threads, so a proxy that lives in the parent is closed in the child.

Without this the child would keep the listening socket open, and after the parent's end the kernel would go on accepting connections
that nobody serves.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forgettable(Protocol):
    """Something that must not outlive a fork in the child."""

    def forget_in_child(self) -> None:
        """Close descriptors by number and become useless; must not wait, lock, or touch an event loop."""
        ...


_living: weakref.WeakSet[Forgettable] = weakref.WeakSet()


def close_in_children(thing: Forgettable) -> None:
    """From now on every forked child calls `thing.forget_in_child`."""
    _living.add(thing)


def _in_child() -> None:
    for thing in list(_living):
        thing.forget_in_child()
    _living.clear()


os.register_at_fork(after_in_child=_in_child)
