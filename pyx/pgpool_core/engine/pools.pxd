"""Pools from control's side: groups, records, greetings, errors, the janitor's round.

What is not `nogil` needs the GIL.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from pgpool_core.engine.records cimport Plane, PoolRecord
from pgpool_core.pool.limits cimport Group
from pgpool_core.pool.pool cimport Pool


cdef PoolRecord *record_of(Plane *plane, uint32_t pool) except NULL
cdef Group *new_group(Plane *plane, uint32_t limit) except NULL
cdef int limit_group(Plane *plane, uint32_t group, uint32_t limit) except -1
cdef int limit_clients(Plane *plane, uint32_t group, uint32_t limit) except -1
cdef Pool *new_pool(Plane *plane, bytes database, bytes user, uint32_t database_group, uint32_t user_group) except NULL
cdef int pool_welcome(Plane *plane, uint32_t pool, parameters, began, at_login, fixed) except -1
cdef int pool_forget_welcome(Plane *plane, uint32_t pool) except -1
cdef int pool_fail(Plane *plane, uint32_t pool, bytes first, bytes error, uint64_t until_us, uint64_t since_us) except -1
cdef int pool_close(Plane *plane, uint32_t pool, bytes error) except -1
cdef int pool_pause(Plane *plane, uint32_t pool, uint8_t how) except -1
cdef int pool_hold(Plane *plane, uint32_t pool, uint64_t until_us) except -1
cdef void pools_open(Plane *plane, uint32_t at_once) noexcept nogil
cdef int pool_turn_away(Plane *plane, uint32_t pool, bytes error) except -1
cdef bint sweep_all(Plane *plane, uint64_t now_us) noexcept nogil        # whether to look again soon
