"""Connections to servers that control uses itself (auth_query), counted by the limits that pools share."""

from libc.stdint cimport uint32_t

from pgpool_core.engine.records cimport Plane


cdef bint aside_take(Plane *plane, uint32_t database_group, uint32_t user_group) except -1    # False: there is no room; ask again
cdef int aside_give(Plane *plane, uint32_t database_group, uint32_t user_group) except -1
