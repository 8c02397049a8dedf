"""Greetings of clients that begin exactly as another has begun before them.

What a startup packet asks for, put beside what the servers of its pool have reported, comes to the same settings and the same greeting
each time. One table for each worker, in sets: a new entry goes into the set that its key falls into, and the set's oldest one goes.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from pgpool_core.session.settings cimport Block, Settings


cdef enum:
    REGULAR_PACKET_MAX = 512      # longer startup packets are not remembered
    REGULAR_GREETING_MAX = 2048   # nor are longer greetings
    REGULARS = 256                # entries of a table
    REGULAR_WAYS = 4              # entries of a set: two that fall together do not drive each other out by turns


cdef struct Regular:
    const void *whose             # the pool, which is only compared; NULL = nothing stands here
    uint64_t version              # of all that the greeting was made of, but the packet
    uint8_t *bytes                # owned: the startup packet, the greeting behind it
    uint32_t packet_len
    uint32_t greeting_len
    uint32_t key_at               # where in the greeting the BackendKeyData stands, which each client has its own of
    uint8_t rights                # what it says of the user's rights, RIGHTS_*
    Block *settings               # held: what the client begins with


cdef inline const uint8_t *regular_greeting(const Regular *regular) noexcept nogil:
    return regular.bytes + regular.packet_len


cdef Regular *regular_find(Regular *table, const void *whose, uint64_t version, const uint8_t *packet, uint32_t n) noexcept nogil
# All of `fresh` but `bytes`, which is made of the two texts.
cdef void regular_learn(Regular *table, Settings *settings, const Regular *fresh, const uint8_t *packet, const uint8_t *greeting) noexcept nogil
cdef void regulars_free(Regular *table, Settings *settings) noexcept nogil       # and the table itself; NULL is fine
