"""A client's line in SHOW CLIENTS, filled by its worker: nobody else may look at a client's record."""

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t

from pgpool_core.engine.records cimport ClientConn, PoolRecord, Worker
from pgpool_core.engine.sys cimport pgpool_peer


cdef struct ClientRow:            # plain bytes; goes to control by mail
    uint64_t id
    uint64_t link
    uint64_t connect_us
    uint64_t request_us
    uint64_t wait_us
    PoolRecord *pool
    uint32_t worker
    uint8_t state                 # CL_*
    uint8_t in_login
    pgpool_peer peer
    pgpool_peer local
    char application_name[64]


cdef void fill_client_row(Worker *w, ClientConn *c, ClientRow *row) noexcept nogil
