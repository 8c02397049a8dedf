"""Server states and their legal moves; see server.pxd. docs/pool-states.md is drawn from SV_NEXT."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from pgpool_core.sync.atomic cimport pgpool_store8


SV_NAMES = ("free", "login", "idle", "used", "tested", "active", "being_canceled", "closing")

cdef uint32_t[SV_STATES] SV_NEXT
SV_NEXT[SV_FREE] = 1 << SV_LOGIN
SV_NEXT[SV_LOGIN] = 1 << SV_IDLE | 1 << SV_USED | 1 << SV_ACTIVE | 1 << SV_TESTED | 1 << SV_CLOSING | 1 << SV_FREE
SV_NEXT[SV_IDLE] = 1 << SV_ACTIVE | 1 << SV_USED | 1 << SV_TESTED | 1 << SV_CLOSING
SV_NEXT[SV_USED] = 1 << SV_TESTED | 1 << SV_CLOSING
SV_NEXT[SV_TESTED] = 1 << SV_IDLE | 1 << SV_USED | 1 << SV_ACTIVE | 1 << SV_BEING_CANCELED | 1 << SV_CLOSING
SV_NEXT[SV_ACTIVE] = 1 << SV_IDLE | 1 << SV_USED | 1 << SV_ACTIVE | 1 << SV_TESTED | 1 << SV_BEING_CANCELED | 1 << SV_CLOSING
SV_NEXT[SV_BEING_CANCELED] = 1 << SV_IDLE | 1 << SV_USED | 1 << SV_ACTIVE | 1 << SV_TESTED | 1 << SV_CLOSING
SV_NEXT[SV_CLOSING] = 1 << SV_FREE


def transitions() -> dict[str, tuple[str, ...]]:
    """The table in words: state -> states that it may move to. For docs/pool-states.md and its test."""
    return {
        SV_NAMES[s]: tuple(SV_NAMES[t] for t in range(SV_STATES) if (SV_NEXT[s] >> t) & 1)
        for s in range(SV_STATES)
    }


cdef int server_move(Server *server, uint8_t to, uint64_t now_us) noexcept nogil:
    """Move `server` to state `to`, its pool's lock held; the only place where its state is written.

    The store is a release: a worker that reads SV_ACTIVE sees the `worker` written before.
    """
    if not server_may(server, to):
        return SV_BAD_MOVE
    server.count[server.state] -= 1
    server.count[to] += 1
    server.since_us = now_us
    pgpool_store8(&server.state, to)
    return SV_MOVED
