"""What the console shows, as plain bytes: copied under a lock or by the owner, made into Python objects afterwards.

A client's row is filled by its worker, because nobody else may look at a client's record. Those of servers and pools are
copied with the pool's lock held and no Python in between, so that a busy interpreter never keeps a worker waiting.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from pgpool_core.engine.records cimport ClientConn, Plane, PoolRecord, ServerConn, Worker
from pgpool_core.engine.sys cimport pgpool_peer
from pgpool_core.pool.pool cimport PoolSettings
from pgpool_core.pool.server cimport SV_STATES
from pgpool_core.tls.session cimport TLS_INFO_MAX


cdef struct ClientRow:            # plain bytes; goes to control by mail
    uint64_t id
    uint64_t link
    uint64_t connect_us
    uint64_t request_us
    uint64_t wait_us
    uint64_t pinned_us            # since when it keeps its server; 0 = it does not
    uint64_t pin_cause
    uint32_t pins                 # PIN_*
    PoolRecord *pool
    uint32_t worker
    uint8_t state                 # CL_*
    uint8_t in_login
    uint32_t prepared             # named statements
    uint32_t held                 # bytes received and not passed on
    uint32_t remain               # of the message that is passing through, still to come
    uint32_t unsent               # bytes that its socket has not taken yet
    int fd
    uint8_t replication           # REPLICATION_*
    pgpool_peer peer
    pgpool_peer local
    char application_name[64]
    char user[128]
    char tls[TLS_INFO_MAX]        # empty: it has none


cdef struct ServerRow:
    uint64_t id
    uint64_t link
    uint64_t adopted_us
    uint64_t request_us
    uint32_t pool
    uint32_t worker
    uint32_t backend_pid
    uint32_t cancels              # cancel requests under way to it
    uint16_t port
    int fd
    uint8_t state                 # SV_*
    uint8_t family_unix
    uint8_t close_needed
    uint8_t replication           # REPLICATION_*
    pgpool_peer local
    char host[256]
    char application_name[64]
    char tls[TLS_INFO_MAX]        # empty: it has none


cdef struct SocketRow:            # what only its worker may look at of a server; plain bytes, goes to control by mail
    uint64_t id
    uint32_t prepared             # as in ClientRow
    uint32_t held
    uint32_t remain
    uint32_t unsent


cdef struct CancelTarget:         # where a cancel request for a server goes, and its key
    uint32_t pool
    uint32_t backend_pid
    uint16_t port
    uint8_t key_len
    uint8_t backend_key[256]
    uint8_t tls                   # it is to be encrypted, as the server is
    char host[256]


cdef struct PoolRow:
    PoolSettings settings
    uint32_t count[SV_STATES]
    uint32_t total
    uint32_t clients
    uint32_t waiting
    uint32_t logins_waiting
    uint32_t most_clients
    uint32_t most_waiting
    uint32_t most_servers
    uint64_t maxwait_us
    uint8_t closed


cdef void fill_client_row(Worker *w, ClientConn *c, ClientRow *row) noexcept nogil
cdef uint32_t fill_socket_rows(Worker *w, SocketRow *rows, uint32_t room) noexcept nogil
cdef bint fill_server_row(ServerConn *s, ServerRow *row) noexcept nogil
cdef bint fill_cancel_target(Plane *plane, uint64_t server, CancelTarget *out) noexcept nogil
cdef void fill_pool_row(PoolRecord *record, uint64_t now_us, PoolRow *row) noexcept nogil
