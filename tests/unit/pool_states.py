"""The pool room's numbers, as its .pxd files have them, for the tests of the room."""

from __future__ import annotations

FREE, LOGIN, IDLE, USED, TESTED, ACTIVE, BEING_CANCELED, CLOSING = range(8)

GOT, QUEUED, CHECK, KEPT_IDLE, GRANTED, CLOSE = range(1, 7)
CLOSED, BAD_MOVE = -1, -2

MOVED, BAD_SERVER_MOVE = 0, -1

WAIT_NONE, WAIT_QUEUED, WAIT_GRANTED = range(3)

SECOND_US = 1_000_000
NEVER_US = 2**64 - 1
