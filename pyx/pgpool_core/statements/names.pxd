"""What one client calls its statements.

A client that prepares nothing costs one NULL pointer. What a name stands for is known when the server has answered; until
then the name is *in flight*: `planned` is what it will stand for unless the group fails, `stands` what it stands for now.
Used by the thread of its client alone.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from pgpool_core.statements.text cimport Statement, Texts
from pgpool_core.wire.span cimport Span


cdef enum:
    MAX_NAME_LEN = 4096           # of a statement or portal; longer ones are refused
    KEY_LEN = 63                  # PostgreSQL tells names apart by so many bytes (NAMEDATALEN - 1)
    MAX_NAMES = 1 << 16           # of one client


cdef struct Name:                 # owned by its map; owns a hold on each of its statements
    Name *next
    Names *map
    Statement *stands             # NULL: the server has not said that it stands for anything
    Statement *planned
    uint64_t hash
    uint64_t told                 # epoch of its statement at which the client last heard what rows there are, or an error
    uint64_t group                # of the last message that changes it, while in flight
    uint64_t used_at              # place in the queue `used_on` of the mark for its last use
    uint64_t used_in              # group of that mark
    uint64_t used_id              # statement of that mark
    const void *used_on
    uint32_t flights              # unanswered messages that change it
    uint32_t holds                # entries of a queue that point here
    uint16_t len
    uint8_t text[1]


cdef struct Names:                # owned by its client
    Texts *texts
    Name **buckets
    uint32_t n_buckets            # a power of two
    uint32_t count
    Name *recent                  # the one found last; NULL once it has gone


cdef Name *names_find(Names *map, Span name) noexcept nogil
cdef Name *names_meaning(Names *map, uint64_t id) noexcept nogil
cdef Name *names_add(Names **map, Texts *texts, Span name) noexcept nogil
cdef void name_plan(Name *name, Statement *statement, uint64_t group) noexcept nogil
cdef void name_stands(Name *name, Statement *statement) noexcept nogil
cdef void name_settle(Name *name) noexcept nogil
cdef void names_clear(Names *map) noexcept nogil
cdef void names_free(Names *map) noexcept nogil


cdef inline bint name_rests(const Name *name) noexcept nogil:
    """It stands for what is planned for it: name_settle would do nothing."""
    return name.planned != NULL and name.planned == name.stands
