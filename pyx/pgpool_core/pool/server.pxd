"""A server connection as the pool room sees it: a seat in a pool, a state, whose poll set it is in."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from pgpool_core.pool.client cimport Client


cdef enum:
    SV_FREE = 0                   # the slot is not in use
    SV_LOGIN = 1                  # control is opening it; counted, because PostgreSQL counts it
    SV_IDLE = 2                   # on an idle list, ready for a client
    SV_USED = 3                   # idle for longer than server_check_delay: to be checked before reuse
    SV_TESTED = 4                 # runs server_check_query, server_reset_query or a ROLLBACK; or is being read while idle
    SV_ACTIVE = 5                 # linked to a client
    SV_BEING_CANCELED = 6         # its client has left or a cancel request is under way: it drains
    SV_CLOSING = 7                # Terminate sent; counted until PostgreSQL has closed its side
    SV_STATES = 8

    SV_MOVED = 0
    SV_BAD_MOVE = -1              # our bug, never a peer's

    MAX_WORKERS = 64
    NO_WORKER = 0xFFFFFFFF


cdef struct Server:               # part of its owner's slot; list pointers are guarded by the pool's lock
    Server *prev
    Server *next
    void *pool                    # Pool *, borrowed: pools live as long as their set
    uint32_t *count               # its pool's counts by state, borrowed
    Client *client                # the linked client; in SV_LOGIN the one that it is opened for; or NULL
    void *owner                   # the engine's record that this is part of
    const void *mark              # what it is like; set by who releases it
    const char *leaving           # in SV_CLOSING: why the pool has no more use for it, for the log; static, or NULL
    uint64_t since_us             # when it came into `state`
    uint64_t created_us
    uint32_t worker               # in whose poll set its socket is; written under the pool's lock
    uint8_t state                 # SV_*; written only by server_move
    uint8_t close_needed          # close as soon as nobody is linked
    uint8_t was_linked            # to any client, since it was opened
    uint8_t dedicated             # opened for one client, closed when that leaves


cdef struct ServerList:
    Server *head
    Server *tail
    uint32_t len


cdef uint32_t[SV_STATES] SV_NEXT    # bit t of SV_NEXT[s]: s may move to t

cdef int server_move(Server *server, uint8_t to, uint64_t now_us) noexcept nogil


cdef inline bint server_may(const Server *server, uint8_t to) noexcept nogil:
    return (SV_NEXT[server.state] >> to) & 1


cdef inline void servers_push(ServerList *list, Server *server) noexcept nogil:
    server.next = NULL
    server.prev = list.tail
    if list.tail != NULL:
        list.tail.next = server
    else:
        list.head = server
    list.tail = server
    list.len += 1


cdef inline void servers_insert(ServerList *list, Server *server) noexcept nogil:
    """Put `server` where `since_us` says: the list stays sorted, longest idle first."""
    cdef Server *after = list.tail
    while after != NULL and after.since_us > server.since_us:
        after = after.prev
    server.prev = after
    server.next = after.next if after != NULL else list.head
    if server.next != NULL:
        server.next.prev = server
    else:
        list.tail = server
    if after != NULL:
        after.next = server
    else:
        list.head = server
    list.len += 1


cdef inline void servers_remove(ServerList *list, Server *server) noexcept nogil:
    if server.prev != NULL:
        server.prev.next = server.next
    else:
        list.head = server.next
    if server.next != NULL:
        server.next.prev = server.prev
    else:
        list.tail = server.prev
    server.prev = server.next = NULL
    list.len -= 1
