"""What one worker has counted for one pool. Only that worker writes; control reads and adds up."""

from libc.stdint cimport uint32_t, uint64_t


cdef enum:
    HIST_BUCKETS = 256            # log-linear: 8 buckets an octave; see hist_bucket


cdef struct Histogram:            # of durations in microseconds
    uint32_t[HIST_BUCKETS] count


cdef struct Counters:             # allocated on its own, so that no cache line is shared with another worker
    uint64_t server_assignments
    uint64_t xacts
    uint64_t queries
    uint64_t received             # bytes from clients
    uint64_t sent                 # bytes to clients
    uint64_t xact_us
    uint64_t query_us
    uint64_t wait_us
    uint64_t client_parses
    uint64_t server_parses
    uint64_t binds
    uint64_t client_logins
    uint64_t steals               # idle servers taken over from another worker
    uint64_t handoffs             # servers given to a waiter of another worker
    uint64_t probes               # questions about session state
    uint64_t pins                 # times that a client began to keep its server
    uint64_t state_refusals       # statements refused by session_state = refuse
    Histogram wait
    Histogram query
    Histogram xact
    Histogram login


cdef inline uint32_t hist_bucket(uint64_t us) noexcept nogil:
    """The bucket of a duration: exact below 8 us, then eighths of an octave; the last one catches all."""
    cdef uint32_t e
    cdef uint32_t index
    if us < 8:
        return <uint32_t>us
    e = 63 - __builtin_clzll(us)
    index = (e - 2) * 8 + (<uint32_t>(us >> (e - 3)) & 7)
    return index if index < HIST_BUCKETS else HIST_BUCKETS - 1


cdef inline void hist_add(Histogram *h, uint64_t us) noexcept nogil:
    h.count[hist_bucket(us)] += 1


cdef extern from * nogil:
    int __builtin_clzll(unsigned long long)
