"""The janitor's look at a pool: servers that have been idle for too long, are too old, or are not wanted; how soon to look again."""

from libc.stdint cimport uint32_t, uint64_t

from pgpool_core.pool.pool cimport Pool
from pgpool_core.pool.server cimport Server


cdef enum:
    SHORT_US = 3000000            # timeouts below want the janitor often


cdef uint32_t sweep_pool(Pool *pool, uint64_t now_us, Server **closing, uint32_t room) noexcept nogil
cdef bint sweep_soon(Pool *pool, uint64_t now_us) noexcept nogil      # somebody waits, servers come or go, a timeout is short
