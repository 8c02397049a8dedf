"""Reasons for which a client keeps its server; see pins.pxd."""

from libc.stdint cimport uint16_t, uint32_t

from pgpool_core.engine.advice cimport advise_pinned
from pgpool_core.engine.client_end cimport client_fatal
from pgpool_core.engine.conn cimport counters_of
from pgpool_core.engine.counters cimport PIN_KINDS, count_add
from pgpool_core.engine.records cimport *
from pgpool_core.sync.atomic cimport pgpool_add32

cdef enum:
    LASTING = ~PIN_UNNAMED        # pins that count against max_pinned_connections


cdef void pins_set(Worker *w, ClientConn *c, uint32_t pins) noexcept nogil:
    """`c` keeps its server for these reasons; none lets it go."""
    cdef PoolRecord *pool = c.pool
    cdef uint32_t before = c.pins
    cdef uint32_t others, bit
    cdef uint32_t fresh = pins & ~before
    c.pins = <uint16_t>pins
    for bit in range(PIN_KINDS):
        if fresh >> bit & 1:
            count_add(&counters_of(w, pool).pinned_for[bit], 1)
    if pins and not before:
        c.pinned_us = w.now_us
    if pins & LASTING and not before & LASTING:
        count_add(&counters_of(w, pool).pins, 1)
        advise_pinned(c, pins & LASTING)
        others = pgpool_add32(&pool.pinned, 1)
        if pool.max_pinned and others > pool.max_pinned:
            client_fatal(w, c, "53400", "too many clients keep a server for their session state (max_pinned_connections)")
    elif before & LASTING and not pins & LASTING:
        pgpool_add32(&pool.pinned, -1)


cdef void pins_add(Worker *w, ClientConn *c, uint32_t reason) noexcept nogil:
    """`c` keeps its server from now on."""
    pins_set(w, c, c.pins | reason)


cdef void pins_drop(Worker *w, ClientConn *c) noexcept nogil:
    """`c` has no server to keep any more."""
    if c.pins:
        pins_set(w, c, 0)
