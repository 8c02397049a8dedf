"""What control's own connections need of the plane; see aside.pxd."""

from libc.stdint cimport uint32_t

from pgpool_core.engine.conn cimport plane_want
from pgpool_core.engine.notes cimport note
from pgpool_core.engine.records cimport *
from pgpool_core.engine.sys cimport pgpool_now_us
from pgpool_core.pool.plan cimport plan_aside, plan_aside_gone
from pgpool_core.pool.server cimport Server


cdef bint aside_take(Plane *plane, uint32_t database_group, uint32_t user_group) except -1:
    cdef Server *evicted = NULL
    cdef bint taken
    if database_group >= plane.set.n_groups or user_group >= plane.set.n_groups:
        raise ValueError("no such group")
    taken = plan_aside(plane.set, database_group, user_group, pgpool_now_us(), &evicted)
    if evicted != NULL:
        note(plane, <ServerConn *>evicted.owner, SERVER_CLOSE)
    return taken


cdef int aside_give(Plane *plane, uint32_t database_group, uint32_t user_group) except -1:
    plan_aside_gone(plane.set, database_group, user_group)
    plane_want(plane)
    return 0
