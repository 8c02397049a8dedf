"""How a benchmark ends: whatever it has started is stopped, and its exit status says why."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Final

from benchmarks.macro.errors import BenchError

GIVEN_UP: Final = 1
INTERRUPTED: Final = 130
TERMINATED: Final = 143


class Terminated(BaseException):
    """SIGTERM has come. Raised in the main thread, so that all that was started is stopped on the way out, as after Ctrl-C."""


def status_of(work: Callable[[], None]) -> int:
    """Do `work`; the exit status. What stops it is told on standard error, in a line without a traceback."""
    before = signal.signal(signal.SIGTERM, _terminated)
    try:
        work()
    except (BenchError, LookupError, FileNotFoundError) as why:
        print(f"benchmark given up: {why}", file=sys.stderr, flush=True)
        return GIVEN_UP
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        return INTERRUPTED
    except Terminated:
        print("terminated", file=sys.stderr, flush=True)
        return TERMINATED
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def _terminated(number: int, frame: FrameType | None) -> None:
    raise Terminated
