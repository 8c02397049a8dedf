"""What one worker has counted for one pool. Only that worker writes; control reads and adds up.

Written with count_add, hist_add and hist_count, read with counters_copy: relaxed atomics, so that a reader sees whole numbers. They
cost what plain ones do.
"""

from libc.stdint cimport uint32_t, uint64_t


cdef enum:
    PIN_KINDS = 16
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
    uint64_t login_us             # from accept to greeting
    uint64_t steals               # idle servers taken over from another worker
    uint64_t handoffs             # servers given to a waiter of another worker
    uint64_t wakeups              # of those, times that the other worker had to be woken
    uint64_t probes               # questions about session state
    uint64_t pins                 # times that a client began to keep its server
    uint64_t state_refusals       # statements refused by session_state = refuse
    uint64_t settings_kept        # times that a client's own settings have changed, reported ones left out
    uint64_t named_parses         # Parse of a named statement that follows its client
    uint64_t[PIN_KINDS] pinned_for   # by the number of the bit PIN_*: times that this was a new reason
    uint64_t[PIN_KINDS] warned_of    # the same, with settings in the first place: texts that session_state = warn has found
    uint64_t leak_checks          # questions of leak_check
    uint64_t leaks                # servers that had something left
    uint64_t listens              # LISTENs answered without a server
    uint64_t notifications        # delivered to clients of such
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


cdef inline void hist_count(Histogram *h, uint32_t bucket) noexcept nogil:
    pgpool_count32(&h.count[bucket])


cdef inline void hist_add(Histogram *h, uint64_t us) noexcept nogil:
    hist_count(h, hist_bucket(us))


cdef inline void counters_copy(const Counters *seen, Counters *copy) noexcept nogil:
    cdef size_t i
    for i in range(sizeof(Counters) // 8):
        (<uint64_t *>copy)[i] = pgpool_counted64(<uint64_t *>seen + i)


cdef inline void count_add(uint64_t *counter, uint64_t n) noexcept nogil:
    pgpool_count64(counter, n)


cdef extern from * nogil:
    """
    #define pgpool_counted64(p)      __atomic_load_n((p), __ATOMIC_RELAXED)
    #define pgpool_count32(p)        __atomic_store_n((p), *(p) + 1, __ATOMIC_RELAXED)
    #define pgpool_count64(p, n)     __atomic_store_n((p), *(p) + (n), __ATOMIC_RELAXED)
    """
    uint64_t pgpool_counted64(uint64_t *)
    void pgpool_count32(uint32_t *)
    void pgpool_count64(uint64_t *, uint64_t)
    int __builtin_clzll(unsigned long long)
