"""Pins: the reasons for which a client keeps its server between transactions (PIN_* in records)."""

from libc.stdint cimport uint32_t

from pgpool_core.engine.records cimport ClientConn, Worker


cdef void pins_set(Worker *w, ClientConn *c, uint32_t pins) noexcept nogil
cdef void pins_add(Worker *w, ClientConn *c, uint32_t reason) noexcept nogil
cdef void pins_drop(Worker *w, ClientConn *c) noexcept nogil
