"""Filling rows; see rows.pxd."""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy, memset

from pgpool_core.engine.records cimport *
from pgpool_core.engine.sys cimport pgpool_peer_of
from pgpool_core.pool.server cimport Server
from pgpool_core.session.settings cimport block_get
from pgpool_core.wire.span cimport Span


cdef void fill_client_row(Worker *w, ClientConn *c, ClientRow *row) noexcept nogil:
    """What SHOW CLIENTS tells about `c`; by its own worker only."""
    cdef Span name, value
    memset(row, 0, sizeof(ClientRow))
    row.id = c.id
    row.connect_us = c.connect_us
    row.request_us = c.request_us
    row.pool = c.pool
    row.worker = w.index
    row.state = c.state
    row.peer = c.peer
    row.in_login = c.login != NULL and c.login.phase != LG_WELCOME
    pgpool_peer_of(c.conn.fd, &row.local, 1)
    if c.state == CL_WAITING and w.now_us > c.request_us:
        row.wait_us = w.now_us - c.request_us
    if c.state == CL_ACTIVE and c.seat.server != NULL:
        row.link = (<ServerConn *>(<Server *>c.seat.server).owner).id
    name.at = <const uint8_t *>"application_name"
    name.len = 16
    if block_get(c.settings, name, &value):
        memcpy(row.application_name, value.at, value.len if value.len < 63 else 63)
