"""A client as the pool room sees it: somebody who waits for a server or holds one."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t


cdef enum:
    WAIT_NONE = 0
    WAIT_QUEUED = 1               # in its pool's queue
    WAIT_GRANTED = 2              # a server is linked to it, its worker has not seen that yet
    WAIT_DEDICATED = 3            # in its pool's queue for servers of one's own
    WAIT_COMING = 4               # a server of its own, `server`, is being opened for it


cdef struct Client:               # part of its owner's slot; list pointers are guarded by the pool's lock
    Client *prev
    Client *next
    Client *granted_next          # on its worker's stack of grants
    void *pool                    # Pool *, borrowed
    void *server                  # Server *, linked to it or coming, or NULL
    void *owner                   # the engine's record that this is part of
    const void *mark              # what it wants a server to be like; compared, never used
    uint64_t since_us             # waiting since
    uint32_t worker
    uint8_t waiting               # WAIT_*
    uint8_t unserved              # queued while fewer servers were on their way than clients waiting, and one more fits
    uint8_t noticed               # has been told that it waits; the engine's


cdef struct ClientList:
    Client *head
    Client *tail
    uint32_t len


cdef inline void clients_push(ClientList *list, Client *client) noexcept nogil:
    client.next = NULL
    client.prev = list.tail
    if list.tail != NULL:
        list.tail.next = client
    else:
        list.head = client
    list.tail = client
    list.len += 1


cdef inline void clients_push_first(ClientList *list, Client *client) noexcept nogil:
    client.prev = NULL
    client.next = list.head
    if list.head != NULL:
        list.head.prev = client
    else:
        list.tail = client
    list.head = client
    list.len += 1


cdef inline void clients_remove(ClientList *list, Client *client) noexcept nogil:
    if client.prev != NULL:
        client.prev.next = client.next
    else:
        list.head = client.next
    if client.next != NULL:
        client.next.prev = client.prev
    else:
        list.tail = client.prev
    client.prev = client.next = NULL
    list.len -= 1
