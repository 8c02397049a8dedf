"""A mutex whose takers count what it costs them: how often it was not free, how long they waited, how long they held it.

Each thread has a `LockWatch` of its own, in cache lines of its own, so counting costs no other thread anything. Waits are all
timed, because whoever waits has the time. Holding is timed once in HELD_EVERY times; what is measured includes one reading of
the clock. HELD_EVERY is odd: locks that are taken in turns for two purposes are both seen.
"""

from libc.stdint cimport uint32_t, uint64_t

from pgpool_core.sync.mutex cimport pthread_mutex_lock, pthread_mutex_t, pthread_mutex_trylock, pthread_mutex_unlock


cdef enum:
    HELD_EVERY = 61
    HELD_FIRST_NS = 64            # the first bucket ends below it, each next one at twice that, the last one never
    HELD_BUCKETS = 10


cdef struct LockWatch:            # written by one thread alone, read by any: watch_count and watch_seen
    uint64_t taken
    uint64_t waits                # times that it was not free
    uint64_t waited_ns
    uint64_t timed                # times that holding was
    uint64_t held_ns              # in those
    uint64_t until                # countdown to the next; nobody else looks
    uint64_t[HELD_BUCKETS] held   # how often for how long; with these it is two cache lines: processors fetch them in pairs


cdef extern from * nogil:
    """
    #include <time.h>
    #define watch_count(p, n)        __atomic_store_n((p), *(p) + (n), __ATOMIC_RELAXED)
    #define watch_seen(p)            __atomic_load_n((p), __ATOMIC_RELAXED)
    static inline uint64_t watch_ns(void) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
    }
    """
    void watch_count(uint64_t *, uint64_t)
    uint64_t watch_seen(uint64_t *)
    uint64_t watch_ns()
    int __builtin_clzll(unsigned long long)


cdef inline uint32_t held_bucket(uint64_t ns) noexcept nogil:
    cdef uint32_t index = 0 if ns < HELD_FIRST_NS else 64 - <uint32_t>__builtin_clzll(ns // HELD_FIRST_NS)
    return index if index < HELD_BUCKETS else HELD_BUCKETS - 1


cdef inline uint64_t watched_lock(pthread_mutex_t *lock, LockWatch *watch) noexcept nogil:
    """Take `lock`; what comes back is for watched_unlock."""
    cdef uint64_t since_ns
    if pthread_mutex_trylock(lock) != 0:
        watch_count(&watch.waits, 1)
        since_ns = watch_ns()
        pthread_mutex_lock(lock)
        watch_count(&watch.waited_ns, watch_ns() - since_ns)
    watch_count(&watch.taken, 1)
    if watch.until:
        watch.until -= 1
        return 0
    watch.until = HELD_EVERY - 1
    return watch_ns()


cdef inline void watched_unlock(pthread_mutex_t *lock, LockWatch *watch, uint64_t since_ns) noexcept nogil:
    """Give `lock` back; `since_ns` is what watched_lock has returned."""
    cdef uint64_t held_ns
    if since_ns == 0:
        pthread_mutex_unlock(lock)
        return
    held_ns = watch_ns() - since_ns
    pthread_mutex_unlock(lock)
    watch_count(&watch.timed, 1)
    watch_count(&watch.held_ns, held_ns)
    watch_count(&watch.held[held_bucket(held_ns)], 1)
