"""What a text has done to a block of settings, remembered: the next time nobody needs to be asked.

Only for texts whose outcome, when they succeed, depends on nothing but the text, the settings before it, whose session
it is, and what the client began with, which RESET goes back to. One table for each worker, in sets: a new entry goes into
the set that its key falls into, and the set's oldest one goes.
"""

from libc.stdint cimport uint8_t, uint32_t

from pgpool_core.session.settings cimport Block, Settings


cdef enum:
    OUTCOME_TEXT_MAX = 160        # longer texts are not remembered
    OUTCOMES = 256                # entries of a table
    OUTCOME_WAYS = 4              # entries of a set: two that fall together do not drive each other out by turns


cdef struct Outcome:
    const void *whose             # the pool, which is only compared: a user and a database
    Block *before                 # held; NULL = empty
    Block *start                  # held: what the client began with
    Block *after                  # held
    uint32_t len
    uint8_t text[OUTCOME_TEXT_MAX]


cdef bint outcome_sure(const uint8_t *text, size_t n) noexcept nogil
cdef Block *outcome_find(Outcome *table, const void *whose, const Block *before, const Block *start,
                         const uint8_t *text, uint32_t n) noexcept nogil
cdef void outcome_learn(Outcome *table, Settings *settings, const void *whose, Block *before, Block *start,
                        const uint8_t *text, uint32_t n, Block *after) noexcept nogil
