"""What a start leaves in memory and nobody needs afterwards, given back: a pooler runs for months.

Most of the code that a process has read of its interpreter and libraries is for starting only. It stays in the system's cache of files,
from where it comes back if it should be needed; the process no longer holds on to it.
"""

from __future__ import annotations

import gc
import linecache
from importlib import import_module


def forget_sources() -> None:
    """Forget the text of methods that were made for classes, and what their making has left: what is imported later has that room."""
    linecache.clearcache()
    gc.collect()


def import_in_steps(*modules: str) -> None:
    """Import what is large, one after the other: what the making of classes leaves behind is room for the next."""
    for module in modules:
        import_module(module)
        forget_sources()


def forget_start() -> None:
    """Give back what was only there to come up."""
    from pgpool_core.engine.memory import trim

    gc.collect()
    trim()
    forget_programs()


def forget_programs() -> None:
    """Let go of the pages of program files; those that are needed come back."""
    from pgpool_core.engine.memory import shed

    shed()
