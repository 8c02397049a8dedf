"""What a server sends, cut into messages."""

from typing import Any

from pgpool_core.errors import DecodeError
from pgpool_core.rows.record import Shape

BIND_COMPLETE: int
COMMAND_COMPLETE: int
COPY_DATA: int
COPY_DONE: int
COPY_IN: int
COPY_OUT: int
DATA_ROW: int
EMPTY_QUERY: int
ERROR: int
NEED_MORE: int
NO_DATA: int
NOTICE: int
NOTIFICATION: int
PARAMETER_DESCRIPTION: int
PARAMETER_STATUS: int
PORTAL_SUSPENDED: int
READY: int
ROW_DESCRIPTION: int

class Inbox:
    window: memoryview
    failure: DecodeError | None
    def expect(self, shape: Shape | None, rows: list[Any] | None, *, raw: bool = False, bare: bool = False) -> None: ...
    def received(self, count: int) -> None: ...
    def feed(self, data: bytes) -> None: ...
    def stash(self) -> None: ...
    def pending(self) -> int: ...
    def next(self) -> int: ...
    def body(self) -> bytes: ...
    def status(self) -> int: ...
